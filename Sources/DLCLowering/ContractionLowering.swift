package import DLCGraph
package import DLCKernel
import DLCTensor

/// How a product runs on microkernels: the loops over batch, rows and columns of its result, and the
/// strides of the left operand, which is read where it lies.
package struct ContractionPlan {
  package var batch: [Int]
  package var rows: [Int]
  package var columns: [Int]
  package var depth: [Int]
  package var left: ValueID
  package var right: ValueID
  package var types: ContractTypes
  /// How many pieces of columns an element of the epilogue takes.
  package var gates = 1
  private var geometry: ContractionGeometry

  /// nil when the product is too small or too thin for tiles, or its type has no microkernels.
  package init?(_ graph: Graph, _ node: Node, _ target: Target, gates: Int = 1) {
    guard case .contraction(let g) = graph.structure(node) else { return nil }
    types = ContractTypes(
      graph.type(node.operands[0]).dataType, graph.type(node.operands[1]).dataType,
      into: graph.type(node.results[0]).dataType)
    guard [DataType.float32, .float64, .int32].contains(types.c) else { return nil }
    let (a, b) = (graph.sizes(node.operands[0]), graph.sizes(node.operands[1]))
    batch = g.lhsBatch.map { a[$0] }
    rows = g.lhsFree(a.count).map { a[$0] }
    columns = g.rhsFree(b.count).map { b[$0] }
    depth = g.lhsContracting.map { a[$0] }
    (left, right) = (node.operands[0], node.operands[1])
    geometry = g
    let (m, n, k) = (rows.reduce(1, *), columns.reduce(1, *), depth.reduce(1, *))
    guard n >= 2, k >= 1, m * n * k >= 512, batch.allSatisfy({ $0 > 0 }),
      m >= 2 || isWorthPanels(graph)
    else { return nil }
    // Operands must be memory of the kernel, not numbers that are computed on the way.
    for operand in [left, right] {
      guard let base = graph.definition(graph.base(operand)) else { continue }
      switch graph.structure(base) {
      case .iota: return nil
      case .constant(let tensor): if tensor.count == 1 { return nil }
      default: break
      }
    }
    self.gates = gates
  }
}

extension ContractionPlan {
  /// Whether a single row goes faster over panels: where they are packed once, and columns lie apart in memory, so that
  /// reading them there would be transposing them, or rows are so many that each lies in a page of its own.
  private func isWorthPanels(_ graph: Graph) -> Bool {
    guard rowCount == 1, batch.isEmpty, columnCount >= 64, depthCount >= 16 else { return false }
    var properties = ValueProperties(of: graph)
    let problem = problem(graph, &properties, epilogue: 0)
    return problem.isSteady
  }

  /// What its schedule depends on.
  /// - Parameter epilogue: vector instructions that follow for an element.
  func problem(_ graph: Graph, _ properties: inout ValueProperties, epilogue: Int)
    -> ContractionProblem
  {
    var e = RegionEvaluator(graph)
    let batch = self.batch.map { e.variable($0) }
    let (row, column) = (e.variable(rowCount), e.variable(columnCount))
    let step = e.variable(depthCount)
    let left = position(graph, batch, row, step)
    return ContractionProblem(
      types: types, batch: batchCount, rows: rowCount, columns: columnCount, gates: gates,
      depth: depthCount, isSteady: properties.isSteady(right, in: graph),
      isStrided: left.index.stride(of: row) != nil && left.index.stride(of: step) != nil,
      isRowMajor: e.isContiguous(
        right,
        rightCoordinate(batch, column: IndexExpression(column), depth: IndexExpression(step)),
        along: column), epilogue: epilogue)
  }

  /// Whether the left operand is a value whose last two axes are its rows and its depth, and the others its batches.
  func takesRows(_ value: ValueID, _ graph: Graph) -> Bool {
    guard rows.count == 1, depth.count == 1 else { return false }
    var e = RegionEvaluator(graph)
    let batch = self.batch.map { e.variable($0) }
    let (row, step) = (
      IndexExpression(e.variable(rowCount)), IndexExpression(e.variable(depthCount))
    )
    let (base, at) = graph.resolve(left, leftCoordinate(batch, row: row, depth: step))
    let sizes = graph.sizes(value)
    return base == value && sizes.suffix(2) == [rowCount, depthCount]
      && at == delinearize(flat(batch), Array(sizes.dropLast(2))) + [row, step]
  }

