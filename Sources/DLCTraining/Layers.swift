public import DLCGraph
public import DLCTensor

/// Layers that declare their parameters under a dotted name: `layer.w`, `layer.b`.
///
/// ```swift
/// let l = Layers(g)
/// let x = g.input("x", .float32, ["n", 1, 8, 8])
/// let h = g.maxPool(g.relu(l.convolution("c1", x, 4, kernel: 3, padding: 1)), window: [2, 2])
/// g.output("logits", l.linear("out", g.reshape(h, ["n", 64]), 10))
/// ```
public struct Layers {
  /// What the layers add to.
  public let g: FunctionBuilder
  let prefix: String
  /// Whether batch norm uses and updates the statistics of the batch.
  public var isTraining: Bool
  /// The type of the parameters, which is that of what the layers are given. The statistics of batch norm
  /// are float32 for half floats.
  public var dataType = DataType.float32

  /// Layers that add to a function.
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
  ) -> Value {
    g.enter(file, line, []) { $0.parameter(prefix + name, shape, initializer, dataType) }
  }

  /// A layer under way, in a scope of its name: `block2.attention.` is the path `block2/attention`.
  func layer<R>(
    _ name: String, _ file: StaticString, _ line: UInt, _ operands: [Value?],
    failing: (Value) -> R, _ body: (FunctionBuilder) throws(DLCError) -> R
  ) -> R {
    g.enter(file, line, operands, failing: failing) { g throws(DLCError) in
      let path = (prefix + name).split(separator: ".").joined(separator: "/")
      return try path.isEmpty
        ? body(g) : g.scope(path: path) { () throws(DLCError) in try body(g) }
    }
  }

  func layer(
    _ name: String, _ file: StaticString, _ line: UInt, _ operands: [Value?],
    _ body: (FunctionBuilder) throws(DLCError) -> Value
  ) -> Value { layer(name, file, line, operands, failing: { $0 }, body) }

  /// Uniform in +-1/sqrt(fan_in).
  func fan(_ size: Size) -> Initializer {
    guard let size = size.constant, size > 0 else { return .glorotUniform }
    let bound = 1 / Double(size).squareRoot()
    return .uniform(-bound, bound)
  }

  /// x W^T + b, W [size, in].
  ///
  /// ```swift
  /// let x = g.input("x", .float32, ["n", 4])
  /// g.output("y", Layers(g).linear("out", x, 1))  // parameters out.w [1, 4], out.b [1]
  /// ```
  public func linear(
    _ name: String, _ x: Value, _ size: Size, bias: Bool = true,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    layer(name, file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 1, "the input of a linear layer")
      let from = x.shape[x.rank - 1]
      let w = parameter(name + ".w", [size, from], fan(from))
      let b = bias ? parameter(name + ".b", [size], fan(from)) : nil
      return g.linear(x, w, b)
    }
  }

  /// Convolution of x [n, c, ...] with square kernels; any number of spatial axes.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, ["n", 3, 8, 8])
  /// g.output("y", Layers(g).convolution("c", x, 16, kernel: 3, stride: 2, padding: 1))
  /// ```
  public func convolution(
    _ name: String, _ x: Value, _ channels: Size, kernel: Int, stride: Int = 1,
    padding: Int = 0, groups: Int = 1, bias: Bool = true, initializer: Initializer? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    layer(name, file, line, [x]) { g throws(DLCError) in
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
      guard bias else {
        return g.convolution(x, w, strides: steps, padding: pads, groups: groups)
      }
      let b = parameter(name + ".b", [channels], fan(count))
      return g.convolution(x, w, bias: b, strides: steps, padding: pads, groups: groups)
    }
  }

  /// Transposed convolution with square kernels; W [in, channels, ...]. As in PyTorch the fan in is counted
  /// over W's second axis: it is that of the convolution of which this is the transpose.
  public func transposedConvolution(
    _ name: String, _ x: Value, _ channels: Size, kernel: Int, stride: Int, padding: Int = 0,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    layer(name, file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 3, "the input of a transposed convolution")
      try positive(kernel, "kernel")
      try positive(stride, "stride")
      let spatial = x.rank - 2
      let sizes = [Size](repeating: Size(kernel), count: spatial)
      let count = sizes.reduce(channels) { $0 * $1 }
      let w = parameter(name + ".w", [x.shape[1], channels] + sizes, fan(count))
      let b = parameter(name + ".b", [channels], fan(count))
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
    layer(name, file, line, [indices]) { g in
      let table = parameter(name, [count, size], .normal(mean: 0, deviation: deviation))
      return g.embedding(table, indices)
    }
  }

  /// Layer norm over the last axis of x [..., d], with parameters `name.w` of ones and `name.b` of zeros, [d] (Ba et
  /// al. 2016).
  public func layerNorm(
    _ name: String, _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    layer(name, file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 1, "the input of a layer norm")
      let size = x.shape[x.rank - 1]
      return g.layerNorm(
        x, parameter(name + ".w", [size], .constant(1)), parameter(name + ".b", [size], .zeros))
    }
  }

  /// Group norm of x [n, c, ...] over groups of channels, with parameters `name.w` of ones and `name.b` of zeros, [c].
  public func groupNorm(
    _ name: String, _ x: Value, groups: Int, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    layer(name, file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 2, "the input of a group norm")
      let size = x.shape[1]
      return g.groupNorm(
        x, groups: groups, gamma: parameter(name + ".w", [size], .constant(1)),
        beta: parameter(name + ".b", [size], .zeros))
    }
  }

  /// RMS norm over the last axis of x [..., d], with a parameter `name.w` of ones, [d].
  public func rmsNorm(
    _ name: String, _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    layer(name, file, line, [x]) { g throws(DLCError) in
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
    layer(name, file, line, [x]) { g throws(DLCError) in
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
}

/// Throws unless a number of things is at least 1.
func positive(_ number: Int, _ what: String) throws(DLCError) {
  guard number >= 1 else { throw DLCError(.graph, "\(what) must be positive, not \(number)") }
}
