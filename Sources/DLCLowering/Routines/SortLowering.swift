import DLCGraph
import DLCKernel
import DLCTensor

/// Arrays in the order of keys.
extension RoutineWriter {
  /// Whether key a comes before key b: numbers by size, NaN last, the reverse when descending.
  fileprivate mutating func precedes(
    _ a: [ScalarID], _ b: [ScalarID], _ types: [DataType], descending: Bool
  ) -> ScalarID {
    func less(_ w: inout RoutineWriter, _ x: ScalarID, _ y: ScalarID, _ type: DataType) -> ScalarID
    {
      let below = w.apply(.compare(.less), type, x, y)
      guard type.isFloat else { return below }
      let xIsNumber = w.apply(.compare(.equal), type, x, x)
      let yIsNaN = w.apply(.compare(.not_equal), type, y, y)
      let last = w.apply(.binary(.and), .bool, xIsNumber, yIsNaN)
      return w.apply(.binary(.or), .bool, below, last)
    }
    var result: ScalarID?
    var tied: ScalarID?
    for (index, type) in types.enumerated() {
      let (x, y) = descending ? (b[index], a[index]) : (a[index], b[index])
      let before = less(&self, x, y, type)
      let decides = tied.map { apply(.binary(.and), .bool, $0, before) } ?? before
      result = result.map { apply(.binary(.or), .bool, $0, decides) } ?? decides
      if index + 1 < types.count {
        let either = apply(.binary(.or), .bool, before, less(&self, y, x, type))
        let same = apply(.unary(.not), .bool, either)
        tied = tied.map { apply(.binary(.and), .bool, $0, same) } ?? same
      }
    }
    return result!
  }

  /// A bottom-up merge sort of positions, row by row.
  mutating func sort(_ axis: Int, _ keys: Int, _ descending: Bool) -> KernelCall {
    let sizes = sizes(0)
    let count = sizes[axis]
    let outs = node.operands.indices.map { destination($0) }
    var others = sizes
    others.remove(at: axis)
    let row = delinearize(tile(others.reduce(1, *)), others)
    func place(_ i: IndexExpression) -> [IndexExpression] {
      var full = row
      full.insert(i, at: axis)
      return full
    }
    var from = local(.int32, count)
    var to = local(.int32, count)
    each(count, .vector(unroll: 1)) { [from] w, i in
      w.store(from, i, w.position(i, .int32), .int32)
    }
    var width = 1
    while width < count {
      let runs = Runs(count: count, keys: keys, descending: descending, from: from, to: to)
      let (pair, run) = (2 * width, width)
      if count / pair > 0 {
        each(count / pair) { w, b in w.merge(runs, at: b * pair, run, run, place) }
      }
      let rest = count % pair
      if rest > 0 {
        merge(runs, at: IndexExpression(count - rest), min(run, rest), max(0, rest - run), place)
      }
      swap(&from, &to)
      width *= 2
    }
    each(count) { [from] w, i in
      let source = w.bind(
        w.apply(.convert(.int64), .int32, w.load(from, i, .int32)), extent: count)
      for (index, out) in outs.enumerated() {
        let value = w.e.evaluate(w.node.operands[index], place(source))
        w.store(out, linearize(place(i), sizes), value, w.type(index))
      }
    }
    return finish("sort", flops: 0)
  }

  /// Sorted runs of positions, which are merged from one memory to the other.
  private struct Runs {
    var count: Int
    /// How many operands decide.
    var keys: Int
    var descending: Bool
    var from: Memory
    var to: Memory
  }

  /// Merges the runs of `left` and `right` elements that start at `base`.
  private mutating func merge(
    _ runs: Runs, at base: IndexExpression, _ left: Int, _ right: Int,
    _ place: (IndexExpression) -> [IndexExpression]
  ) {
    let types = (0..<runs.keys).map { type($0) }
    let zero = Carried(.int64, initial: .integer(0))
    loop(left + right, [zero, zero]) { w, t, taken in
      let start = w.position(base)
      let middle = w.position(base + left)
      let leftOpen = w.apply(.compare(.less), .int64, taken[0], w.number(Double(left), .int64))
      let rightOpen = w.apply(.compare(.less), .int64, taken[1], w.number(Double(right), .int64))
      let i = w.bind(w.apply(.binary(.add), .int64, start, taken[0]), extent: runs.count)
      let j = w.bind(w.apply(.binary(.add), .int64, middle, taken[1]), extent: runs.count)
      let (a, b) = (w.load(runs.from, i, .int32), w.load(runs.from, j, .int32))
      let pa = w.bind(w.apply(.convert(.int64), .int32, a), extent: runs.count)
      let pb = w.bind(w.apply(.convert(.int64), .int32, b), extent: runs.count)
      let leftKeys = (0..<runs.keys).map { w.e.evaluate(w.node.operands[$0], place(pa)) }
      let rightKeys = (0..<runs.keys).map { w.e.evaluate(w.node.operands[$0], place(pb)) }
      let before = w.precedes(rightKeys, leftKeys, types, descending: runs.descending)
      let leftDone = w.apply(.unary(.not), .bool, leftOpen)
      let wins = w.apply(.binary(.or), .bool, leftDone, before)
      let takesRight = w.apply(.binary(.and), .bool, rightOpen, wins)
      w.store(runs.to, base + t, w.apply(.select, .int32, takesRight, b, a), .int32)
      let right = w.apply(.convert(.int64), .bool, takesRight)
      let left = w.apply(.binary(.subtract), .int64, w.number(1, .int64), right)
      return [
        w.apply(.binary(.add), .int64, taken[0], left),
        w.apply(.binary(.add), .int64, taken[1], right),
      ]
    }
  }
}
