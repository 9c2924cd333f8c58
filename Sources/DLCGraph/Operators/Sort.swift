package import DLCTensor

/// All operands in the order of the first `keys` of them (the first decides, the next break ties)
/// along an axis; equal elements keep their order. NaN counts as larger than every number, -0 equals 0.
package struct Sort: Operator {
  package var axis: Int
  package var keys: Int
  package var descending: Bool
  package init(axis: Int, keys: Int = 1, descending: Bool = false) {
    self.axis = axis
    self.keys = keys
    self.descending = descending
  }

  package static let mnemonics = ["sort"]
  package var mnemonic: String { "sort" }
  package var attributes: [Attribute] {
    [
      Attribute("axis", .integer(axis)), Attribute("keys", .integer(keys)),
      Attribute("descending", .flag(descending)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    axis = try attributes.integer("axis")
    keys = try attributes.integer("keys")
    descending = try attributes.flag("descending")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try require(!operands.isEmpty, "operand-count", "takes at least one operand")
    for type in operands {
      try require(
        type.shape == operands[0].shape, "same-shape", "\(type) and \(operands[0]) differ in shape")
    }
    try requireAxes([axis], rank: operands[0].rank, "sort-axis")
    try require(
      keys >= 1 && keys <= operands.count, "sort-keys", "there are \(operands.count) operands")
    return operands
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let shape = operands[0].shape
    var out = operands
    var outer = shape
    outer[axis] = 1
    /// Negative, zero or positive.
    func order(_ a: Int, _ b: Int) -> Int {
      for key in operands[..<keys] {
        let (x, y) = (key[a], key[b])
        if case .float(let u) = x, case .float(let v) = y, u.isNaN || v.isNaN {
          if u.isNaN && v.isNaN { continue }
          return u.isNaN ? 1 : -1
        }
        if ScalarReference.compare(.less, x, y, key.type) { return -1 }
        if ScalarReference.compare(.less, y, x, key.type) { return 1 }
      }
      return 0
    }
    forEachCoordinate(outer) { start in
      let places = (0..<shape[axis]).map { position in
        var place = start
        place[axis] = position
        return flatten(place, shape)
      }
      let sorted = places.indices.sorted { i, j in
        let o = order(places[i], places[j]) * (descending ? -1 : 1)
        return o < 0 || o == 0 && i < j
      }
      for (target, source) in zip(places, sorted) {
        for index in out.indices { out[index][target] = operands[index][places[source]] }
      }
    }
    return out
  }

  package var derivative: Derivative {
    let (axis, keys, descending) = (axis, keys, descending)
    return .rule { p in
      let g = p.g
      // The permutation that was applied, as positions along the axis.
      let number = g.iota(.int64, p.operands[0].shape, axis: axis)
      let order = g.addAll(
        .sort(Sort(axis: axis, keys: keys, descending: descending)),
        Array(p.operands[..<keys]) + [number])
      guard let places = order.last else { return p.operands.map { _ in nil } }
      return p.cotangents.enumerated().map { index, d in
        d.map { g.scatterAlong(axis, g.constant(0, like: p.operands[index]), places, $0) }
      }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .routine(.sort(axis: axis, keys: keys, descending: descending))
  }

  package static var samples: [OperatorSample] {
    func sample(_ sort: Sort, _ types: [TensorType]) -> OperatorSample {
      OperatorSample(.sort(sort), types)
    }
    return [
      sample(Sort(axis: 1), [TensorType(.float32, [3, 37])]),
      sample(Sort(axis: 0, descending: true), [TensorType(.float64, [9, 4])]),
      sample(Sort(axis: 0), [TensorType(.int32, [64]), TensorType(.float32, [64])]),
      sample(
        Sort(axis: 1, keys: 2, descending: true),
        [
          TensorType(.uint8, [2, 21]), TensorType(.float32, [2, 21]), TensorType(.int64, [2, 21]),
        ]),
      sample(Sort(axis: 0), [TensorType(.float32, [1])]),
      sample(Sort(axis: 0), [TensorType(.float32, [0])]),
    ]
  }
}
