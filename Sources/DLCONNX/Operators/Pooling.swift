import DLCGraph
import DLCTensor

/// Pools over windows and over all of the spatial axes, and their inverse.
enum PoolingOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("AveragePool", inputs: 1, average),
    OperatorMapping("MaxPool", inputs: 1, maximum),
    OperatorMapping("LpPool", inputs: 1, norm),
    OperatorMapping("GlobalAveragePool", inputs: 1) { c throws(ImportStop) in
      try global(c) { x, axes in c.g.mean(x, axes: axes, keepAxes: true) }
    },
    OperatorMapping("GlobalMaxPool", inputs: 1) { c throws(ImportStop) in
      try global(c) { x, axes in c.g.max(x, axes: axes, keepAxes: true) }
    },
    OperatorMapping("GlobalLpPool", inputs: 1) { c throws(ImportStop) in
      let p = try power(c)
      return try global(c) { x, axes in
        rooted(c, c.g.sum(powered(c, x, p), axes: axes, keepAxes: true), p)
      }
    },
    OperatorMapping("MaxUnpool", since: 9, inputs: 3, statics: ["output_shape"], unpool),
    OperatorMapping(
      "Col2Im", since: 18, inputs: 3, statics: ["image_shape", "block_shape"], image),
  ]

  // MARK: Windows

  private static func window(_ c: NodeContext, _ x: Value) throws(ImportStop) -> SlidingWindow {
    guard let kernel = try c.integers("kernel_shape") else {
      throw c.fail("attribute 'kernel_shape' is missing")
    }
    guard x.rank >= 3 else { throw c.fail("the input is \(x.type), without spatial axes") }
    let sizes = Array(x.shape[2...])
    var window = try SlidingWindow(c, kernel: kernel, over: sizes)
    guard (window.low + window.high).allSatisfy({ $0 >= 0 }) else {
      throw c.fail("attribute 'pads' has negative entries")
    }
    let mode = try c.text("auto_pad", "NOTSET")
    if try c.flag("ceil_mode"), !mode.hasPrefix("SAME") { try window.roundUp(c, sizes) }
    return window
  }

  private static func average(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    return [c.g.convert(try averaged(c, c.computed(operand)), operand.dataType)]
  }

  /// The means over the windows that the attributes say.
  static func averaged(_ c: NodeContext, _ x: Value) throws(ImportStop) -> Value {
    let window = try window(c, x)
    let sum = window.reduced(.sum, window.opened(x, 0, c.g), c.g)
    return sum / (try divisor(c, window, x, sum, padding: try c.flag("count_include_pad")))
  }

  /// How many elements each window is the mean of.
  private static func divisor(
    _ c: NodeContext, _ window: SlidingWindow, _ x: Value, _ sum: Value, padding: Bool
  ) throws(ImportStop) -> Value {
    let g = c.g
    let sizes = x.shape[2...].compactMap(\.constant)
    let isPadded = !window.open.isEmpty || !(window.low + window.high).allSatisfy { $0 == 0 }
    if !isPadded || padding && window.high == window.declaredHigh {
      return c.scalar(window.kernel.reduce(1) { $0 * Double($1) }, x.dataType)
    }
    guard sizes.count == window.rank else {
      let ones = g.constant(1, x.dataType, [1, 1] + Array(x.shape[2...]))
      return g.broadcast(window.reduced(.sum, window.opened(ones, 0, g), g), to: sum.shape)
    }
    // Those along one axis times those along the others.
    let counts = sizes.indices.map { window.counts($0, sizes[$0], padding: padding) }
    if counts.allSatisfy({ Set($0).count == 1 }) {
      return c.scalar(counts.reduce(1) { $0 * Double($1[0]) }, x.dataType)
    }
    let all = counts.reduce([1.0]) { product, list in
      product.flatMap { count in list.map { count * Double($0) } }
    }
    return g.broadcast(c.constant(x.dataType, counts.map(\.count), all), to: sum.shape)
  }

  private static func maximum(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let window = try window(c, x)
    let isWanted = c.wants(1)
    if isWanted, !window.open.isEmpty { _ = try c.number(Array(x.shape[2...])) }
    let values = window.reduced(.maximum, window.opened(x, lowest(x.dataType), c.g), c.g)
    return [values, isWanted ? try places(c, window, x) : nil]
  }

  /// What no element is less than.
  private static func lowest(_ type: DataType) -> Double {
    type.isFloat ? -.infinity : Double(type.integerRange.lowerBound)
  }

  /// The position of each window's first largest element among all elements.
  private static func places(_ c: NodeContext, _ window: SlidingWindow, _ x: Value)
    throws(ImportStop) -> Value
  {
    let g = c.g
    // Padding is less than all elements, as far as the type has such a number.
    let isNarrow = !x.dataType.isFloat && x.dataType.byteCount < 4
    let wide = isNarrow ? g.convert(x, .int32) : c.computed(x)
    let low = [0, 0] + window.low.map { Size($0) }
    let high = [0, 0] + window.high.map { Size($0) }
    let padded = g.pad(wide, lowest(wide.dataType), low: low, high: high)
    let place = window.places(padded, g)
    guard !place.isPoisoned else { return place }
    func size(_ size: Size) -> Value { g.dimension(size, .int64) }
    var rest = g.convert(place, .int64)
    let spatial = Array(x.shape[2...])
    let columnMajor = try c.flag("storage_order")
    var result = g.constant(0, like: rest)
    for axis in spatial.indices.reversed() {
      let whole = size(padded.shape[axis + 2])
      let inside = (rest % whole) - Double(window.low[axis])
      rest = rest / whole
      let bounded = g.minimum(
        g.maximum(inside, g.constant(0, like: inside)), size(spatial[axis] - 1))
      let stride = columnMajor ? c.product(spatial[..<axis]) : c.product(spatial[(axis + 1)...])
      result = result + bounded * size(stride)
    }
    let whole = size(c.product(spatial))
    let channel = g.iota(.int64, result.shape, axis: 1)
    let batch = g.iota(.int64, result.shape, axis: 0)
    return result + (batch * size(x.shape[1]) + channel) * whole
  }

  // MARK: Norms

  private static func power(_ c: NodeContext) throws(ImportStop) -> Double {
    let p = try c.real("p", 2)
    guard p > 0, p.isFinite else { throw c.fail("attribute 'p' is \(p)") }
    return p
  }

  private static func powered(_ c: NodeContext, _ x: Value, _ p: Double) -> Value {
    switch p {
    case 1: c.g.abs(x)
    case 2: x * x
    default: c.g.power(c.g.abs(x), c.scalar(p, x.dataType))
    }
  }

  private static func rooted(_ c: NodeContext, _ x: Value, _ p: Double) -> Value {
    switch p {
    case 1: x
    case 2: c.g.sqrt(x)
    default: c.g.power(x, c.scalar(1 / p, x.dataType))
    }
  }

  private static func norm(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let operand = try c.operand(0)
    let x = c.computed(operand)
    let p = try power(c)
    let window = try window(c, x)
    let sum = window.reduced(.sum, window.opened(powered(c, x, p), 0, c.g), c.g)
    return [c.g.convert(rooted(c, sum, p), operand.dataType)]
  }

  private static func global(_ c: NodeContext, _ reduce: (Value, [Int]) -> Value)
    throws(ImportStop) -> [Value?]
  {
    let x = try c.operand(0)
    guard x.rank >= 2 else { throw c.fail("the input is \(x.type), without channels") }
    return [c.g.convert(reduce(c.computed(x), Array(2..<x.rank)), x.dataType)]
  }

  // MARK: Inverses

  /// Every element at the place that it was taken from, zero elsewhere.
  private static func unpool(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, places) = (try c.operand(0), try c.operand(1))
    let g = c.g
    guard places.shape == x.shape, x.rank >= 3 else {
      throw c.fail("\(x.type) cannot go to the places \(places.type)")
    }
    guard let kernel = try c.integers("kernel_shape") else {
      throw c.fail("attribute 'kernel_shape' is missing")
    }
    let window = try SlidingWindow(c, kernel: kernel, over: Array(x.shape[2...]))
    let spatial = kernel.indices.map { axis in
      (x.shape[axis + 2] - 1) * Size(window.strides[axis]) + Size(kernel[axis])
        - Size(window.low[axis] + window.high[axis])
    }
    let shape = Array(x.shape[..<2]) + spatial
    let (whole, count) = (c.product(shape), c.product(x.shape))
    let zeros = g.constant(0, x.dataType, [whole])
    let filled = g.reshape(
      g.scatterAlong(0, zeros, g.reshape(places, [count]), g.reshape(x, [count]), nil), shape)
    guard c.has(2) else { return [filled] }
    let wanted = try c.sizes(2)
    guard wanted.count == shape.count else {
      throw c.fail("an output of \(wanted) does not have the rank of \(x.type)")
    }
    return [
      g.pad(filled, 0, low: shape.map { _ in 0 }, high: zip(wanted, shape).map { $0 - $1 })
    ]
  }

  /// Blocks of an image summed where they overlap.
  private static func image(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let g = c.g
    let (sizes, block) = (try c.integers(1), try c.integers(2))
    guard x.rank == 3, sizes.count == block.count, !sizes.isEmpty, sizes.allSatisfy({ $0 > 0 })
    else { throw c.fail("blocks of \(block) in \(x.type) make no image of \(sizes)") }
    let window = try SlidingWindow(c, kernel: block, over: sizes.map { Size($0) })
    var counts: [Int] = []
    for axis in sizes.indices {
      let room = sizes[axis] + window.low[axis] + window.high[axis] - window.extents[axis]
      guard room >= 0, sizes[axis] < 1 << 24 else {
        throw c.fail("blocks of \(block) do not fit into \(sizes)")
      }
      counts.append(room / window.strides[axis] + 1)
    }
    func total(_ list: [Int]) -> Int {
      list.reduce(1) { $0.multipliedReportingOverflow(by: $1).partialValue }
    }
    let (whole, taps, blocks) = (total(sizes), total(block), total(counts))
    guard x.shape[2] == Size(blocks), let channels = x.shape[1].constant, channels % taps == 0
    else {
      throw c.fail("\(x.type) does not hold \(blocks) blocks of \(block)")
    }
    // What lies in the padding goes to one element more, which is cut off.
    let places = places(window, sizes, counts)
    let rows = x.shape[0] * Size(channels / taps)
    let columns = Size(taps * blocks)
    let zeros = g.constant(0, x.dataType, [rows, Size(whole + 1)])
    let indices = g.broadcast(c.constant([places.count], places), to: [rows, columns])
    let filled = g.scatterAlong(1, zeros, indices, g.reshape(x, [rows, columns]), .sum)
    let shape = [x.shape[0], Size(channels / taps)] + sizes.map { Size($0) }
    return [g.reshape(g.slice(filled, axis: 1, from: 0, to: Size(whole)), shape)]
  }

  /// The row-major place in an image of each element of each block, taps first; the image's size for those outside.
  private static func places(_ window: SlidingWindow, _ sizes: [Int], _ counts: [Int]) -> [Int] {
    let outside = sizes.reduce(1, *)
    var result: [Int] = []
    forEachCoordinate(window.kernel) { tap in
      forEachCoordinate(counts) { block in
        var place = 0
        for axis in sizes.indices {
          let at =
            block[axis] * window.strides[axis] + tap[axis] * window.dilations[axis]
            - window.low[axis]
          guard at >= 0, at < sizes[axis] else {
            place = outside
            break
          }
          place = place * sizes[axis] + at
        }
        result.append(place)
      }
    }
    return result
  }
}
