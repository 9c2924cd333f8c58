public import DLCTensor

/// Loops and branches. The closures build graphs; values from around them are captured by their
/// first use.
extension FunctionBuilder {
  /// Runs `body` for every slice of `inputs` along their first axis.
  /// - Parameters:
  ///   - length: how many iterations; the first axis of the inputs when there are any.
  ///   - reverse: from the last slice to the first.
  ///   - body: gets a builder, the carried values and the slices; gives the next carried values, of
  ///     the same types, and outputs that are stacked.
  public func scan(
    carried: [Value], inputs: [Value] = [], length: Dimension? = nil, reverse: Bool = false,
    file: StaticString = #fileID, line: UInt = #line,
    body: (_ g: FunctionBuilder, _ carried: [Value], _ inputs: [Value]) -> (
      carried: [Value], outputs: [Value]
    )
  ) -> (carried: [Value], outputs: [Value]) {
    var outputCount = 0
    guard let length = length ?? inputs.first?.shape.first else {
      _ = fail(DLCError(.graph, "a scan without inputs needs a length", at: "\(file):\(line)"))
      return (carried, [])
    }
    let types =
      carried.map(\.type) + inputs.map { TensorType($0.dataType, Array($0.shape.dropFirst())) }
    let made = region(types) { g, values in
      let (next, outputs) = body(
        g, Array(values[..<carried.count]), Array(values[carried.count...]))
      if next.count != carried.count {
        return [
          g.fail(
            DLCError(
              .graph, "\(carried.count) values are carried, the body gives \(next.count)",
              at: "\(file):\(line)"))
        ]
      }
      outputCount = outputs.count
      return next + outputs
    }
    guard let (graph, captured) = made else {
      return (carried, [Value](repeating: value(ValueID(-1)), count: outputCount))
    }
    let scan = Scan(
      body: graph, length: length, carried: carried.count, stacked: inputs.count, reverse: reverse)
    let results = addAll(.scan(scan), carried + inputs + captured, file, line)
    guard !results.isEmpty || carried.count + outputCount == 0 else {
      return (carried, [Value](repeating: value(ValueID(-1)), count: outputCount))
    }
    return (Array(results[..<carried.count]), Array(results[carried.count...]))
  }

  /// Repeats `body` while `condition` gives a true bool scalar.
  /// - Parameter bound: the most iterations there can be; needed for a derivative.
  public func whileLoop(
    _ carried: [Value], bound: Dimension? = nil, file: StaticString = #fileID, line: UInt = #line,
    condition: (_ g: FunctionBuilder, _ carried: [Value]) -> Value,
    body: (_ g: FunctionBuilder, _ carried: [Value]) -> [Value]
  ) -> [Value] {
    guard let test = region(carried.map(\.type), { [condition($0, $1)] }),
      let step = region(carried.map(\.type), body)
    else { return carried }
    let loop = While(
      condition: test.graph, body: step.graph, carried: carried.count, bound: bound ?? 0)
    let results = addAll(
      .whileLoop(loop), carried + test.captured + step.captured, file, line)
    return results.isEmpty ? carried : results
  }

  /// The results of `then` where the bool scalar is true, else those of `otherwise`; only that one runs.
  public func cond(
    _ predicate: Value, file: StaticString = #fileID, line: UInt = #line,
    then: (_ g: FunctionBuilder) -> [Value], otherwise: (_ g: FunctionBuilder) -> [Value]
  ) -> [Value] {
    var count = 0
    let first = region([]) { g, _ in
      let results = then(g)
      count = results.count
      return results
    }
    guard let first, let second = region([], { g, _ in otherwise(g) }) else {
      return [Value](repeating: value(ValueID(-1)), count: count)
    }
    let results = addAll(
      .cond(Cond(then: first.graph, otherwise: second.graph)),
      [predicate] + first.captured + second.captured, file, line)
    return results.isEmpty ? [Value](repeating: value(ValueID(-1)), count: count) : results
  }

  /// A named part of the function, compiled in its place.
  public func call(
    _ name: String, _ operands: [Value], file: StaticString = #fileID, line: UInt = #line,
    body: (_ g: FunctionBuilder, _ operands: [Value]) -> [Value]
  ) -> [Value] {
    guard let made = region(operands.map(\.type), body) else { return operands }
    return addAll(.call(Call(name, body: made.graph)), operands + made.captured, file, line)
  }
}
