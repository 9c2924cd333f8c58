package import DLCTensor

/// Result axis i is operand axis `permutation[i]`.
package struct Transpose: Operator {
  package var permutation: [Int]
  package init(_ permutation: [Int]) { self.permutation = permutation }

  package static let mnemonics = ["transpose"]
  package var mnemonic: String { "transpose" }
  package var attributes: [Attribute] { [Attribute("permutation", .integers(permutation))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    permutation = try attributes.integers("permutation")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try requireAxes(permutation, rank: operands[0].rank, "permutation")
    try require(
      permutation.count == operands[0].rank, "permutation",
      "\(permutation) does not permute \(operands[0].rank) axes")
    return [TensorType(operands[0].dataType, permutation.map { operands[0].shape[$0] })]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(operands[0].type, results[0].sizes)
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)
      var source = position
      for (axis, from) in permutation.enumerated() { source[from] = position[axis] }
      out[index] = operands[0][at: source]
    }
    return [out]
  }

  package var derivative: Derivative {
    let permutation = permutation
    return .rule { p in
      var inverse = permutation
      for (axis, from) in permutation.enumerated() { inverse[from] = axis }
      return [p.g.transpose(p.cotangent, inverse)]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .view(.transpose(permutation))
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.transpose(Transpose([1, 0])), [TensorType(.float32, [5, 9])]),
      OperatorSample(.transpose(Transpose([2, 0, 1])), [TensorType(.float64, [3, 4, 5])]),
      OperatorSample(.transpose(Transpose([0, 2, 1, 3])), [TensorType(.int8, [2, 3, 4, 5])]),
    ]
  }
}
