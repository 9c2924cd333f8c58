import DLCGraph
import DLCTensor

/// Pools over regions of images that the data names.
enum RegionOperators {
  /// Regions [r] along one axis of the images, in its elements, and into how many parts they go.
  private struct Span {
    var start: Value
    var length: Value
    var parts: Int
    var size: Size
    /// The length of a part.
    var part: Value { length / Double(parts) }
  }

  // MARK: Align

  /// Means or maxima of points between elements.
  static func align(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (operand, rois, images) = (try c.operand(0), try c.operand(1), try c.operand(2))
    let g = c.g
    guard operand.rank == 4, rois.rank == 2, rois.shape[1] == 4, images.rank == 1,
      images.shape[0] == rois.shape[0]
    else {
      throw c.fail("regions \(rois.type) of images \(images.type) do not lie in \(operand.type)")
    }
    let x = c.computed(operand)
    let isHalf: Bool
    switch try c.text(
      "coordinate_transformation_mode", c.version < 16 ? "output_half_pixel" : "half_pixel")
    {
    case "half_pixel": isHalf = true
    case "output_half_pixel": isHalf = false
    case let other: throw c.fail("attribute 'coordinate_transformation_mode' is '\(other)'")
    }
    let mode = try c.text("mode", "avg")
    guard mode == "avg" || mode == "max" else { throw c.fail("attribute 'mode' is '\(mode)'") }
    let ratio = try c.integer("sampling_ratio", 0)
    let parts = [try c.integer("output_height", 1), try c.integer("output_width", 1)]
    guard ratio >= 0, ratio < 1 << 10, parts.allSatisfy({ $0 > 0 && $0 < 1 << 16 }) else {
      throw c.fail("an output of \(parts) with \(ratio) samples is out of range")
    }
    let scale = try c.real("spatial_scale", 1)
    func corner(_ index: Int) -> Value {
      let column = g.slice(rois, axis: 1, from: Size(index), to: Size(index + 1))
      let scaled =
        g.reshape(g.convert(column, x.dataType), [rois.shape[0]]) * c.scalar(scale, x.dataType)
      return isHalf ? scaled - 0.5 : scaled
    }
    let spans = [0, 1].map { axis -> Span in
      let (start, end) = (corner(1 - axis), corner(3 - axis))
      let length = end - start
      return Span(
        start: start, length: isHalf ? length : g.maximum(length, g.constant(1, like: length)),
        parts: parts[axis], size: x.shape[axis + 2])
    }
    let reader = RegionReader(c, x, images, spans.map(\.size), isMaximum: mode == "max")
    let y = ratio > 0 ? fixed(c, reader, spans, ratio) : adaptive(c, reader, spans)
    let shape = [rois.shape[0], x.shape[1]] + parts.map { Size($0) }
    return [g.convert(g.reshape(y, shape), operand.dataType)]
  }

  /// As many points in each part as the model says.
  private static func fixed(_ c: NodeContext, _ reader: RegionReader, _ spans: [Span], _ ratio: Int)
    -> Value
  {
    let g = c.g
    let points = spans.map { span -> Value in
      let shape = [span.start.shape[0], Size(span.parts * ratio)]
      let steps = (0..<span.parts * ratio).map { (Double($0) + 0.5) / Double(ratio) }
      let vector = c.constant(span.start.dataType, [steps.count], steps)
      return g.broadcast(span.start, to: shape, axes: [0])
        + g.broadcast(span.part, to: shape, axes: [0]) * g.broadcast(vector, to: shape)
    }
    let values = reader.values(points)
    let each = Size(ratio)
    let split = g.reshape(
      values,
      Array(values.shape[..<2]) + [Size(spans[0].parts), each, Size(spans[1].parts), each])
    return reader.isMaximum ? g.max(split, axes: [3, 5]) : g.mean(split, axes: [3, 5])
  }

