import DLCGraph
import DLCTensor

/// Gather and scatter, searches, sorting, and results whose size depends on the data.
enum IndexingOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("Gather", inputs: 2, gather),
    OperatorMapping("GatherElements", since: 11, inputs: 2, gatherElements),
    OperatorMapping("GatherND", since: 11, inputs: 2, gatherND),
    OperatorMapping("Scatter", since: 9, inputs: 3, scatterElements),
    OperatorMapping("ScatterElements", since: 11, inputs: 3, scatterElements),
    OperatorMapping("ScatterND", since: 11, inputs: 3, scatterND),
    OperatorMapping("TensorScatter", since: 24, inputs: 3, tensorScatter),
    OperatorMapping("OneHot", since: 9, inputs: 3, statics: ["depth"], oneHot),
    OperatorMapping("TopK", inputs: 1) { c throws(ImportStop) in
      guard let k = try c.integer("k") else { throw c.fail("attribute 'k' is missing") }
      return try topK(c, Size(k))
    },
    OperatorMapping("TopK", since: 10, inputs: 2, statics: ["K"]) { c throws(ImportStop) in
      guard let k = try c.sizes(1).first else { throw c.fail("K is empty") }
      return try topK(c, k)
    },
    OperatorMapping("ArgMax", inputs: 1) { c throws(ImportStop) in try extreme(c, largest: true) },
    OperatorMapping("ArgMin", inputs: 1) { c throws(ImportStop) in try extreme(c, largest: false) },
    OperatorMapping("CumSum", since: 11, inputs: 2, statics: ["axis"]) { c throws(ImportStop) in
      try prefix(c, .sum)
    },
    OperatorMapping("CumProd", since: 26, inputs: 2, statics: ["axis"]) { c throws(ImportStop) in
      try prefix(c, .product)
    },
    OperatorMapping("NonZero", since: 9, inputs: 1, nonZero),
    OperatorMapping("Compress", since: 9, inputs: 2, compress),
    OperatorMapping("Unique", since: 11, inputs: 1, unique),
  ]

  // MARK: Gather

  /// Slices along an axis: `x[..., indices..., ...]`.
  static func taken(_ c: NodeContext, _ x: Value, _ indices: Value, axis: Int) -> Value {
    let after = axis + indices.rank
    if x.shape[axis] == 0 {
      // Nothing can be taken: there are no indices either, or the check of indices fails.
      let shape = x.shape[..<axis] + indices.shape + x.shape[(axis + 1)...]
      return c.g.broadcast(c.scalar(0, x.dataType), to: Array(shape))
    }
    let places = c.wrapped(indices, x.shape[axis])
    var slice = x.shape
    slice[axis] = 1
    let axes = IndexAttributes(
      offsetAxes: Array(0..<axis) + Array(after..<after + x.rank - axis - 1), collapsedAxes: [axis],
      startAxes: [axis], vectorAxis: indices.rank)
    return c.g.add(.gather(Gather(axes, sliceSizes: slice)), [x, places])
  }

  /// Elements of an axis at known places.
  static func picked(_ c: NodeContext, _ x: Value, _ places: [Int], axis: Int) throws(ImportStop)
    -> Value
  {
    taken(c, x, c.constant([places.count], places), axis: axis)
  }

  /// Indices that are known are checked here, those of a session's run by the session; graphs that stand for themselves
  /// move others inside.
  private static func check(_ c: NodeContext, _ indices: Value, _ size: Size) throws(ImportStop) {
    guard let size = size.constant else { return }
    guard case .array(let known)? = c.known(indices) else {
      c.importer.checkIndices(indices, size, of: c)
      return
    }
    if let bad = known.integers.first(where: { $0 < -Int64(size) || $0 >= Int64(size) }) {
      throw c.fail(IndexCheck.text(bad, size))
    }
  }

  /// Checks the components of index vectors, which lie along the last axis.
  private static func checkVectors(_ c: NodeContext, _ indices: Value, _ sizes: [Size])
    throws(ImportStop)
  {
    let last = indices.rank - 1
    for (component, size) in sizes.enumerated() {
      let from = Size(component)
      try check(c, c.g.slice(indices, axis: last, from: from, to: from + 1), size)
    }
  }

  private static func gather(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, indices) = (try c.operand(0), try c.operand(1))
    let axis = try c.axis(try c.integer("axis", 0), rank: x.rank)
    try check(c, indices, x.shape[axis])
    return [taken(c, x, indices, axis: axis)]
  }

  /// Index vectors of whole coordinates for elements along an axis.
  private static func vectors(_ c: NodeContext, _ indices: Value, axis: Int) -> Value {
    let g = c.g
    let parts = (0..<indices.rank).map { other in
      c.unsqueezed(
        other == axis ? g.convert(indices, .int64) : g.iota(.int64, indices.shape, axis: other),
        [indices.rank])
    }
    return g.concatenate(parts, axis: indices.rank)
  }

  private static func points(_ rank: Int, _ indicesRank: Int) -> IndexAttributes {
    IndexAttributes(
      offsetAxes: [], collapsedAxes: Array(0..<rank), startAxes: Array(0..<rank),
      vectorAxis: indicesRank)
  }

  private static func gatherElements(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, indices) = (try c.operand(0), try c.operand(1))
    guard x.rank == indices.rank else { throw c.fail("\(indices.type) does not index \(x.type)") }
    let axis = try c.axis(try c.integer("axis", 0), rank: x.rank)
    try check(c, indices, x.shape[axis])
    if (indices.shape + [x.shape[axis]]).contains(where: { $0 == 0 }) {
      return [c.g.broadcast(c.scalar(0, x.dataType), to: indices.shape)]
    }
    let places = c.wrapped(indices, x.shape[axis])
    if (0..<x.rank).allSatisfy({ $0 == axis || x.shape[$0] == indices.shape[$0] }) {
      return [c.g.gatherAlong(axis, x, places)]
    }
    let axes = points(x.rank, indices.rank)
    return [
      c.g.add(
        .gather(Gather(axes, sliceSizes: x.shape.map { _ in 1 })),
        [x, vectors(c, places, axis: axis)])
    ]
  }

  /// The last axis of the indices holds vectors; sizes are added to negative components.
  private static func wrappedVectors(_ c: NodeContext, _ indices: Value, _ sizes: [Size]) -> Value {
    let g = c.g
    let wide = g.convert(indices, .int64)
    let limits = g.broadcast(c.shapeValue(sizes), to: wide.shape)
    return g.select(wide < 0.0, wide + limits, wide)
  }

  private static func gatherND(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, indices) = (try c.operand(0), try c.operand(1))
    let batch = try c.integer("batch_dims", 0)
    guard indices.rank >= 1, batch >= 0, batch < indices.rank, batch <= x.rank else {
      throw c.fail("\(indices.type) with \(batch) batch axes does not index \(x.type)")
    }
    let width = try c.number(indices.shape[indices.rank - 1])
    guard width >= 1, batch + width <= x.rank else {
      throw c.fail("vectors of \(width) do not index \(x.type)")
    }
    let starts = Array(batch..<batch + width)
    try checkVectors(c, indices, starts.map { x.shape[$0] })
    if starts.contains(where: { x.shape[$0] == 0 }) {
      let shape = indices.shape.dropLast() + x.shape[(batch + width)...]
      return [c.g.broadcast(c.scalar(0, x.dataType), to: Array(shape))]
    }
    let places = wrappedVectors(c, indices, starts.map { x.shape[$0] })
    let lead = indices.rank - 1
    let rest = x.rank - batch - width
    let axes = IndexAttributes(
      offsetAxes: Array(lead..<lead + rest), collapsedAxes: starts,
      operandBatchAxes: Array(0..<batch), indicesBatchAxes: Array(0..<batch), startAxes: starts,
      vectorAxis: lead)
    let slice = x.shape.enumerated().map { $0.offset < batch + width ? Size(1) : $0.element }
    return [c.g.add(.gather(Gather(axes, sliceSizes: slice)), [x, places])]
  }

  // MARK: Scatter

  private static func combiner(_ c: NodeContext) throws(ImportStop) -> Combiner? {
    switch try c.text("reduction", "none") {
    case "none": return nil
    case "add": return .sum
    case "mul": return .product
    case "max": return .maximum
    case "min": return .minimum
    case let other: throw c.fail("reduction '\(other)' is not known")
    }
  }

  private static func scatterElements(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, indices, updates) = (try c.operand(0), try c.operand(1), try c.operand(2))
    guard x.rank == indices.rank, updates.shape == indices.shape else {
      throw c.fail("\(updates.type) at \(indices.type) does not go into \(x.type)")
    }
    let axis = try c.axis(try c.integer("axis", 0), rank: x.rank)
    try check(c, indices, x.shape[axis])
    let places = c.wrapped(indices, x.shape[axis])
    let combiner = try combiner(c)
    if (0..<x.rank).allSatisfy({ $0 == axis || x.shape[$0] == indices.shape[$0] }) {
      return [c.g.scatterAlong(axis, x, places, updates, combiner)]
    }
    return [
      c.g.add(
        .scatter(Scatter(points(x.rank, indices.rank), combiner)),
        [x, vectors(c, places, axis: axis), updates])
    ]
  }

  private static func scatterND(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, indices, updates) = (try c.operand(0), try c.operand(1), try c.operand(2))
    guard indices.rank >= 1 else {
      throw c.fail("the indices are \(indices.type), without vectors")
    }
    let width = try c.number(indices.shape[indices.rank - 1])
    guard width >= 1, width <= x.rank else {
      throw c.fail("vectors of \(width) do not index \(x.type)")
    }
    let lead = indices.rank - 1
    let axes = IndexAttributes(
      offsetAxes: Array(lead..<lead + x.rank - width), collapsedAxes: Array(0..<width),
      startAxes: Array(0..<width), vectorAxis: lead)
    try checkVectors(c, indices, Array(x.shape[..<width]))
    let places = wrappedVectors(c, indices, Array(x.shape[..<width]))
    return [c.g.add(.scatter(Scatter(axes, try combiner(c))), [x, places, updates])]
  }

  /// New rows of a cache, at a place per batch entry.
  private static func tensorScatter(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (cache, update) = (try c.operand(0), try c.operand(1))
    let g = c.g
    let axis = try c.axis(try c.integer("axis", -2), rank: cache.rank)
    let size = cache.shape[axis]
    var place = g.iota(.int64, update.shape, axis: axis)
    if let start = c.optional(2) {
      place = place + g.broadcast(g.convert(start, .int64), to: update.shape, axes: [0])
    }
    if try c.text("mode", "linear") == "circular" {
      place = g.binary(.remainder, place, g.broadcast(g.dimension(size, .int64), to: place.shape))
    }
    return [g.scatterAlong(axis, cache, place, update, nil)]
  }

  private static func oneHot(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (indices, values) = (try c.operand(0), try c.operand(2))
    let depth = c.known(1)
    let size: Size
    if case .array(let known)? = depth, known.type.isFloat, let first = known.reals.first {
      size = Size(Int(Int64(truncatingWithin: first)))
    } else {
      guard let first = try c.sizes(1).first else { throw c.fail("the depth is empty") }
      size = first
    }
    guard values.rank == 1, values.shape[0] == 2 || values.shape[0].constant == nil else {
      throw c.fail("the values are \(values.type), not one for off and one for on")
    }
    let axis = try c.axis(try c.integer("axis", -1), rank: indices.rank + 1)
    let g = c.g
    var shape = indices.shape
    shape.insert(size, at: axis)
    let rest = (0..<shape.count).filter { $0 != axis }
    let places = g.broadcast(g.convert(indices, .int64), to: shape, axes: rest)
    let wrapped = c.wrapped(places, size)
    let (off, on) = (
      g.slice(values, axis: 0, from: 0, to: 1), g.slice(values, axis: 0, from: 1, to: 2)
    )
    return [
      g.select(
        wrapped .== g.iota(.int64, shape, axis: axis), g.broadcast(g.reshape(on, []), to: shape),
        g.broadcast(g.reshape(off, []), to: shape))
    ]
  }

  // MARK: Order

  private static func topK(_ c: NodeContext, _ k: Size) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let axis = try c.axis(try c.integer("axis", -1), rank: x.rank)
    if let n = x.shape[axis].constant, let k = k.constant, k > n || k < 0 {
      throw c.fail("there are no \(k) elements along axis \(axis) of \(x.type)")
    }
    let number = c.g.iota(.int64, x.shape, axis: axis)
    let sorted = c.g.sort([x, number], axis: axis, descending: try c.flag("largest", true))
    return sorted.map { c.g.slice($0, axis: axis, from: 0, to: k) }
  }

  private static func extreme(_ c: NodeContext, largest: Bool) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let g = c.g
    let axis = try c.axis(try c.integer("axis", 0), rank: x.rank)
    let last = try c.flag("select_last_index")
    let source = last ? g.reverse(x, axes: [axis]) : x
    var index =
      largest ? g.argmax(source, axis: axis, .int64) : g.argmin(source, axis: axis, .int64)
    if last { index = g.dimension(x.shape[axis] - 1, .int64) - index }
    return [try c.flag("keepdims", true) ? c.unsqueezed(index, [axis]) : index]
  }

  private static func prefix(_ c: NodeContext, _ combiner: Combiner) throws(ImportStop) -> [Value?]
  {
    let x = try c.operand(0)
    let axis = try c.axis(try c.integer(1), rank: x.rank)
    return [
      c.g.cumulative(
        combiner, x, axis: axis, reverse: try c.flag("reverse"), exclusive: try c.flag("exclusive"))
    ]
  }

  // MARK: Sizes that depend on data

  /// The places where a mask [n] holds come first, in their order; and how many there are.
  private static func places(_ c: NodeContext, of mask: Value) -> (places: Value, count: Value) {
    let g = c.g
    let number = g.iota(.int64, mask.shape, axis: 0)
    let sorted = g.sort([g.convert(g.unary(.not, mask), .int32), number], axis: 0)
    return (sorted[1], g.sum(g.convert(mask, .int64), axes: [0]))
  }

  private static func nonZero(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let g = c.g
    let count = x.shape.reduce(Size(1)) { $0 * $1 }
    let flat = g.reshape(x, [count])
    let mask = x.dataType == .bool ? flat : flat .!= c.scalar(0, x.dataType)
    let found = places(c, of: mask)
    var rest = found.places
    var rows: [Value] = []
    for size in x.shape.reversed() {
      let extent = g.dimension(size, .int64)
      let whole = rest / extent
      rows.insert(c.unsqueezed(rest - whole * extent, [0]), at: 0)
      rest = whole
    }
    c.bounds[0] = (1, found.count)
    guard !rows.isEmpty else { return [g.constant(0, .int64, [0, 1])] }
    return [g.concatenate(rows, axis: 0)]
  }

  private static func compress(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    var (x, mask) = (try c.operand(0), try c.operand(1))
    let axis: Int
    if let given = try c.integer("axis") {
      axis = try c.axis(given, rank: x.rank)
    } else {
      x = c.g.reshape(x, [x.shape.reduce(Size(1)) { $0 * $1 }])
      axis = 0
    }
    let (length, size) = (try c.number(mask.shape[0]), try c.number(x.shape[axis]))
    // Elements beyond a short condition are left out.
    if length > size { mask = c.g.slice(mask, axis: 0, from: 0, to: Size(size)) }
    let found = places(c, of: mask)
    c.bounds[0] = (axis, found.count)
    return [taken(c, x, found.places, axis: axis)]
  }

  private static func unique(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let g = c.g
    let axis = try c.integer("axis").map { axis throws(ImportStop) in try c.axis(axis, rank: x.rank)
    }
    // Rows that are compared: single elements, or slices along the axis.
    let rows: Value
    if let axis {
      rows = c.flattened(g.transpose(x, [axis] + (0..<x.rank).filter { $0 != axis }), at: 1)
    } else {
      rows = g.reshape(x, [x.shape.reduce(Size(1)) { $0 * $1 }, 1])
    }
    let (count, width) = (try c.number(rows.shape[0]), try c.number(rows.shape[1]))
    guard width <= 1024 else { throw c.unsupported("slices of \(width) elements") }
    if count == 0 {
      let none = g.constant(0, .int64, [0])
      return [axis == nil ? g.reshape(x, [0]) : x, none, none, none]
    }
    let n = Size(count)
    let number = g.iota(.int64, [n], axis: 0)
    let columns = (0..<width).map {
      g.reshape(g.slice(rows, axis: 1, from: Size($0), to: Size($0 + 1)), [n])
    }
    let sorted = g.sort(columns + [number], axis: 0, keys: max(width, 1))
    // Where a run of equal rows begins.
    var begins = number .== 0.0
    for column in sorted.dropLast() {
      let before = g.concatenate(
        [g.slice(column, axis: 0, from: 0, to: 1), g.slice(column, axis: 0, from: 0, to: n - 1)],
        axis: 0)
      begins = g.binary(.or, begins, column .!= before)
    }
    let origin = sorted[width]
    var group = g.cumulativeSum(g.convert(begins, .int64), axis: 0) - 1.0
    let runs = places(c, of: begins)
    // The first place of each: sorting keeps the order of equal rows.
    var first = taken(c, origin, runs.places, axis: 0)
    if !(try c.flag("sorted", true)) {
      // Groups in the order of their first places; what is no group comes last.
      let key = g.select(
        number < runs.count, first, g.constant(Tensor(.int64, [], truncating: [Int64(count)])))
      let order = g.sort([key, number], axis: 0)[1]
      let rank = g.scatterAlong(0, g.constant(0, .int64, [n]), order, number, nil)
      group = taken(c, rank, group, axis: 0)
      first = taken(c, first, order, axis: 0)
    }
    let values = taken(c, axis == nil ? g.reshape(x, [n]) : x, first, axis: axis ?? 0)
    let inverse = g.scatterAlong(0, g.constant(0, .int64, [n]), origin, group, nil)
    let counts = g.scatterAlong(
      0, g.constant(0, .int64, [n]), group, g.constant(1, .int64, [n]), .sum)
    c.bounds[0] = (axis ?? 0, runs.count)
    if c.wants(1) { c.bounds[1] = (0, runs.count) }
    if c.wants(3) { c.bounds[3] = (0, runs.count) }
    return [values, first, inverse, counts]
  }
}
