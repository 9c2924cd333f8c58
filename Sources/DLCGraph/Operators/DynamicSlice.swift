package import DLCTensor

/// A box of the operand whose start is given by integer scalars, one per axis; it is moved inside.
package struct DynamicSlice: Operator {
  package var sizes: [Size]
  package init(_ sizes: [Size]) { self.sizes = sizes }

  package static let mnemonics = ["dynamic_slice"]
  package var mnemonic: String { "dynamic_slice" }
  package var attributes: [Attribute] { [Attribute("sizes", .dimensions(sizes))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    sizes = try attributes.dimensions("sizes")
  }

  /// Start scalars: integers of one type, as many as axes.
  static func checkStarts(_ starts: ArraySlice<TensorType>, rank: Int) throws(DLCError) {
    try require(starts.count == rank, "start-count", "\(rank) start positions are needed")
    for type in starts {
      try require(
        type.rank == 0 && type.dataType.isInteger, "start-type",
        "start positions are integer scalars, not \(type)")
    }
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try require(!operands.isEmpty, "operand-count", "takes an operand and its start positions")
    let x = operands[0]
    try Self.checkStarts(operands.dropFirst(), rank: x.rank)
    try require(sizes.count == x.rank, "slice-sizes", "sizes need \(x.rank) entries")
    for (size, whole) in zip(sizes, x.shape) {
      if let size = size.constant, let whole = whole.constant {
        try require(size >= 0 && size <= whole, "slice-sizes", "a box of \(sizes) exceeds \(x)")
      }
    }
    return [TensorType(x.dataType, sizes)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let x = operands[0]
    var out = ReferenceArray(x.type, results[0].sizes)
    let start = x.shape.indices.map {
      min(max(operands[$0 + 1].position(0), 0), x.shape[$0] - out.shape[$0])
    }
    for index in 0..<out.count {
      out[index] = x[at: zip(start, unflatten(index, out.shape)).map { $0 + $1 }]
    }
    return [out]
  }

  package var derivative: Derivative {
    .rule { p in
      let zeros = p.g.constant(0, like: p.operands[0])
      let starts = Array(p.operands.dropFirst())
      return [p.g.dynamicUpdate(zeros, p.cotangent, at: starts)] + starts.map { _ in nil }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .dynamicSlice
  }

  package static var samples: [OperatorSample] {
    [DataType.float32, .float64, .uint8].flatMap { type in
      [
        OperatorSample(
          .dynamicSlice(DynamicSlice([3, 17])),
          [TensorType(type, [9, 20]), TensorType(.int32), TensorType(.int32)]),
        OperatorSample(
          .dynamicSlice(DynamicSlice([1])), [TensorType(type, [12]), TensorType(.int64)]),
      ]
    }
  }
}