  /// As many points in each part as it is long, which the data decides: a loop over them. Those that lie before the
  /// image are skipped, so that its size bounds the loop.
  private static func adaptive(_ c: NodeContext, _ reader: RegionReader, _ spans: [Span]) -> Value {
    let g = c.g
    let type = reader.x.dataType
    let walks = spans.map { Walk(c, $0) }
    let shape = [walks[0].count.shape[0], reader.x.shape[1]] + spans.map { Size($0.parts) }
    func pair(_ a: Value, _ b: Value) -> (Value, Value) {
      (g.broadcast(a, to: shape, axes: [0, 2]), g.broadcast(b, to: shape, axes: [0, 3]))
    }
    let initial = g.constant(reader.isMaximum ? -.infinity : 0, type, shape)
    let zero = g.constant(0, .int64)
    let total = walks[0].steps * walks[1].steps
    let looped = g.whileLoop([zero, initial]) { _, carried in
      carried[0] < total
    } body: { g, carried in
      let numbers = [carried[0] / walks[1].steps, carried[0] % walks[1].steps]
      let steps = zip(walks, numbers).map { $0.at(g.convert($1, type)) }
      let values = g.reshape(reader.values(steps.map(\.point)), shape)
      let (a, b) = pair(steps[0].isThere, steps[1].isThere)
      let next =
        reader.isMaximum
        ? g.maximum(carried[1], g.select(a & b, values, initial))
        : carried[1] + g.select(a & b, values, initial)
      return [carried[0] + 1.0, next]
    }
    let sum = looped[1]
    let nothing = g.constant(0, like: sum)
    if reader.isMaximum {
      // Points outside of the image count as 0.
      let (a, b) = pair(walks[0].skips, walks[1].skips)
      let all = g.select(a | b, g.maximum(sum, nothing), sum)
      return g.select(all .== g.constant(-.infinity, like: sum), nothing, all)
    }
    let count = g.maximum(walks[0].count * walks[1].count, g.constant(1, like: walks[0].count))
    return sum / g.broadcast(count, to: shape, axes: [0])
  }

  /// The points along one axis, one in each part at a time.
  private struct Walk {
    let g: FunctionBuilder
    let span: Span
    /// [r]: how many points a part has.
    let count: Value
    /// [r, parts]: the first one that may be inside of the image.
    let first: Value
    /// Where the parts begin.
    let begin: Value
    /// How many steps there are.
    let steps: Value
    /// Whether there are points that no step comes to.
    let skips: Value

    init(_ c: NodeContext, _ span: Span) {
      let g = c.g
      self.g = g
      self.span = span
      let shape = [span.start.shape[0], Size(span.parts)]
      let type = span.start.dataType
      func wide(_ v: Value) -> Value { g.broadcast(v, to: shape, axes: [0]) }
      let count = g.ceil(span.part)
      let begin = wide(span.start) + wide(span.part) * g.iota(type, shape, axis: 1)
      let spacing = wide(span.part / count)
      let zero = g.constant(0, like: begin)
      let ahead = g.ceil((0.0 - begin - 1.0) / spacing - 0.5)
      let first = g.select(ahead > zero, ahead, zero)
      // Points are at least half an element apart where there are more than one.
      let limit = g.dimension(span.size * 2 + 3, type)
      let most = g.minimum(g.max(count, axes: [0]), limit)
      steps = g.convert(g.maximum(most, g.constant(0, like: most)), .int64)
      skips = (wide(count) > zero) & ((first > zero) | ((first + most) < wide(count)))
      (self.count, self.begin, self.first) = (count, begin, first)
    }

    /// The points [r, parts] at a step.
    func at(_ step: Value) -> (point: Value, isThere: Value) {
      let number = first + step
      func wide(_ v: Value) -> Value { g.broadcast(v, to: first.shape, axes: [0]) }
      return (begin + (number + 0.5) * wide(span.part / count), number < wide(count))
    }
  }

  // MARK: Maxima

