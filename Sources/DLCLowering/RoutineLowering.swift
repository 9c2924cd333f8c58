import DLCGraph
import DLCKernel
import DLCTensor

/// Lowers operations that are algorithms of their own to kernels written out here.
enum RoutineLowering {
  static func lower(
    _ region: Region, _ id: NodeID, _ schedule: RoutineSchedule, _ graph: Graph, _ target: Target
  ) -> LoweredRegion {
    let node = graph[id]
    var writer = RoutineWriter(region, node, schedule, graph, target)
    switch graph.structure(node) {
    case .scatter(let g, let combiner):
      return LoweredRegion(
        calls: [writer.copyOfOperand(), writer.scatter(g, combiner)], temporaries: [])
    case .dynamicUpdate:
      return LoweredRegion(
        calls: [writer.copyOfOperand(), writer.dynamicUpdate()], temporaries: [])
    case .prefix(let g): return LoweredRegion(calls: [writer.prefix(g)], temporaries: [])
    case .routine(.sort(let axis, let keys, let descending)):
      return LoweredRegion(calls: [writer.sort(axis, keys, descending)], temporaries: [])
    case .routine(.cholesky): return LoweredRegion(calls: [writer.cholesky()], temporaries: [])
    case .routine(.triangularSolve(let lower, let transpose, let unit)):
      return LoweredRegion(calls: [writer.solve(lower, transpose, unit)], temporaries: [])
    case .routine(.lu): return LoweredRegion(calls: [writer.lu()], temporaries: [])
    default: preconditionFailure("\(node.operation.mnemonic) is not a routine")
    }
  }
}

extension IndexGeometry {
  /// The longest axis of the updates along which slices are whole: its elements do not meet.
  func splitAxis(_ to: [Int], _ updates: [Int]) -> Int? {
    zip(axes.windowAxes(to.count), axes.offsetAxes)
      .filter { sliceSizes[$0.0] == to[$0.0] }.map(\.1).max { updates[$0] < updates[$1] }
  }
}

/// Writes the kernel of one routine.
struct RoutineWriter {
  let region: Region
  let node: Node
  let schedule: RoutineSchedule
  let graph: Graph
  let target: Target
  private var e: RegionEvaluator
  private var grid: [LoopVariable] = []

  init(
    _ region: Region, _ node: Node, _ schedule: RoutineSchedule, _ graph: Graph, _ target: Target
  ) {
    self.region = region
    self.node = node
    self.schedule = schedule
    self.graph = graph
    self.target = target
    // What the routine reads comes from memory.
    e = RegionEvaluator(graph, Region(region.kind, members: [], outputs: []))
    e.scopes = [RegionEvaluator.Scope(variables: [])]
  }

  // MARK: Small words

  private func sizes(_ operand: Int) -> [Int] { graph.sizes(node.operands[operand]) }
  private func type(_ operand: Int) -> DataType { graph.type(node.operands[operand]).dataType }

  private mutating func destination(_ index: Int) -> Memory {
    e.parameter(.destination(region.outputs[index]), region.outputs[index].value)
  }

  private mutating func define(_ expression: Expression) -> ScalarID {
    e.define(expression, in: e.scopes.count - 1)
  }

  private mutating func apply(
    _ operation: ScalarOperation, _ type: DataType, _ operands: ScalarID...
  )
    -> ScalarID
  { define(.apply(operation, type, operands)) }

  private mutating func number(_ value: Double, _ type: DataType) -> ScalarID {
    define(.constant(type.isFloat ? .float(value) : .integer(Int64(value)), type))
  }

  private mutating func position(_ index: IndexExpression, _ type: DataType = .int64) -> ScalarID {
    define(.index(index, type))
  }

  private mutating func load(_ memory: Memory, _ index: IndexExpression, _ type: DataType)
    -> ScalarID
  {
    define(.load(memory, index, type))
  }

  private mutating func store(
    _ memory: Memory, _ index: IndexExpression, _ value: ScalarID, _ type: DataType
  ) { e.append(.store(memory, index, value, type)) }

  private mutating func bind(_ value: ScalarID, extent: Int) -> IndexExpression {
    if extent <= 1 { return IndexExpression(0) }
    let variable = e.variable(extent)
    e.append(.bind(variable, value))
    e.scopes[e.scopes.count - 1].variables.insert(variable)
    return IndexExpression(variable)
  }

