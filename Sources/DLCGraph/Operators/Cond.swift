package import DLCTensor

/// Runs one of two graphs, as a bool scalar says. Operands: the predicate, the arguments of the graph for
/// true, those of the graph for false.
package struct Cond: ControlOperator {
  package var then: Graph
  package var otherwise: Graph
  package init(then: Graph, otherwise: Graph) {
    self.then = then
    self.otherwise = otherwise
  }

  package static let mnemonics = ["cond"]
  package var mnemonic: String { "cond" }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    then = try attributes.region()
    otherwise = try attributes.region()
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try require(
      operands.first == TensorType(.bool), "predicate", "the predicate is not a bool scalar")
    try requireArguments(
      then.arguments + otherwise.arguments, Array(operands.dropFirst()), "cond-arguments")
    let (a, b) = (then.resultTypes, otherwise.resultTypes)
    try require(a == b, "cond-results", "the graphs give \(a) and \(b)")
    return a
  }

  package var flow: ControlFlow {
    let split = 1 + then.arguments.count
    return .branch(
      predicate: 0, then: ControlFlow.Arm("then", then, 1..<split),
      otherwise: ControlFlow.Arm("otherwise", otherwise, split..<split + otherwise.arguments.count))
  }

  package func trimmed(to used: [Bool]) throws(DLCError) -> TrimmedControl? {
    let keep = used.indices.filter { used[$0] }
    let (a, first) = try then.pruned(to: keep)
    let (b, second) = try otherwise.pruned(to: keep)
    let split = 1 + then.arguments.count
    let operands = [0] + first.map { 1 + $0 } + second.map { split + $0 }
    let isWhole = operands.count == split + otherwise.arguments.count
    if isWhole && keep.count == used.count { return nil }
    return TrimmedControl(
      operation: .cond(Cond(then: a, otherwise: b)), operands: operands, results: keep)
  }

  package static var samples: [OperatorSample] {
    let vector = TensorType(.float32, [19])
    let (double, negative) = (
      regionSample([vector]) { g, x in [x[0] * 2.0, g.sum(x[0], axes: [0])] },
      regionSample([vector, vector]) { g, x in [g.tanh(x[0] - x[1]), g.max(x[1], axes: [0])] }
    )
    return [
      OperatorSample(
        .cond(Cond(then: double, otherwise: negative)),
        [TensorType(.bool), vector, vector, vector])
    ]
  }
}
