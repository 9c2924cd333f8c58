import DLCGraph
import DLCTensor

/// Boxes that overlap better ones are dropped, one after the other in the order of their scores.
enum DetectionOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("NonMaxSuppression", since: 10, inputs: 5, suppress)
  ]

  /// Corners and areas of boxes, each [batches, classes, boxes].
  private struct Boxes {
    var corners: [Value]
    var area: Value
  }

  private static func suppress(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (boxes, scores) = (try c.operand(0), try c.operand(1))
    let g = c.g
    guard boxes.rank == 3, scores.rank == 3, boxes.shape[2] == 4, boxes.shape[1] == scores.shape[2]
    else {
      throw c.fail("\(boxes.type) and \(scores.type) are no boxes with scores")
    }
    let shape = scores.shape
    if shape.contains(0) { return [g.constant(0, .int64, [0, 3])] }
    func scalar(_ index: Int, _ otherwise: Double, _ type: DataType) -> Value {
      c.optional(index).map { g.convert(g.reshape($0, []), type) } ?? c.scalar(otherwise, type)
    }
    let most = scalar(2, 0, .int64)
    let overlap = scalar(3, 0, .float32)
    let number = g.iota(.int64, shape, axis: 2)
    let sorted = g.sort([g.convert(scores, .float32), number], axis: 2, descending: true)
    let (order, places) = (sorted[0], sorted[1])
    let isValid =
      c.has(4) ? order > scalar(4, 0, .float32) : g.constant(1, .bool, shape)
    let sortedBoxes = try self.boxes(c, boxes, places)
    let last = g.reduce(.maximum, g.sum(g.convert(isValid, .int64), axes: [2]), axes: [0, 1])
    // Carried: the step, what is kept, what is dropped, and how many are kept.
    let zero = c.scalar(0, .int64)
    let counts = g.constant(0, .int64, Array(shape.dropLast()))
    let start = [zero, g.constant(0, .bool, shape), g.unary(.not, isValid), counts]
    let results = g.whileLoop(start) { g, v in
      v[0] < last
    } body: { g, v in
      let (step, kept, dropped, count) = (v[0], v[1], v[2], v[3])
      func here(_ x: Value) -> Value {
        g.dynamicSlice(x, at: [zero, zero, step], sizes: [shape[0], shape[1], 1])
      }
      let isFree = g.unary(.not, g.reshape(here(dropped), count.shape))
      let isKept = g.binary(.and, isFree, count < most)
      let isHere = number .== step
      func wide(_ x: Value) -> Value { g.broadcast(c.unsqueezed(x, [2]), to: shape) }
      let covers = overlapping(g, sortedBoxes, here, overlap)
      return [
        step + 1.0,
        g.binary(.or, kept, g.binary(.and, isHere, wide(isKept))),
        g.binary(.or, dropped, g.binary(.and, covers, wide(isKept))),
        count + g.convert(isKept, .int64),
      ]
    }
    return [selected(c, results[1], places, shape)]
  }

  private static func boxes(_ c: NodeContext, _ boxes: Value, _ places: Value) throws(ImportStop)
    -> Boxes
  {
    let g = c.g
    let isCentred = try c.flag("center_point_box")
    func column(_ index: Int) -> Value {
      let one = g.slice(g.convert(boxes, .float32), axis: 2, from: Size(index), to: Size(index + 1))
      let flat = g.reshape(one, [boxes.shape[0], 1, boxes.shape[1]])
      return g.gatherAlong(2, g.broadcast(flat, to: places.shape), places)
    }
    let (a, b, p, q) = (column(0), column(1), column(2), column(3))
    // y1, x1, y2, x2, or centre x, centre y, width, height.
    let corners =
      isCentred
      ? [b - q * 0.5, a - p * 0.5, b + q * 0.5, a + p * 0.5]
      : [g.minimum(a, p), g.minimum(b, q), g.maximum(a, p), g.maximum(b, q)]
    let area = (corners[2] - corners[0]) * (corners[3] - corners[1])
    return Boxes(corners: corners, area: area)
  }

  /// Whether boxes cover more than the allowed part of the one at hand and themselves together.
  private static func overlapping(
    _ g: FunctionBuilder, _ boxes: Boxes, _ here: (Value) -> Value, _ limit: Value
  ) -> Value {
    let zero = g.constant(Tensor(splat: 0, .float32, []))
    let mine = boxes.corners.map { g.broadcast(here($0), to: $0.shape) }
    let height = g.maximum(
      g.minimum(boxes.corners[2], mine[2]) - g.maximum(boxes.corners[0], mine[0]), zero)
    let width = g.maximum(
      g.minimum(boxes.corners[3], mine[3]) - g.maximum(boxes.corners[1], mine[1]), zero)
    let common = height * width
    let whole = boxes.area + g.broadcast(here(boxes.area), to: boxes.area.shape) - common
    return common / whole > limit
  }

  /// Rows of batch, class and box for what is kept.
  private static func selected(_ c: NodeContext, _ kept: Value, _ places: Value, _ shape: [Size])
    -> Value
  {
    let g = c.g
    let count = shape.reduce(Size(1)) { $0 * $1 }
    let flat = g.reshape(kept, [count])
    let order = g.sort(
      [
        g.convert(g.unary(.not, flat), .int32), g.reshape(g.iota(.int64, shape, axis: 0), [count]),
        g.reshape(g.iota(.int64, shape, axis: 1), [count]), g.reshape(places, [count]),
      ], axis: 0)
    c.bounds[0] = (0, g.sum(g.convert(flat, .int64), axes: [0]))
    return g.concatenate(order.dropFirst().map { c.unsqueezed($0, [1]) }, axis: 1)
  }
}