  /// Whether the result has axes of batches, one of rows and one of columns, and the left operand lies at regular distances.
  func gives(_ sizes: [Int], _ graph: Graph) -> Bool {
    guard rows.count == 1, columns.count == 1, batch + rows + columns == sizes else {
      return false
    }
    var e = RegionEvaluator(graph)
    let (row, step) = (e.variable(rowCount), e.variable(depthCount))
    let left = position(graph, batch.map { e.variable($0) }, row, step)
    return left.index.stride(of: row) != nil && left.index.stride(of: step) != nil
  }

  var batchCount: Int { batch.reduce(1, *) }
  var rowCount: Int { rows.reduce(1, *) }
  /// Of a gate.
  var columnCount: Int { columns.reduce(1, *) / gates }
  var depthCount: Int { depth.reduce(1, *) }

  /// Where the left operand's element lies: in which value, and at which place of its memory.
  func position(
    _ graph: Graph, _ batch: [LoopVariable], _ row: LoopVariable, _ step: LoopVariable
  ) -> (value: ValueID, index: IndexExpression) {
    let (value, element) = graph.resolve(
      left, leftCoordinate(batch, row: IndexExpression(row), depth: IndexExpression(step)))
    return (value, linearize(element, graph.sizes(value)))
  }

  /// The coordinate of the left operand for a batch, a row and a position in the depth.
  func leftCoordinate(
    _ batch: [LoopVariable], row: IndexExpression, depth: IndexExpression
  ) -> [IndexExpression] {
    let rank = batch.count + rows.count + self.depth.count
    return coordinate(
      [geometry.lhsBatch, geometry.lhsFree(rank), geometry.lhsContracting],
      [
        batch.map { IndexExpression($0) }, delinearize(row, rows), delinearize(depth, self.depth),
      ])
  }

  /// The coordinate of the right operand for a batch, a column of all gates and a position in the depth.
  func rightCoordinate(
    _ batch: [LoopVariable], column: IndexExpression, depth: IndexExpression
  ) -> [IndexExpression] {
    let rank = batch.count + columns.count + self.depth.count
    return coordinate(
      [geometry.rhsBatch, geometry.rhsFree(rank), geometry.rhsContracting],
      [
        batch.map { IndexExpression($0) }, delinearize(column, columns),
        delinearize(depth, self.depth),
      ])
  }

  private func coordinate(_ axes: [[Int]], _ positions: [[IndexExpression]]) -> [IndexExpression] {
    var result = axes.joined().map { _ in IndexExpression(0) }
    for (axis, position) in zip(axes.joined(), positions.joined()) { result[axis] = position }
    return result
  }

  /// The number of a batch.
  func flat(_ batch: [LoopVariable]) -> IndexExpression {
    linearize(batch.map { IndexExpression($0) }, self.batch)
  }
}

extension ContractionPlan {
  /// Where the right operand lies, for panels that are read there: where columns are neighbours, at regular distances
  /// between steps of the depth, and a whole number of panels. The index is that of the first column and step.
  func panelsInPlace(_ graph: Graph, _ batch: [LoopVariable], _ width: Int) -> (
    value: ValueID, start: IndexExpression, depthStride: Int
  )? {
    guard gates == 1, columnCount % width == 0 else { return nil }
    let (column, step) = (
      LoopVariable(id: -1, extent: columnCount), LoopVariable(id: -2, extent: depthCount)
    )
    let (value, element) = graph.resolve(
      right, rightCoordinate(batch, column: IndexExpression(column), depth: IndexExpression(step)))
    let index = linearize(element, graph.sizes(value))
    guard index.stride(of: column) == 1, let stride = index.stride(of: step) else { return nil }
    let start = index.substitute {
      $0 == column || $0 == step ? IndexExpression(0) : IndexExpression($0)
    }
    return (value, start, stride)
  }

  /// Of a gate.
  func panels(_ width: Int) -> Int { (columnCount + width - 1) / width }
  func packedCount(_ width: Int) -> Int {
    batchCount * gates * panels(width) * depthCount * width
  }

