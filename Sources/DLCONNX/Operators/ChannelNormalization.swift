import DLCGraph
import DLCTensor

/// Normalisations by statistics of channels and of groups of them.
enum ChannelNormalizationOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("BatchNormalization", inputs: 5, batch),
    OperatorMapping("InstanceNormalization", inputs: 3, instance),
    OperatorMapping("GroupNormalization", since: 18, inputs: 3, group),
    OperatorMapping("MeanVarianceNormalization", since: 9, inputs: 1, meanVariance),
    OperatorMapping("LpNormalization", inputs: 1, norm),
    OperatorMapping("LRN", inputs: 1, localResponse),
  ]

  /// The mean and the biased variance over axes, which are kept.
  private static func statistics(_ c: NodeContext, _ x: Value, _ axes: [Int]) -> (
    centred: Value, mean: Value, variance: Value
  ) {
    let mean = c.g.mean(x, axes: axes, keepAxes: true)
    let centred = x - mean
    return (centred, mean, c.g.mean(centred * centred, axes: axes, keepAxes: true))
  }

  /// 1 / sqrt(variance + epsilon)
  private static func inverse(_ c: NodeContext, _ variance: Value) throws(ImportStop) -> Value {
    c.g.rsqrt(variance + c.scalar(try c.real("epsilon", 1e-5), variance.dataType))
  }

  /// Whether the statistics are those of the batch.
  private static func isTraining(_ c: NodeContext) throws(ImportStop) -> Bool {
    switch c.version {
    case ..<7: try !c.flag("is_test")
    case ..<14: c.wants(1) || c.wants(2)
    default: try c.flag("training_mode")
    }
  }

  private static func batch(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    let g = c.g
    var x = c.computed(operand)
    guard x.rank >= 1 else { throw c.fail("the input is a scalar") }
    if x.rank == 1 { x = g.reshape(x, [x.shape[0], 1]) }
    let isSpatial = try c.flag("spatial", true)
    let perChannel = c.version >= 9 || isSpatial
    let kept = perChannel ? [1] : Array(1..<x.rank)
    let shape = kept.map { x.shape[$0] }
    func parameter(_ index: Int) throws(ImportStop) -> Value {
      let value = try c.operand(index)
      guard c.product(value.shape) == c.product(shape) else {
        throw c.fail("input \(index) is \(value.type), the input is \(operand.type)")
      }
      return g.reshape(g.convert(value, x.dataType), shape)
    }
    func spread(_ value: Value) -> Value { g.broadcast(value, to: x.shape, axes: kept) }
    let (scale, bias) = (try parameter(1), try parameter(2))
    let (mean, variance) = (try parameter(3), try parameter(4))
    guard try isTraining(c) else {
      let factor = scale * (try inverse(c, variance))
      let y = (x - spread(mean)) * spread(factor) + spread(bias)
      return [g.reshape(g.convert(y, operand.dataType), operand.shape)]
    }
    let found = statistics(c, x, x.shape.indices.filter { !kept.contains($0) })
    let (batchMean, batchVariance) = (
      g.reshape(found.mean, shape), g.reshape(found.variance, shape)
    )
    let factor = scale * (try inverse(c, batchVariance))
    let y = found.centred * spread(factor) + spread(bias)
    let momentum = try c.real("momentum", 0.9)
    let (old, new) = (c.scalar(momentum, x.dataType), c.scalar(1 - momentum, x.dataType))
    func stored(_ value: Value, _ index: Int) throws(ImportStop) -> Value {
      let like = try c.operand(index)
      return g.reshape(g.convert(value, like.dataType), like.shape)
    }
    return [
      g.reshape(g.convert(y, operand.dataType), operand.shape),
      try stored(mean * old + batchMean * new, 3),
      try stored(variance * old + batchVariance * new, 4),
      try stored(batchMean, 3), try stored(batchVariance, 4),
    ]
  }

  /// Values per channel for an input [n, c, elements].
  private static func perChannel(_ c: NodeContext, _ index: Int, _ x: Value) throws(ImportStop)
    -> Value
  {
    let value = try c.operand(index)
    guard value.rank == 1, value.shape[0] == x.shape[1] else {
      throw c.fail("input \(index) is \(value.type) for \(x.shape[1]) channels")
    }
    return c.g.broadcast(c.g.convert(value, x.dataType), to: x.shape, axes: [1])
  }

  private static func instance(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    guard operand.rank >= 3 else {
      throw c.fail("the input is \(operand.type), without spatial axes")
    }
    let g = c.g
    let flat = [operand.shape[0], operand.shape[1], c.product(operand.shape[2...])]
    let x = g.reshape(c.computed(operand), flat)
    let found = statistics(c, x, [2])
    let y =
      found.centred * (try inverse(c, found.variance)) * (try perChannel(c, 1, x))
      + (try perChannel(c, 2, x))
    return [g.reshape(g.convert(y, operand.dataType), operand.shape)]
  }

  /// Before version 21 there is a scale and a bias per group, then per channel.
  private static func group(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    let g = c.g
    guard let count = try c.integer("num_groups"), count > 0, count < 1 << 31 else {
      throw c.fail("attribute 'num_groups' is missing or not positive")
    }
    guard operand.rank >= 2 else { throw c.fail("the input is \(operand.type), without channels") }
    if let channels = operand.shape[1].constant, channels % count != 0 {
      throw c.fail("\(channels) channels do not divide into \(count) groups")
    }
    let (batch, channels) = (operand.shape[0], operand.shape[1])
    let rest = c.product(operand.shape[2...])
    let x = g.reshape(
      c.computed(operand), [batch, Size(count), channels / Size(count) * rest])
    let found = statistics(c, x, [2])
    var y = found.centred * (try inverse(c, found.variance))
    if c.version >= 21 {
      // The first stage is rounded before the second one.
      y = c.computed(g.convert(g.reshape(y, [batch, channels, rest]), operand.dataType))
    }
    y = y * (try perChannel(c, 1, y)) + (try perChannel(c, 2, y))
    return [g.reshape(g.convert(y, operand.dataType), operand.shape)]
  }

  private static func meanVariance(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    let x = c.computed(operand)
    let axes = try c.axes(try c.integers("axes") ?? [0, 2, 3], rank: x.rank)
    let found = statistics(c, x, axes)
    let y = found.centred / (c.g.sqrt(found.variance) + c.scalar(1e-9, x.dataType))
    return [c.g.convert(y, operand.dataType)]
  }

  private static func norm(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    let g = c.g
    let x = c.computed(operand)
    let axis = try c.axis(try c.integer("axis", -1), rank: x.rank)
    let length: Value
    switch try c.integer("p", 2) {
    case 1: length = g.sum(g.abs(x), axes: [axis], keepAxes: true)
    case 2: length = g.sqrt(g.sum(x * x, axes: [axis], keepAxes: true))
    case let p: throw c.fail("attribute 'p' is \(p), not 1 or 2")
    }
    let whole = g.broadcast(length, to: x.shape)
    let zero = g.constant(0, like: x)
    return [g.convert(g.select(whole .== zero, zero, x / whole), operand.dataType)]
  }

  /// Divided by a power of a sum of squares over neighbouring channels.
  private static func localResponse(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    let g = c.g
    let x = c.computed(operand)
    guard let size = try c.integer("size"), size > 0, size < 1 << 24, x.rank >= 2 else {
      throw c.fail("attribute 'size' is missing or not positive, or the input has no channels")
    }
    // Windows go over the trailing axes.
    let flat = g.reshape(x, [x.shape[0], x.shape[1], c.product(x.shape[2...])])
    let sum = g.reshape(
      g.reduceWindow(
        .sum, flat * flat, window: [size, 1], strides: [1, 1],
        padding: [((size - 1) / 2, size / 2), (0, 0)]), x.shape)
    let alpha = c.scalar(try c.real("alpha", 1e-4) / Double(size), x.dataType)
    let base = sum * alpha + c.scalar(try c.real("bias", 1), x.dataType)
    let y = x / g.power(base, c.scalar(try c.real("beta", 0.75), x.dataType))
    return [g.convert(y, operand.dataType)]
  }
}