  /// The largest elements of the parts of regions that are rounded to elements.
  static func maximum(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (operand, rois) = (try c.operand(0), try c.operand(1))
    let g = c.g
    guard let parts = try c.integers("pooled_shape"), parts.count == 2,
      parts.allSatisfy({ $0 > 0 && $0 < 1 << 16 }), operand.rank == 4, rois.rank == 2,
      rois.shape[1] == 5
    else { throw c.fail("regions \(rois.type) of \(operand.type) are not pooled") }
    let x = c.computed(operand)
    let scale = c.scalar(try c.real("spatial_scale", 1), x.dataType)
    let count = rois.shape[0]
    func column(_ index: Int) -> Value {
      let part = g.slice(rois, axis: 1, from: Size(index), to: Size(index + 1))
      return g.reshape(g.convert(part, x.dataType), [count])
    }
    func corner(_ index: Int) -> Value { g.floor(column(index) * scale + 0.5) }
    // [r, parts, elements] along each axis: whether the element is in the part.
    let masks = [0, 1].map { axis -> Value in
      let (start, end) = (corner(2 - axis), corner(4 - axis))
      let size = x.shape[axis + 2]
      let shape = [count, Size(parts[axis]), size]
      let length = g.maximum(end - start + 1.0, g.constant(1, like: start))
      let part = g.broadcast(length / Double(parts[axis]), to: shape, axes: [0])
      let number = g.iota(x.dataType, shape, axis: 1)
      let place = g.iota(x.dataType, shape, axis: 2) - g.broadcast(start, to: shape, axes: [0])
      return (place >= g.floor(number * part)) & (place < g.ceil((number + 1.0) * part))
    }
    let images = IndexingOperators.taken(c, x, g.convert(column(0), .int64), axis: 0)
    let (channels, height, width) = (x.shape[1], x.shape[2], x.shape[3])
    let (h, w) = (Size(parts[0]), Size(parts[1]))
    let none = c.scalar(-.infinity, x.dataType)
    let rows = [count, channels, height, w, width]
    let alongRows = g.max(
      g.select(
        g.broadcast(masks[1], to: rows, axes: [0, 3, 4]),
        g.broadcast(images, to: rows, axes: [0, 1, 2, 4]), none), axes: [4])
    let columns = [count, channels, h, height, w]
    let y = g.max(
      g.select(
        g.broadcast(masks[0], to: columns, axes: [0, 2, 3]),
        g.broadcast(alongRows, to: columns, axes: [0, 1, 3, 4]), none), axes: [3])
    let isEmpty = [0, 1].map { axis in
      g.broadcast(!g.any(masks[axis], axes: [2]), to: y.shape, axes: [0, axis + 2])
    }
    let result = g.select(isEmpty[0] | isEmpty[1], g.constant(0, like: y), y)
    return [g.convert(result, operand.dataType)]
  }
}

/// Reads images between elements, at points that form a lattice in each region.
struct RegionReader {
  let c: NodeContext
  /// [n, c, h, w]
  let x: Value
  /// [r]: the image that a region lies in.
  let images: Value
  let sizes: [Size]
  let isMaximum: Bool

  init(_ c: NodeContext, _ x: Value, _ images: Value, _ sizes: [Size], isMaximum: Bool) {
    (self.c, self.x, self.sizes, self.isMaximum) = (c, x, sizes, isMaximum)
    self.images = c.g.convert(images, .int64)
  }

  /// For points [r, a] and [r, b] along the axes the values [r, c, a b].
  func values(_ points: [Value]) -> Value {
    let g = c.g
    let shape = [images.shape[0], points[0].shape[1], points[1].shape[1]]
    let flat = [shape[0], shape[1] * shape[2]]
    func spread(_ v: Value, _ axis: Int) -> Value {
      g.reshape(g.broadcast(v, to: shape, axes: [0, axis + 1]), flat)
    }
    let taps = [0, 1].map { neighbours(points[$0], sizes[$0]) }
    let source = g.reshape(x, [x.shape[0], x.shape[1], sizes[0] * sizes[1]])
    let image = g.reshape(g.broadcast(images, to: flat, axes: [0]), flat + [1])
    let axes = IndexAttributes(
      offsetAxes: [1], collapsedAxes: [0, 2], startAxes: [0, 2], vectorAxis: 2)
    var result: Value?
    for row in taps[0] {
      for column in taps[1] {
        let place =
          spread(row.place, 0) * g.dimension(sizes[1], .int64) + spread(column.place, 1)
        let vectors = g.concatenate([image, g.reshape(place, flat + [1])], axis: 2)
        let read = g.add(
          .gather(Gather(axes, sliceSizes: [1, x.shape[1], 1])), [source, vectors])
        let weight = spread(row.weight, 0) * spread(column.weight, 1)
        let value = read * g.broadcast(weight, to: read.shape, axes: [0, 2])
        result = result.map { isMaximum ? g.maximum($0, value) : $0 + value } ?? value
      }
    }
    return result!
  }

  /// The two elements next to points, the last one for those beyond it; of no weight where a point is more than an
  /// element away from the axis.
  private func neighbours(_ points: Value, _ size: Size) -> [(place: Value, weight: Value)] {
    let g = c.g
    let zero = g.constant(0, like: points)
    func limit(_ size: Size) -> Value {
      g.broadcast(g.dimension(size, points.dataType), to: points.shape)
    }
    let isNear = (points >= -1.0) & (points <= limit(size))
    let last = limit(size - 1)
    let point = g.minimum(g.maximum(points, zero), last)
    let base = g.floor(point)
    let part = point - base
    return [(base, 1.0 - part), (g.minimum(base + 1.0, last), part)].map { place, weight in
      (g.convert(place, .int64), g.select(isNear, weight, zero))
    }
  }
}