  /// The right operand in panels [batch, gate, panel, depth, width]; what lies beyond the last column is
  /// never written and never used.
  /// - Parameters:
  ///   - slot: The memory between kernels that takes them.
  ///   - panels: How many, and how many steps of the depth, a tile fills.
  func pack(
    into slot: Int, _ width: Int, panels block: Int, depth steps: Int, _ graph: Graph,
    _ target: Target
  ) -> KernelCall {
    let (n, k, panels) = (columnCount, depthCount, panels(width))
    var e = RegionEvaluator(graph)
    let batch = self.batch.map { e.variable($0) }
    let (panel, column, depth) = (e.variable(panels), e.variable(n), e.variable(k))
    let gate = e.variable(gates)
    for variable in batch + [gate] { e.draft.addTiles(variable) }
    let panelBlocks = e.tiles(panels, size: block)
    let depthBlocks = e.tiles(k, size: steps)
    let c = rightCoordinate(
      batch, column: IndexExpression(gate) * n + IndexExpression(column),
      depth: IndexExpression(depth))
    let first = (flat(batch) * gates + IndexExpression(gate)) * panels
    let position =
      ((first + IndexExpression(panel)) * k + IndexExpression(depth)) * width
      + (IndexExpression(column) - IndexExpression(panel) * width)
    // Neighbouring columns in memory: whole rows of several panels are read at a time. Otherwise each
    // panel follows its columns down, which then are the streams.
    let isRowMajor = e.isContiguous(right, c, along: column)
    let outer = [LoopShape(panel, panelBlocks), LoopShape(depth, depthBlocks)]
    let columns = LoopShape(
      column, BlockExtent(total: n, size: width, index: panel),
      mode: .vector(unroll: width / target.lanes))
    e.nest((isRowMajor ? outer.reversed() : outer) + [columns]) { e in
      let id = e.evaluate(right, c)
      let memory = e.parameter(
        .temporary(slot), types.b, count: packedCount(width), isOutput: true)
      e.store(memory, position, id, types.b)
    }
    return e.call("pack", types.b, target, flops: 0)
  }
}