  /// A value that a loop carries, with what it becomes.
  private struct Carried {
    var type: DataType
    var initial: ScalarConstant
    var combiner: Combiner?
  }

  /// A loop; `body` gets its position and the carried values, and gives their next values.
  @discardableResult
  private mutating func loop(
    _ extent: Int, _ carried: [Carried] = [], mode: Loop.Mode = .serial, block: BlockExtent? = nil,
    _ body: (inout RoutineWriter, IndexExpression, [ScalarID]) -> [ScalarID]
  ) -> [ScalarID] {
    loop(e.variable(extent), carried, mode: mode, block: block, body)
  }

  private mutating func loop(
    _ variable: LoopVariable, _ carried: [Carried], mode: Loop.Mode = .serial,
    block: BlockExtent? = nil,
    _ body: (inout RoutineWriter, IndexExpression, [ScalarID]) -> [ScalarID]
  ) -> [ScalarID] {
    let current = carried.map { _ in e.scalar() }
    e.scopes.append(RegionEvaluator.Scope(variables: [variable]))
    let next = body(&self, IndexExpression(variable), current)
    let statements = e.scopes.removeLast().statements
    let results = carried.map { _ in e.scalar() }
    e.append(
      .loop(
        Loop(
          variable, block, mode: mode,
          accumulators: carried.indices.map {
            Accumulator(
              carried[$0].type, initial: carried[$0].initial, current: current[$0],
              next: next[$0], result: results[$0], combiner: carried[$0].combiner)
          }, body: statements)))
    return results
  }

  private mutating func each(
    _ extent: Int, _ mode: Loop.Mode = .serial, block: BlockExtent? = nil,
    _ body: (inout RoutineWriter, IndexExpression) -> Void
  ) {
    loop(extent, mode: mode, block: block) { w, i, _ in
      body(&w, i)
      return []
    }
  }

  private mutating func when(_ condition: ScalarID, _ body: (inout RoutineWriter) -> Void) {
    e.scopes.append(RegionEvaluator.Scope(variables: []))
    body(&self)
    let statements = e.scopes.removeLast().statements
    e.append(.when(condition, statements))
  }

  /// A tile for each value of a variable.
  private mutating func tile(_ extent: Int) -> IndexExpression {
    let variable = e.variable(extent)
    grid.append(variable)
    e.scopes[0].variables.insert(variable)
    return IndexExpression(variable)
  }

  /// A tile for each block of something.
  private mutating func tiles(_ total: Int, size: Int) -> BlockExtent {
    let size = max(1, min(size, total))
    let variable = e.variable((total + size - 1) / size)
    grid.append(variable)
    return BlockExtent(total: total, size: size, index: variable)
  }

  private mutating func finish(_ structure: String, flops: Int) -> KernelCall {
    let isEmpty = region.outputs.allSatisfy { graph.type($0.value).elementCount == 0 }
    let kernel = Kernel(
      name: "", parameters: e.parameters, locals: e.locals, grid: grid,
      body: isEmpty ? [] : e.scopes[0].statements, flops: flops,
      bytesMoved: Lowering.bytes(e.parameters))
    let type = graph.type(region.outputs[0].value).dataType
    return KernelCall(
      kernel: Lowering.named(kernel, structure, type, target), bindings: Lowering.bindings(e),
      inPlace: [])
  }

  // MARK: Updates

  /// The first operand copied to the destination (nothing moves when they share memory).
  func copyOfOperand() -> KernelCall {
    Lowering.copy(
      node.operands[0], schedule.copy!, graph, target, to: .destination(region.outputs[0]))
  }

