public import DLCGraph
import DLCTensor

/// Normalisation, dropout and resampling.
extension FunctionBuilder {
  private func channels(_ v: Value, _ x: Value) -> Value { broadcast(v, to: x.shape, axes: [1]) }

  /// Batch normalisation of x [n, c, ...] with the statistics of the batch (Ioffe and Szegedy 2015).
  /// - Returns: the result, and mean and biased variance per channel, of half floats as float32.
  public func batchNorm(
    _ x: Value, gamma: Value, beta: Value, epsilon: Double = 1e-5, file: StaticString = #fileID,
    line: UInt = #line
  ) -> (y: Value, mean: Value, variance: Value) {
    enter(file, line, [x, gamma, beta], failing: { ($0, $0, $0) }) { _ throws(DLCError) in
      try x.need(rank: 2, "the input of a batch norm")
      try gamma.need(shape: [x.shape[1]], "gamma")
      try beta.need(shape: [x.shape[1]], "beta")
      try needEpsilon(epsilon)
      return scope("batch_norm") {
        let axes = x.shape.indices.filter { $0 != 1 }
        let average = mean(x, axes: axes)
        let centred = x - channels(average, x)
        let variance = mean(centred * centred, axes: axes)
        let scale = rsqrt(variance + epsilon) * gamma
        let statistics = x.dataType.computeType
        return (
          centred * channels(scale, x) + channels(beta, x), convert(average, statistics),
          convert(variance, statistics)
        )
      }
    }
  }

