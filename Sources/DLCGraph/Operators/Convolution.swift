package import DLCTensor

/// Cross-correlation of an input [n, c, spatial...] with kernels [m, c/groups, kernel...] to [n, m, spatial...], with
/// strides, padding, dilation of the input and of the kernel, and groups.
package struct Convolution: Operator {
  package var geometry: ConvolutionGeometry
  package init(_ geometry: ConvolutionGeometry) { self.geometry = geometry }

  package static let mnemonics = ["convolution"]
  package var mnemonic: String { "convolution" }
  package var attributes: [Attribute] {
    [
      Attribute("strides", .integers(geometry.strides)),
      Attribute("padding_low", .integers(geometry.paddingLow)),
      Attribute("padding_high", .integers(geometry.paddingHigh)),
      Attribute("input_dilation", .integers(geometry.inputDilation)),
      Attribute("kernel_dilation", .integers(geometry.kernelDilation)),
      Attribute("groups", .integer(geometry.groups)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    geometry = ConvolutionGeometry(
      strides: try attributes.integers("strides"),
      paddingLow: try attributes.integers("padding_low"),
      paddingHigh: try attributes.integers("padding_high"),
      inputDilation: try attributes.integers("input_dilation"),
      kernelDilation: try attributes.integers("kernel_dilation"),
      groups: try attributes.integer("groups"))
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    let (x, k, g) = (operands[0], operands[1], geometry)
    try require(
      x.dataType == k.dataType && x.dataType != .bool, "element-type",
      "\(x.dataType) and \(k.dataType) cannot be convolved")
    try require(
      x.rank >= 3 && x.rank == k.rank, "convolution-rank",
      "input and kernel need one rank of at least 3, not \(x.rank) and \(k.rank)")
    let spatial = x.rank - 2
    for list in [g.strides, g.paddingLow, g.paddingHigh, g.inputDilation, g.kernelDilation] {
      try require(
        list.count == spatial, "convolution-attributes", "attributes need \(spatial) entries each")
      try require(
        list.allSatisfy { $0.magnitude < 1 << 31 }, "convolution-attributes",
        "\(list) is out of range")
    }
    try require(
      (g.strides + g.inputDilation + g.kernelDilation).allSatisfy { $0 >= 1 },
      "convolution-attributes", "strides and dilations must be positive")
    try require(
      g.groups >= 1 && g.groups < 1 << 31, "groups", "\(g.groups) groups are not possible")
    if let channels = x.shape[1].constant, let each = k.shape[1].constant {
      try require(
        each.multipliedReportingOverflow(by: g.groups) == (channels, false), "groups",
        "\(channels) input channels are not \(g.groups) groups of \(each)")
    } else {
      try requireEqual(x.shape[1], k.shape[1] * Size(g.groups), "groups")
    }
    if let m = k.shape[0].constant {
      try require(
        m % g.groups == 0, "groups", "\(m) output channels do not divide into \(g.groups) groups")
    }
    var shape = [x.shape[0], k.shape[0]]
    for i in 0..<spatial {
      let size = x.shape[i + 2]
      let window = (k.shape[i + 2] - 1) * Size(g.kernelDilation[i]) + 1
      let padded =
        (size - 1) * Size(g.inputDilation[i]) + 1
        + Size(g.paddingLow[i] + g.paddingHigh[i])
      let room = padded - window
      if let room = room.constant, room < 0 {
        throw DLCError(
          .type,
          "a window of \(window) does not fit into \(padded) on spatial axis \(i) (window-size)")
      }
      shape.append(room / Size(g.strides[i]) + 1)
    }
    return [TensorType(x.dataType, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let (x, k, g) = (operands[0], operands[1], geometry)
    var out = ReferenceArray(x.type, results[0].sizes)
    let perGroup = max(k.shape[0] / g.groups, 1)
    for index in 0..<out.count {
      let position = unflatten(index, out.shape)
      let group = position[1] / perGroup
      var (real, integer) = (0.0, Int64(0))
      forEachCoordinate(Array(k.shape.dropFirst())) { tap in
        var source = [position[0], group * k.shape[1] + tap[0]]
        for i in g.strides.indices {
          let at =
            position[i + 2] * g.strides[i] + tap[i + 1] * g.kernelDilation[i] - g.paddingLow[i]
          guard at >= 0, at % g.inputDilation[i] == 0, at / g.inputDilation[i] < x.shape[i + 2]
          else { return }
          source.append(at / g.inputDilation[i])
        }
        switch (x[at: source], k[at: [position[1]] + tap]) {
        case (.float(let a), .float(let b)): real += a * b
        case (.integer(let a), .integer(let b)): integer = integer &+ a &* b
        default: break
        }
      }
      out[index] = x.type.isFloat ? .float(real) : .integer(integer)
    }
    return [out]
  }

  /// Both cotangents are convolutions: of the output's cotangent with the mirrored kernel, and of the
  /// input with the output's cotangent, where strides and kernel dilation change places.
  package var derivative: Derivative {
    let geometry = geometry
    return .rule { p in
      let (g, x, k, d) = (p.g, p.operands[0], p.operands[1], p.cotangent)
      let spatial = geometry.strides.indices
      let groups = Size(geometry.groups)
      let spatialAxes = spatial.map { $0 + 3 }
      /// [a, G b, ...] as [a, G, b, ...], axes permuted, the group joined to the axis after it.
      func regroup(_ v: Value, splitting axis: Int, _ order: [Int]) -> Value {
        var shape = v.shape
        shape.replaceSubrange(axis...axis, with: [groups, v.shape[axis] / groups])
        let moved = g.transpose(g.reshape(v, shape), order + spatialAxes)
        let at = order.firstIndex(of: axis)!
        var joined = moved.shape
        joined.replaceSubrange(at...at + 1, with: [moved.shape[at] * moved.shape[at + 1]])
        return g.reshape(moved, joined)
      }
      // The extents of the input once dilated, and of what the windows cover.
      let dilated = spatial.map {
        (x.shape[$0 + 2] - 1) * Size(geometry.inputDilation[$0]) + 1
      }
      let reach = spatial.map { (k.shape[$0 + 2] - 1) * Size(geometry.kernelDilation[$0]) }
      let stepped = spatial.map { (d.shape[$0 + 2] - 1) * Size(geometry.strides[$0]) + 1 }
      let low = spatial.map { Size(geometry.paddingLow[$0]) }

      let dLow = spatial.map { reach[$0] - low[$0] }
      let dHigh = spatial.map { dilated[$0] - stepped[$0] - dLow[$0] + reach[$0] }
      let spread = g.pad(
        d, 0, low: [0, 0] + dLow, high: [0, 0] + dHigh,
        interior: [0, 0] + geometry.strides.map { $0 - 1 })
      let mirrored = g.reverse(regroup(k, splitting: 0, [0, 2, 1]), axes: spatial.map { $0 + 2 })
      let dx = g.convolution(
        spread, mirrored, strides: geometry.inputDilation, kernelDilation: geometry.kernelDilation,
        groups: geometry.groups)

      let xHigh = spatial.map { stepped[$0] + reach[$0] - dilated[$0] - low[$0] }
      let window = g.pad(
        x, 0, low: [0, 0] + low, high: [0, 0] + xHigh,
        interior: [0, 0] + geometry.inputDilation.map { $0 - 1 })
      let dk = g.convolution(
        regroup(window, splitting: 1, [2, 1, 0]), regroup(d, splitting: 1, [1, 2, 0]),
        strides: geometry.kernelDilation, kernelDilation: geometry.strides, groups: geometry.groups)
      return [dx, g.transpose(dk, [1, 0] + spatial.map { $0 + 2 })]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .convolution(geometry)
  }

  package static var samples: [OperatorSample] {
    func sample(
      _ x: [Size], _ k: [Size], strides: [Int], low: [Int], high: [Int],
      inputDilation: [Int]? = nil, kernelDilation: [Int]? = nil, groups: Int = 1,
      type: DataType = .float32
    ) -> OperatorSample {
      let ones = strides.map { _ in 1 }
      return OperatorSample(
        .convolution(
          Convolution(
            ConvolutionGeometry(
              strides: strides, paddingLow: low, paddingHigh: high,
              inputDilation: inputDilation ?? ones, kernelDilation: kernelDilation ?? ones,
              groups: groups))), [TensorType(type, x), TensorType(type, k)])
    }
    return [
      sample([2, 3, 9, 8], [5, 3, 3, 3], strides: [1, 1], low: [0, 0], high: [0, 0]),
      sample([1, 4, 11, 20], [18, 4, 3, 3], strides: [1, 1], low: [1, 1], high: [1, 1]),
      sample(
        [2, 3, 12, 9], [4, 3, 3, 2], strides: [2, 3], low: [1, 0], high: [2, 1], type: .float64),
      sample(
        [1, 4, 10, 10], [6, 2, 3, 3], strides: [1, 2], low: [2, 1], high: [0, 1],
        kernelDilation: [2, 1], groups: 2),
      sample(
        [1, 2, 5, 6], [3, 2, 3, 3], strides: [1, 1], low: [2, 2], high: [2, 2],
        inputDilation: [2, 3], kernelDilation: [1, 2]),
      // Zeros between the elements: whole parts, parts without taps, cut borders.
      sample(
        [2, 3, 5, 4], [4, 3, 4, 4], strides: [1, 1], low: [2, 2], high: [2, 2], inputDilation: [2, 2]),
      sample([1, 4, 7], [2, 2, 2], strides: [1], low: [1], high: [3], inputDilation: [3], groups: 2),
      sample(
        [1, 2, 4, 5], [3, 2, 3, 1], strides: [1, 1], low: [-1, 0], high: [2, -1],
        inputDilation: [2, 3], type: .float64),
      sample(
        [2, 6, 7, 9], [6, 1, 3, 3], strides: [1, 1], low: [1, 1], high: [1, 1], groups: 6),
      sample([2, 3, 17], [4, 3, 5], strides: [2], low: [2], high: [2]),
      sample(
        [1, 2, 5, 6, 4], [3, 2, 2, 3, 2], strides: [1, 1, 2], low: [0, 1, 0], high: [1, 0, 0]),
      sample(
        [1, 2, 6, 6], [3, 2, 3, 3], strides: [1, 1], low: [1, 1], high: [1, 1], type: .int32),
      sample([1, 2, 8, 8], [3, 2, 3, 3], strides: [1, 1], low: [-1, 0], high: [0, -2]),
      sample([3, 5, 6, 6], [7, 5, 1, 1], strides: [1, 1], low: [0, 0], high: [0, 0]),
      // Fewer positions than a panel holds, with gaps that add up to a panel's width.
      sample([2, 4, 5, 6], [5, 4, 3, 3], strides: [1, 1], low: [0, 0], high: [0, 0]),
    ]
  }
}