  mutating func scatter(_ g: IndexGeometry, _ combiner: Combiner?) -> KernelCall {
    let (to, indices, updates) = (sizes(0), sizes(1), sizes(2))
    let element = type(0)
    let out = destination(0)
    let windowAxes = g.axes.windowAxes(to.count)
    // Paired axes, and one axis along which slices are whole, hold independent elements.
    let batch = updates.indices.filter { !g.axes.offsetAxes.contains($0) }
    let order = indices.indices.filter { $0 != g.axes.vectorAxis }
    let paired = zip(batch, order).filter { g.axes.indicesBatchAxes.contains($0.1) }.map(\.0)
    var coordinate = updates.map { _ in IndexExpression(0) }
    for axis in paired { coordinate[axis] = tile(updates[axis]) }
    let split = g.splitAxis(to, updates)
    let block = split.map { axis in
      tiles(updates[axis], size: schedule.block)
    }
    let outer = batch.filter { !paired.contains($0) }
    func window(_ w: inout RoutineWriter, _ rest: ArraySlice<Int>, _ starts: [IndexExpression]) {
      guard let axis = rest.first else {
        let at = g.axes.offsets(coordinate, rank: to.count, indicesRank: indices.count)
        let place = linearize(zip(at, starts).map { $0 + $1 }, to)
        var value = w.e.evaluate(w.node.operands[2], coordinate)
        if let combiner {
          let before = w.load(out, place, element)
          value = w.apply(combiner.operation, element, before, value)
        }
        w.store(out, place, value, element)
        return
      }
      let isVector = rest.count == 1 && axis == updates.count - 1
      w.each(
        updates[axis], isVector ? .vector(unroll: 1) : .serial, block: axis == split ? block : nil
      ) { w, i in
        coordinate[axis] = i
        window(&w, rest.dropFirst(), starts)
      }
    }
    func walk(_ w: inout RoutineWriter, _ rest: ArraySlice<Int>) {
      if let axis = rest.first {
        w.each(updates[axis]) { w, i in
          coordinate[axis] = i
          walk(&w, rest.dropFirst())
        }
        return
      }
      var starts = to.map { _ in IndexExpression(0) }
      var inside: ScalarID?
      for (component, axis) in g.axes.startAxes.enumerated() {
        let raw = w.e.evaluate(
          w.node.operands[1], g.axes.indexPlace(coordinate, component, indices))
        let wide = w.e.signed(raw, w.type(1), in: w.e.scopes.count - 1)
        let room = to[axis] - g.sliceSizes[axis]
        let low = w.apply(.compare(.greater_equal), .int64, wide, w.number(0, .int64))
        let high = w.apply(.compare(.less_equal), .int64, wide, w.number(Double(room), .int64))
        var fits = w.apply(.binary(.and), .bool, low, high)
        if let known = inside { fits = w.apply(.binary(.and), .bool, known, fits) }
        inside = fits
        starts[axis] = w.bind(wide, extent: room + 1)
      }
      if let inside {
        w.when(inside) { window(&$0, g.axes.offsetAxes[...], starts) }
      } else {
        window(&w, g.axes.offsetAxes[...], starts)
      }
    }
    walk(&self, outer[...])
    return finish("scatter", flops: updates.reduce(1, *))
  }

  mutating func dynamicUpdate() -> KernelCall {
    let (to, update) = (sizes(0), sizes(1))
    let element = type(0)
    let out = destination(0)
    let starts = to.indices.map { axis in
      e.bound(node.operands[axis + 2], [], extent: to[axis] - update[axis] + 1)
    }
    var coordinate = update.map { _ in IndexExpression(0) }
    let first = schedule.tileAxes
    for axis in 0..<first { coordinate[axis] = tile(update[axis]) }
    func walk(_ w: inout RoutineWriter, _ axis: Int) {
      if axis == update.count {
        let place = linearize(zip(coordinate, starts).map { $0 + $1 }, to)
        w.store(out, place, w.e.evaluate(w.node.operands[1], coordinate), element)
        return
      }
      let isLast = axis == update.count - 1
      w.each(update[axis], isLast ? .vector(unroll: 1) : .serial) { w, i in
        coordinate[axis] = i
        walk(&w, axis + 1)
      }
    }
    walk(&self, first)
    return finish("update", flops: 0)
  }

  // MARK: Prefixes

