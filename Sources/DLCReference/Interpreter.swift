public import DLCGraph
public import DLCTensor

/// Walks a graph and calls each operator's naive reference: the yardstick of everything compiled.
public struct Interpreter: Sendable {
  /// In which arithmetic floating-point values live.
  public enum Precision: Sendable {
    /// Each result is rounded to its element type.
    case declared
    /// Every floating-point value is a double, whatever its declared type.
    case float64
  }

  public var precision: Precision
  public init(_ precision: Precision = .declared) { self.precision = precision }

  /// The values of a bound graph's results and updates.
  package func run(_ graph: Graph, _ arguments: [ReferenceArray]) -> [ValueID: ReferenceArray] {
    var values: [ValueID: ReferenceArray] = [:]
    for (id, argument) in zip(graph.argumentValues, arguments) { values[id] = argument }
    var uses = graph.useCounts
    for node in graph.nodes {
      let results = node.operation.definition.evaluate(
        node.operands.map { values[$0]! }, node.results.map { graph.type($0) })
      for (id, result) in zip(node.results, results) {
        values[id] = result.rounded(keepingDoubles: precision == .float64)
      }
      for operand in node.operands {
        uses[operand.index] -= 1
        if uses[operand.index] == 0 { values[operand] = nil }
      }
    }
    return values
  }

  /// Runs a function of a module on arrays.
  /// - Returns: results by name, and the new values of the state that the function updates.
  /// - Throws: `.binding` when an array is missing or does not fit.
  public func run(
    _ module: Module, function: Function, inputs: [String: Tensor], states: [String: Tensor],
    dimensions: [String: Int]
  ) throws(DLCError) -> (outputs: [(name: String, value: Tensor)], updates: [String: Tensor]) {
    let graph = try function.graph.bound(to: dimensions)
    var arguments: [ReferenceArray] = []
    for argument in graph.arguments {
      let source = argument.kind == .input ? inputs : states
      guard let tensor = source[argument.name] else {
        throw DLCError(.binding, "\(argument.kind) '\(argument.name)' has no value")
      }
      guard tensor.type == argument.type else {
        throw DLCError(
          .binding, "\(argument.kind) '\(argument.name)' is \(tensor.type), not \(argument.type)")
      }
      arguments.append(ReferenceArray(tensor))
    }
    let values = run(graph, arguments)
    return (
      graph.results.map { ($0.name, values[$0.value]!.tensor) },
      Dictionary(uniqueKeysWithValues: graph.updates.map { ($0.name, values[$0.value]!.tensor) })
    )
  }
}
