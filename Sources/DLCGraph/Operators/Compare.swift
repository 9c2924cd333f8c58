package import DLCTensor

/// Compares corresponding elements; comparisons with NaN are false, `not_equal` true.
package struct Compare: Operator {
  package var comparison: Comparison
  package init(_ comparison: Comparison) { self.comparison = comparison }

  package static let mnemonics = ["compare"]
  package var mnemonic: String { "compare" }
  package var attributes: [Attribute] { [Attribute("direction", .text(comparison.rawValue))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    comparison = try attributes.choice("direction", Comparison.self)
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    try requireSameType(operands)
    return [TensorType(.bool, operands[0].shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.compare(comparison), operands, results[0])]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.compare(comparison))
  }

  package static var samples: [OperatorSample] {
    Comparison.allCases.flatMap { comparison in
      DataType.allCases.map { type in
        let operand = TensorType(type, [3, 5])
        return OperatorSample(.compare(Compare(comparison)), [operand, operand])
      }
    }
  }
}
