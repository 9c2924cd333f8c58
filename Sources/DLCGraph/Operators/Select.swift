package import DLCTensor

/// Takes each element from the second operand where the first is true, else from the third.
package struct Select: Operator {
  package init() {}
  package static let mnemonics = ["select"]
  package var mnemonic: String { "select" }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {}

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 3)
    try requireSameType([operands[1], operands[2]])
    try require(
      operands[0] == TensorType(.bool, operands[1].shape), "predicate",
      "the predicate \(operands[0]) is not bool of the operands' shape")
    return [operands[1]]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.select, operands, results[0])]
  }

  package var derivative: Derivative {
    .rule { p in
      let zero = p.g.constant(0, like: p.cotangent)
      return [
        nil, p.g.select(p.operands[0], p.cotangent, zero),
        p.g.select(p.operands[0], zero, p.cotangent),
      ]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.select)
  }

  package static var samples: [OperatorSample] {
    [DataType.float32, .float64, .int32, .int64, .uint8, .bool, .bfloat16].map {
      OperatorSample(
        .select(Select()),
        [TensorType(.bool, [4, 5]), TensorType($0, [4, 5]), TensorType($0, [4, 5])])
    }
  }
}
