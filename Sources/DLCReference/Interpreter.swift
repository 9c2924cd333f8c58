public import DLCGraph
public import DLCTensor

/// Walks a graph and calls each operator's naive reference: the yardstick of everything compiled.
///
/// ```swift
/// let results = try Interpreter(.float64).run(
///   module, function: module.functions[0], inputs: ["x": Tensor([3, 4], .float32)], states: [:],
///   dimensions: ["n": 2])
/// let y = results.outputs[0].value.doubles  // [9, 16]
/// ```
public struct Interpreter: Sendable {
  /// In which arithmetic floating-point values live.
  public enum Precision: Sendable {
    /// Each result is rounded to the type that its elements are computed in: half floats to float32,
    /// and once more where they are stored.
    case declared
    /// Every floating-point value is a double, whatever its declared type.
    case float64
  }

  /// In which arithmetic it computes.
  public var precision: Precision
  /// An interpreter, of the declared types unless told otherwise.
  public init(_ precision: Precision = .declared) { self.precision = precision }

  /// The values of a bound graph's results and updates.
  package func run(_ graph: Graph, _ arguments: [ReferenceArray]) -> [ValueID: ReferenceArray] {
    walk(graph, arguments) { _, _, _ in true }
  }

  /// The values of a graph; `visit` sees every node with its operands and results, and false ends the
  /// walk.
  private func walk(
    _ graph: Graph, _ arguments: [ReferenceArray],
    _ visit: (Node, [ReferenceArray], [ReferenceArray]) -> Bool
  ) -> [ValueID: ReferenceArray] {
    var values: [ValueID: ReferenceArray] = [:]
    for (id, argument) in zip(graph.argumentValues, arguments) { values[id] = argument }
    var uses = graph.useCounts
    for node in graph.nodes {
      let operands = node.operands.map { values[$0]! }
      let results = evaluate(node.operation, operands, node.results.map { graph.type($0) }).map {
        $0.rounded(to: arithmetic(node.operation, $0.type))
      }
      for (id, result) in zip(node.results, results) { values[id] = result }
      if !visit(node, operands, results) { break }
      for operand in node.operands {
        uses[operand.index] -= 1
        if uses[operand.index] == 0 { values[operand] = nil }
      }
    }
    return values
  }

  /// The type that a result is rounded to; nil: none. Half floats are carried in float32, rounded where
  /// a conversion says so, and where they leave the function.
  private func arithmetic(_ operation: Operation, _ type: DataType) -> DataType? {
    if precision == .float64 { return nil }
    if case .convert(let convert) = operation, convert.rounds { return type }
    return type.computeType
  }

  /// The first node whose result is not finite though its operands are, in words.
  package func firstNonFinite(
    _ function: Function, inputs: [String: Tensor], states: [String: Tensor],
    dimensions: [String: Int]
  ) throws(DLCError) -> String? {
    let graph = try function.graph.bound(to: dimensions)
    let arguments = try bind(graph, inputs, states)
    func isFinite(_ array: ReferenceArray) -> Bool { array.reals.allSatisfy { $0.isFinite } }
    for (argument, value) in zip(graph.arguments, arguments) where !isFinite(value) {
      return "\(argument.kind) '\(argument.name)'"
    }
    var found: String?
    _ = walk(graph, arguments) { node, operands, results in
      // Infinities that masks are made of do not count: only what grows out of finite operands.
      guard !operands.isEmpty, operands.allSatisfy(isFinite), !results.allSatisfy(isFinite) else {
        return true
      }
      let name = node.name.isEmpty ? "" : "'\(node.name)' "
      let place = node.location.isEmpty ? "" : " (\(node.location))"
      found = "node \(name)\(node.operation.mnemonic)\(place)"
      return false
    }
    return found
  }

  /// One operation; the graphs of control flow are walked here.
  private func evaluate(
    _ operation: Operation, _ operands: [ReferenceArray], _ types: [TensorType]
  ) -> [ReferenceArray] {
    func apply(_ graph: Graph, _ arguments: some Sequence<ReferenceArray>) -> [ReferenceArray] {
      let values = run(graph, Array(arguments))
      return graph.results.map { values[$0.value]! }
    }
    switch operation.flow {
    case .call(let arm)?: return apply(arm.graph, operands[arm.operands])
    case .branch(let predicate, let then, let otherwise)?:
      let arm = operands[predicate].integers[0] != 0 ? then : otherwise
      return apply(arm.graph, operands[arm.operands])
    case .loop(let loop)?: return run(loop, operands, types, apply)
    case nil: return operation.definition.evaluate(operands, types)
    }
  }

  private func run(
    _ loop: ControlLoop, _ operands: [ReferenceArray], _ types: [TensorType],
    _ apply: (Graph, [ReferenceArray]) -> [ReferenceArray]
  ) -> [ReferenceArray] {
    var carried = Array(operands[..<loop.carried])
    var outputs = types[loop.carried...].map { ReferenceArray($0.dataType, $0.sizes) }
    let limit = loop.count?.constant ?? Int.max
    var step = 0
    while step < limit {
      if let condition = loop.condition,
        apply(condition.graph, carried + operands[condition.operands])[0].integers[0] == 0
      {
        break
      }
      let index = loop.reverse ? limit - 1 - step : step
      let slices = operands[loop.stacks].map { stack in
        var slice = ReferenceArray(stack.type, Array(stack.shape.dropFirst()))
        for i in 0..<slice.count { slice[i] = stack[index * slice.count + i] }
        return slice
      }
      let results = apply(loop.body.graph, carried + slices + operands[loop.body.operands])
      carried = Array(results[..<loop.carried])
      for (number, result) in results[loop.carried...].enumerated() {
        for i in 0..<result.count { outputs[number][index * result.count + i] = result[i] }
      }
      step += 1
    }
    return carried + outputs
  }

  /// Runs a function of a module on arrays.
  /// - Returns: results by name, and the new values of the state that the function updates.
  /// - Throws: `.binding` when an array is missing or does not fit.
  public func run(
    _ module: Module, function: Function, inputs: [String: Tensor], states: [String: Tensor],
    dimensions: [String: Int],
    file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> (outputs: [(name: String, value: Tensor)], updates: [String: Tensor]) {
    do throws(DLCError) {
      let graph = try function.graph.bound(to: dimensions)
      let arguments = try bind(graph, inputs, states)
      let values = run(graph, arguments)
      return (
        graph.results.map { ($0.name, values[$0.value]!.tensor) },
        Dictionary(uniqueKeysWithValues: graph.updates.map { ($0.name, values[$0.value]!.tensor) })
      )
    } catch {
      throw error.called(file, line)
    }
  }

  /// Arrays for the arguments of a bound graph.
  private func bind(_ graph: Graph, _ inputs: [String: Tensor], _ states: [String: Tensor])
    throws(DLCError) -> [ReferenceArray]
  {
    var arguments: [ReferenceArray] = []
    for argument in graph.arguments {
      let source = argument.kind == .input ? inputs : states
      guard let tensor = source[argument.name] else {
        throw DLCError(.binding, "\(argument.kind) '\(argument.name)' has no value")
      }
      try tensor.check()
      guard tensor.type == argument.type else {
        throw DLCError(
          .binding, "\(argument.kind) '\(argument.name)' is \(tensor.type), not \(argument.type)")
      }
      arguments.append(ReferenceArray(tensor))
    }
    return arguments
  }
}
