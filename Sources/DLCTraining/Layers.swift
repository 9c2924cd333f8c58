public import DLCGraph
public import DLCTensor

/// Layers that declare their parameters under a dotted name: `layer.w`, `layer.b`.
public struct Layers {
  public let g: FunctionBuilder
  private let prefix: String
  /// Whether batch norm uses and updates the statistics of the batch.
  public var isTraining: Bool
  /// The type of the parameters, which is that of what the layers are given. The statistics of batch norm
  /// are float32 for half floats.
  public var dataType = DataType.float32

  /// - Parameter training: as the builder has it, by default.
  public init(_ g: FunctionBuilder, training: Bool? = nil) {
    self.init(g, "", training ?? g.isTraining)
  }

  private init(_ g: FunctionBuilder, _ prefix: String, _ training: Bool) {
    self.g = g
    self.prefix = prefix
    isTraining = training
  }

  /// Layers whose names begin with `name.`.
  public func scope(_ name: String) -> Layers {
    var inner = Layers(g, "\(prefix)\(name).", isTraining)
    inner.dataType = dataType
    return inner
  }

  /// A parameter of the scope.
  public func parameter(
    _ name: String, _ shape: [Size], _ initializer: Initializer,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value { g.parameter(prefix + name, shape, initializer, dataType, file: file, line: line) }

  /// Uniform in +-1/sqrt(fan_in).
  private func fan(_ size: Size) -> Initializer {
    guard let size = size.constant, size > 0 else { return .glorotUniform }
    let bound = 1 / Double(size).squareRoot()
    return .uniform(-bound, bound)
  }

  /// x W^T + b, W [size, in].
  public func linear(
    _ name: String, _ x: Value, _ size: Size, bias: Bool = true,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 1, "the input of a linear layer")
      let from = x.shape[x.rank - 1]
      let w = parameter(name + ".w", [size, from], fan(from))
      let b = bias ? parameter(name + ".b", [size], fan(from)) : nil
      return g.named(prefix + name) { g.linear(x, w, b) }
    }
  }

  /// Convolution of x [n, c, ...] with square kernels; any number of spatial axes.
  public func convolution(
    _ name: String, _ x: Value, _ channels: Size, kernel: Int, stride: Int = 1,
    padding: Int = 0, groups: Int = 1, bias: Bool = true, initializer: Initializer? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 3, "the input of a convolution")
      try positive(kernel, "kernel")
      try positive(stride, "stride")
      try positive(groups, "groups")
      if let size = x.shape[1].constant, size % groups != 0 {
        throw DLCError(.type, "\(size) channels do not divide into \(groups) groups")
      }
      let spatial = x.rank - 2
      let sizes = [Size](repeating: Size(kernel), count: spatial)
      let from = x.shape[1] / Size(groups)
      let count = sizes.reduce(from) { $0 * $1 }
      let w = parameter(name + ".w", [channels, from] + sizes, initializer ?? fan(count))
      let steps = [Int](repeating: stride, count: spatial)
      let pads = [(low: Int, high: Int)](repeating: (padding, padding), count: spatial)
      return g.named(prefix + name) {
        if bias {
          let b = parameter(name + ".b", [channels], fan(count))
          return g.convolution(x, w, bias: b, strides: steps, padding: pads, groups: groups)
        }
        return g.convolution(x, w, strides: steps, padding: pads, groups: groups)
      }
    }
  }

  /// Transposed convolution with square kernels; W [in, channels, ...].
  public func transposedConvolution(
    _ name: String, _ x: Value, _ channels: Size, kernel: Int, stride: Int, padding: Int = 0,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 3, "the input of a transposed convolution")
      try positive(kernel, "kernel")
      try positive(stride, "stride")
      let spatial = x.rank - 2
      let sizes = [Size](repeating: Size(kernel), count: spatial)
      let w = parameter(name + ".w", [x.shape[1], channels] + sizes, fan(x.shape[1]))
      let b = parameter(name + ".b", [channels], fan(x.shape[1]))
      let y = g.transposedConvolution(
        x, w, strides: [Int](repeating: stride, count: spatial),
        padding: [(low: Int, high: Int)](repeating: (padding, padding), count: spatial))
      return y.isPoisoned ? y : y + g.broadcast(b, to: y.shape, axes: [1])
    }
  }

  /// Rows of a table [count, size].
  public func embedding(
    _ name: String, _ indices: Value, count: Size, size: Size, deviation: Double = 0.02,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [indices]) { g in
      let table = parameter(name, [count, size], .normal(mean: 0, deviation: deviation))
      return g.embedding(table, indices)
    }
  }

  public func layerNorm(
    _ name: String, _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 1, "the input of a layer norm")
      let size = x.shape[x.rank - 1]
      return g.layerNorm(
        x, parameter(name + ".w", [size], .constant(1)), parameter(name + ".b", [size], .zeros))
    }
  }

  public func groupNorm(
    _ name: String, _ x: Value, groups: Int, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 2, "the input of a group norm")
      let size = x.shape[1]
      return g.groupNorm(
        x, groups: groups, gamma: parameter(name + ".w", [size], .constant(1)),
        beta: parameter(name + ".b", [size], .zeros))
    }
  }

  public func rmsNorm(
    _ name: String, _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 1, "the input of an RMS norm")
      return g.rmsNorm(x, gamma: parameter(name + ".w", [x.shape[x.rank - 1]], .constant(1)))
    }
  }

  /// Batch norm with running statistics `name.mean`, `name.var` (unbiased; 0 of a single number) as
  /// state.
  public func batchNorm(
    _ name: String, _ x: Value, momentum: Double = 0.1, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 2, "the input of a batch norm")
      guard momentum >= 0, momentum <= 1 else {
        throw DLCError(.graph, "the momentum of a batch norm is from 0 to 1, not \(momentum)")
      }
      let size = x.shape[1]
      let gamma = parameter(name + ".w", [size], .constant(1))
      let beta = parameter(name + ".b", [size], .zeros)
      let type = dataType.computeType
      let runningMean = g.state(prefix + name + ".mean", type, [size], .zeros)
      let runningVariance = g.state(prefix + name + ".var", type, [size], .constant(1))
      guard isTraining else {
        return g.batchNorm(
          x, gamma: gamma, beta: beta, mean: runningMean, variance: runningVariance)
      }
      let (y, mean, variance) = g.batchNorm(x, gamma: gamma, beta: beta)
      let count = x.shape.enumerated().reduce(Size(1)) {
        $1.offset == 1 ? $0 : $0 * $1.element
      }
      let n = g.dimension(count, type)
      let unbiased = g.stopGradient(variance) * (n / g.maximum(n - 1, g.constant(1, type)))
      g.update(
        prefix + name + ".mean",
        runningMean * (1 - momentum) + g.stopGradient(mean) * momentum)
      g.update(prefix + name + ".var", runningVariance * (1 - momentum) + unbiased * momentum)
      return y
    }
  }

  public enum Cell: String, Sendable, CaseIterable { case rnn, lstm, gru }

  /// Stacked recurrent layers over x [T, n, d] from zero states; all hidden states of the last one.
  /// Parameters `name.k.w_ih`, `w_hh`, `b_ih`, `b_hh`, gates in the order of `lstm` and `gru`.
  public func recurrent(
    _ name: String, _ cell: Cell, _ x: Value, size: Size, layers: Int = 1,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 3, "a sequence [T, n, d]")
      try positive(layers, "layers")
      let gates: Size = cell == .lstm ? 4 : cell == .gru ? 3 : 1
      var sequence = x
      for layer in 0..<layers where !sequence.isPoisoned {
        let inner = scope("\(name).\(layer)")
        let wide = size * gates
        let wi = inner.parameter("w_ih", [wide, sequence.shape[2]], fan(size))
        let wh = inner.parameter("w_hh", [wide, size], fan(size))
        let bi = inner.parameter("b_ih", [wide], fan(size))
        let bh = inner.parameter("b_hh", [wide], fan(size))
        let zero = g.constant(0, x.dataType, [x.shape[1], size])
        let projected = g.linear(sequence, wi, bi)
        sequence =
          switch cell {
          case .rnn: g.rnn(projected: projected, h0: zero, hidden: wh, bias: bh).all
          case .lstm: g.lstm(projected: projected, h0: zero, c0: zero, hidden: wh, bias: bh).all
          case .gru: g.gru(projected: projected, h0: zero, hidden: wh, bias: bh).all
          }
      }
      return sequence
    }
  }

  /// Multi-head self-attention of x [n, T, d] with one product for queries, keys and values.
  public func selfAttention(
    _ name: String, _ x: Value, heads: Int, causal: Bool = false, bias: Value? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x, bias]) { g throws(DLCError) in
      guard x.rank == 3 else {
        throw DLCError(.type, "self-attention takes [n, T, d], this is \(x.type)")
      }
      let size = x.shape[2]
      let all = linear("\(name)qkv", x, size * 3)
      func part(_ k: Int) -> Value {
        g.splitHeads(
          g.slice(all, axis: 2, from: size * Size(k), to: size * Size(k + 1)), heads)
      }
      let mixed = g.attention(part(0), part(1), part(2), bias: bias, causal: causal)
      return linear("\(name)out", g.mergeHeads(mixed, size), size)
    }
  }

  /// A block that normalises first: x + attention(LN x), then x + FFN(LN x) with GELU, four times as
  /// wide (Radford et al. 2019).
  public func transformerBlock(
    _ name: String, _ x: Value, heads: Int, causal: Bool, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    g.enter(file, line, [x]) { g throws(DLCError) in
      guard x.rank == 3 else {
        throw DLCError(.type, "a transformer block takes [n, T, d], this is \(x.type)")
      }
      let inner = scope(name)
      let mixed =
        x + inner.selfAttention("", inner.layerNorm("ln1", x), heads: heads, causal: causal)
      let size = x.shape[2]
      let wide = g.gelu(inner.linear("ff1", inner.layerNorm("ln2", mixed), size * 4))
      return mixed + inner.linear("ff2", wide, size)
    }
  }
}

/// Throws unless a number of things is at least 1.
func positive(_ number: Int, _ what: String) throws(DLCError) {
  guard number >= 1 else { throw DLCError(.graph, "\(what) must be positive, not \(number)") }
}
