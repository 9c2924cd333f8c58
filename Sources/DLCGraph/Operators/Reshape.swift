package import DLCTensor

/// The same elements in row-major order under another shape.
package struct Reshape: Operator {
  package var shape: [Size]
  package init(_ shape: [Size]) { self.shape = shape }

  package static let mnemonics = ["reshape"]
  package var mnemonic: String { "reshape" }
  package var attributes: [Attribute] { [Attribute("shape", .dimensions(shape))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    shape = try attributes.dimensions("shape")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    let result = TensorType(operands[0].dataType, shape)
    try result.validate()
    // Products that differ symbolically may agree once bound (floors hide factors): only static
    // shapes are decided here, and binding infers again.
    if result.isStatic && operands[0].isStatic {
      try require(
        result.elementCount == operands[0].elementCount, "element-count",
        "\(operands[0]) has not as many elements as \(result)")
    }
    return [result]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = operands[0]
    out.shape = results[0].sizes
    return [out]
  }

  package var derivative: Derivative {
    .rule { p in [p.g.reshape(p.cotangent, p.operands[0].shape)] }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .view(.reshape)
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.reshape(Reshape([3, 8])), [TensorType(.float32, [2, 3, 4])]),
      OperatorSample(.reshape(Reshape([2, 2, 6])), [TensorType(.float64, [3, 8])]),
      OperatorSample(.reshape(Reshape([])), [TensorType(.int32, [1, 1])]),
      OperatorSample(.reshape(Reshape([0, 5])), [TensorType(.float32, [3, 0])]),
    ]
  }
}
