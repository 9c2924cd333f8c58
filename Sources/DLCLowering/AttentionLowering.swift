import DLCGraph
import DLCKernel
import DLCTensor

extension Region.Attention {
  /// Both products.
  func plans(_ graph: Graph, _ target: Target) -> (
    scores: ContractionPlan, weighted: ContractionPlan
  ) {
    guard let scores = ContractionPlan(graph, graph[scores], target),
      let weighted = ContractionPlan(graph, graph[weighted], target)
    else { preconditionFailure("the region has no products") }
    return (scores, weighted)
  }
}

/// Writes two products with rows in between, as softmax(q k) v is: each tile computes some rows of the first product in
/// memory of its own, what is in between row by row at the same place, and the same rows of the second product. All
/// sums have the order that kernels of their own would give them.
struct AttentionLowering: KernelWriter {
  private let region: Region
  private let attention: Region.Attention
  private let scores: ContractionPlan
  private let weighted: ContractionPlan
  private let schedule: AttentionSchedule
  private let graph: Graph
  private let target: Target
  private let type: DataType
  private let width: Int
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }
  // The grid: batch, blocks of rows.
  private let batch: [LoopVariable]
  private let rowBlocks: LoopVariable
  private let row: LoopVariable
  private let column: LoopVariable

  static func lower(
    _ region: Region, _ attention: Region.Attention, _ schedule: AttentionSchedule,
    _ graph: Graph, _ target: Target
  ) -> LoweredRegion {
    var lowering = AttentionLowering(region, attention, schedule, graph, target)
    return lowering.run()
  }

  private init(
    _ region: Region, _ attention: Region.Attention, _ schedule: AttentionSchedule,
    _ graph: Graph, _ target: Target
  ) {
    self.region = region
    self.attention = attention
    self.schedule = schedule
    self.graph = graph
    self.target = target
    (scores, weighted) = attention.plans(graph, target)
    type = scores.types.c
    width = schedule.tile.vectors * target.vectorBytes / type.byteCount
    var e = RegionEvaluator(graph, region)
    batch = scores.batch.map { e.variable($0) }
    rowBlocks = e.variable((scores.rowCount + schedule.rowBlock - 1) / schedule.rowBlock)
    row = e.variable(scores.rowCount)
    column = e.variable(weighted.columnCount)
    for variable in batch + [rowBlocks] { e.draft.addTiles(variable) }
    self.e = e
  }

  private var rows: BlockExtent {
    BlockExtent(total: scores.rowCount, size: schedule.rowBlock, index: rowBlocks)
  }
  /// The row's number in its block.
  private var rowInside: IndexExpression {
    IndexExpression(row) - IndexExpression(rowBlocks) * schedule.rowBlock
  }
  private var root: ValueID { graph[attention.weighted].results[0] }
  private var isDirect: Bool { region.outputs.count == 1 && region.outputs[0].value == root }

  private mutating func run() -> LoweredRegion {
    let plans = [scores, weighted]
    var (calls, temporaries) = ([KernelCall](), [Local]())
    let operands = plans.enumerated().map { number, plan in
      rightOperand(plan, number, &calls, &temporaries)
    }
    let stride = scores.panels(width) * width
    let line = e.local(type, schedule.rowBlock * stride)
    let left = leftOperand()
    multiply(
      scores, operands[0],
      left: (left.memory, left.start, left.rowStride, left.depthStride),
      into: (line, IndexExpression(0), stride, true))
    writeRows(line, stride)
    let result = result()
    multiply(
      weighted, operands[1], left: (line, IndexExpression(0), stride, 1),
      into: (result.memory, result.base, result.stride, !isDirect))
    if !isDirect { epilogue(result.memory, result.stride) }
    let flops = plans.reduce(0) {
      $0 + 2 * $1.batchCount * $1.rowCount * $1.columnCount * $1.depthCount
    }
    calls.append(e.call("attention", type, target, flops: flops))
    return LoweredRegion(calls: calls, temporaries: temporaries)
  }

  private struct Panels {
    var memory: Memory
    var start: IndexExpression
    var stride: Int
    var depthStride: Int
  }

  /// The panels of a product's right operand: where it lies, or packed by a kernel of their own.
  private mutating func rightOperand(
    _ plan: ContractionPlan, _ number: Int, _ calls: inout [KernelCall],
    _ temporaries: inout [Local]
  ) -> Panels {
    if !schedule.packs[number], let place = plan.panelsInPlace(graph, batch, width) {
      return Panels(
        memory: e.parameter(.value(place.value), place.value), start: place.start, stride: width,
        depthStride: place.depthStride)
    }
    let (slot, count) = (temporaries.count, plan.packedCount(width))
    calls.append(
      plan.pack(
        into: slot, width, panels: schedule.packPanels[number],
        depth: schedule.packDepths[number], graph, target))
    temporaries.append(Local(plan.types.b, count))
    let size = plan.depthCount * width
    return Panels(
      memory: e.parameter(.temporary(slot), plan.types.b, count: count),
      start: plan.flat(batch) * (plan.panels(width) * size), stride: size, depthStride: width)
  }

  /// The rows of a block of one product.
  private mutating func multiply(
    _ plan: ContractionPlan, _ right: Panels,
    left: (memory: Memory, start: IndexExpression, rowStride: Int, depthStride: Int),
    into result: (memory: Memory, base: IndexExpression, stride: Int, isPadded: Bool)
  ) {
    var product = ContractStatement(
      types: plan.types, a: left.memory, aBase: left.start, aRowStride: left.rowStride,
      aDepthStride: left.depthStride, b: right.memory, bBase: right.start,
      bPanelStride: right.stride, bDepthStride: right.depthStride, panelWidth: width,
      c: result.memory, cBase: result.base, cRowStride: result.stride,
      cIsPadded: result.isPadded, rows: rows, columns: BlockExtent(plan.columnCount),
      depth: plan.depthCount, tileRows: schedule.tile.rows,
      depthBlock: SumOrder.productPart(plan.depthCount))
    e.makeRoom(for: &product)
    draft.append(.contract(product))
  }

  /// The left operand of the first product where it lies.
  private mutating func leftOperand() -> (
    memory: Memory, start: IndexExpression, rowStride: Int, depthStride: Int
  ) {
    let step = e.variable(scores.depthCount)
    let (value, position) = scores.position(graph, batch, row, step)
    let start = position.substitute { v in
      v == row
        ? IndexExpression(rowBlocks) * schedule.rowBlock
        : v == step ? IndexExpression(0) : IndexExpression(v)
    }
    return (
      e.parameter(.value(value), value), start,
      scores.rowCount > 1 ? position.stride(of: row)! : 0,
      scores.depthCount > 1 ? position.stride(of: step)! : 1
    )
  }

  /// What is in between, in the place of the first product's rows.
  private mutating func writeRows(_ line: Memory, _ stride: Int) {
    let part = attention.rows(graph)
    let first = rowInside * stride
    e.resident[graph[attention.scores].results[0]] = (line, { first + $0.last! })
    e.diverted[part.outputs[0].value] = line
    let (schedule, graph, target) = (schedule, graph, target)
    let batches = Array(graph.sizes(part.outputs[0].value).dropLast(2))
    let at = delinearize(scores.flat(batch), batches) + [IndexExpression(row)]
    e.each(row, block: rows) { e, _ in
      RowLowering.write(part, schedule.rows, graph, target, into: &e, row: at) {
        first + $0.last!
      }
    }
    e.resident[graph[attention.scores].results[0]] = nil
  }

  /// Where the second product goes: to its own place, or into memory that the epilogue reads.
  private mutating func result() -> (memory: Memory, base: IndexExpression, stride: Int) {
    let n = weighted.columnCount
    guard isDirect else {
      let stride = weighted.panels(width) * width
      return (e.local(type, schedule.rowBlock * stride), IndexExpression(0), stride)
    }
    let first =
      weighted.flat(batch) * weighted.rowCount + IndexExpression(rowBlocks) * schedule.rowBlock
    return (e.parameter(.destination(region.outputs[0]), root), first * n, n)
  }

  private mutating func epilogue(_ memory: Memory, _ stride: Int) {
    let coordinate =
      (batch + [row]).map { IndexExpression($0) }
      + delinearize(IndexExpression(column), weighted.columns)
    let place = rowInside * stride + IndexExpression(column)
    e.epilogue(
      root, in: memory, at: { _ in place }, coordinate, rows: (row, rows),
      columns: (column, BlockExtent(weighted.columnCount)), unroll: schedule.epilogueUnroll)
  }
}
