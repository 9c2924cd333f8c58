import DLCGraph
import DLCTensor

/// Other arrangements of the same elements.
enum MovementOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("Reshape", inputs: 1, reshapeByAttribute),
    OperatorMapping("Reshape", since: 5, inputs: 2, statics: ["shape"], reshape),
    OperatorMapping("Flatten", inputs: 1) { c throws(ImportStop) in
      let x = try c.operand(0)
      let axis = try c.integer("axis", 1)
      guard axis >= -x.rank, axis <= x.rank else {
        throw c.fail("axis \(axis) is out of range for rank \(x.rank)")
      }
      return [c.flattened(x, at: axis < 0 ? axis + x.rank : axis)]
    },
    OperatorMapping("Transpose", inputs: 1) { c throws(ImportStop) in
      let x = try c.operand(0)
      let order = try c.integers("perm") ?? Array((0..<x.rank).reversed())
      // Counting from the end is not for permutations.
      guard order.sorted() == Array(0..<x.rank) else {
        throw c.fail("perm \(order) does not fit rank \(x.rank)")
      }
      return [c.g.transpose(x, try c.axes(order, rank: x.rank))]
    },
    OperatorMapping("Squeeze", inputs: 1) { c throws(ImportStop) in
      try squeeze(c, try c.integers("axes"))
    },
    OperatorMapping("Squeeze", since: 13, inputs: 2, statics: ["axes"]) { c throws(ImportStop) in
      try squeeze(c, try c.integers(orNil: 1))
    },
    OperatorMapping("Unsqueeze", inputs: 1) { c throws(ImportStop) in
      try unsqueeze(c, try c.integers("axes") ?? [])
    },
    OperatorMapping("Unsqueeze", since: 13, inputs: 2, statics: ["axes"]) { c throws(ImportStop) in
      try unsqueeze(c, try c.integers(1))
    },
    OperatorMapping("Concat", inputs: nil) { c throws(ImportStop) in
      let parts = c.all
      guard let first = parts.first else { throw c.fail("it has no inputs") }
      // Version 1 lets the axis out, which is then the second.
      guard let given = try c.integer("axis") ?? (c.version < 4 ? 1 : nil) else {
        throw c.fail("attribute 'axis' is missing")
      }
      let axis = try c.axis(given, rank: first.rank)
      // Named sizes of the other axes may be said in several ways.
      return [
        c.g.concatenate(
          parts.map { part in
            guard part.rank == first.rank else { return part }
            var shape = first.shape
            shape[axis] = part.shape[axis]
            let isOpen = zip(shape, part.shape).contains {
              $0 != $1 && ($0.constant == nil || $1.constant == nil)
            }
            return isOpen ? c.said(part, shape) : part
          }, axis: axis)
      ]
    },
    OperatorMapping("Split", inputs: 2, split),
    OperatorMapping("Split", since: 13, inputs: 2, statics: ["split"], splitByOperand),
    OperatorMapping("Slice", inputs: 1) { c throws(ImportStop) in
      let starts = try c.wideIntegers("starts") ?? []
      let ends = try c.wideIntegers("ends") ?? []
      return try slice(
        c, starts.map { Size($0) }, ends.map { Size($0) },
        try c.integers("axes") ?? Array(starts.indices), starts.map { _ in 1 })
    },
    OperatorMapping("Slice", since: 10, inputs: 5, statics: ["starts", "ends", "axes", "steps"]) {
      c throws(ImportStop) in
      let starts = try c.sizes(1)
      return try slice(
        c, starts, try c.sizes(2), try c.integers(orNil: 3) ?? Array(starts.indices),
        c.has(4) ? try c.wideIntegers(4) : starts.map { _ in 1 })
    },
    OperatorMapping("Expand", since: 8, inputs: 2, statics: ["shape"]) { c throws(ImportStop) in
      let x = try c.operand(0)
      return [c.g.broadcast(x, to: try c.commonShape([x.shape, try c.sizes(1)]))]
    },
    OperatorMapping("Tile", inputs: 3, statics: ["tiles", "axis"]) { c throws(ImportStop) in
      let x = try c.operand(0)
      var repeats = [Size](repeating: 1, count: x.rank)
      repeats[try c.axis(try c.integer(2), rank: x.rank)] = try c.sizes(1)[0]
      return [try tile(c, x, repeats)]
    },
    OperatorMapping("Tile", since: 6, inputs: 2, statics: ["repeats"]) { c throws(ImportStop) in
      let (x, repeats) = (try c.operand(0), try c.sizes(1))
      guard repeats.count == x.rank else {
        throw c.fail("\(repeats.count) repeats for rank \(x.rank)")
      }
      return [try tile(c, x, repeats)]
    },
    OperatorMapping("DepthToSpace", inputs: 1, depthToSpace),
    OperatorMapping("SpaceToDepth", inputs: 1, spaceToDepth),
    OperatorMapping("Trilu", since: 14, inputs: 2, statics: ["k"]) { c throws(ImportStop) in
      let x = try c.operand(0)
      guard x.rank >= 2 else { throw c.fail("the input is \(x.type), which has no matrices") }
      let k = c.has(1) ? Double(try c.integer(1)) : 0
      let place = c.g.iota(.int64, x.shape, axis: -1) - c.g.iota(.int64, x.shape, axis: -2)
      let zero = c.scalar(0, x.dataType)
      return [c.g.select(try c.flag("upper", true) ? place >= k : place <= k, x, zero)]
    },
    OperatorMapping("Pad", inputs: 1, pad(attribute: "paddings")),
    OperatorMapping("Pad", since: 2, inputs: 1, pad(attribute: "pads")),
    OperatorMapping("Pad", since: 11, inputs: 4, statics: ["pads", "axes"], padByOperand),
    OperatorMapping("CenterCropPad", since: 18, inputs: 2, statics: ["shape"], centerCropPad),
    OperatorMapping("ReverseSequence", since: 10, inputs: 2, reverseSequence),
  ]

  // MARK: Shapes

  private static func reshapeByAttribute(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    guard let shape = try c.integers("shape") else { throw c.fail("attribute 'shape' is missing") }
    return [try reshape(c, try c.operand(0), shape.map { Size($0) })]
  }

  private static func reshape(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    [try reshape(c, try c.operand(0), try c.sizes(1), allowsZero: try c.flag("allowzero"))]
  }

  /// 0 stands for the operand's size, -1 for what is left.
  static func reshape(_ c: NodeContext, _ x: Value, _ wanted: [Size], allowsZero: Bool = false)
    throws(ImportStop) -> Value
  {
    var shape = wanted
    var open: Int?
    for (axis, size) in wanted.enumerated() {
      if size == 0 && !allowsZero {
        guard axis < x.rank else {
          throw c.fail("shape \(wanted) copies axis \(axis) of \(x.type)")
        }
        shape[axis] = x.shape[axis]
      } else if size == -1 {
        guard open == nil else { throw c.fail("shape \(wanted) leaves two sizes open") }
        open = axis
      } else if let number = size.constant, number < 0 {
        throw c.fail("shape \(wanted) has a negative size")
      }
    }
    if let open {
      shape[open] = 1
      let rest = shape.reduce(Size(1)) { $0 * $1 }
      let whole = x.shape.reduce(Size(1)) { $0 * $1 }
      if let count = rest.constant {
        guard count > 0 else {
          throw c.fail("shape \(wanted) leaves a size open that nothing decides")
        }
        if let total = whole.constant, total % count != 0 {
          throw c.fail("\(x.type) does not fit shape \(wanted)")
        }
      }
      shape[open] = quotient(whole, rest, x.shape, shape)
    }
    return c.g.reshape(x, shape)
  }

  /// What is left of a product of sizes: sizes that both have cancel out.
  private static func quotient(_ whole: Size, _ rest: Size, _ a: [Size], _ b: [Size]) -> Size {
    if let divisor = rest.constant { return whole / Size(divisor) }
    var (left, right) = (a.filter { $0 != 1 }, b.filter { $0 != 1 })
    for size in right {
      if let match = left.firstIndex(of: size) {
        left.remove(at: match)
        right.remove(at: right.firstIndex(of: size)!)
      }
    }
    let product = left.reduce(Size(1)) { $0 * $1 }
    return right.isEmpty ? product : product / right.reduce(Size(1)) { $0 * $1 }
  }

  private static func squeeze(_ c: NodeContext, _ axes: [Int]?) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let gone: [Int]
    if let axes {
      gone = try c.axes(axes, rank: x.rank)
      // A named size is 1 when it is bound, or the reshape fails.
      for axis in gone where x.shape[axis] != 1 && x.shape[axis].constant != nil {
        throw c.fail("axis \(axis) of \(x.type) is not of size 1")
      }
    } else {
      guard x.shape.allSatisfy({ $0.constant != nil }) else {
        throw c.fail(
          "which axes are of size 1 depends on named sizes", remedy: "bind them with --dim")
      }
      gone = x.shape.indices.filter { x.shape[$0] == 1 }
    }
    return [c.g.reshape(x, x.shape.indices.filter { !gone.contains($0) }.map { x.shape[$0] })]
  }

  private static func unsqueeze(_ c: NodeContext, _ axes: [Int]) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    return [c.unsqueezed(x, try c.axes(axes, rank: x.rank + axes.count))]
  }

  private static func tile(_ c: NodeContext, _ x: Value, _ repeats: [Size]) throws(ImportStop)
    -> Value
  {
    var spread: [Size] = []
    var target: [Size] = []
    for (size, count) in zip(x.shape, repeats) {
      if let number = count.constant, number < 0 { throw c.fail("repeats \(repeats) are negative") }
      spread += [count, size]
      target.append(size * count)
    }
    let axes = x.shape.indices.map { 2 * $0 + 1 }
    return c.g.reshape(c.g.broadcast(x, to: spread, axes: axes), target)
  }

  // MARK: Parts

  private static func parts(_ c: NodeContext, _ sizes: [Size]) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let axis = try c.axis(try c.integer("axis", 0), rank: x.rank)
    guard sizes.reduce(Size(0), { $0 + $1 }) == x.shape[axis] else {
      throw c.fail("parts of \(sizes) do not make up axis \(axis) of \(x.type)")
    }
    var start = Size(0)
    var result: [Value?] = []
    for size in sizes {
      result.append(c.g.slice(x, axis: axis, from: start, to: start + size))
      start = start + size
    }
    return result
  }

  /// Parts of one size; the last one is smaller where they do not divide.
  private static func evenParts(_ c: NodeContext, _ count: Int) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let axis = try c.axis(try c.integer("axis", 0), rank: x.rank)
    guard count > 0, count <= 1 << 16 else { throw c.fail("it splits into \(count) parts") }
    let whole = x.shape[axis]
    guard let size = whole.constant else {
      return try parts(c, [Size](repeating: whole / Size(count), count: count))
    }
    let each = (size + count - 1) / count
    let sizes = (0..<count).map { Size(min(each, max(size - $0 * each, 0))) }
    return try parts(c, sizes)
  }

  private static func split(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    if let sizes = try c.integers("split") { return try parts(c, sizes.map { Size($0) }) }
    if c.has(1) { return try parts(c, try c.sizes(1)) }
    return try evenParts(c, c.node.outputs.count)
  }

  private static func splitByOperand(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    if c.has(1) { return try parts(c, try c.sizes(1)) }
    return try evenParts(c, try c.integer("num_outputs", c.node.outputs.count))
  }

  private static func slice(
    _ c: NodeContext, _ starts: [Size], _ ends: [Size], _ axes: [Int], _ steps: [Int]
  ) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    guard starts.count == ends.count, axes.count == starts.count, steps.count == starts.count else {
      throw c.fail("starts, ends, axes and steps are of different lengths")
    }
    var low = x.shape.map { _ in Size(0) }
    var high = x.shape
    var strides = x.shape.map { _ in 1 }
    var backward: [Int] = []
    for (position, axis) in try c.axes(axes, rank: x.rank).enumerated() {
      let (size, step) = (x.shape[axis], steps[position])
      guard step != 0 else { throw c.fail("a step is 0") }
      if step > 0 {
        low[axis] = try bounded(c, starts[position], size, 0)
        high[axis] = try bounded(c, ends[position], size, 0)
        strides[axis] = step
      } else {
        // Backwards is forwards over the mirrored axis.
        let first = try bounded(c, starts[position], size, -1)
        let last = try bounded(c, ends[position], size, -1)
        low[axis] = size - 1 - first
        high[axis] = size - 1 - last
        strides[axis] = step == Int.min ? Int.max : -step
        backward.append(axis)
      }
      if let a = low[axis].constant, let b = high[axis].constant {
        if b <= a { (low[axis], high[axis]) = (0, 0) }
        // A stride beyond the axis is one beyond the axis.
        strides[axis] = min(strides[axis], max(b - a, 1))
      }
    }
    let source = backward.isEmpty ? x : c.g.reverse(x, axes: backward)
    return [c.g.slice(source, from: low, to: high, strides: strides)]
  }

  /// A start or end counted from the front and moved into the axis.
  /// - Parameter shift: 0, or -1 where the last element is the furthest that is meant.
  private static func bounded(_ c: NodeContext, _ value: Size, _ size: Size, _ shift: Int)
    throws(ImportStop)
    -> Size
  {
    if let v = value.constant, let n = size.constant {
      let place = v < 0 ? v.addingReportingOverflow(n).partialValue : v
      return Size(min(max(place, shift < 0 && v < 0 ? -1 : 0), n + shift))
    }
    // Where a size is named, bounds are taken to lie inside of the axis; binding the size checks that.
    if let v = value.constant {
      // "To the end" is written as a number that no size reaches.
      if v >= 1 << 29 { return size + Size(shift) }
      if v <= -(1 << 29) { return Size(shift) }
      // Larger than sizes are by default: it may be meant as the end.
      guard v.magnitude <= 4096 else { return Size(try c.number(size)) }
      return v < 0 ? size + value : value
    }
    if value == size { return size + Size(shift) }
    return !value.isNonNegative && (0 - value).isNonNegative ? size + value : value
  }

  // MARK: Blocks

  private static func depthToSpace(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    guard let block = try c.integer("blocksize"), block > 0, x.rank == 4 else {
      throw c.fail("it wants 4 axes and a block size above 0, not \(x.type)")
    }
    let (n, depth, h, w) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    let (b, rest) = (Size(block), depth / Size(block * block))
    let g = c.g
    let moved =
      try c.text("mode", "DCR") == "CRD"
      ? g.transpose(g.reshape(x, [n, rest, b, b, h, w]), [0, 1, 4, 2, 5, 3])
      : g.transpose(g.reshape(x, [n, b, b, rest, h, w]), [0, 3, 4, 1, 5, 2])
    return [g.reshape(moved, [n, rest, h * b, w * b])]
  }

  private static func spaceToDepth(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    guard let block = try c.integer("blocksize"), block > 0, x.rank == 4 else {
      throw c.fail("it wants 4 axes and a block size above 0, not \(x.type)")
    }
    let (n, depth, h, w) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
    let b = Size(block)
    let g = c.g
    let split = g.reshape(x, [n, depth, h / b, b, w / b, b])
    let moved =
      try c.text("mode", "DCR") == "CRD"
      ? g.transpose(split, [0, 1, 3, 5, 2, 4]) : g.transpose(split, [0, 3, 5, 1, 2, 4])
    return [g.reshape(moved, [n, depth * b * b, h / b, w / b])]
  }

  // MARK: Padding

  private static func pad(attribute: String)
    -> @Sendable (NodeContext) throws(ImportStop) -> [Value?]
  {
    { c throws(ImportStop) in
      let x = try c.operand(0)
      guard let pads = try c.integers(attribute) else {
        throw c.fail("attribute '\(attribute)' is missing")
      }
      return [
        try padded(
          c, x, pads, Array(0..<x.rank), try c.text("mode", "constant"),
          c.scalar(try c.real("value", 0), x.dataType))
      ]
    }
  }

  private static func padByOperand(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let axes = try c.integers(orNil: 3).map { list throws(ImportStop) in
      try c.axes(list, rank: x.rank)
    }
    let fill = c.optional(2).map { c.g.reshape($0, []) } ?? c.scalar(0, x.dataType)
    return [
      try padded(
        c, x, try c.integers(1), axes ?? Array(0..<x.rank), try c.text("mode", "constant"), fill)
    ]
  }

  /// - Parameter pads: amounts before each axis, then after each; negative ones cut off.
  static func padded(
    _ c: NodeContext, _ x: Value, _ pads: [Int], _ axes: [Int], _ mode: String, _ fill: Value
  ) throws(ImportStop) -> Value {
    guard pads.count == 2 * axes.count else {
      throw c.fail("\(pads.count) pads for \(axes.count) axes")
    }
    var low = [Int](repeating: 0, count: x.rank)
    var high = low
    for (position, axis) in axes.enumerated() {
      low[axis] = pads[position]
      high[axis] = pads[axes.count + position]
    }
    if mode == "constant" {
      let pad = Pad(
        low: low.map { Size($0) }, high: high.map { Size($0) }, interior: low.map { _ in 0 })
      return c.g.add(.pad(pad), [x, fill])
    }
    guard ["reflect", "edge", "wrap"].contains(mode) else {
      throw c.fail("padding mode '\(mode)' is not known")
    }
    var result = x
    for axis in axes where low[axis] != 0 || high[axis] != 0 {
      guard max(low[axis].magnitude, high[axis].magnitude) <= 1 << 26 else {
        throw c.fail("axis \(axis) is padded by \(low[axis]) and \(high[axis]), which is too much")
      }
      guard let size = x.shape[axis].constant else {
        result = try mirrored(c, result, axis, low[axis], high[axis], mode)
        continue
      }
      guard size > 0 else { throw c.fail("an empty axis cannot be padded by '\(mode)'") }
      let places = (-low[axis]..<max(size + high[axis], -low[axis])).map { place -> Int in
        switch mode {
        case "edge": return min(max(place, 0), size - 1)
        case "wrap": return ((place % size) + size) % size
        default:
          let period = max(2 * (size - 1), 1)
          let folded = ((place % period) + period) % period
          return size == 1 ? 0 : min(folded, period - folded)
        }
      }
      result = try IndexingOperators.picked(c, result, places, axis: axis)
    }
    return result
  }

  /// Padding of an axis of named size by no more elements than it has, which binding the size checks.
  private static func mirrored(
    _ c: NodeContext, _ x: Value, _ axis: Int, _ low: Int, _ high: Int, _ mode: String
  ) throws(ImportStop) -> Value {
    guard low >= 0, high >= 0 else {
      throw c.fail("an axis of size '\(x.shape[axis])' cannot be cut", remedy: "bind it with --dim")
    }
    let (g, size) = (c.g, x.shape[axis])
    func part(_ from: Size, _ count: Int) -> Value {
      g.slice(x, axis: axis, from: from, to: from + Size(count))
    }
    func repeated(_ from: Size, _ count: Int) -> Value {
      var shape = x.shape
      shape[axis] = Size(count)
      return g.broadcast(part(from, 1), to: shape)
    }
    var parts = [x]
    if low > 0 {
      let before: Value =
        switch mode {
        case "edge": repeated(0, low)
        case "wrap": part(size - Size(low), low)
        default: g.reverse(part(1, low), axes: [axis])
        }
      parts.insert(before, at: 0)
    }
    if high > 0 {
      switch mode {
      case "edge": parts.append(repeated(size - 1, high))
      case "wrap": parts.append(part(0, high))
      default: parts.append(g.reverse(part(size - Size(high + 1), high), axes: [axis]))
      }
    }
    return g.concatenate(parts, axis: axis)
  }

  private static func centerCropPad(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    var x = try c.operand(0)
    let shape = try c.integers(1)
    let axes = try c.axes(try c.integers("axes") ?? Array(0..<x.rank), rank: x.rank)
    guard axes.count == shape.count else {
      throw c.fail("\(shape.count) sizes for \(axes.count) axes")
    }
    for (axis, wanted) in zip(axes, shape) {
      let size = try c.number(x.shape[axis])
      if wanted < size {
        let start = (size - wanted) / 2
        x = c.g.slice(x, axis: axis, from: Size(start), to: Size(start + wanted))
      } else if wanted > size {
        let before = (wanted - size) / 2
        x = try padded(
          c, x, [before, wanted - size - before], [axis], "constant", c.scalar(0, x.dataType))
      }
    }
    return [x]
  }

  /// The first `lengths[b]` steps of each sequence in the opposite order.
  private static func reverseSequence(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, lengths) = (try c.operand(0), try c.operand(1))
    let time = try c.axis(try c.integer("time_axis", 0), rank: x.rank)
    let batch = try c.axis(try c.integer("batch_axis", 1), rank: x.rank)
    let g = c.g
    let step = g.iota(.int64, x.shape, axis: time)
    let length = g.broadcast(g.convert(lengths, .int64), to: x.shape, axes: [batch])
    return [g.gatherAlong(time, x, g.select(step < length, length - 1.0 - step, step))]
  }
}
