package import DLCTensor

/// The bits of each element as an element of another type of the same size: between floating-point numbers of 32 or 64
/// bits and integers. (Half floats are not in memory as they are computed.)
package struct Bitcast: Operator {
  package var target: DataType
  package init(_ target: DataType) { self.target = target }

  package static let mnemonics = ["bitcast"]
  package var mnemonic: String { "bitcast" }
  package var attributes: [Attribute] { [Attribute("dtype", .type(target))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    target = try attributes.type("dtype")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    let source = operands[0].dataType
    try require(
      source.byteCount == target.byteCount && source != .bool && target != .bool
        && source == source.computeType && target == target.computeType, "bitcast-types",
      "\(source) has not the bits of \(target)")
    return [TensorType(target, operands[0].shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.reinterpret(target), operands, results[0])]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.reinterpret(target))
  }

  package static var samples: [OperatorSample] {
    let pairs: [(DataType, DataType)] = [
      (.float32, .int32), (.float32, .uint32), (.float64, .int64), (.float64, .uint64),
      (.int32, .uint32), (.uint8, .int8), (.uint64, .int64),
    ]
    // Integers whose bits are no NaN: the reference does not keep which one it is.
    return pairs.map { OperatorSample(.bitcast(Bitcast($1)), [TensorType($0, [13])], range: -100...100) }
      + [(DataType.int32, DataType.float32), (.int64, .float64)].map {
        OperatorSample(.bitcast(Bitcast($1)), [TensorType($0, [13])])
      }
  }
}
