package import DLCTensor

/// Combines the elements under a window that slides over every axis; padding counts as the identity.
package struct ReduceWindow: Operator {
  package var geometry: WindowGeometry
  package init(_ geometry: WindowGeometry) { self.geometry = geometry }

  package static let mnemonics = ["reduce_window"]
  package var mnemonic: String { "reduce_window" }
  package var attributes: [Attribute] {
    [
      Attribute("combiner", .text(geometry.combiner.rawValue)),
      Attribute("window", .integers(geometry.window)),
      Attribute("strides", .integers(geometry.strides)),
      Attribute("dilation", .integers(geometry.dilation)),
      Attribute("padding_low", .integers(geometry.paddingLow)),
      Attribute("padding_high", .integers(geometry.paddingHigh)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    geometry = WindowGeometry(
      combiner: try attributes.choice("combiner", Combiner.self),
      window: try attributes.integers("window"), strides: try attributes.integers("strides"),
      dilation: try attributes.integers("dilation"),
      paddingLow: try attributes.integers("padding_low"),
      paddingHigh: try attributes.integers("padding_high"))
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    let (x, g) = (operands[0], geometry)
    try require(
      g.combiner.supports(x.dataType), "element-type",
      "\(g.combiner.rawValue) is not defined on \(x.dataType)")
    for list in [g.window, g.strides, g.dilation, g.paddingLow, g.paddingHigh] {
      try require(list.count == x.rank, "window-rank", "attributes need \(x.rank) entries each")
      try require(
        list.allSatisfy { $0 >= 0 && $0 < 1 << 31 }, "window-attributes", "\(list) is out of range")
    }
    try require(
      (g.window + g.strides + g.dilation).allSatisfy { $0 >= 1 }, "window-attributes",
      "window, strides and dilation must be positive")
    var shape: [Size] = []
    for axis in 0..<x.rank {
      let padded = x.shape[axis] + Size(g.paddingLow[axis] + g.paddingHigh[axis])
      let extent = (g.window[axis] - 1) * g.dilation[axis] + 1
      try requireWindow(extent, fits: padded, axis, x)
      let room = padded - Size(extent)
      shape.append(room / Size(g.strides[axis]) + 1)
    }
    return [TensorType(x.dataType, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let (x, g) = (operands[0], geometry)
    var out = ReferenceArray(x.type, results[0].sizes)
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)
      var value = g.combiner.identity(x.type)
      forEachCoordinate(g.window) { tap in
        let source = position.indices.map {
          position[$0] * g.strides[$0] + tap[$0] * g.dilation[$0] - g.paddingLow[$0]
        }
        if zip(source, x.shape).allSatisfy({ $0 >= 0 && $0 < $1 }) {
          value = g.combiner.reference(x.type, value, x[at: source])
        }
      }
      out[index] = value
    }
    return [out]
  }

  package var derivative: Derivative {
    switch geometry.combiner {
    case .and, .or: .zero
    case .sum: .rule(sumPullback)
    case .product: .rule(productPullback)
    case .maximum, .minimum: .rule(extremePullback)
    }
  }

  /// Each tap of the window is a strided slice of the padded operand; its cotangent is that of the result
  /// times the product of the other taps.
  private func productPullback(_ p: Pullback) -> [Value?] {
    let (g, x, d) = (p.g, p.operands[0], p.cotangent)
    let low = geometry.paddingLow.map { Size($0) }
    let high = geometry.paddingHigh.map { Size($0) }
    let padded = g.pad(x, 1, low: low, high: high)
    var taps: [(start: [Size], limit: [Size])] = []
    forEachCoordinate(geometry.window) { tap in
      let start = tap.indices.map { Size(tap[$0] * geometry.dilation[$0]) }
      let limit = tap.indices.map {
        start[$0] + (d.shape[$0] - 1) * Size(geometry.strides[$0]) + 1
      }
      taps.append((start, limit))
    }
    let slices = taps.map {
      g.slice(padded, from: $0.start, to: $0.limit, strides: geometry.strides)
    }
    var before = [g.constant(1, like: d)]
    for slice in slices.dropLast() { before.append(before.last! * slice) }
    var after = g.constant(1, like: d)
    var total = g.constant(0, like: padded)
    for index in slices.indices.reversed() {
      let part = d * before[index] * after
      let rest = taps[index].limit.indices.map {
        padded.shape[$0] - taps[index].limit[$0]
      }
      total =
        total
        + g.reshape(
          g.pad(
            part, 0, low: taps[index].start, high: rest,
            interior: geometry.strides.map { $0 - 1 }), padded.shape)
      after = after * slices[index]
    }
    return [g.pad(total, 0, low: low.map { 0 - $0 }, high: high.map { 0 - $0 })]
  }

  /// The first extreme element of each window takes its cotangent.
  private func extremePullback(_ p: Pullback) -> [Value?] {
    let (g, x, d) = (p.g, p.operands[0], p.cotangent)
    let identity: Double = geometry.combiner == .maximum ? -.infinity : .infinity
    let low = geometry.paddingLow.map { Size($0) }
    let high = geometry.paddingHigh.map { Size($0) }
    let padded = g.pad(x, identity, low: low, high: high)
    let spread = g.selectAndScatter(
      padded, source: d, largest: geometry.combiner == .maximum, window: geometry.window,
      strides: geometry.strides, dilation: geometry.dilation)
    return [g.pad(spread, 0, low: low.map { 0 - $0 }, high: high.map { 0 - $0 })]
  }

  /// Every input element collects from the windows that cover it: a sum over mirrored windows.
  private func sumPullback(_ p: Pullback) -> [Value?] {
    let (g, x, d) = (p.g, p.operands[0], p.cotangent)
    let axes = geometry.window.indices
    let reach = axes.map { (geometry.window[$0] - 1) * geometry.dilation[$0] }
    let low = axes.map { Size(reach[$0] - geometry.paddingLow[$0]) }
    let high = axes.map {
      x.shape[$0] - ((d.shape[$0] - 1) * Size(geometry.strides[$0]) + 1) - low[$0]
        + Size(reach[$0])
    }
    let spread = g.pad(d, 0, low: low, high: high, interior: geometry.strides.map { $0 - 1 })
    var mirrored = geometry
    mirrored.strides = axes.map { _ in 1 }
    mirrored.paddingLow = axes.map { _ in 0 }
    mirrored.paddingHigh = axes.map { _ in 0 }
    return [g.add(.reduceWindow(ReduceWindow(mirrored)), [spread])]
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .window(geometry)
  }

  package static var samples: [OperatorSample] {
    func sample(
      _ combiner: Combiner, _ window: [Int], _ strides: [Int], dilation: [Int]? = nil,
      low: [Int]? = nil, high: [Int]? = nil, _ type: TensorType
    ) -> OperatorSample {
      let (ones, zeros) = (window.map { _ in 1 }, window.map { _ in 0 })
      return OperatorSample(
        .reduceWindow(
          ReduceWindow(
            WindowGeometry(
              combiner: combiner, window: window, strides: strides, dilation: dilation ?? ones,
              paddingLow: low ?? zeros, paddingHigh: high ?? zeros))), [type], range: 0.5...1.5)
    }
    return [
      sample(.maximum, [1, 1, 2, 2], [1, 1, 2, 2], TensorType(.float32, [2, 3, 7, 9])),
      sample(.sum, [1, 3], [1, 1], low: [0, 1], high: [0, 1], TensorType(.float64, [3, 10])),
      sample(.minimum, [2, 3], [1, 2], dilation: [2, 1], TensorType(.int32, [6, 11])),
      sample(
        .product, [2, 2], [2, 1], low: [1, 0], high: [0, 2], TensorType(.float32, [5, 6])),
      sample(.maximum, [3, 3], [1, 1], low: [1, 1], high: [1, 1], TensorType(.uint8, [5, 20])),
    ]
  }
}
