package import DLCTensor

/// A size as a scalar, for formulas such as a mean; constant once the dimensions are bound.
package struct DimensionSize: Operator {
  package var size: Size
  package var dataType: DataType
  package init(_ size: Size, _ dataType: DataType) {
    self.size = size
    self.dataType = dataType
  }

  package static let mnemonics = ["dimension"]
  package var mnemonic: String { "dimension" }
  package var attributes: [Attribute] {
    [Attribute("size", .dimensions([size])), Attribute("dtype", .type(dataType))]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    let sizes = try attributes.dimensions("size")
    guard sizes.count == 1 else { throw DLCError(.graph, "attribute 'size' is not one dimension") }
    size = sizes[0]
    dataType = try attributes.type("dtype")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 0)
    try require(dataType != .bool, "numeric", "a size cannot be a bool")
    if let number = size.constant, dataType.isInteger {
      try require(dataType.holds(Int128(number)), "size-range", "\(number) is no \(dataType)")
    }
    return [TensorType(dataType)]
  }

  private var value: Tensor { Tensor(splat: Double(size.constant ?? 0), dataType, []) }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(value)
    // Of a half float the interpreter decides when it is rounded.
    if dataType.isFloat { out.reals = [Double(size.constant ?? 0)] }
    return [out]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .constant(value)
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.dimension(DimensionSize(12, .float32)), []),
      OperatorSample(.dimension(DimensionSize(7, .int32)), []),
    ]
  }
}
