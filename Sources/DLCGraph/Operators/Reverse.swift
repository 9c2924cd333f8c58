package import DLCTensor

/// Turns the order along each of the given axes around.
package struct Reverse: Operator {
  package var axes: [Int]
  package init(_ axes: [Int]) { self.axes = axes }

  package static let mnemonics = ["reverse"]
  package var mnemonic: String { "reverse" }
  package var attributes: [Attribute] { [Attribute("axes", .integers(axes))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    axes = try attributes.integers("axes")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try requireAxes(axes, rank: operands[0].rank, "reverse-axes")
    return [operands[0]]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = operands[0]
    for index in 0..<out.count {
      var position = unflatten(index, out.shape)
      for axis in axes { position[axis] = out.shape[axis] - 1 - position[axis] }
      out[index] = operands[0][at: position]
    }
    return [out]
  }

  package var derivative: Derivative {
    let axes = axes
    return .rule { p in [p.g.reverse(p.cotangent, axes: axes)] }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .view(.reverse(axes))
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.reverse(Reverse([1])), [TensorType(.float32, [3, 11])]),
      OperatorSample(.reverse(Reverse([0, 1])), [TensorType(.float64, [3, 4])]),
    ]
  }
}
