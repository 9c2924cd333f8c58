import DLCGraph
import DLCTensor

/// Images read at points that are computed: index arithmetic and gathers.
enum SamplingOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("GridSample", since: 16, inputs: 2, gridSample),
    OperatorMapping("AffineGrid", since: 20, inputs: 2, statics: ["size"], affineGrid),
    OperatorMapping("DeformConv", since: 19, inputs: 5, deformed),
    OperatorMapping("RoiAlign", since: 10, inputs: 3, RegionOperators.align),
    OperatorMapping("MaxRoiPool", inputs: 2, RegionOperators.maximum),
  ]

  /// Where along an axis elements are read, and how much each counts.
  struct Tap {
    /// int64, inside of the axis.
    var place: Value
    /// nil for 1.
    var weight: Value?
    /// Where something is read; nil for everywhere.
    var isInside: Value?
  }

  /// Elements of `x` [b, c, spatial...] at points [b, p], as [b, c, p]: the sum over all choices of a tap per axis.
  static func read(_ c: NodeContext, _ x: Value, _ taps: [[Tap]]) -> Value {
    let g = c.g
    let (batch, channels) = (x.shape[0], x.shape[1])
    let spatial = Array(x.shape[2...])
    let flat = g.reshape(x, [batch, channels, c.product(spatial)])
    let axes = IndexAttributes(
      offsetAxes: [1], collapsedAxes: [2], operandBatchAxes: [0], indicesBatchAxes: [0],
      startAxes: [2], vectorAxis: 2)
    var result: Value?
    forEachCoordinate(taps.map(\.count)) { choice in
      var place: Value?
      var weight: Value?
      var isInside: Value?
      for (axis, tap) in zip(taps, choice).map({ $0[$1] }).enumerated() {
        let stride = c.product(spatial[(axis + 1)...])
        let part = stride == 1 ? tap.place : tap.place * g.dimension(stride, .int64)
        place = place.map { $0 + part } ?? part
        if let one = tap.weight { weight = weight.map { $0 * one } ?? one }
        if let one = tap.isInside { isInside = isInside.map { $0 & one } ?? one }
      }
      var value = g.add(.gather(Gather(axes, sliceSizes: [1, channels, 1])), [flat, place!])
      func spread(_ v: Value) -> Value { g.broadcast(v, to: value.shape, axes: [0, 2]) }
      if let isInside { value = g.select(spread(isInside), value, g.constant(0, like: value)) }
      if let weight { value = value * spread(weight) }
      result = result.map { $0 + value } ?? value
    }
    return result!
  }

  /// The two neighbours of points along an axis; outside of it there is nothing to read.
  static func neighbours(_ c: NodeContext, _ points: Value, _ size: Size) -> [Tap] {
    let g = c.g
    let base = g.floor(points)
    let part = points - base
    return [(base, 1.0 - part), (base + 1.0, part)].map { place, weight in
      let (index, isInside) = bounded(c, place, size)
      return Tap(place: index, weight: weight, isInside: isInside)
    }
  }

  /// Whole numbers as indices moved into an axis, and whether they were there.
  private static func bounded(_ c: NodeContext, _ x: Value, _ size: Size) -> (Value, Value) {
    let g = c.g
    let last = g.broadcast(g.dimension(size - 1, x.dataType), to: x.shape)
    let zero = g.constant(0, like: x)
    let inside = g.minimum(g.maximum(x, zero), last)
    return (g.convert(inside, .int64), (x >= 0.0) & (x <= last))
  }

  // MARK: Grids

  private enum Padding: String { case zeros, border, reflection }

  private static func gridSample(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (operand, grid) = (try c.operand(0), try c.operand(1))
    let g = c.g
    let rank = operand.rank - 2
    guard rank >= 1, grid.rank == operand.rank, grid.shape[0] == operand.shape[0],
      grid.shape[rank + 1] == Size(rank)
    else { throw c.fail("a grid \(grid.type) does not lie in \(operand.type)") }
    guard let padding = Padding(rawValue: try c.text("padding_mode", "zeros")) else {
      throw c.fail("attribute 'padding_mode' is '\(try c.text("padding_mode", ""))'")
    }
    let mode = try c.text("mode", "linear")
    guard ["linear", "bilinear", "nearest", "cubic", "bicubic"].contains(mode) else {
      throw c.fail("attribute 'mode' is '\(mode)'")
    }
    let isCorner = try c.flag("align_corners")
    let points = Array(grid.shape[1..<(rank + 1)])
    let flat = g.reshape(c.computed(grid), [grid.shape[0], c.product(points), Size(rank)])
    let isCopy = mode == "nearest"
    let x =
      isCopy
      ? operand
      : g.convert(operand, operand.dataType.isFloat ? operand.dataType.computeType : .float32)
    var taps: [[Tap]] = []
    for axis in 0..<rank {
      let size = operand.shape[axis + 2]
      // The last component belongs to the first axis.
      let component = g.reshape(
        g.slice(flat, axis: 2, from: Size(rank - 1 - axis), to: Size(rank - axis)),
        [grid.shape[0], c.product(points)])
      let whole = g.dimension(size, flat.dataType)
      var place =
        isCorner ? (component + 1.0) * 0.5 * (whole - 1.0) : ((component + 1.0) * whole - 1.0) * 0.5
      if isCopy { place = g.round(place) }
      switch padding {
      case .zeros: break
      case .border:
        // Cubics weigh all of their elements, of which those beyond the edge are the outermost ones.
        if !mode.hasSuffix("cubic") { place = clamped(c, place, size) }
      case .reflection: place = reflected(c, place, size, isCorner)
      }
      let list =
        isCopy ? [(place, nil)] : mode.hasSuffix("cubic") ? cubic(c, place) : linear(c, place)
      taps.append(
        list.map { at, weight in
          let weight = weight.map { g.convert($0, x.dataType) }
          let whole = padding == .reflection ? reflected(c, at, size, isCorner, isIndex: true) : at
          let (index, isInside) = bounded(c, whole, size)
          return Tap(place: index, weight: weight, isInside: padding == .zeros ? isInside : nil)
        })
    }
    let y = read(c, x, taps)
    return [g.convert(g.reshape(y, Array(operand.shape[..<2]) + points), operand.dataType)]
  }

  private static func linear(_ c: NodeContext, _ x: Value) -> [(Value, Value?)] {
    let base = c.g.floor(x)
    let part = x - base
    return [(base, 1.0 - part), (base + 1.0, part)]
  }

  /// Four neighbours, with the cubic of coefficient -0.75.
  private static func cubic(_ c: NodeContext, _ x: Value) -> [(Value, Value?)] {
    let a = -0.75
    let base = c.g.floor(x)
    let part = x - base
    func near(_ t: Value) -> Value { ((a + 2) * t - (a + 3)) * t * t + 1.0 }
    func far(_ t: Value) -> Value { ((a * t - 5 * a) * t + 8 * a) * t - 4 * a }
    return [
      (base - 1.0, far(part + 1.0)), (base, near(part)), (base + 1.0, near(1.0 - part)),
      (base + 2.0, far(2.0 - part)),
    ]
  }

  /// Points moved between the outermost elements of the image.
  private static func clamped(_ c: NodeContext, _ x: Value, _ size: Size) -> Value {
    let last = c.g.broadcast(c.g.dimension(size - 1, x.dataType), to: x.shape)
    return c.g.minimum(c.g.maximum(x, c.g.constant(0, like: x)), last)
  }

  /// Points beyond the edge of the image mirrored at it until they are inside.
  /// - Parameter isIndex: whether they are whole.
  private static func reflected(
    _ c: NodeContext, _ x: Value, _ size: Size, _ isCorner: Bool, isIndex: Bool = false
  ) -> Value {
    let g = c.g
    let low = isCorner ? 0.0 : -0.5
    let span = g.broadcast(g.dimension(isCorner ? size - 1 : size, x.dataType), to: x.shape)
    // An axis of one element has no length between corners.
    let length = g.maximum(span, g.constant(isCorner ? 1 : 0, like: x))
    let period = length * 2.0
    let shifted = x - low
    let rest = shifted - g.floor(shifted / period) * period
    let folded = g.minimum(rest, period - rest) + low
    let mirrored = isCorner ? g.minimum(folded, span) : folded
    // What is inside keeps its bits.
    return g.select((x < low) | (x > span + low), mirrored, x)
  }

  /// Coordinates of a resized image under an affine map.
  private static func affineGrid(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let theta = try c.operand(0)
    let sizes = try c.integers(1)
    let rank = sizes.count - 2
    guard rank == 2 || rank == 3, theta.shape == [Size(sizes[0]), Size(rank), Size(rank + 1)],
      sizes.allSatisfy({ $0 >= 0 && $0 < 1 << 24 })
    else { throw c.fail("maps \(theta.type) do not make a grid for \(sizes)") }
    let g = c.g
    let isCorner = try c.flag("align_corners")
    let map = c.computed(theta)
    let shape = [theta.shape[0]] + sizes[2...].map { Size($0) } + [Size(rank)]
    func column(_ index: Int) -> Value {
      let part = g.slice(map, axis: 2, from: Size(index), to: Size(index + 1))
      return g.broadcast(
        g.reshape(part, [theta.shape[0], Size(rank)]), to: shape, axes: [0, rank + 1])
    }
    var result = column(rank)
    for index in 0..<rank {
      // The first component belongs to the last axis.
      let axis = rank - index
      let size = Double(sizes[axis + 1])
      let points = (0..<sizes[axis + 1]).map { place in
        isCorner
          ? (size == 1 ? -1 : Double(place) * 2 / (size - 1) - 1)
          : (2 * Double(place) + 1) / size - 1
      }
      let vector = c.constant(map.dataType, [points.count], points)
      result = result + column(index) * g.broadcast(vector, to: shape, axes: [axis])
    }
    return [g.convert(result, theta.dataType)]
  }

  // MARK: Deformed windows

  private static func deformed(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (operand, w, offset) = (try c.operand(0), try c.operand(1), try c.operand(2))
    let g = c.g
    let kernel = try ConvolutionOperators.kernel(c, operand, w)
    let rank = kernel.count
    let window = try SlidingWindow(c, kernel: kernel, over: Array(operand.shape[2...]))
    let (groups, parts) = (try c.integer("group", 1), try c.integer("offset_group", 1))
    let channels = try c.number(operand.shape[1])
    let results = try c.number(w.shape[0])
    let taps = kernel.reduce(1, *)
    guard groups > 0, parts > 0, channels % groups == 0, channels % parts == 0,
      results % groups == 0, w.shape[1] == Size(channels / groups), offset.rank == rank + 2,
      offset.shape[1] == Size(parts * taps * rank)
    else { throw c.fail("\(w.type) and offsets \(offset.type) do not go over \(operand.type)") }
    let x = c.computed(operand)
    let out = Array(offset.shape[2...])
    let rows = operand.shape[0] * Size(parts)
    let shape = [rows] + kernel.map { Size($0) } + out
    let offsets = g.reshape(
      g.convert(offset, x.dataType), [rows, Size(taps), Size(rank), c.product(out)])
    let points = Size(taps) * c.product(out)
    let places = (0..<rank).map { axis -> [Tap] in
      let own = g.reshape(
        g.slice(offsets, axis: 2, from: Size(axis), to: Size(axis + 1)), shape)
      let tap = g.iota(x.dataType, shape, axis: 1 + axis) * Double(window.dilations[axis])
      let start = g.iota(x.dataType, shape, axis: 1 + rank + axis) * Double(window.strides[axis])
      let place = start + (tap - Double(window.low[axis])) + own
      return neighbours(c, g.reshape(place, [rows, points]), operand.shape[axis + 2])
    }
    let image = g.reshape(
      x, [rows, Size(channels / parts)] + Array(operand.shape[2...]))
    var columns = read(c, image, places)
    if let mask = c.optional(4) {
      let flat = g.reshape(g.convert(mask, x.dataType), [rows, points])
      columns = columns * g.broadcast(flat, to: columns.shape, axes: [0, 2])
    }
    let each = Size(channels / groups * taps)
    let product = g.dotGeneral(
      g.reshape(c.computed(w), [Size(groups), Size(results / groups), each]),
      g.reshape(columns, [operand.shape[0], Size(groups), each, c.product(out)]), lhsBatch: [0],
      rhsBatch: [1], lhsContracting: [2], rhsContracting: [2])
    let y = g.reshape(
      g.transpose(product, [2, 0, 1, 3]), [operand.shape[0], Size(results)] + out)
    return [g.convert(try c.addingBias(3, to: y), operand.dataType)]
  }
}
