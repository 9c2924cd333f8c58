public import DLCTensor

/// Loops and branches. The closures build graphs; values from around them are captured by their
/// first use.
extension FunctionBuilder {
  /// Runs `body` for every slice of `inputs` along their first axis.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, [4])
  /// let (last, all) = g.scan(carried: [g.constant(0)], inputs: [x]) { g, carried, inputs in
  ///   let sum = carried[0] + inputs[0]
  ///   return (carried: [sum], outputs: [sum])
  /// }
  /// g.output("total", last[0])
  /// g.output("sums", all[0])  // [4]
  /// ```
  ///
  /// - Parameters:
  ///   - length: how many iterations; the first axis of the inputs when there are any.
  ///   - reverse: from the last slice to the first.
  ///   - body: gets a builder, the carried values and the slices; gives the next carried values, of
  ///     the same types, and outputs that are stacked.
  public func scan(
    carried: [Value], inputs: [Value] = [], length: Size? = nil, reverse: Bool = false,
    file: StaticString = #fileID, line: UInt = #line,
    body: (_ g: FunctionBuilder, _ carried: [Value], _ inputs: [Value]) -> (
      carried: [Value], outputs: [Value]
    )
  ) -> (carried: [Value], outputs: [Value]) {
    enterControl(file, line) { g, isOutermost in
      var types = carried.map { g.usableType($0) }
      for input in inputs {
        var type = g.usableType(input)
        if let whole = type, whole.rank == 0 {
          g.fail(DLCError(.type, "a scan goes along the first axis of its inputs; one is \(whole)"))
          type = nil
        }
        type?.shape.removeFirst()
        types.append(type)
      }
      let length = length ?? inputs.first?.shape.first
      if length == nil && inputs.isEmpty {
        g.fail(DLCError(.graph, "a scan without inputs needs a length"))
      }
      var fits = true
      let made = g.region(types, isOutermost: isOutermost) { g, values in
        let (next, outputs) = body(
          g, Array(values[..<carried.count]), Array(values[carried.count...]))
        fits = next.count == carried.count
        return fits ? next + outputs : outputs
      }
      if !fits {
        g.fail(DLCError(.graph, "the body does not give the \(carried.count) values that are carried"))
      }
      var results: [Value] = []
      if let body = made.graph, let length, fits {
        let scan = Scan(
          body: body, length: length, carried: carried.count, stacked: inputs.count,
          reverse: reverse)
        results = g.addAll(.scan(scan), carried + inputs + made.captured)
      }
      if results.isEmpty {
        let count = fits ? made.count : carried.count + made.count
        results = [Value](repeating: g.poison, count: count)
      }
      return (Array(results[..<carried.count]), Array(results[carried.count...]))
    }
  }

  /// Repeats `body` while `condition` gives a true bool scalar.
  ///
  /// ```swift
  /// let x = g.input("x")
  /// let halved = g.whileLoop([x], bound: 100) { g, carried in
  ///   carried[0] >= 1
  /// } body: { g, carried in
  ///   [carried[0] / 2]
  /// }
  /// g.output("y", halved[0])
  /// ```
  ///
  /// - Parameter bound: after so many iterations the loop stops, whatever the condition gives, in value
  ///   and derivative alike. A loop without a bound has no derivative.
  public func whileLoop(
    _ carried: [Value], bound: Size? = nil, file: StaticString = #fileID, line: UInt = #line,
    condition: (_ g: FunctionBuilder, _ carried: [Value]) -> Value,
    body: (_ g: FunctionBuilder, _ carried: [Value]) -> [Value]
  ) -> [Value] {
    enterControl(file, line) { g, isOutermost in
      let types = carried.map { g.usableType($0) }
      let test = g.region(types, isOutermost: isOutermost) { [condition($0, $1)] }
      let step = g.region(types, isOutermost: isOutermost, body)
      var results: [Value] = []
      let isBound = bound?.constant ?? 1 >= 1
      if !isBound {
        g.fail(DLCError(.graph, "the bound of a loop must be positive, not \(bound ?? 0)"))
      }
      if isBound, let condition = test.graph, let body = step.graph {
        let loop = While(
          condition: condition, body: body, carried: carried.count, bound: bound ?? 0)
        results = g.addAll(.whileLoop(loop), carried + test.captured + step.captured)
      }
      return results.isEmpty ? carried.map { _ in g.poison } : results
    }
  }

  /// The results of `then` where the bool scalar is true, else those of `otherwise`; only that one runs.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, [2])
  /// let isSquared = g.input("is_squared", .bool)
  /// let y = g.cond(isSquared) { g in
  ///   [x * x]
  /// } otherwise: { g in
  ///   [x]
  /// }
  /// g.output("y", y[0])
  /// ```
  public func cond(
    _ predicate: Value, file: StaticString = #fileID, line: UInt = #line,
    then: (_ g: FunctionBuilder) -> [Value], otherwise: (_ g: FunctionBuilder) -> [Value]
  ) -> [Value] {
    enterControl(file, line) { g, isOutermost in
      let first = g.region([], isOutermost: isOutermost) { g, _ in then(g) }
      let second = g.region([], isOutermost: isOutermost) { g, _ in otherwise(g) }
      var results: [Value] = []
      if let then = first.graph, let otherwise = second.graph {
        results = g.addAll(
          .cond(Cond(then: then, otherwise: otherwise)),
          [predicate] + first.captured + second.captured)
      }
      // What a mistake leaves has enough results for whichever branch the caller had in mind.
      let count = Swift.max(first.count, second.count)
      return results.isEmpty ? [Value](repeating: g.poison, count: count) : results
    }
  }

  /// A named part of the function, compiled in its place.
  public func call(
    _ name: String, _ operands: [Value], file: StaticString = #fileID, line: UInt = #line,
    body: (_ g: FunctionBuilder, _ operands: [Value]) -> [Value]
  ) -> [Value] {
    enterControl(file, line) { g, isOutermost in
      let made = g.region(operands.map { g.usableType($0) }, isOutermost: isOutermost, body)
      let results =
        made.graph.map { g.addAll(.call(Call(name, body: $0)), operands + made.captured) } ?? []
      return results.isEmpty ? [Value](repeating: g.poison, count: made.count) : results
    }
  }
}
