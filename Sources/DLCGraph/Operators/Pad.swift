package import DLCTensor

/// Puts `low` and `high` fill elements around each axis (negative amounts cut off) and `interior` between elements;
/// the second operand is the fill scalar.
package struct Pad: Operator {
  package var low: [Size]
  package var high: [Size]
  package var interior: [Int]
  package init(low: [Size], high: [Size], interior: [Int]) {
    self.low = low
    self.high = high
    self.interior = interior
  }

  package static let mnemonics = ["pad"]
  package var mnemonic: String { "pad" }
  package var attributes: [Attribute] {
    [
      Attribute("low", .dimensions(low)), Attribute("high", .dimensions(high)),
      Attribute("interior", .integers(interior)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    low = try attributes.dimensions("low")
    high = try attributes.dimensions("high")
    interior = try attributes.integers("interior")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    let (x, fill) = (operands[0], operands[1])
    try require(
      fill == TensorType(x.dataType), "pad-fill", "the fill \(fill) is not a \(x.dataType) scalar")
    try require(
      low.count == x.rank && high.count == x.rank && interior.count == x.rank, "pad-rank",
      "low, high and interior need \(x.rank) entries each")
    var shape: [Size] = []
    for axis in 0..<x.rank {
      try require(
        interior[axis] >= 0 && interior[axis] < 1 << 31, "pad-interior",
        "interior padding \(interior[axis]) is negative")
      for amount in [low[axis], high[axis]] {
        if let amount = amount.constant {
          try require(amount.magnitude < 1 << 40, "pad-range", "padding \(amount) is out of range")
        }
      }
      let spread =
        x.shape[axis] == 0 ? 0 : (x.shape[axis] - 1) * Size(interior[axis] + 1) + 1
      let size = spread + low[axis] + high[axis]
      if let size = size.constant {
        try require(size >= 0, "pad-range", "axis \(axis) would have size \(size)")
      }
      shape.append(size)
    }
    return [TensorType(x.dataType, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(operands[0].type, results[0].sizes)
    for index in 0..<out.count { out[index] = operands[1][0] }
    for index in 0..<operands[0].count {
      let source = unflatten(index, operands[0].shape)
      let target = source.indices.map { low[$0].constant! + source[$0] * (interior[$0] + 1) }
      let inside = zip(target, out.shape).allSatisfy { $0 >= 0 && $0 < $1 }
      if inside { out[flatten(target, out.shape)] = operands[0][index] }
    }
    return [out]
  }

  package var derivative: Derivative {
    let (low, high, interior) = (low, high, interior)
    return .rule { p in
      let (g, d) = (p.g, p.cotangent)
      // Undo the outer padding, then keep every element that is not interior fill.
      let core = g.pad(
        d, 0, low: low.map { 0 - $0 }, high: high.map { 0 - $0 },
        interior: [Int](repeating: 0, count: low.count))
      let dx = g.slice(
        core, from: low.map { _ in 0 }, to: core.shape, strides: interior.map { $0 + 1 })
      let all = Array(d.shape.indices)
      return [dx, g.sum(d, axes: all) - g.sum(dx, axes: all)]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    let sizes = operands[0].sizes
    let out = results[0].sizes
    var piece = AssemblyPiece(operand: 0, sourceStart: [], counts: [], start: [], strides: [])
    for axis in sizes.indices {
      let (low, step) = (low[axis].constant!, interior[axis] + 1)
      // The first source element that lands inside, and how many do.
      let first = low >= 0 ? 0 : (-low + step - 1) / step
      let start = low + first * step
      let room = start >= out[axis] ? 0 : (out[axis] - start + step - 1) / step
      piece.sourceStart.append(first)
      piece.start.append(start)
      piece.strides.append(step)
      piece.counts.append(max(0, min(sizes[axis] - first, room)))
    }
    return .assembly(pieces: [piece], fill: 1)
  }

  package static var samples: [OperatorSample] {
    func sample(_ low: [Int], _ high: [Int], _ interior: [Int], _ type: TensorType)
      -> OperatorSample
    {
      OperatorSample(
        .pad(
          Pad(low: low.map { Size($0) }, high: high.map { Size($0) }, interior: interior)),
        [type, TensorType(type.dataType)])
    }
    return [
      sample([1, 2], [0, 3], [0, 0], TensorType(.float32, [4, 9])),
      sample([-1, 0], [2, -2], [0, 0], TensorType(.float64, [4, 6])),
      sample([1], [1], [2], TensorType(.float32, [5])),
      sample([-2, 1], [-1, -3], [1, 2], TensorType(.int32, [4, 5])),
      sample([2], [1], [0], TensorType(.float32, [0])),
    ]
  }
}
