package import DLCTensor

/// The index (int32 or int64) of the first largest or smallest element along an axis; a NaN counts as the extreme.
package struct ArgReduce: Operator {
  package var largest: Bool
  package var axis: Int
  package var indexType: DataType
  package init(largest: Bool, axis: Int, indexType: DataType = .int32) {
    self.largest = largest
    self.axis = axis
    self.indexType = indexType
  }

  package static let mnemonics = ["argmax", "argmin"]
  package var mnemonic: String { largest ? "argmax" : "argmin" }
  package var attributes: [Attribute] {
    [Attribute("axis", .integer(axis)), Attribute("dtype", .type(indexType))]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    largest = mnemonic == "argmax"
    axis = try attributes.integer("axis")
    indexType = try attributes.type("dtype")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try requireAxes([axis], rank: operands[0].rank, "\(mnemonic)-axis")
    try require(
      indexType == .int32 || indexType == .int64, "index-type", "indices are int32 or int64")
    if let size = operands[0].shape[axis].constant {
      try require(size > 0, "\(mnemonic)-size", "axis \(axis) is empty")
    }
    var shape = operands[0].shape
    shape.remove(at: axis)
    return [TensorType(indexType, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let x = operands[0]
    var out = ReferenceArray(indexType, results[0].sizes)
    func isNaN(_ value: ScalarConstant) -> Bool {
      if case .float(let v) = value { return v.isNaN }
      return false
    }
    for index in 0..<out.count {
      var position = unflatten(index, out.shape)
      position.insert(0, at: axis)
      var best = x[at: position]
      for candidate in 1..<max(x.shape[axis], 1) {
        position[axis] = candidate
        let value = x[at: position]
        let better = ScalarReference.compare(largest ? .greater : .less, value, best, x.type)
        if better && !isNaN(best) || isNaN(value) && !isNaN(best) {
          best = value
          out.integers[index] = Int64(candidate)
        }
      }
    }
    return [out]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .argReduction(largest: largest, axis: axis)
  }

  package static var samples: [OperatorSample] {
    [true, false].flatMap { largest in
      [DataType.float32, .float64, .int32, .uint8].flatMap { type in
        [0, 1].map { axis in
          OperatorSample(
            .argReduce(
              ArgReduce(largest: largest, axis: axis, indexType: axis == 0 ? .int32 : .int64)),
            [TensorType(type, [7, 21])])
        }
      }
    }
  }
}
