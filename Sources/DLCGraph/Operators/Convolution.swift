package import DLCTensor

/// Cross-correlation of an input [n, c, spatial...] with kernels [m, c/groups, kernel...] to [n, m, spatial...],
/// or with axes in the order that its dimension numbers say, with strides, padding, dilation of the input and
/// of the kernel, and groups.
package struct Convolution: Operator {
  package var geometry: ConvolutionGeometry
  /// As for `DotGeneral`.
  package var sumType: DataType?
  package init(_ geometry: ConvolutionGeometry, into sumType: DataType? = nil) {
    self.geometry = geometry
    self.sumType = sumType
  }

  package static let mnemonics = ["convolution"]
  package var mnemonic: String { "convolution" }
  package var attributes: [Attribute] {
    let usual = ConvolutionDimensions.channelsFirst(spatial: geometry.strides.count)
    func axes(_ name: String, _ list: KeyPath<ConvolutionDimensions, [Int]>) -> [Attribute] {
      let axes = geometry.dimensions[keyPath: list]
      return axes == usual[keyPath: list] ? [] : [Attribute(name, .integers(axes))]
    }
    return [
      Attribute("strides", .integers(geometry.strides)),
      Attribute("padding_low", .integers(geometry.paddingLow)),
      Attribute("padding_high", .integers(geometry.paddingHigh)),
      Attribute("input_dilation", .integers(geometry.inputDilation)),
      Attribute("kernel_dilation", .integers(geometry.kernelDilation)),
      Attribute("groups", .integer(geometry.groups)),
    ] + axes("input_axes", \.input) + axes("kernel_axes", \.kernel)
      + axes("output_axes", \.output) + (sumType.map { [Attribute("into", .type($0))] } ?? [])
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    let strides = try attributes.integers("strides")
    // Files of before have neither dimension numbers nor a type of sums.
    let usual = ConvolutionDimensions.channelsFirst(spatial: strides.count)
    geometry = ConvolutionGeometry(
      strides: strides,
      paddingLow: try attributes.integers("padding_low"),
      paddingHigh: try attributes.integers("padding_high"),
      inputDilation: try attributes.integers("input_dilation"),
      kernelDilation: try attributes.integers("kernel_dilation"),
      groups: try attributes.integer("groups"),
      dimensions: ConvolutionDimensions(
        input: try attributes.integers("input_axes", otherwise: usual.input),
        kernel: try attributes.integers("kernel_axes", otherwise: usual.kernel),
        output: try attributes.integers("output_axes", otherwise: usual.output)))
    sumType = try attributes.optionalType("into")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    let (x, k, g) = (operands[0], operands[1], geometry)
    let type = try productType(x.dataType, k.dataType, into: sumType, "convolved")
    try require(
      x.rank >= 3 && x.rank == k.rank, "convolution-rank",
      "input and kernel need one rank of at least 3, not \(x.rank) and \(k.rank)")
    try requireAttributes(spatial: x.rank - 2)
    let (input, kernel) = (
      x.shape.picked(g.dimensions.input), k.shape.picked(g.dimensions.kernel)
    )
    if let channels = input[1].constant, let each = kernel[1].constant {
      try require(
        each.multipliedReportingOverflow(by: g.groups) == (channels, false), "groups",
        "\(channels) input channels are not \(g.groups) groups of \(each)")
    } else {
      try requireEqual(input[1], kernel[1] * Size(g.groups), "groups")
    }
    if let m = kernel[0].constant {
      try require(
        m % g.groups == 0, "groups", "\(m) output channels do not divide into \(g.groups) groups")
    }
    var shape = [input[0], kernel[0]]
    for i in g.strides.indices {
      let size = input[i + 2]
      let window = (kernel[i + 2] - 1) * Size(g.kernelDilation[i]) + 1
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
    return [TensorType(type, shape.placed(g.dimensions.output))]
  }

  private func requireAttributes(spatial: Int) throws(DLCError) {
    let g = geometry
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
    let axes = Array(0..<spatial + 2)
    for list in [g.dimensions.input, g.dimensions.kernel, g.dimensions.output] {
      try require(
        list.sorted() == axes, "dimension-numbers",
        "\(list) does not name each of \(axes.count) axes once")
    }
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let (x, k, g) = (operands[0], operands[1], geometry)
    let dimensions = g.dimensions
    let input = x.shape.picked(dimensions.input)
    let kernel = k.shape.picked(dimensions.kernel)
    var out = ReferenceArray(results[0].dataType, results[0].sizes)
    let perGroup = max(kernel[0] / g.groups, 1)
    for index in 0..<out.count {
      let position = unflatten(index, out.shape).picked(dimensions.output)
      let group = position[1] / perGroup
      var (real, integer) = (0.0, Int64(0))
      forEachCoordinate(Array(kernel.dropFirst())) { tap in
        var source = [position[0], group * kernel[1] + tap[0]]
        for i in g.strides.indices {
          let at =
            position[i + 2] * g.strides[i] + tap[i + 1] * g.kernelDilation[i] - g.paddingLow[i]
          guard at >= 0, at % g.inputDilation[i] == 0, at / g.inputDilation[i] < input[i + 2]
          else { return }
          source.append(at / g.inputDilation[i])
        }
        let weight = k[at: ([position[1]] + tap).placed(dimensions.kernel)]
        switch (x[at: source.placed(dimensions.input)], weight) {
        case (.float(let a), .float(let b)): real += a * b
        case (.integer(let a), .integer(let b)): integer = integer &+ a &* b
        default: break
        }
      }
      out[index] = out.type.isFloat ? .float(real) : .integer(integer)
    }
    return [out]
  }

  /// Both cotangents are convolutions: of the output's cotangent with the mirrored kernel, and of the
  /// input with the output's cotangent, where strides and kernel dilation change places.
  package var derivative: Derivative {
    let (geometry, sumType) = (geometry, sumType)
    return .rule { p in
      // Products with the cotangent are summed in its type; each operand's is rounded to its own.
      let wide = p.operands.map { x in sumType.map { p.g.convert(x, $0) } ?? x }
      let pullback = ConvolutionPullback(
        g: p.g, geometry: geometry, x: wide[0], k: wide[1], d: p.cotangent)
      return zip(pullback.cotangents, p.operands).map { p.g.convert($0, $1.dataType) }
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .convolution(geometry)
  }

  package static var samples: [OperatorSample] {
    usualSamples + dimensionSamples + mixedSamples
  }

  private static func sample(
    _ x: [Size], _ k: [Size], strides: [Int], low: [Int], high: [Int],
    inputDilation: [Int]? = nil, kernelDilation: [Int]? = nil, groups: Int = 1,
    dimensions: ConvolutionDimensions? = nil, type: DataType = .float32,
    kernelType: DataType? = nil, into sumType: DataType? = nil
  ) -> OperatorSample {
    let ones = strides.map { _ in 1 }
    let geometry = ConvolutionGeometry(
      strides: strides, paddingLow: low, paddingHigh: high,
      inputDilation: inputDilation ?? ones, kernelDilation: kernelDilation ?? ones,
      groups: groups, dimensions: dimensions ?? .channelsFirst(spatial: strides.count))
    return OperatorSample(
      .convolution(Convolution(geometry, into: sumType)),
      [TensorType(type, x), TensorType(kernelType ?? type, k)])
  }

  private static var usualSamples: [OperatorSample] {
    [
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
        [2, 3, 5, 4], [4, 3, 4, 4], strides: [1, 1], low: [2, 2], high: [2, 2],
        inputDilation: [2, 2]),
      sample(
        [1, 4, 7], [2, 2, 2], strides: [1], low: [1], high: [3], inputDilation: [3], groups: 2),
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

  private static var dimensionSamples: [OperatorSample] {
    [
      // Channels last: too small for tiles, on tiles, in groups, with every attribute, and between zeros.
      sample(
        [2, 4, 3, 2], [2, 2, 2, 3], strides: [1, 1], low: [0, 1], high: [0, 0],
        dimensions: .channelsLast(spatial: 2), type: .float64),
      sample(
        [2, 9, 8, 3], [3, 3, 3, 20], strides: [1, 1], low: [1, 1], high: [1, 1],
        dimensions: .channelsLast(spatial: 2)),
      sample(
        [2, 10, 9, 4], [3, 2, 2, 6], strides: [2, 1], low: [1, 0], high: [0, 2],
        kernelDilation: [1, 2], groups: 2, dimensions: .channelsLast(spatial: 2)),
      sample(
        [2, 5, 4, 3], [4, 4, 3, 4], strides: [1, 1], low: [2, 2], high: [2, 2],
        inputDilation: [2, 2],
        dimensions: .channelsLast(spatial: 2)),
      sample(
        [2, 17, 3], [5, 3, 4], strides: [2], low: [2], high: [2],
        dimensions: .channelsLast(spatial: 1), type: .float64),
      // Output channels in the middle of the kernel, as a transposed convolution has them; batch and
      // channels of the result exchanged, and its spatial axes.
      sample(
        [2, 4, 7, 9], [4, 6, 3, 3], strides: [1, 1], low: [0, 0], high: [0, 0],
        dimensions: ConvolutionDimensions(
          input: [0, 1, 2, 3], kernel: [1, 0, 2, 3], output: [1, 0, 2, 3])),
      sample(
        [7, 3, 9, 2], [3, 5, 2, 3], strides: [1, 2], low: [1, 1], high: [1, 0],
        dimensions: ConvolutionDimensions(
          input: [3, 1, 0, 2], kernel: [1, 3, 0, 2], output: [2, 0, 3, 1])),
      // As a kernel's gradient: batch and channels exchanged in the input and in the result.
      sample(
        [6, 3, 8, 7], [6, 5, 6, 5], strides: [1, 1], low: [0, 0], high: [0, 0],
        dimensions: ConvolutionDimensions(
          input: [1, 0, 2, 3], kernel: [1, 0, 2, 3], output: [1, 0, 2, 3])),
    ]
  }

  private static var mixedSamples: [OperatorSample] {
    [
      // Bytes as quantised networks multiply them, and sums that are wider than their terms.
      sample(
        [2, 3, 9, 8], [5, 3, 3, 3], strides: [1, 1], low: [1, 1], high: [1, 1], type: .uint8,
        kernelType: .int8, into: .int32),
      sample(
        [1, 9, 12, 4], [3, 3, 2, 6], strides: [1, 2], low: [1, 0], high: [1, 0], groups: 2,
        dimensions: .channelsLast(spatial: 2), type: .int8, into: .int32),
      sample(
        [2, 3, 9, 8], [5, 3, 3, 3], strides: [1, 1], low: [0, 0], high: [0, 0], type: .int32,
        into: .int64),
      sample(
        [2, 3, 9, 8], [5, 3, 3, 3], strides: [2, 1], low: [1, 1], high: [1, 1], into: .float64),
      sample(
        [2, 3, 9, 8], [5, 3, 3, 3], strides: [1, 1], low: [1, 1], high: [1, 1], type: .bfloat16,
        into: .float32),
      sample(
        [2, 4, 5], [3, 4, 2], strides: [1], low: [0], high: [1], type: .float16,
        kernelType: .float32, into: .float32),
    ]
  }
}

/// The cotangents of the operands of one convolution.
private struct ConvolutionPullback {
  var g: FunctionBuilder
  var geometry: ConvolutionGeometry
  var x: Value
  var k: Value
  var d: Value

  var cotangents: [Value] { geometry.groups == 1 ? [input, kernel] : grouped }

  private var spatial: Range<Int> { geometry.strides.indices }
  private var axes: ConvolutionDimensions { geometry.dimensions }
  private var xShape: [Size] { x.shape.picked(axes.input) }
  private var kShape: [Size] { k.shape.picked(axes.kernel) }
  private var dShape: [Size] { d.shape.picked(axes.output) }

  /// The extents of the input once dilated.
  private var dilated: [Size] {
    spatial.map { (xShape[$0 + 2] - 1) * Size(geometry.inputDilation[$0]) + 1 }
  }
  /// What a window covers after its first place.
  private var reach: [Size] {
    spatial.map { (kShape[$0 + 2] - 1) * Size(geometry.kernelDilation[$0]) }
  }
  /// Where windows begin.
  private var stepped: [Size] {
    spatial.map { (dShape[$0 + 2] - 1) * Size(geometry.strides[$0]) + 1 }
  }
  private var low: [Size] { geometry.paddingLow.map { Size($0) } }

  /// The output's cotangent with the strides' zeros between its elements and all that windows reach around.
  private var spread: Value {
    let before = spatial.map { reach[$0] - low[$0] }
    let after = spatial.map { dilated[$0] - stepped[$0] - before[$0] + reach[$0] }
    return padded(d, axes.output, before, after, geometry.strides)
  }
  private var window: Value {
    let after = spatial.map { stepped[$0] + reach[$0] - dilated[$0] - low[$0] }
    return padded(x, axes.input, low, after, geometry.inputDilation)
  }
  private func padded(
    _ v: Value, _ axes: [Int], _ low: [Size], _ high: [Size], _ dilation: [Int]
  ) -> Value {
    g.pad(
      v, 0, low: ([0, 0] + low).placed(axes), high: ([0, 0] + high).placed(axes),
      interior: ([0, 0] + dilation.map { $0 - 1 }).placed(axes))
  }

  /// The first two axes in each other's place.
  private func exchanged(_ axes: [Int]) -> [Int] { [axes[1], axes[0]] + axes[2...] }

  private var input: Value {
    g.convolution(
      spread, g.reverse(k, axes: Array(axes.kernel[2...])), strides: geometry.inputDilation,
      kernelDilation: geometry.kernelDilation,
      dimensions: ConvolutionDimensions(
        input: axes.output, kernel: exchanged(axes.kernel), output: axes.input))
  }

  private var kernel: Value {
    g.transpose(
      g.convolution(
        window, d, strides: geometry.kernelDilation, kernelDilation: geometry.strides,
        dimensions: ConvolutionDimensions(
          input: exchanged(axes.input), kernel: exchanged(axes.output), output: usual.output)),
      kernelOrder)
  }

  private var usual: ConvolutionDimensions { .channelsFirst(spatial: spatial.count) }

  /// From the order of the sums, channels of the input first, to the kernel's. It is an operation of its own: what follows,
  /// such as an optimizer's update, then goes along the kernel, and not across it as part of the product.
  private var kernelOrder: [Int] { exchanged(Array(axes.kernel.indices)).placed(axes.kernel) }

  /// With groups, a group is part of another axis for the cotangents than for the convolution.
  private var grouped: [Value] {
    let groups = Size(geometry.groups)
    let behind = spatial.map { $0 + 3 }
    /// Axes in the usual order, [a, G b, ...], as [a, G, b, ...], permuted, the group joined to the axis after it.
    func regroup(_ v: Value, _ axes: [Int], splitting axis: Int, _ order: [Int]) -> Value {
      let v = g.transpose(v, axes)
      var shape = v.shape
      shape.replaceSubrange(axis...axis, with: [groups, v.shape[axis] / groups])
      let moved = g.transpose(g.reshape(v, shape), order + behind)
      let at = order.firstIndex(of: axis)!
      var joined = moved.shape
      joined.replaceSubrange(at...at + 1, with: [moved.shape[at] * moved.shape[at + 1]])
      return g.reshape(moved, joined)
    }
    let mirrored = g.reverse(
      regroup(k, axes.kernel, splitting: 0, [0, 2, 1]), axes: spatial.map { $0 + 2 })
    let dx = g.convolution(
      spread, mirrored, strides: geometry.inputDilation, kernelDilation: geometry.kernelDilation,
      groups: geometry.groups,
      dimensions: ConvolutionDimensions(
        input: axes.output, kernel: usual.kernel, output: axes.input))
    let dk = g.convolution(
      regroup(window, axes.input, splitting: 1, [2, 1, 0]),
      regroup(d, axes.output, splitting: 1, [1, 2, 0]), strides: geometry.kernelDilation,
      kernelDilation: geometry.strides, groups: geometry.groups)
    return [dx, g.transpose(dk, kernelOrder)]
  }
}