  mutating func prefix(_ g: PrefixGeometry) -> KernelCall {
    let sizes = sizes(0)
    let element = type(0)
    let out = destination(0)
    let outer = Array(sizes[..<g.axis])
    let inner = Array(sizes[(g.axis + 1)...])
    let (rows, columns, length) = (outer.reduce(1, *), inner.reduce(1, *), sizes[g.axis])
    let first = Carried(type: element, initial: g.combiner.identity(element), combiner: nil)
    func combined(_ w: inout RoutineWriter, _ base: ScalarID?, _ x: ScalarID) -> ScalarID {
      base.map { w.apply(g.combiner.operation, element, $0, x) } ?? x
    }
    func line(_ w: inout RoutineWriter, _ row: IndexExpression, _ column: IndexExpression) {
      // Elements in groups, groups in groups: what came before a group is added to the running value
      // inside it, so that the rounding error grows with the logarithm of the length.
      let isGrouped = element.isFloat && (g.combiner == .sum || g.combiner == .product)
      let levels = isGrouped ? SumOrder.levels(length, chain: 1) : 0
      func run(_ w: inout RoutineWriter, _ level: Int, _ block: LoopVariable?, _ base: ScalarID?)
        -> ScalarID
      {
        let unit = (0..<level).reduce(1) { size, _ in size * SumOrder.group }
        let count = (length + unit - 1) / unit
        let extent = block.map { BlockExtent(total: count, size: SumOrder.group, index: $0) }
        let number = w.e.variable(count)
        return w.loop(number, [first], block: extent) { w, i, carried in
          if level > 0 {
            let before = combined(&w, base, carried[0])
            let group = run(&w, level - 1, number, before)
            return [combined(&w, carried[0], group)]
          }
          let here = g.reverse ? IndexExpression(length - 1) - i : i
          let place = delinearize(row, outer) + [here] + delinearize(column, inner)
          let x = w.e.evaluate(w.node.operands[0], place)
          let next = combined(&w, carried[0], x)
          let value = combined(&w, base, g.exclusive ? carried[0] : next)
          w.store(out, linearize(place, sizes), value, element)
          return [next]
        }[0]
      }
      _ = run(&w, levels, nil, nil)
    }
    if columns == 1 {
      let block = tiles(rows, size: schedule.block)
      each(rows, block: block) { w, row in line(&w, row, IndexExpression(0)) }
    } else {
      let row = tile(rows)
      let block = tiles(columns, size: schedule.block)
      each(columns, .vector(unroll: 1), block: block) { w, column in line(&w, row, column) }
    }
    return finish("prefix", flops: sizes.reduce(1, *))
  }

  // MARK: Sorting

  /// Whether key a comes before key b: numbers by size, NaN last, the reverse when descending.
  private mutating func precedes(
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
    let rows = others.reduce(1, *)
    let row = delinearize(tile(rows), others)
    func place(_ i: IndexExpression) -> [IndexExpression] {
      var full = row
      full.insert(i, at: axis)
      return full
    }
    var from = e.local(.int32, count)
    var to = e.local(.int32, count)
    let first = from
    each(count, .vector(unroll: 1)) { w, i in
      let number = w.position(i, .int32)
      w.store(first, i, number, .int32)
    }
    let types = (0..<keys).map { type($0) }
    var width = 1
    while width < count {
      let (source, target) = (from, to)
      /// Merges the runs of `left` and `right` elements that start at `base`.
      func merge(_ w: inout RoutineWriter, _ base: IndexExpression, _ left: Int, _ right: Int) {
        let zero = Carried(type: .int64, initial: .integer(0), combiner: nil)
        w.loop(left + right, [zero, zero]) { w, t, taken in
          let start = w.position(base)
          let middle = w.position(base + left)
          let leftOpen = w.apply(
            .compare(.less), .int64, taken[0], w.number(Double(left), .int64))
          let rightOpen = w.apply(
            .compare(.less), .int64, taken[1], w.number(Double(right), .int64))
          let i = w.bind(w.apply(.binary(.add), .int64, start, taken[0]), extent: count)
          let j = w.bind(w.apply(.binary(.add), .int64, middle, taken[1]), extent: count)
          let (a, b) = (w.load(source, i, .int32), w.load(source, j, .int32))
          let pa = w.bind(w.apply(.convert(.int64), .int32, a), extent: count)
          let pb = w.bind(w.apply(.convert(.int64), .int32, b), extent: count)
          let leftKeys = (0..<keys).map { w.e.evaluate(w.node.operands[$0], place(pa)) }
          let rightKeys = (0..<keys).map { w.e.evaluate(w.node.operands[$0], place(pb)) }
          let before = w.precedes(rightKeys, leftKeys, types, descending: descending)
          let leftDone = w.apply(.unary(.not), .bool, leftOpen)
          let wins = w.apply(.binary(.or), .bool, leftDone, before)
          let takesRight = w.apply(.binary(.and), .bool, rightOpen, wins)
          w.store(target, base + t, w.apply(.select, .int32, takesRight, b, a), .int32)
          let right = w.apply(.convert(.int64), .bool, takesRight)
          let left = w.apply(.binary(.subtract), .int64, w.number(1, .int64), right)
          return [
            w.apply(.binary(.add), .int64, taken[0], left),
            w.apply(.binary(.add), .int64, taken[1], right),
          ]
        }
      }
      let pair = 2 * width
      let run = width
      if count / pair > 0 {
        each(count / pair) { w, b in merge(&w, b * pair, run, run) }
      }
      let rest = count % pair
      if rest > 0 {
        merge(&self, IndexExpression(count - rest), min(run, rest), max(0, rest - run))
      }
      swap(&from, &to)
      width *= 2
    }
    let order = from
    each(count) { w, i in
      let source = w.bind(
        w.apply(.convert(.int64), .int32, w.load(order, i, .int32)), extent: count)
      for (index, out) in outs.enumerated() {
        let value = w.e.evaluate(w.node.operands[index], place(source))
        w.store(out, linearize(place(i), sizes), value, w.type(index))
      }
    }
    return finish("sort", flops: 0)
  }

