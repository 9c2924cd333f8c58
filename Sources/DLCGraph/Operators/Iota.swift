package import DLCTensor

/// Each element is its coordinate along one axis.
package struct Iota: Operator {
  package var type: TensorType
  package var axis: Int
  package init(_ type: TensorType, axis: Int) {
    self.type = type
    self.axis = axis
  }

  package static let mnemonics = ["iota"]
  package var mnemonic: String { "iota" }
  package var attributes: [Attribute] {
    [
      Attribute("axis", .integer(axis)), Attribute("shape", .dimensions(type.shape)),
      Attribute("dtype", .type(type.dataType)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    axis = try attributes.integer("axis")
    type = TensorType(try attributes.type("dtype"), try attributes.dimensions("shape"))
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 0)
    try requireAxes([axis], rank: type.rank, "iota-axis")
    try require(type.dataType != .bool, "numeric", "iota of bool is not defined")
    return [type]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(type.dataType, results[0].sizes)
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)[axis]
      out[index] = type.dataType.isFloat ? .float(Double(position)) : .integer(Int64(position))
    }
    return [out]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .iota(axis: axis)
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.iota(Iota(TensorType(.float32, [3, 5]), axis: 1)), []),
      OperatorSample(.iota(Iota(TensorType(.int32, [4, 3]), axis: 0)), []),
      OperatorSample(.iota(Iota(TensorType(.uint8, [300]), axis: 0)), []),
    ]
  }
}
