package import DLCTensor

/// A named graph applied to operands; compiled in the place of the call.
package struct Call: ControlOperator {
  package var name: String
  package var body: Graph
  package init(_ name: String, body: Graph) {
    self.name = name
    self.body = body
  }

  package static let mnemonics = ["call"]
  package var mnemonic: String { "call" }
  package var attributes: [Attribute] { [Attribute("callee", .text(name))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    body = try attributes.region()
    name = try attributes.text("callee")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireArguments(body.arguments, operands, "call-arguments")
    return body.resultTypes
  }

  package var flow: ControlFlow {
    .call(ControlFlow.Arm("body", body, 0..<body.arguments.count))
  }

  /// A call is compiled in its own place, where what nobody uses goes anyway.
  package func trimmed(to used: [Bool]) throws(DLCError) -> TrimmedControl? { nil }

  package static var samples: [OperatorSample] {
    let vector = TensorType(.float32, [21])
    let body = regionSample([vector, vector]) { g, x in [g.softmax(x[0] * x[1]), x[0] + x[1]] }
    return [OperatorSample(.call(Call("mix", body: body)), [vector, vector])]
  }
}