  // MARK: Matrices

  private mutating func matrices() -> (n: Int, batch: [IndexExpression]) {
    let sizes = sizes(0)
    let outer = Array(sizes.dropLast(2))
    return (sizes.last!, delinearize(tile(outer.reduce(1, *)), outer))
  }

  /// Column by column; U = L^T is kept so that the inner loops run along memory.
  mutating func cholesky() -> KernelCall {
    let sizes = sizes(0)
    let element = type(0)
    let out = destination(0)
    let (n, batch) = matrices()
    let (upper, column) = (e.local(element, n * n), e.local(element, n))
    let zero = Carried(type: element, initial: .float(0), combiner: .sum)
    each(n * n, .vector(unroll: 1)) { w, i in w.store(upper, i, w.number(0, element), element) }
    each(n) { w, j in
      w.each(n, .vector(unroll: 1)) { w, i in
        let sum = w.loop(n, [zero]) { w, k, sums in
          // Rows of U that are not known yet are zero.
          let a = w.load(upper, k * n + j, element)
          let b = w.load(upper, k * n + i, element)
          return [
            w.apply(.binary(.add), element, sums[0], w.apply(.binary(.multiply), element, a, b))
          ]
        }
        let x = w.e.evaluate(w.node.operands[0], batch + [i, j])
        let y = w.e.evaluate(w.node.operands[0], batch + [j, i])
        let half = w.apply(
          .binary(.multiply), element, w.apply(.binary(.add), element, x, y),
          w.number(0.5, element))
        w.store(column, i, w.apply(.binary(.subtract), element, half, sum[0]), element)
      }
      let pivot = w.apply(.unary(.sqrt), element, w.load(column, j, element))
      w.each(n, .vector(unroll: 1)) { w, i in
        let value = w.apply(.binary(.divide), element, w.load(column, i, element), pivot)
        let (row, diagonal) = (w.position(i), w.position(j))
        let below = w.apply(.compare(.greater), .int64, row, diagonal)
        let equal = w.apply(.compare(.equal), .int64, row, diagonal)
        let lower = w.apply(.select, element, below, value, w.number(0, element))
        w.store(upper, j * n + i, w.apply(.select, element, equal, pivot, lower), element)
      }
    }
    each(n) { w, i in
      w.each(n, .vector(unroll: 1)) { w, j in
        let value = w.load(upper, j * n + i, element)
        w.store(out, linearize(batch + [i, j], sizes), value, element)
      }
    }
    return finish("cholesky", flops: sizes.reduce(1, *) * n)
  }

