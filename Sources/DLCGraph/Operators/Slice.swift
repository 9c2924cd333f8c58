package import DLCTensor

/// The elements from `starts` up to, not including, `limits`, in steps of `strides`.
package struct Slice: Operator {
  package var starts: [Size]
  package var limits: [Size]
  package var strides: [Int]
  package init(_ starts: [Size], _ limits: [Size], strides: [Int]) {
    self.starts = starts
    self.limits = limits
    self.strides = strides
  }

  package static let mnemonics = ["slice"]
  package var mnemonic: String { "slice" }
  package var attributes: [Attribute] {
    [
      Attribute("starts", .dimensions(starts)), Attribute("limits", .dimensions(limits)),
      Attribute("strides", .integers(strides)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    starts = try attributes.dimensions("starts")
    limits = try attributes.dimensions("limits")
    strides = try attributes.integers("strides")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    let rank = operands[0].rank
    try require(
      starts.count == rank && limits.count == rank && strides.count == rank, "slice-rank",
      "starts, limits and strides need \(rank) entries each")
    var shape: [Size] = []
    for axis in 0..<rank {
      let stride = strides[axis]
      try require(
        stride >= 1 && stride < 1 << 31, "slice-stride", "stride \(stride) is not positive")
      if let a = starts[axis].constant, let b = limits[axis].constant {
        let size = operands[0].shape[axis].constant ?? b
        try require(
          a >= 0 && a <= b && b <= size, "slice-range",
          "range \(a)..<\(b) is outside axis \(axis) of size \(operands[0].shape[axis])")
      }
      shape.append((limits[axis] - starts[axis] + Size(stride - 1)) / Size(stride))
    }
    return [TensorType(operands[0].dataType, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(operands[0].type, results[0].sizes)
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)
      let source = position.indices.map { starts[$0].constant! + position[$0] * strides[$0] }
      out[index] = operands[0][at: source]
    }
    return [out]
  }

  package var derivative: Derivative {
    let (starts, strides) = (starts, strides)
    return .rule { p in
      let (x, d) = (p.operands[0], p.cotangent)
      var high: [Size] = []
      for axis in strides.indices {
        let covered = (d.shape[axis] - 1) * Size(strides[axis]) + 1
        high.append(x.shape[axis] - starts[axis] - covered)
      }
      return [p.g.pad(d, 0, low: starts, high: high, interior: strides.map { $0 - 1 })]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .view(.slice(starts: starts.map { $0.constant! }, strides: strides))
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(
        .slice(Slice([1, 2], [4, 9], strides: [1, 1])), [TensorType(.float32, [5, 9])]),
      OperatorSample(
        .slice(Slice([0, 1], [5, 9], strides: [2, 3])), [TensorType(.float64, [5, 9])]),
      OperatorSample(.slice(Slice([3], [3], strides: [1])), [TensorType(.int32, [5])]),
    ]
  }
}
