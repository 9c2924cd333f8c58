package import DLCTensor

/// The operand with an update in its place from a start that integer scalars give, one per axis; the
/// box is moved inside.
package struct DynamicUpdateSlice: Operator {
  package init() {}

  package static let mnemonics = ["dynamic_update_slice"]
  package var mnemonic: String { "dynamic_update_slice" }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {}

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try require(operands.count >= 2, "operand-count", "takes an operand, an update and starts")
    let (x, update) = (operands[0], operands[1])
    try DynamicSlice.checkStarts(operands.dropFirst(2), rank: x.rank)
    try require(
      update.dataType == x.dataType && update.rank == x.rank, "update-type",
      "the update \(update) does not fit into \(x)")
    for (size, whole) in zip(update.shape, x.shape) {
      if let size = size.constant, let whole = whole.constant {
        try require(size <= whole, "update-type", "the update \(update) exceeds \(x)")
      }
    }
    return [x]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = operands[0]
    let update = operands[1]
    let start = out.shape.indices.map {
      min(max(operands[$0 + 2].position(0), 0), out.shape[$0] - update.shape[$0])
    }
    for index in 0..<update.count {
      let place = zip(start, unflatten(index, update.shape)).map { $0 + $1 }
      out[flatten(place, out.shape)] = update[index]
    }
    return [out]
  }

  package var derivative: Derivative {
    .rule { p in
      let (g, update, starts) = (p.g, p.operands[1], Array(p.operands.dropFirst(2)))
      return [
        g.dynamicUpdate(p.cotangent, g.constant(0, like: update), at: starts),
        g.dynamicSlice(p.cotangent, at: starts, sizes: update.shape),
      ] + starts.map { _ in nil }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .dynamicUpdate
  }

  package static var samples: [OperatorSample] {
    [DataType.float32, .float64, .int16].flatMap { type in
      [
        OperatorSample(
          .dynamicUpdate(DynamicUpdateSlice()),
          [
            TensorType(type, [9, 20]), TensorType(type, [2, 18]), TensorType(.int32),
            TensorType(.int32),
          ]),
        OperatorSample(
          .dynamicUpdate(DynamicUpdateSlice()),
          [TensorType(type, [12]), TensorType(type, [1]), TensorType(.int64)]),
      ]
    }
  }
}