/// Writes the kernels of one product.
struct ContractionLowering: KernelWriter {
  private let region: Region
  private let root: ValueID
  private let plan: ContractionPlan
  private let schedule: ContractionSchedule
  private let graph: Graph
  private let target: Target
  private let types: ContractTypes
  private let width: Int
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }
  private var calls: [KernelCall] = []
  private var temporaries: [Local] = []
  // The grid: batch, blocks of rows, blocks of columns.
  private let batch: [LoopVariable]
  private let rowBlocks: LoopVariable
  private let columnBlocks: LoopVariable
  private let row: LoopVariable
  private let column: LoopVariable
  private let step: LoopVariable

  static func lower(
    _ region: Region, _ id: NodeID, _ schedule: ContractionSchedule, _ graph: Graph,
    _ target: Target
  ) -> LoweredRegion {
    guard let plan = ContractionPlan(graph, graph[id], target, gates: region.gates) else {
      preconditionFailure("the region has no product")
    }
    var lowering = ContractionLowering(region, id, plan, schedule, graph, target)
    return lowering.run()
  }

  private init(
    _ region: Region, _ id: NodeID, _ plan: ContractionPlan, _ schedule: ContractionSchedule,
    _ graph: Graph, _ target: Target
  ) {
    self.region = region
    root = graph[id].results[0]
    self.plan = plan
    self.schedule = schedule
    self.graph = graph
    self.target = target
    types = plan.types
    width = schedule.tile.vectors * target.vectorBytes / types.c.byteCount
    var e = RegionEvaluator(graph, region)
    batch = plan.batch.map { e.variable($0) }
    row = e.variable(plan.rowCount)
    column = e.variable(plan.columnCount)
    step = e.variable(plan.depthCount)
    rowBlocks = e.variable((plan.rowCount + schedule.rowBlock - 1) / schedule.rowBlock)
    columnBlocks = e.variable((plan.columnCount + schedule.columnBlock - 1) / schedule.columnBlock)
    for variable in batch + [rowBlocks, columnBlocks] { e.draft.addTiles(variable) }
    self.e = e
  }

  private var panels: Int { plan.panels(width) }
  private var isDirect: Bool { region.members.count == 1 && region.outputs.count == 1 }

  private mutating func run() -> LoweredRegion {
    // The right operand goes into panels, whatever views it is seen through.
    let packs = schedule.packing == .step
    if packs {
      temporaries.append(Local(types.b, plan.packedCount(width)))
      calls.append(
        plan.pack(
          into: 0, width, panels: schedule.packPanels, depth: schedule.packDepth, graph, target))
    }
    let left = leftOperand()
    let rowExtent = BlockExtent(
      total: plan.rowCount, size: schedule.rowBlock, index: rowBlocks)
    let columnExtent = BlockExtent(
      total: plan.columnCount, size: schedule.columnBlock, index: columnBlocks)
    let result = result()
    let partDepth = packs ? plan.depthCount : SumOrder.productPart(plan.depthCount)
    let packed =
      packs
      ? e.parameter(.temporary(0), types.b, count: temporaries[0].count)
      : e.local(types.b, schedule.columnBlock * partDepth)
    let parts = stride(from: 0, to: plan.depthCount, by: partDepth)
    for (gate, first) in (0..<plan.gates).flatMap({ gate in parts.map { (gate, $0) } }) {
      let depth = min(partDepth, plan.depthCount - first)
      if !packs { packTile(packed, gate, first: first, depth: depth) }
      let start = left.position.substitute { v in
        v == row
          ? IndexExpression(rowBlocks) * schedule.rowBlock
          : v == step ? IndexExpression(first) : IndexExpression(v)
      }
      var product = ContractStatement(
        types: types, a: left.memory, aBase: start, aRowStride: left.rowStride,
        aDepthStride: left.depthStride, b: packed,
        bBase: packs
          ? ((plan.flat(batch) * plan.gates + gate) * panels + IndexExpression(columnBlocks)
            * (schedule.columnBlock / width)) * (plan.depthCount * width) : IndexExpression(0),
        bPanelStride: depth * width, bDepthStride: width, panelWidth: width, c: result.memory,
        cBase: result.base + gate * schedule.columnBlock, cRowStride: result.stride,
        cIsPadded: !isDirect, rows: rowExtent,
        columns: columnExtent, depth: depth, tileRows: schedule.tile.rows,
        depthBlock: packs ? SumOrder.productPart(plan.depthCount) : max(depth, 1),
        accumulates: first > 0)
      e.makeRoom(for: &product)
      draft.append(.contract(product))
    }
    if !isDirect { epilogue(rowExtent, columnExtent, result.memory, result.stride) }
    calls.append(
      e.call(
        isDirect ? "product" : "product_epilogue", types.c, target,
        flops: 2 * plan.batchCount * plan.rowCount * plan.gates * plan.columnCount
          * plan.depthCount,
        inPlace: isDirect || region.frame != nil ? [] : Lowering.sharable(region, graph, e)))
    var lowered = LoweredRegion(calls: calls, temporaries: temporaries)
    lowered.fillFrame(of: region, "product_frame", graph, target)
    return lowered
  }

  /// Where the product goes: to its own place, or into scratch memory that the epilogue reads.
  private mutating func result() -> (memory: Memory, base: IndexExpression, stride: Int) {
    guard isDirect else {
      return (
        e.local(types.c, schedule.rowBlock * plan.gates * schedule.columnBlock),
        IndexExpression(0), plan.gates * schedule.columnBlock
      )
    }
    let n = plan.columnCount
    let first = plan.flat(batch) * plan.rowCount + IndexExpression(rowBlocks) * schedule.rowBlock
    return (
      e.parameter(.destination(region.outputs[0]), root),
      first * n + IndexExpression(columnBlocks) * schedule.columnBlock, n
    )
  }

  private mutating func epilogue(
    _ rows: BlockExtent, _ columns: BlockExtent, _ memory: Memory, _ stride: Int
  ) {
    let coordinate =
      batch.map { IndexExpression($0) } + delinearize(IndexExpression(row), plan.rows)
      + (plan.gates == 1
        ? delinearize(IndexExpression(column), plan.columns) : [IndexExpression(column)])
    let position =
      (IndexExpression(row) - IndexExpression(rowBlocks) * schedule.rowBlock) * stride
      + (IndexExpression(column) - IndexExpression(columnBlocks) * schedule.columnBlock)
    let gates = (0..<plan.gates).map { gate in
      var at = coordinate
      at[at.count - 1] = at[at.count - 1] + gate * plan.columnCount
      return (coordinate: at, position: position + gate * schedule.columnBlock)
    }
    e.epilogue(
      root, in: memory,
      at: { at in gates.count == 1 ? position : gates.first { $0.coordinate == at }!.position },
      coordinate, rows: (row, rows), columns: (column, columns), unroll: schedule.epilogueUnroll)
  }

  /// The left operand where it lies, or a copy whose rows and depth are at regular distances.
  private mutating func leftOperand() -> (
    memory: Memory, position: IndexExpression, rowStride: Int, depthStride: Int
  ) {
    var (value, position) = plan.position(graph, batch, row, step)
    var source = KernelCall.Binding.value(value)
    var count = graph.type(value).elementCount
    if schedule.copiesLeft {
      calls.append(copyLeft(slot: temporaries.count))
      count = plan.batchCount * plan.rowCount * plan.depthCount
      temporaries.append(Local(types.a, count))
      position =
        (plan.flat(batch) * plan.rowCount + IndexExpression(row)) * plan.depthCount
        + IndexExpression(step)
      source = .temporary(temporaries.count - 1)
      value = plan.left
    }
    return (
      e.parameter(source, types.a, count: count), position,
      plan.rowCount > 1 ? position.stride(of: row)! : 0,
      plan.depthCount > 1 ? position.stride(of: step)! : 1
    )
  }

  /// Part of the columns of a tile, in panels of scratch memory.
  private mutating func packTile(_ memory: Memory, _ gate: Int, first: Int, depth: Int) {
    let n = plan.columnCount
    let (panel, column, step) = (variable(panels), variable(n), variable(depth))
    let c = plan.rightCoordinate(
      batch, column: IndexExpression(column) + gate * n, depth: IndexExpression(step) + first)
    let perPanel = schedule.columnBlock / width
    let place =
      (IndexExpression(panel) - IndexExpression(columnBlocks) * perPanel) * (depth * width)
      + IndexExpression(step) * width
      + (IndexExpression(column) - IndexExpression(panel) * width)
    let columns = LoopShape(
      column, BlockExtent(total: n, size: width, index: panel), mode: .vector(unroll: 2))
    let perTile = LoopShape(
      panel, BlockExtent(total: panels, size: perPanel, index: columnBlocks))
    let isRowMajor = e.isContiguous(plan.right, c, along: column)
    nest((isRowMajor ? [LoopShape(step), perTile] : [perTile, LoopShape(step)]) + [columns]) { w in
      let id = w.e.evaluate(w.plan.right, c)
      w.store(memory, place, id, w.types.b)
    }
  }

  /// The left operand as [batch, rows, depth] in row-major order.
  private func copyLeft(slot: Int) -> KernelCall {
    var e = RegionEvaluator(graph)
    let batch = plan.batch.map { e.variable($0) }
    let (m, k) = (plan.rowCount, plan.depthCount)
    let (row, depth) = (e.variable(m), e.variable(k))
    for variable in batch { e.draft.addTiles(variable) }
    let rows = e.tiles(m, size: schedule.copyRows)
    let c = plan.leftCoordinate(
      batch, row: IndexExpression(row), depth: IndexExpression(depth))
    let position = (plan.flat(batch) * m + IndexExpression(row)) * k + IndexExpression(depth)
    e.nest([LoopShape(row, rows), LoopShape(depth, mode: .vector(unroll: 1))]) { e in
      let id = e.evaluate(plan.left, c)
      let memory = e.parameter(
        .temporary(slot), types.a, count: plan.batchCount * m * k, isOutput: true)
      e.store(memory, position, id, types.a)
    }
    return e.call("copy", types.a, target, flops: 0)
  }
}

