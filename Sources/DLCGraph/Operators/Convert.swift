package import DLCTensor

/// Changes the element type. Floats to integers truncate and saturate, NaN becomes 0; anything to
/// bool is "not zero"; narrower integers keep the low bits.
package struct Convert: Operator {
  package var target: DataType
  package init(_ target: DataType) { self.target = target }

  package static let mnemonics = ["convert"]
  package var mnemonic: String { "convert" }
  package var attributes: [Attribute] { [Attribute("dtype", .type(target))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    target = try attributes.type("dtype")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    return [TensorType(target, operands[0].shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.convert(target), operands, results[0])]
  }

  package var derivative: Derivative {
    guard target.isFloat else { return .zero }
    return .rule { p in
      let source = p.operands[0].dataType
      return [source.isFloat ? p.g.convert(p.cotangent, source) : nil]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.convert(target))
  }

  package static var samples: [OperatorSample] {
    DataType.allCases.flatMap { source in
      DataType.allCases.map { target in
        OperatorSample(
          .convert(Convert(target)), [TensorType(source, [13])],
          range: target.isSigned ? -100...100 : 0...100)
      }
    }
  }
}
