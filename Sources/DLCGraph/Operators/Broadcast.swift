package import DLCTensor

/// Operand axis i becomes result axis `axes[i]` (ascending); operand axes of size 1 are repeated, result axes
/// that no operand axis maps to are new.
package struct Broadcast: Operator {
  package var shape: [Size]
  package var axes: [Int]
  package init(_ shape: [Size], axes: [Int]) {
    self.shape = shape
    self.axes = axes
  }

  package static let mnemonics = ["broadcast_in_dim"]
  package var mnemonic: String { "broadcast_in_dim" }
  package var attributes: [Attribute] {
    [Attribute("shape", .dimensions(shape)), Attribute("axes", .integers(axes))]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    shape = try attributes.dimensions("shape")
    axes = try attributes.integers("axes")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try requireAxes(axes, rank: shape.count, "broadcast-axes")
    try require(
      axes.count == operands[0].rank && axes == axes.sorted(), "broadcast-axes",
      "axes \(axes) do not place the \(operands[0].rank) axes of the operand in ascending order")
    for (axis, target) in axes.enumerated() {
      let size = operands[0].shape[axis]
      try require(
        size == 1 || size == shape[target], "broadcast-size",
        "size \(size) cannot be broadcast to \(shape[target])")
    }
    return [TensorType(operands[0].dataType, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(operands[0].type, results[0].sizes)
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)
      let source = axes.enumerated().map {
        operands[0].shape[$0.offset] == 1 ? 0 : position[$0.element]
      }
      out[index] = operands[0][at: source]
    }
    return [out]
  }

  package var derivative: Derivative {
    let (axes, shape) = (axes, shape)
    return .rule { p in
      let operand = p.operands[0]
      var kept: [Int] = []
      for (axis, target) in axes.enumerated()
      where !(operand.shape[axis] == 1 && shape[target] != 1) { kept.append(target) }
      let summed = p.g.sum(p.cotangent, axes: shape.indices.filter { !kept.contains($0) })
      return [p.g.reshape(summed, operand.shape)]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .view(.broadcast(axes))
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.broadcast(Broadcast([3, 5], axes: [1])), [TensorType(.float32, [5])]),
      OperatorSample(.broadcast(Broadcast([3, 5], axes: [0])), [TensorType(.float64, [3])]),
      OperatorSample(
        .broadcast(Broadcast([2, 3, 4], axes: [0, 2])), [TensorType(.int32, [2, 1])]),
      OperatorSample(.broadcast(Broadcast([7], axes: [])), [TensorType(.bool)]),
    ]
  }
}
