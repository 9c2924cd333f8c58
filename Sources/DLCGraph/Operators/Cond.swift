package import DLCTensor

/// Runs one of two graphs, as a bool scalar says. Operands: the predicate, the arguments of the graph for
/// true, those of the graph for false.
package struct Cond: Operator {
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

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    preconditionFailure("the interpreter runs the regions")
  }

  package var derivative: Derivative { .control }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .control
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