  /// Row by row of X, blocks of columns as tiles.
  mutating func solve(_ lower: Bool, _ transpose: Bool, _ unit: Bool) -> KernelCall {
    let shape = sizes(1)
    let element = type(0)
    let out = destination(0)
    let (n, batch) = matrices()
    let columns = shape.last!
    let block = tiles(columns, size: schedule.block)
    let forward = lower != transpose
    let zero = Carried(type: element, initial: .float(0), combiner: .sum)
    each(n) { w, step in
      let i = forward ? step : IndexExpression(n - 1) - step
      w.each(columns, .vector(unroll: 1), block: block) { w, c in
        let sum = w.loop(n, [zero]) { w, j, sums in
          let a = w.e.evaluate(w.node.operands[0], batch + (transpose ? [j, i] : [i, j]))
          let x = w.load(out, linearize(batch + [j, c], shape), element)
          let (row, other) = (w.position(i), w.position(j))
          let known = w.apply(.compare(forward ? .less : .greater), .int64, other, row)
          let product = w.apply(.binary(.multiply), element, a, x)
          let term = w.apply(.select, element, known, product, w.number(0, element))
          return [w.apply(.binary(.add), element, sums[0], term)]
        }
        let b = w.e.evaluate(w.node.operands[1], batch + [i, c])
        var value = w.apply(.binary(.subtract), element, b, sum[0])
        if !unit {
          let diagonal = w.e.evaluate(w.node.operands[0], batch + [i, i])
          value = w.apply(.binary(.divide), element, value, diagonal)
        }
        w.store(out, linearize(batch + [i, c], shape), value, element)
      }
    }
    return finish("solve", flops: shape.reduce(1, *) * n)
  }

  /// Right-looking elimination with row exchanges, in the place of the result.
  mutating func lu() -> KernelCall {
    let sizes = sizes(0)
    let element = type(0)
    let (out, pivots, permutation) = (destination(0), destination(1), destination(2))
    let (n, batch) = matrices()
    let rows = Array(sizes.dropLast())
    func at(_ i: IndexExpression, _ j: IndexExpression) -> IndexExpression {
      linearize(batch + [i, j], sizes)
    }
    each(n) { w, i in
      w.store(permutation, linearize(batch + [i], rows), w.position(i, .int32), .int32)
      w.each(n, .vector(unroll: 1)) { w, j in
        w.store(out, at(i, j), w.e.evaluate(w.node.operands[0], batch + [i, j]), element)
      }
    }
    each(n) { w, j in
      let best = w.loop(
        n,
        [
          Carried(type: element, initial: .float(-1), combiner: nil),
          Carried(type: .int64, initial: .integer(0), combiner: nil),
        ]
      ) { w, i, best in
        let size = w.apply(.unary(.abs), element, w.load(out, at(i, j), element))
        let (row, start) = (w.position(i), w.position(j))
        let isFirst = w.apply(.compare(.equal), .int64, row, start)
        let isLater = w.apply(.compare(.greater), .int64, row, start)
        let larger = w.apply(.compare(.greater), element, size, best[0])
        let better = w.apply(.binary(.and), .bool, isLater, larger)
        let takes = w.apply(.binary(.or), .bool, isFirst, better)
        return [
          w.apply(.select, element, takes, size, best[0]),
          w.apply(.select, .int64, takes, row, best[1]),
        ]
      }
      let p = w.bind(best[1], extent: n)
      w.store(pivots, linearize(batch + [j], rows), w.position(p, .int32), .int32)
      let (here, there) = (linearize(batch + [j], rows), linearize(batch + [p], rows))
      let (a, b) = (w.load(permutation, here, .int32), w.load(permutation, there, .int32))
      w.store(permutation, here, b, .int32)
      w.store(permutation, there, a, .int32)
      w.each(n, .vector(unroll: 1)) { w, c in
        let (x, y) = (w.load(out, at(j, c), element), w.load(out, at(p, c), element))
        w.store(out, at(j, c), y, element)
        w.store(out, at(p, c), x, element)
      }
      let diagonal = w.load(out, at(j, j), element)
      w.each(n) { w, i in
        let below = w.apply(.compare(.greater), .int64, w.position(i), w.position(j))
        let before = w.load(out, at(i, j), element)
        let factor = w.apply(.binary(.divide), element, before, diagonal)
        w.each(n, .vector(unroll: 1)) { w, c in
          let right = w.apply(.compare(.greater), .int64, w.position(c), w.position(j))
          let applies = w.apply(.binary(.and), .bool, below, right)
          let product = w.apply(
            .binary(.multiply), element, factor, w.load(out, at(j, c), element))
          let term = w.apply(.select, element, applies, product, w.number(0, element))
          let value = w.apply(.binary(.subtract), element, w.load(out, at(i, c), element), term)
          w.store(out, at(i, c), value, element)
        }
        w.store(out, at(i, j), w.apply(.select, element, below, factor, before), element)
      }
    }
    return finish("lu", flops: sizes.reduce(1, *) * n)
  }
}
