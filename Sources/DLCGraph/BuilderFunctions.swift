public import DLCTensor

/// Functions over the primitive operations: none of these is an operator of its own.
extension FunctionBuilder {
  /// `x W^T + b` with W [out, in]: the last axis of `x` is contracted.
  public func linear(
    _ x: Value, _ weight: Value, _ bias: Value? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    let product = dotGeneral(
      x, weight, lhsContracting: [x.rank - 1], rhsContracting: [1], file: file, line: line)
    guard let bias else { return product }
    return binary(.add, product, bias, file: file, line: line)
  }

  /// `a b` over the last two axes; leading axes are batch axes of both.
  public func matmul(
    _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let batch = Array(0..<Swift.max(a.rank - 2, 0))
    return dotGeneral(
      a, b, lhsBatch: batch, rhsBatch: batch, lhsContracting: [a.rank - 1],
      rhsContracting: [Swift.max(b.rank - 2, 0)], file: file, line: line)
  }

  public func relu(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    // The constant comes first, so that the derivative at 0 goes to it.
    binary(.maximum, constant(0, like: x, file: file, line: line), x, file: file, line: line)
  }

  /// x Phi(x); the normal distribution function by erfc, which keeps the negative tail accurate.
  public func gelu(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    named("gelu") {
      let tail = erfc(x * (-0.5.squareRoot()), file: file, line: line)
      return x * 0.5 * tail
    }
  }

  /// e^x / sum e^x along an axis, with the maximum subtracted.
  public func softmax(
    _ x: Value, axis: Int = -1, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    named("softmax") {
      let axis = axis < 0 ? axis + x.rank : axis
      // What is subtracted cancels out, and so do its derivatives.
      let peak = restore(
        stopGradient(max(x, axes: [axis], file: file, line: line)), axes: [axis], to: x.shape,
        file: file, line: line)
      let e = exponential(x - peak, file: file, line: line)
      let total = sum(e, axes: [axis], file: file, line: line)
      return e / restore(total, axes: [axis], to: x.shape, file: file, line: line)
    }
  }

  public func mean(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    let axes = axes.map { $0 < 0 ? $0 + x.rank : $0 }
    let count = axes.reduce(Dimension(1)) {
      x.shape.indices.contains($1) ? $0 * x.shape[$1] : $0
    }
    return sum(x, axes: axes, keepAxes: keepAxes, file: file, line: line)
      / dimension(count, x.dataType, file: file, line: line)
  }

  /// gamma (x - mean) / sqrt(variance + epsilon) + beta over the last axis; the variance is biased.
  public func layerNorm(
    _ x: Value, _ gamma: Value, _ beta: Value, epsilon: Double = 1e-5,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    named("layer_norm") {
      let axis = x.rank - 1
      func spread(_ v: Value) -> Value {
        restore(v, axes: [axis], to: x.shape, file: file, line: line)
      }
      let centred = x - spread(mean(x, axes: [axis], file: file, line: line))
      let variance = mean(centred * centred, axes: [axis], file: file, line: line)
      return centred * spread(rsqrt(variance + epsilon, file: file, line: line)) * gamma + beta
    }
  }

  /// softmax(q k^T / sqrt(d) + bias) v for q [..., T, d], k [..., S, d], v [..., S, e].
  /// - Parameters:
  ///   - bias: added to the scores (a mask of large negative numbers, say); broadcast to them.
  ///   - causal: position t sees positions up to t alone.
  public func attention(
    _ q: Value, _ k: Value, _ v: Value, bias: Value? = nil, causal: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    named("attention") {
      matmul(
        attentionWeights(q, k, bias: bias, causal: causal, file: file, line: line), v, file: file,
        line: line)
    }
  }

  /// softmax(q k^T / sqrt(d) + bias) [..., T, S]; masked entries are exactly 0.
  public func attentionWeights(
    _ q: Value, _ k: Value, bias: Value? = nil, causal: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let batch = Array(0..<Swift.max(q.rank - 2, 0))
    let scores = dotGeneral(
      q, k, lhsBatch: batch, rhsBatch: batch, lhsContracting: [q.rank - 1],
      rhsContracting: [k.rank - 1], file: file, line: line)
    let scale = rsqrt(dimension(q.shape.last ?? 1, q.dataType, file: file, line: line))
    var scaled = scores * scale
    if let bias { scaled = binary(.add, scaled, bias, file: file, line: line) }
    if causal {
      let shape = scaled.shape
      let row = iota(.int32, shape, axis: shape.count - 2, file: file, line: line)
      let column = iota(.int32, shape, axis: shape.count - 1, file: file, line: line)
      scaled = select(
        compare(.greater_equal, row, column), scaled, constant(-.infinity, like: scaled),
        file: file, line: line)
    }
    return softmax(scaled, file: file, line: line)
  }

  /// Convolution with a bias per output channel.
  public func convolution(
    _ x: Value, _ kernel: Value, bias: Value, strides: [Int]? = nil,
    padding: [(low: Int, high: Int)]? = nil, groups: Int = 1, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    let y = convolution(
      x, kernel, strides: strides, padding: padding, groups: groups, file: file, line: line)
    return y + broadcast(bias, to: y.shape, axes: [1], file: file, line: line)
  }

  /// The maximum of windows over the trailing axes.
  public func maxPool(
    _ x: Value, window: [Int], strides: [Int]? = nil, padding: [(low: Int, high: Int)]? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    reduceWindow(
      .maximum, x, window: window, strides: strides ?? window, padding: padding, file: file,
      line: line)
  }

  /// Uniform numbers in [0, 1) with 24 random bits.
  public func uniform(
    key: Value, counter: Value, _ shape: [Dimension], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    let bits = randomBits(key: key, counter: counter, shape, file: file, line: line)
    let eight = constant(8, like: bits, file: file, line: line)
    let upper = binary(.shift_right_logical, bits, eight, file: file, line: line)
    return convert(upper, .float32, file: file, line: line) * 0x1p-24
  }
}
