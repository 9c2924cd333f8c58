package import DLCTensor

/// Functions over the primitive operations: none of these is an operator of its own.
extension FunctionBuilder {
  /// `x W^T + b` with W [out, in]: the last axis of `x` is contracted.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, ["n", 3])
  /// let (w, b) = (g.input("w", .float32, [1, 3]), g.input("b", .float32, [1]))
  /// g.output("y", g.linear(x, w, b))  // [n, 1]
  /// ```
  public func linear(
    _ x: Value, _ weight: Value, _ bias: Value? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x, weight, bias]) { _ throws(DLCError) in
      try x.need(rank: 1, "the input of a linear layer")
      guard weight.rank == 2 else {
        throw DLCError(.type, "the weight of a linear layer is [out, in], this is \(weight.type)")
      }
      guard x.shape.last == weight.shape[1] else {
        throw DLCError(
          .type, "a weight \(weight.type) takes rows of \(weight.shape[1]), the input is \(x.type)")
      }
      let product = dotGeneral(x, weight, lhsContracting: [-1], rhsContracting: [1])
      guard let bias else { return product }
      try bias.need(within: product.shape, "the bias of a linear layer")
      return binary(.add, product, bias)
    }
  }

  /// `a b` over the last two axes, [..., m, k] and [..., k, n]; leading axes are batch axes of both.
  public func matmul(
    _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [a, b]) { _ throws(DLCError) in
      for operand in [a, b] { try operand.need(rank: 2, "an operand of matmul") }
      guard a.rank == b.rank, a.shape.last == b.shape[b.rank - 2],
        a.shape.dropLast(2) == b.shape.dropLast(2)
      else { throw DLCError(.type, "\(a.type) and \(b.type) cannot be multiplied as matrices") }
      let batch = Array(0..<a.rank - 2)
      return dotGeneral(
        a, b, lhsBatch: batch, rhsBatch: batch, lhsContracting: [-1], rhsContracting: [-2])
    }
  }

  /// max(0, x) of every element; its derivative at 0 is 0.
  public func relu(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    // The constant comes first, so that the derivative at 0 goes to it.
    enter(file, line, [x]) { _ in binary(.maximum, constant(0, like: x), x) }
  }

  /// x Phi(x); the normal distribution function by erfc, which keeps the negative tail accurate.
  public func gelu(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try x.needFloat("the input of gelu")
      return scope("gelu") {
        let tail = erfc(x * (-0.5.squareRoot()))
        return x * 0.5 * tail
      }
    }
  }

  /// e^x / sum e^x along an axis, with the maximum subtracted.
  public func softmax(
    _ x: Value, axis: Int = -1, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try x.needFloat("the input of softmax")
      let axis = try x.axis(axis)
      return scope("softmax") {
        // What is subtracted cancels out, and so do its derivatives.
        let peak = restore(stopGradient(max(x, axes: [axis])), axes: [axis], to: x.shape)
        let e = exponential(x - peak)
        let total = sum(e, axes: [axis])
        return e / restore(total, axes: [axis], to: x.shape)
      }
    }
  }

  /// The mean of floating-point elements along the axes, which go or, with `keepAxes`, stay with size 1.
  public func mean(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try x.needFloat("what has a mean")
      let axes = try x.axes(axes)
      let count = axes.reduce(Size(1)) { $0 * x.shape[$1] }
      return sum(x, axes: axes, keepAxes: keepAxes) / dimension(count, x.dataType)
    }
  }

  /// gamma (x - mean) / sqrt(variance + epsilon) + beta over the last axis; the variance is biased.
  public func layerNorm(
    _ x: Value, _ gamma: Value, _ beta: Value, epsilon: Double = 1e-5,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, gamma, beta]) { _ throws(DLCError) in
      try x.need(rank: 1, "the input of a layer norm")
      try gamma.need(within: x.shape, "gamma")
      try beta.need(within: x.shape, "beta")
      try needEpsilon(epsilon)
      return scope("layer_norm") {
        let axis = x.rank - 1
        func spread(_ v: Value) -> Value { restore(v, axes: [axis], to: x.shape) }
        let centred = x - spread(mean(x, axes: [axis]))
        let variance = mean(centred * centred, axes: [axis])
        return centred * spread(rsqrt(variance + epsilon)) * gamma + beta
      }
    }
  }

  /// softmax(q k^T / sqrt(d) + bias) v for q [..., T, d], k [..., S, d], v [..., S, e].
  ///
  /// ```swift
  /// let shape: [Size] = ["n", 2, 1]
  /// let (q, k) = (g.input("q", .float32, shape), g.input("k", .float32, shape))
  /// let v = g.input("v", .float32, shape)
  /// g.output("y", g.attention(q, k, v, causal: true))  // [n, 2, 1]
  /// ```
  ///
  /// - Parameters:
  ///   - bias: added to the scores (a mask of large negative numbers, say); broadcast to them.
  ///   - causal: position t sees positions up to t alone.
  public func attention(
    _ q: Value, _ k: Value, _ v: Value, bias: Value? = nil, causal: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [q, k, v, bias]) { _ in
      scope("attention") { matmul(attentionWeights(q, k, bias: bias, causal: causal), v) }
    }
  }

  /// softmax(q k^T / sqrt(d) + bias) [..., T, S]; masked entries are exactly 0.
  public func attentionWeights(
    _ q: Value, _ k: Value, bias: Value? = nil, causal: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [q, k, bias]) { _ throws(DLCError) in
      try q.need(rank: 2, "a query of attention")
      guard q.rank == k.rank, q.shape.last == k.shape.last,
        q.shape.dropLast(2) == k.shape.dropLast(2)
      else {
        throw DLCError(.type, "queries \(q.type) and keys \(k.type) do not belong together")
      }
      let batch = Array(0..<q.rank - 2)
      let scores = dotGeneral(
        q, k, lhsBatch: batch, rhsBatch: batch, lhsContracting: [-1], rhsContracting: [-1])
      let scale = rsqrt(dimension(q.shape[q.rank - 1], q.dataType))
      var scaled = scores * scale
      if let bias { scaled = binary(.add, scaled, bias) }
      if causal {
        let shape = scaled.shape
        let row = iota(.int32, shape, axis: -2)
        let column = iota(.int32, shape, axis: -1)
        scaled = select(
          compare(.greater_equal, row, column), scaled, constant(-.infinity, like: scaled))
      }
      return softmax(scaled)
    }
  }

  /// Convolution with a bias per output channel.
  public func convolution(
    _ x: Value, _ kernel: Value, bias: Value, strides: [Int]? = nil,
    padding: [(low: Int, high: Int)]? = nil, groups: Int = 1,
    dimensions: ConvolutionDimensions? = nil, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, kernel, bias]) { _ in
      let y = convolution(
        x, kernel, strides: strides, padding: padding, groups: groups, dimensions: dimensions)
      if y.isPoisoned { return y }
      return y + broadcast(bias, to: y.shape, axes: [dimensions?.output[1] ?? 1])
    }
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
  package func uniform(
    key: Value, counter: Value, _ shape: [Size], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [key, counter]) { _ in
      uniform(bits: randomBits(key: key, counter: counter, shape))
    }
  }
}
