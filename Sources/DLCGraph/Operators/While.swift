package import DLCTensor

/// Repeats a graph while another one gives true, at most `bound` times. Operands: the carried values, what
/// the condition captures, what the body captures.
package struct While: ControlOperator {
  package var condition: Graph
  package var body: Graph
  package var carried: Int
  /// After so many iterations the loop stops whatever the condition gives, in value and derivative
  /// alike; only a bounded loop has a derivative. 0: no bound.
  package var bound: Size
  package init(condition: Graph, body: Graph, carried: Int, bound: Size = 0) {
    self.condition = condition
    self.body = body
    self.carried = carried
    self.bound = bound
  }

  package static let mnemonics = ["while"]
  package var mnemonic: String { "while" }
  package var attributes: [Attribute] {
    [Attribute("carried", .integer(carried)), Attribute("bound", .dimensions([bound]))]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    condition = try attributes.region()
    body = try attributes.region()
    carried = try attributes.integer("carried")
    bound = try attributes.dimension("bound")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try require(
      carried >= 0 && carried <= condition.arguments.count && carried <= body.arguments.count
        && carried <= operands.count, "while-carried", "\(carried) carried values are too many")
    try requireArguments(
      Array(body.arguments[..<carried]), Array(operands[..<carried]), "while-arguments")
    try requireArguments(
      condition.arguments + Array(body.arguments.dropFirst(carried)),
      Array(operands), "while-arguments")
    try require(
      condition.resultTypes == [TensorType(.bool)], "while-condition",
      "the condition gives \(condition.resultTypes), not a bool scalar")
    try require(
      body.resultTypes == Array(operands[..<carried]), "while-results",
      "the body gives \(body.resultTypes) for carried \(operands[..<carried])")
    return body.resultTypes
  }

  package var flow: ControlFlow {
    let tested = carried..<condition.arguments.count
    return .loop(
      ControlLoop(
        carried: carried, stacks: carried..<carried,
        condition: ControlFlow.Arm("condition", condition, tested),
        body: ControlFlow.Arm(
          "body", body, tested.upperBound..<tested.upperBound + body.arguments.count - carried),
        count: bound == 0 ? nil : bound, reverse: false))
  }

  /// What a loop carries decides when it ends.
  package func trimmed(to used: [Bool]) throws(DLCError) -> TrimmedControl? { nil }

  package static var samples: [OperatorSample] {
    let (vector, count) = (TensorType(.float32, [7]), TensorType(.int32))
    let condition = regionSample([vector, count]) { g, x in
      [g.compare(.less, x[1], g.constant(5, like: x[1]))]
    }
    let body = regionSample([vector, count, vector]) { g, x in
      [g.tanh(x[0] * x[2]) + x[0], x[1] + g.constant(1, like: x[1])]
    }
    return [
      OperatorSample(
        .whileLoop(While(condition: condition, body: body, carried: 2, bound: 20)),
        [vector, count, vector])
    ]
  }
}
