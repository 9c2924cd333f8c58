package import DLCTensor

/// `minimum(maximum(value, low), high)`; operands low, value, high of one type.
package struct Clamp: Operator {
  package init() {}
  package static let mnemonics = ["clamp"]
  package var mnemonic: String { "clamp" }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {}

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 3)
    try requireSameType(operands)
    try require(operands[0].dataType != .bool, "numeric", "clamp of bool is not defined")
    return [operands[1]]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    [mapReference(.clamp, operands, results[0])]
  }

  package var derivative: Derivative {
    .rule { p in
      let (g, d) = (p.g, p.cotangent)
      let (low, x, high) = (p.operands[0], p.operands[1], p.operands[2])
      let zero = g.constant(0, like: d)
      // At a bound the bound decides: the slope with respect to the value is 0 there.
      let atHigh = g.compare(.greater_equal, g.maximum(x, low), high)
      let atLow = g.compare(.less_equal, x, low)
      let inside = g.select(atHigh, zero, g.select(atLow, zero, d))
      let dLow = g.select(atHigh, zero, g.select(atLow, d, zero))
      return [dLow, inside, g.select(atHigh, d, zero)]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .map(.clamp)
  }

  package static var samples: [OperatorSample] {
    [DataType.float32, .float64, .int32, .uint8].map {
      OperatorSample(
        .clamp(Clamp()), [DataType](repeating: $0, count: 3).map { TensorType($0, [17]) })
    }
  }
}
