package import DLCTensor

/// A tensor that is written into the graph.
package struct Constant: Operator {
  package var value: Tensor
  package init(_ value: Tensor) { self.value = value }

  package static let mnemonics = ["constant"]
  package var mnemonic: String { "constant" }
  package var attributes: [Attribute] { [Attribute("value", .tensor(value))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    value = try attributes.tensor("value")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 0)
    return [value.type]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [ReferenceArray(value)]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .constant(value)
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.constant(Constant(Tensor([2, 3], [1, 2, 3, 4, 5, 6] as [Float]))), []),
      OperatorSample(.constant(Constant(Tensor([], [7] as [Int64]))), []),
    ]
  }
}