  /// Batch normalisation with given statistics, as in inference; of half floats they may be float32.
  public func batchNorm(
    _ x: Value, gamma: Value, beta: Value, mean: Value, variance: Value, epsilon: Double = 1e-5,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, gamma, beta, mean, variance]) { _ throws(DLCError) in
      try x.need(rank: 2, "the input of a batch norm")
      for (what, value) in [
        ("gamma", gamma), ("beta", beta), ("the mean", mean), ("the variance", variance),
      ] { try value.need(shape: [x.shape[1]], what) }
      try needEpsilon(epsilon)
      return scope("batch_norm") {
        let (mean, variance) = (carry(mean, x.dataType), carry(variance, x.dataType))
        let scale = rsqrt(variance + epsilon) * gamma
        return x * channels(scale, x) + channels(beta - mean * scale, x)
      }
    }
  }

  /// Group normalisation of x [n, c, ...] over groups of channels (Wu and He 2018).
  public func groupNorm(
    _ x: Value, groups: Int, gamma: Value, beta: Value, epsilon: Double = 1e-5,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, gamma, beta]) { _ throws(DLCError) in
      try x.need(rank: 2, "the input of a group norm")
      try gamma.need(shape: [x.shape[1]], "gamma")
      try beta.need(shape: [x.shape[1]], "beta")
      try needEpsilon(epsilon)
      try positive(groups, "groups")
      if let size = x.shape[1].constant, size % groups != 0 {
        throw DLCError(.type, "\(size) channels do not divide into \(groups) groups")
      }
      return scope("group_norm") {
        let per = x.shape[1] / Size(groups)
        let inner = x.shape[2...].reduce(per) { $0 * $1 }
        let grouped = reshape(x, [x.shape[0], Size(groups), inner])
        func spread(_ v: Value) -> Value { restore(v, axes: [2], to: grouped.shape) }
        let centred = grouped - spread(mean(grouped, axes: [2]))
        let variance = mean(centred * centred, axes: [2])
        let normal = reshape(centred * spread(rsqrt(variance + epsilon)), x.shape)
        return normal * channels(gamma, x) + channels(beta, x)
      }
    }
  }

  /// gamma x / sqrt(mean x^2 + epsilon) over the last axis (Zhang and Sennrich 2019).
  public func rmsNorm(
    _ x: Value, gamma: Value, epsilon: Double = 1e-5, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x, gamma]) { _ throws(DLCError) in
      try x.need(rank: 1, "the input of an RMS norm")
      try gamma.need(within: x.shape, "gamma")
      try needEpsilon(epsilon)
      return scope("rms_norm") {
        let axis = x.rank - 1
        let scale = rsqrt(mean(x * x, axes: [axis]) + epsilon)
        return x * restore(scale, axes: [axis], to: x.shape) * gamma
      }
    }
  }

  /// Zeros each element with probability `rate` and scales the others by 1 / (1 - rate); with rate 1 all is
  /// zero, and so are the derivatives. Where the function is not trained (`isTraining`), `x` itself.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, ["n", 8])
  /// let random = RandomStream(g, key: g.input("seed", .int64))
  /// g.output("y", g.dropout(x, rate: 0.5, random))  // zeros and twice x
  /// ```
  ///
  /// - Parameter rate: from 0 to 1.
  public func dropout(
    _ x: Value, rate: Double, _ random: RandomStream, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      guard rate >= 0, rate <= 1 else {
        throw DLCError(.graph, "the rate of dropout is from 0 to 1, not \(rate)")
      }
      try x.needFloat("the input of dropout")
      if rate == 0 || !isTraining { return x }
      if rate == 1 { return constant(0, like: x) }
      return scope("dropout") {
        let u = random.uniform(x.shape)
        let keep = compare(.greater_equal, u, constant(rate, like: u))
        return select(keep, x * (1 / (1 - rate)), constant(0, like: x))
      }
    }
  }

  /// The mean of windows over the trailing axes; padding is not counted.
  public func averagePool(
    _ x: Value, window: [Int], strides: [Int]? = nil, padding: [(low: Int, high: Int)]? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try x.needFloat("what has a mean")
      let steps = strides ?? window
      let total = reduceWindow(.sum, x, window: window, strides: steps, padding: padding)
      if total.isPoisoned { return total }
      let ones = constant(1, like: x)
      let count = reduceWindow(.sum, ones, window: window, strides: steps, padding: padding)
      return total / count
    }
  }

  /// Every element of the trailing axes of x [n, c, ...] repeated `factor` times along each.
  public func upsampleNearest(
    _ x: Value, _ factor: Int, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try x.need(rank: 2, "an image [n, c, ...]")
      try positive(factor, "the factor")
      var (shape, axes, result) = ([x.shape[0], x.shape[1]], [0, 1], [x.shape[0], x.shape[1]])
      for size in x.shape[2...] {
        axes.append(shape.count)
        shape += [size, Size(factor)]
        result.append(size * Size(factor))
      }
      return reshape(broadcast(x, to: shape, axes: axes), result)
    }
  }

  /// The transpose of a convolution: x [n, m, ...], kernel [m, c, ...] gives [n, c, ...] of size
  /// (size - 1) stride + kernel - padding.
  public func transposedConvolution(
    _ x: Value, _ kernel: Value, strides: [Int], padding: [(low: Int, high: Int)]? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, kernel]) { _ throws(DLCError) in
      try x.need(rank: 3, "the input of a transposed convolution")
      guard kernel.rank == x.rank else {
        throw DLCError(.type, "the kernel \(kernel.type) does not belong to an input \(x.type)")
      }
      let spatial = Array(2..<x.rank)
      guard strides.count == spatial.count, padding?.count ?? spatial.count == spatial.count else {
        throw DLCError(
          .type, "strides and padding need \(spatial.count) entries each for \(x.type)")
      }
      var pads: [(low: Int, high: Int)] = []
      for (index, axis) in spatial.enumerated() {
        guard let size = kernel.shape[axis].constant else {
          throw DLCError(.type, "the window of a kernel has a fixed size, this is \(kernel.type)")
        }
        let cut = padding?[index] ?? (low: 0, high: 0)
        for amount in [cut.low, cut.high] where amount < 0 || amount > 1 << 30 {
          throw DLCError(.type, "padding \(amount) is out of range")
        }
        pads.append((size - 1 - cut.low, size - 1 - cut.high))
      }
      let flipped = transpose(reverse(kernel, axes: spatial), [1, 0] + spatial)
      return convolution(x, flipped, padding: pads, inputDilation: strides)
    }
  }
}
