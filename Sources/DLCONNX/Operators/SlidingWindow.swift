import DLCGraph
import DLCTensor

/// How a window slides over the axes after batch and channel, from the attributes that convolutions and pools share.
struct SlidingWindow {
  var kernel: [Int]
  var strides: [Int]
  var dilations: [Int]
  var low: [Int]
  var high: [Int]
  /// `high` without what is only there for windows that reach beyond it.
  private(set) var declaredHigh: [Int]
  /// Padding before and after each axis that depends on named sizes; it comes before all other.
  private(set) var open: [(low: Size, high: Size)] = []

  var rank: Int { kernel.count }
  var padding: [(low: Int, high: Int)] { Array(zip(low, high)).map { (low: $0, high: $1) } }
  /// The elements from the first to the last one under a window.
  var extents: [Int] { zip(kernel, dilations).map { ($0 - 1) * $1 + 1 } }

  /// - Parameter sizes: those of the spatial axes.
  init(_ c: NodeContext, kernel: [Int], over sizes: [Size]) throws(ImportStop) {
    let rank = sizes.count
    guard rank >= 1, kernel.count == rank else {
      throw c.fail("a window of \(kernel.count) axes does not go over \(rank) spatial axes")
    }
    self.kernel = kernel
    strides = try Self.list(c, "strides", rank, 1)
    dilations = try Self.list(c, "dilations", rank, 1)
    guard (kernel + strides + dilations).allSatisfy({ $0 >= 1 && $0 < 1 << 24 }) else {
      throw c.fail(
        "window \(kernel), strides \(strides) or dilations \(dilations) are out of range")
    }
    let pads = try Self.list(c, "pads", 2 * rank, 0)
    guard pads.allSatisfy({ $0.magnitude < 1 << 24 }) else {
      throw c.fail("pads \(pads) are out of range")
    }
    (low, high) = (Array(pads[..<rank]), Array(pads[rank...]))
    declaredHigh = high
    switch try c.text("auto_pad", "NOTSET") {
    case "NOTSET", "": break
    case "VALID": (low, high) = (low.map { _ in 0 }, low.map { _ in 0 })
    case "SAME_UPPER": try padEvenly(c, sizes, extraFirst: false)
    case "SAME_LOWER": try padEvenly(c, sizes, extraFirst: true)
    case let other: throw c.fail("attribute 'auto_pad' is '\(other)'")
    }
    declaredHigh = high
  }

  /// A list of an entry per axis; one that is absent or empty has all entries alike.
  static func list(_ c: NodeContext, _ name: String, _ count: Int, _ otherwise: Int)
    throws(ImportStop) -> [Int]
  {
    guard let list = try c.integers(name), !list.isEmpty else {
      return [Int](repeating: otherwise, count: count)
    }
    guard list.count == count else {
      throw c.fail("attribute '\(name)' has \(list.count) entries, not \(count)")
    }
    return list
  }

  /// Padding with which there is a window for each stride.
  private mutating func padEvenly(_ c: NodeContext, _ sizes: [Size], extraFirst: Bool)
    throws(ImportStop)
  {
    for axis in sizes.indices {
      var total = extents[axis] - 1
      if strides[axis] > 1, sizes[axis].constant == nil, extents[axis] >= strides[axis] {
        let count = (sizes[axis] + Size(strides[axis] - 1)) / Size(strides[axis])
        let total = (count - 1) * Size(strides[axis]) + Size(extents[axis]) - sizes[axis]
        let half = total / 2
        if open.isEmpty { open = sizes.map { _ in (0, 0) } }
        open[axis] = extraFirst ? (total - half, half) : (half, total - half)
        (low[axis], high[axis]) = (0, 0)
        continue
      }
      if strides[axis] > 1 {
        let size = try c.number(sizes[axis])
        let count = (size + strides[axis] - 1) / strides[axis]
        total = max((count - 1) * strides[axis] + extents[axis] - size, 0)
      }
      low[axis] = extraFirst ? total - total / 2 : total / 2
      high[axis] = total - low[axis]
    }
  }

  /// Pads the ends so that the last window is there although it reaches beyond them; one that would start in the
  /// padding is left out.
  mutating func roundUp(_ c: NodeContext, _ sizes: [Size]) throws(ImportStop) {
    for axis in sizes.indices {
      let size = try c.number(sizes[axis])
      let room = size + low[axis] + high[axis] - extents[axis]
      guard room >= 0 else { continue }
      var count = (room + strides[axis] - 1) / strides[axis] + 1
      if (count - 1) * strides[axis] >= size + low[axis] { count -= 1 }
      high[axis] = max((count - 1) * strides[axis] + extents[axis] - size - low[axis], 0)
    }
  }

  /// How many elements of an axis, padding as declared among them where that counts, lie under each window.
  func counts(_ axis: Int, _ size: Int, padding: Bool) -> [Int] {
    let windows = (size + low[axis] + high[axis] - extents[axis]) / strides[axis] + 1
    let first = padding ? -low[axis] : 0
    let end = padding ? size + declaredHigh[axis] : size
    return (0..<max(windows, 0)).map { window in
      (0..<kernel[axis]).count { tap in
        let place = window * strides[axis] - low[axis] + tap * dilations[axis]
        return place >= first && place < end
      }
    }
  }

  /// The input with the padding around it that depends on named sizes.
  func opened(_ x: Value, _ fill: Double, _ g: FunctionBuilder) -> Value {
    if open.isEmpty { return x }
    let lead = [Size](repeating: 0, count: max(x.rank - rank, 0))
    return g.pad(x, fill, low: lead + open.map(\.low), high: lead + open.map(\.high))
  }

  /// A list with an entry for each leading axis before it.
  private func full(_ list: [Int], _ fill: Int, _ x: Value) -> [Int] {
    [Int](repeating: fill, count: max(x.rank - rank, 0)) + list
  }

  /// The elements under each window combined.
  func reduced(_ combiner: Combiner, _ x: Value, _ g: FunctionBuilder) -> Value {
    let geometry = WindowGeometry(
      combiner: combiner, window: full(kernel, 1, x), strides: full(strides, 1, x),
      dilation: full(dilations, 1, x), paddingLow: full(low, 0, x), paddingHigh: full(high, 0, x))
    return g.add(.reduceWindow(ReduceWindow(geometry)), [x])
  }

  /// The row-major number, in the spatial axes, of the first largest element under each window of an input that is
  /// padded already.
  func places(_ x: Value, _ g: FunctionBuilder) -> Value {
    let geometry = ArgWindowGeometry(
      largest: true, window: full(kernel, 1, x), strides: full(strides, 1, x),
      dilation: full(dilations, 1, x), leading: 2)
    return g.add(.argWindow(ArgWindow(geometry)), [x])
  }
}

extension NodeContext {
  /// A value in the type that its elements are computed in: float32 for half floats.
  func computed(_ x: Value) -> Value { g.convert(x, x.dataType.computeType) }

  /// A value per channel added to axis 1.
  func addingBias(_ index: Int, to x: Value) throws(ImportStop) -> Value {
    guard let bias = optional(index) else { return x }
    guard bias.rank == 1, bias.shape[0] == x.shape[1] else {
      throw fail("a bias of \(bias.type) does not go onto \(x.type)")
    }
    return x + g.broadcast(g.convert(bias, x.dataType), to: x.shape, axes: [1])
  }

  /// A product of sizes.
  func product(_ sizes: some Sequence<Size>) -> Size { sizes.reduce(Size(1)) { $0 * $1 } }
}
