package import DLCTensor

/// Puts tensors behind each other along one axis.
package struct Concatenate: Operator {
  package var axis: Int
  package init(axis: Int) { self.axis = axis }

  package static let mnemonics = ["concatenate"]
  package var mnemonic: String { "concatenate" }
  package var attributes: [Attribute] { [Attribute("axis", .integer(axis))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    axis = try attributes.integer("axis")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    guard var result = operands.first else {
      throw DLCError(.type, "takes at least 1 operand (operand-count)")
    }
    try requireAxes([axis], rank: result.rank, "concatenate-axis")
    for type in operands.dropFirst() {
      var aligned = type
      if type.rank == result.rank { aligned.shape[axis] = result.shape[axis] }
      try require(
        aligned == result, "concatenate-type", "\(operands[0]) and \(type) do not fit together")
      result.shape[axis] = result.shape[axis] + type.shape[axis]
    }
    return [result]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(operands[0].type, results[0].sizes)
    var offset = 0
    for operand in operands {
      for index in 0..<operand.count {
        var position = unflatten(index, operand.shape)
        position[axis] += offset
        out[flatten(position, out.shape)] = operand[index]
      }
      offset += operand.shape[axis]
    }
    return [out]
  }

  package var derivative: Derivative {
    let axis = axis
    return .rule { p in
      var offset: Size = 0
      return p.operands.map { operand in
        var starts = [Size](repeating: 0, count: operand.rank)
        var limits = operand.shape
        starts[axis] = offset
        offset = offset + operand.shape[axis]
        limits[axis] = offset
        return p.g.slice(p.cotangent, from: starts, to: limits)
      }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    var offset = 0
    let pieces = operands.enumerated().map { index, type in
      let zeros = [Int](repeating: 0, count: type.rank)
      var start = zeros
      start[axis] = offset
      offset += type.sizes[axis]
      return AssemblyPiece(
        operand: index, sourceStart: zeros, counts: type.sizes, start: start,
        strides: zeros.map { _ in 1 })
    }
    return .assembly(pieces: pieces, fill: nil)
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(
        .concatenate(Concatenate(axis: 1)),
        [
          TensorType(.float32, [3, 2]), TensorType(.float32, [3, 9]), TensorType(.float32, [3, 1]),
        ]),
      OperatorSample(
        .concatenate(Concatenate(axis: 0)), [TensorType(.int64, [4]), TensorType(.int64, [0])]),
      OperatorSample(
        .concatenate(Concatenate(axis: 0)),
        [TensorType(.float64, [2, 3]), TensorType(.float64, [1, 3])]),
    ]
  }
}