extension RegionEvaluator {
  /// Loops over a finished block of a product, which lies in memory, that compute the members on it and
  /// store the outputs.
  mutating func epilogue(
    _ root: ValueID, in memory: Memory,
    at position: @escaping ([IndexExpression]) -> IndexExpression, _ coordinate: [IndexExpression],
    rows: (variable: LoopVariable, extent: BlockExtent),
    columns: (variable: LoopVariable, extent: BlockExtent), unroll: Int
  ) {
    resident[root] = (memory, position)
    let before = reads.count
    each(rows.variable, block: rows.extent) { e, _ in
      let scope = e.draft.depth
      e.each(columns.variable, .vector(unroll: unroll), block: columns.extent) { e, _ in
        e.storeOutputs(coordinate)
        e.prefetch(from: before, rows.variable, columns, in: scope)
      }
    }
  }

  /// Rows of a block are short pieces of memory far apart, which no processor foresees: asks for those of the rows
  /// that follow. Long ones are foreseen.
  private mutating func prefetch(
    from first: Int, _ row: LoopVariable,
    _ columns: (variable: LoopVariable, extent: BlockExtent), in scope: Int
  ) {
    let start = columns.extent.index.map { IndexExpression($0) * columns.extent.size }
    var pieces: [PrefetchStatement] = []
    for (memory, index, type) in reads[first...] {
      let count = columns.extent.size
      guard index.stride(of: columns.variable) == 1, let stride = index.stride(of: row),
        stride > count, count * type.byteCount <= Self.longestPrefetch
      else { continue }
      let base = index.substitute {
        $0 == columns.variable ? start ?? IndexExpression(0) : IndexExpression($0)
      }
      pieces.append(
        PrefetchStatement(memory, type, base: base, count: count, ahead: stride))
    }
    let lines = pieces.reduce(0) { $0 + $1.lines }
    guard lines > 0, lines <= Self.mostPrefetches else { return }
    let rows = min(4, max(1, Self.mostPrefetches / lines))
    for var piece in pieces {
      piece.ahead *= rows
      draft.append(.prefetch(piece), in: scope)
    }
  }

  /// Bytes of a piece, and lines that are on their way at a time: about what a core can wait for.
  private static var longestPrefetch: Int { 1024 }
  private static var mostPrefetches: Int { 24 }
}
