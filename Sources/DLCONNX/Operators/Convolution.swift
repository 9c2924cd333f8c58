import DLCGraph
import DLCTensor

/// Convolutions of floats and of quantised integers.
enum ConvolutionOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("Conv", inputs: 3, convolution),
    OperatorMapping("ConvTranspose", inputs: 3, transposed),
    OperatorMapping("ConvInteger", since: 10, inputs: 4, integers),
    OperatorMapping("QLinearConv", since: 10, inputs: 9, quantized),
    OperatorMapping("CausalConvWithState", since: 27, inputs: 4, causal),
    OperatorMapping("FusedConv", domain: "com.microsoft", inputs: 4, fused),
  ]

  // MARK: Forward

  /// The sizes of a kernel, which the attribute may repeat.
  static func kernel(_ c: NodeContext, _ x: Value, _ w: Value) throws(ImportStop) -> [Int] {
    guard x.rank >= 3, w.rank == x.rank else {
      throw c.fail("a kernel of \(w.type) does not go over \(x.type)")
    }
    let kernel = try c.number(Array(w.shape[2...]))
    if let declared = try c.integers("kernel_shape"), !declared.isEmpty, declared != kernel {
      throw c.fail("attribute 'kernel_shape' is \(declared), the kernel is \(w.type)")
    }
    return kernel
  }

  private static func groups(_ c: NodeContext) throws(ImportStop) -> Int {
    let groups = try c.integer("group", 1)
    guard groups >= 1, groups < 1 << 31 else { throw c.fail("\(groups) groups are not possible") }
    return groups
  }

  private static func convolved(_ c: NodeContext, _ x: Value, _ w: Value) throws(ImportStop)
    -> Value
  {
    let window = try SlidingWindow(
      c, kernel: try kernel(c, x, w), over: Array(x.shape.dropFirst(2)))
    return c.g.convolution(
      window.opened(x, 0, c.g), w, strides: window.strides, padding: window.padding,
      kernelDilation: window.dilations,
      groups: try groups(c))
  }

  private static func convolution(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, w) = (try c.operand(0), try c.operand(1))
    let y = try convolved(c, c.computed(x), c.computed(w))
    return [c.g.convert(try c.addingBias(2, to: y), x.dataType)]
  }

  /// A convolution with a sum and an activation after it.
  private static func fused(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, w) = (try c.operand(0), try c.operand(1))
    var y = try c.addingBias(2, to: try convolved(c, c.computed(x), c.computed(w)))
    if let sum = c.optional(3) { y = y + c.computed(sum) }
    let parameters = try c.reals("activation_params") ?? []
    func parameter(_ index: Int, _ otherwise: Double) -> Double {
      index < parameters.count ? parameters[index] : otherwise
    }
    let g = c.g
    switch try c.text("activation", "") {
    case "": break
    case "Relu": y = g.relu(y)
    case "Tanh": y = g.tanh(y)
    case "Sigmoid": y = g.logistic(y)
    case "LeakyRelu":
      y = g.select(y < 0.0, y * c.scalar(parameter(0, 0.01), y.dataType), y)
    case "Clip":
      let low = c.scalar(parameter(0, -.infinity), y.dataType)
      y = g.minimum(g.maximum(y, low), c.scalar(parameter(1, .infinity), y.dataType))
    case "HardSigmoid":
      let scaled = y * c.scalar(parameter(0, 0.2), y.dataType)
      y = g.clamp(scaled + c.scalar(parameter(1, 0.5), y.dataType), 0, 1)
    case let other: throw c.unsupported("the activation '\(other)'")
    }
    return [g.convert(y, x.dataType)]
  }

  /// Every channel by itself, over earlier positions only; the last ones are kept for the next call.
  private static func causal(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, w) = (try c.operand(0), try c.operand(1))
    let g = c.g
    guard x.rank == 3, w.rank == 3, w.shape[0] == x.shape[1], w.shape[1] == 1 else {
      throw c.fail("a kernel of \(w.type) does not go over \(x.type) channel by channel")
    }
    let past = try c.number(w.shape[2]) - 1
    guard past >= 0 else { throw c.fail("the kernel is \(w.type), without elements") }
    let before: Value
    if let state = c.optional(3) {
      guard state.shape == [x.shape[0], x.shape[1], Size(past)] else {
        throw c.fail("a state of \(state.type) does not go before \(x.type)")
      }
      before = g.concatenate([state, x], axis: 2)
    } else {
      before = g.pad(x, 0, low: [0, 0, Size(past)], high: [0, 0, 0])
    }
    let channels = try c.number(x.shape[1])
    var y = g.convolution(c.computed(before), c.computed(w), groups: channels)
    y = try c.addingBias(2, to: y)
    switch try c.text("activation", "none") {
    case "none", "": break
    case "silu", "swish":
      // The sum is rounded before it is activated.
      y = c.computed(g.convert(y, x.dataType))
      y = y * g.logistic(y)
    case let other: throw c.fail("attribute 'activation' is '\(other)'")
    }
    let present = g.slice(before, axis: 2, from: x.shape[2], to: before.shape[2])
    return [g.convert(y, x.dataType), present]
  }

  // MARK: Transposed

  /// A convolution of the input with gaps between its elements, by the mirrored kernel.
  private static func transposed(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, w) = (try c.operand(0), try c.operand(1))
    let g = c.g
    let kernel = try kernel(c, x, w)
    let sizes = Array(x.shape[2...])
    let groups = try groups(c)
    let window = try SlidingWindow(c, kernel: kernel, over: kernel.map { _ in 1 })
    let extra = try SlidingWindow.list(c, "output_padding", kernel.count, 0)
    guard extra.allSatisfy({ $0 >= 0 && $0 < 1 << 24 }) else {
      throw c.fail("attribute 'output_padding' is \(extra)")
    }
    let cut = try cuts(c, window, sizes, extra)
    if groups == 1, window.kernel == window.strides, window.dilations.allSatisfy({ $0 == 1 }),
      extra.allSatisfy({ $0 == 0 }), cut.allSatisfy({ $0 == (0, 0) })
    {
      let y = blocks(c, c.computed(x), c.computed(w))
      return [g.convert(try c.addingBias(2, to: y), x.dataType)]
    }
    let reach = window.extents.map { $0 - 1 }
    let padding = kernel.indices.map { axis in
      (low: reach[axis] - cut[axis].low, high: reach[axis] - cut[axis].high + extra[axis])
    }
    var dimensions = ConvolutionDimensions.channelsFirst(spatial: kernel.count)
    if groups == 1 { dimensions.kernel.swapAt(0, 1) }
    let y = g.convolution(
      c.computed(x), try turned(c, c.computed(w), groups), padding: padding,
      inputDilation: window.strides, kernelDilation: window.dilations, groups: groups,
      dimensions: dimensions)
    return [g.convert(try c.addingBias(2, to: y), x.dataType)]
  }

  /// The result where kernels lie side by side: each input element makes a block of its own, by one product.
  private static func blocks(_ c: NodeContext, _ x: Value, _ w: Value) -> Value {
    let rank = x.rank - 2
    // [m, kernel..., n, spatial...]
    let product = c.g.dotGeneral(w, x, lhsContracting: [0], rhsContracting: [1])
    let order = [rank + 1, 0] + (0..<rank).flatMap { [rank + 2 + $0, 1 + $0] }
    let spatial = (0..<rank).map { x.shape[$0 + 2] * w.shape[$0 + 2] }
    return c.g.reshape(
      c.g.transpose(product, order), [x.shape[0], w.shape[1]] + spatial)
  }

  /// How much of the whole result is cut off around each axis; negative amounts are added.
  private static func cuts(
    _ c: NodeContext, _ window: SlidingWindow, _ sizes: [Size], _ extra: [Int]
  ) throws(ImportStop) -> [(low: Int, high: Int)] {
    let mode = try c.text("auto_pad", "NOTSET")
    let isSame = mode == "SAME_UPPER" || mode == "SAME_LOWER"
    var wanted = try c.integers("output_shape") ?? []
    // Some exporters list batch and channel, too.
    if wanted.count == sizes.count + 2 { wanted.removeFirst(2) }
    guard wanted.isEmpty || wanted.count == sizes.count else {
      throw c.fail("attribute 'output_shape' is \(wanted) for \(sizes.count) spatial axes")
    }
    guard isSame || !wanted.isEmpty else { return window.padding }
    var result: [(low: Int, high: Int)] = []
    for axis in sizes.indices {
      let (stride, extent) = (window.strides[axis], window.extents[axis])
      var total = extra[axis] + extent - stride
      if !wanted.isEmpty {
        guard wanted[axis] >= 0, wanted[axis] < 1 << 31 else {
          throw c.fail("attribute 'output_shape' is \(wanted)")
        }
        total += stride * (try c.number(sizes[axis])) - wanted[axis]
      }
      // What is missing is added after the end.
      let half = max(total, 0) / 2
      let low = mode == "SAME_UPPER" ? half : max(total, 0) - half
      result.append((low: low, high: total - low))
    }
    return result
  }

  /// A kernel [c, m/groups, spatial...] mirrored; with groups as the convolution wants it, [m, c/groups, spatial...].
  private static func turned(_ c: NodeContext, _ w: Value, _ groups: Int) throws(ImportStop)
    -> Value
  {
    let g = c.g
    let spatial = Array(w.shape[2...])
    let axes = spatial.indices.filter { spatial[$0] != 1 }.map { $0 + 2 }
    let mirrored = axes.isEmpty ? w : g.reverse(w, axes: axes)
    if groups == 1 { return mirrored }
    let channels = try c.number(w.shape[0])
    guard channels % groups == 0 else {
      throw c.fail("\(channels) channels do not divide into \(groups) groups")
    }
    let (count, each) = (Size(groups), Size(channels / groups))
    let parts = g.reshape(mirrored, [count, each, w.shape[1]] + spatial)
    let swapped = g.transpose(parts, [0, 2, 1] + Array(3..<parts.rank))
    return g.reshape(swapped, [count * w.shape[1], each] + spatial)
  }

  // MARK: Quantised

  /// Integers less their zero point, of which there is one or one per slice of axis 0.
  private static func centred(_ c: NodeContext, _ x: Value, _ zero: Value?) throws(ImportStop)
    -> Value
  {
    let g = c.g
    let wide = g.convert(x, .int32)
    guard let zero else { return wide }
    if isZero(c, zero) { return wide }
    let point = g.convert(zero, .int32)
    if c.product(zero.shape) == 1 { return wide - g.reshape(point, []) }
    guard zero.rank == 1, zero.shape[0] == x.shape[0] else {
      throw c.fail("a zero point of \(zero.type) does not belong to \(x.type)")
    }
    return wide - g.broadcast(point, to: x.shape, axes: [0])
  }

  /// Whether there is no zero point but 0.
  private static func isZero(_ c: NodeContext, _ zero: Value?) -> Bool {
    guard let zero else { return true }
    guard case .array(let known)? = c.known(zero) else { return false }
    return known.integers.allSatisfy { $0 == 0 }
  }

  /// The sums, int32, of products of integers less their zero points.
  private static func sums(
    _ c: NodeContext, _ x: Value, _ xZero: Value?, _ w: Value, _ wZero: Value?
  ) throws(ImportStop) -> Value {
    guard isZero(c, wZero), xZero.map({ c.product($0.shape) == 1 }) ?? true else {
      return try convolved(c, try centred(c, x, xZero), try centred(c, w, wZero))
    }
    // Bytes are multiplied as they are; what the zero point adds to the sums is the same everywhere.
    let g = c.g
    var window = try SlidingWindow(
      c, kernel: try kernel(c, x, w), over: Array(x.shape.dropFirst(2)))
    var padded = x
    if let xZero, !isZero(c, xZero) {
      let open = window.open.isEmpty ? window.low.map { _ in (low: 0, high: 0) } : window.open
      let pad = Pad(
        low: [0, 0] + zip(window.low, open).map { Size($0) + $1.low },
        high: [0, 0] + zip(window.high, open).map { Size($0) + $1.high },
        interior: x.shape.map { _ in 0 })
      padded = g.add(.pad(pad), [x, g.reshape(xZero, [])])
      window.low = window.low.map { _ in 0 }
      window.high = window.low
    } else {
      padded = window.opened(x, 0, g)
    }
    let y = g.convolution(
      padded, w, strides: window.strides, padding: window.padding,
      kernelDilation: window.dilations, groups: try groups(c), into: .int32)
    guard let xZero, !isZero(c, xZero) else { return y }
    let total = g.sum(g.convert(w, .int32), axes: Array(1..<w.rank))
    let excess = total * g.reshape(g.convert(xZero, .int32), [])
    return y - g.broadcast(excess, to: y.shape, axes: [1])
  }

  private static func integers(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    [try sums(c, try c.operand(0), c.optional(2), try c.operand(1), c.optional(3))]
  }

  private static func quantized(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let g = c.g
    let (x, w) = (try c.operand(0), try c.operand(3))
    let sum = try c.addingBias(8, to: try sums(c, x, c.optional(2), w, c.optional(5)))
    let (xScale, wScale, yScale) = (try c.operand(1), try c.operand(4), try c.operand(6))
    func one(_ v: Value) throws(ImportStop) -> Value {
      guard c.product(v.shape) == 1 else { throw c.fail("a scale is \(v.type), not one number") }
      return g.reshape(g.convert(v, .float32), [])
    }
    var scale = g.convert(wScale, .float32)
    if c.product(scale.shape) == 1 {
      scale = g.reshape(scale, [])
    } else {
      guard scale.rank == 1, scale.shape[0] == sum.shape[1] else {
        throw c.fail("scales of \(wScale.type) do not belong to \(sum.shape[1]) channels")
      }
    }
    scale = try one(xScale) * scale / (try one(yScale))
    if scale.rank == 1 { scale = g.broadcast(scale, to: sum.shape, axes: [1]) }
    let real = g.round(g.convert(sum, .float32) * scale)
    let type = c.optional(7)?.dataType ?? x.dataType
    guard type == .int8 || type == .uint8 || type == .int16 || type == .uint16 else {
      throw c.fail("the result cannot be \(type)")
    }
    var shifted = real
    if let zero = c.optional(7) { shifted = real + g.reshape(g.convert(zero, .float32), []) }
    let range = type.integerRange
    return [g.convert(g.clamp(shifted, Double(range.lowerBound), Double(range.upperBound)), type)]
  }
}
