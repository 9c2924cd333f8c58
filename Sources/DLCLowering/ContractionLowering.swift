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
  private var geometry: ContractionGeometry

  /// nil when the product is too small or too thin for tiles, or its type has no microkernels.
  package init?(_ graph: Graph, _ node: Node, _ target: Target) {
    guard case .contraction(let g) = graph.structure(node) else { return nil }
    let type = graph.type(node.results[0]).dataType
    guard type == .float32 || type == .float64 else { return nil }
    let (a, b) = (graph.sizes(node.operands[0]), graph.sizes(node.operands[1]))
    batch = g.lhsBatch.map { a[$0] }
    rows = g.lhsFree(a.count).map { a[$0] }
    columns = g.rhsFree(b.count).map { b[$0] }
    depth = g.lhsContracting.map { a[$0] }
    (left, right) = (node.operands[0], node.operands[1])
    geometry = g
    let (m, n, k) = (rows.reduce(1, *), columns.reduce(1, *), depth.reduce(1, *))
    guard m >= 2, n >= 2, k >= 1, m * n * k >= 512, batch.allSatisfy({ $0 > 0 }) else { return nil }
    // Operands must be memory of the kernel, not numbers that are computed on the way.
    for operand in [left, right] {
      guard let base = graph.definition(graph.base(operand)) else { continue }
      switch graph.structure(base) {
      case .iota: return nil
      case .constant(let tensor): if tensor.count == 1 { return nil }
      default: break
      }
    }
  }
}

extension ContractionPlan {
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

  /// The coordinate of the right operand for a batch, a column and a position in the depth.
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

enum ContractionLowering {
  static func lower(_ region: Region, _ id: NodeID, _ graph: Graph, _ target: Target)
    -> LoweredRegion
  {
    let node = graph[id]
    guard let plan = ContractionPlan(graph, node, target)
    else { preconditionFailure("the region has no product") }
    let type = graph.type(node.results[0]).dataType
    let width = target.panelWidth(type)
    let (m, n, k) = (plan.rows.reduce(1, *), plan.columns.reduce(1, *), plan.depth.reduce(1, *))
    var calls: [KernelCall] = []
    var temporaries: [Local] = []
    let root = node.results[0]

    // The right operand goes into panels, whatever views it is seen through.
    let panels = (n + width - 1) / width
    let batchCount = plan.batch.reduce(1, *)
    // An operand that never changes is packed once, before all runs, and one that serves many rows by a
    // step of its own; one that changes and serves few rows is packed in the tile that uses it, a part of
    // the depth at a time, while it is in the cache.
    let hasPackStep =
      graph.isSteady(plan.right) || m > 256 || k > SumOrder.group * SumOrder.productPart(k)
    if hasPackStep {
      temporaries.append(Local(type, batchCount * panels * k * width))
      calls.append(pack(graph, plan, type, width, target))
    }

    var e = RegionEvaluator(graph, region)
    let batchVariables = plan.batch.map { e.variable($0) }
    let batchCoordinate = batchVariables.map { IndexExpression($0) }
    let rowVariable = e.variable(m)
    let columnVariable = e.variable(n)
    let depthVariable = e.variable(k)
    let (leftValue, leftElement) = graph.resolve(
      plan.left,
      plan.leftCoordinate(
        batchVariables, row: IndexExpression(rowVariable), depth: IndexExpression(depthVariable)))
    let flatBatch = plan.flat(batchVariables)
    var position = linearize(leftElement, graph.sizes(leftValue))
    var leftSource: RegionEvaluator.ParameterSource = .value(leftValue)
    var leftCount = graph.type(leftValue).elementCount
    if position.stride(of: rowVariable) == nil || position.stride(of: depthVariable) == nil {
      // Its rows or its depth do not lie at regular distances: it is copied to where they do.
      calls.append(copyLeft(graph, plan, type, target, slot: temporaries.count))
      temporaries.append(Local(type, batchCount * m * k))
      position = (flatBatch * m + IndexExpression(rowVariable)) * k + IndexExpression(depthVariable)
      leftCount = batchCount * m * k
      leftSource = .temporary(temporaries.count - 1)
    }
    let rowStride = m > 1 ? position.stride(of: rowVariable)! : 0
    let depthStride = k > 1 ? position.stride(of: depthVariable)! : 1

    // Blocks: rows by the cache, columns so that a tile takes some tens of microseconds.
    let tileRows = target.tile.rows
    let rowBlock = blockSize(m, limit: tileRows * (hasPackStep ? 16 : 32), multiple: tileRows)
    let wanted = min(max(64, 12_000_000 / max(2 * rowBlock * k, 1)), hasPackStep ? 512 : 192)
    // Equal parts, in whole panels.
    let columnBlock = blockSize(panels, limit: max(1, wanted / width), multiple: 1) * width
    let depthBlock = SumOrder.productPart(k)
    let rowBlocks = e.variable((m + rowBlock - 1) / rowBlock)
    let columnBlocks = e.variable((n + columnBlock - 1) / columnBlock)
    let rowExtent = BlockExtent(total: m, size: rowBlock, index: rowBlocks)
    let columnExtent = BlockExtent(total: n, size: columnBlock, index: columnBlocks)

    let leftMemory = e.parameter(leftSource, type, count: leftCount)
    let isDirect = region.members == [id] && region.outputs.count == 1
    let cMemory: Memory
    let cBase: IndexExpression
    let cStride: Int
    if isDirect {
      cMemory = e.parameter(.destination(region.outputs[0]), root)
      cStride = n
      cBase =
        (flatBatch * m + IndexExpression(rowBlocks) * rowBlock) * n + IndexExpression(columnBlocks)
        * columnBlock
    } else {
      cStride = columnBlock
      cMemory = e.local(type, rowBlock * columnBlock)
      cBase = IndexExpression(0)
    }
    let parts = hasPackStep ? 1 : (k + depthBlock - 1) / depthBlock
    let partDepth = hasPackStep ? k : depthBlock
    let packed =
      hasPackStep
      ? e.parameter(.temporary(0), type, count: batchCount * panels * k * width)
      : e.local(type, columnBlock * partDepth)
    var body: [Statement] = []
    for part in 0..<parts {
      let first = part * partDepth
      let depth = min(partDepth, k - first)
      if !hasPackStep {
        body += packTile(
          &e, plan, batchVariables, packed, type, width, columnBlocks, columnBlock,
          first: first, depth: depth)
      }
      let start = position.substitute { v in
        v == rowVariable
          ? IndexExpression(rowBlocks) * rowBlock
          : v == depthVariable ? IndexExpression(first) : IndexExpression(v)
      }
      var product = ContractStatement(
        type: type, a: leftMemory, aBase: start, aRowStride: rowStride,
        aDepthStride: depthStride, b: packed,
        bBase: hasPackStep
          ? (flatBatch * panels + IndexExpression(columnBlocks) * (columnBlock / width))
            * (k * width) : IndexExpression(0),
        bPanelStride: depth * width, bDepthStride: width, panelWidth: width, c: cMemory,
        cBase: cBase, cRowStride: cStride, cIsPadded: !isDirect, rows: rowExtent,
        columns: columnExtent, depth: depth,
        depthBlock: hasPackStep ? depthBlock : max(depth, 1), accumulates: part > 0)
      e.makeRoom(for: &product)
      body.append(.contract(product))
    }
    if !isDirect {
      let coordinate =
        batchCoordinate + delinearize(IndexExpression(rowVariable), plan.rows)
        + delinearize(IndexExpression(columnVariable), plan.columns)
      body += epilogue(
        &e, region, root, coordinate, outer: [(rowVariable, rowExtent)],
        inner: (columnVariable, columnExtent),
        outerScope: Set(batchVariables + [rowBlocks, columnBlocks]), cMemory,
        (IndexExpression(rowVariable) - IndexExpression(rowBlocks) * rowBlock) * cStride
          + (IndexExpression(columnVariable) - IndexExpression(columnBlocks) * columnBlock))
    }
    var kernel = Kernel(
      name: "", parameters: e.parameters, locals: e.locals,
      grid: batchVariables + [rowBlocks, columnBlocks],
      body: body, flops: 2 * batchCount * m * n * k, bytesMoved: Lowering.bytes(e.parameters))
    kernel = Lowering.named(kernel, isDirect ? "product" : "product_epilogue", type, target)
    calls.append(
      KernelCall(
        kernel: kernel, bindings: Lowering.bindings(e),
        inPlace: isDirect ? [] : Lowering.sharable(region, graph, e)))
    return LoweredRegion(calls: calls, temporaries: temporaries)
  }

  /// Part of the columns of a tile, in panels of scratch memory.
  private static func packTile(
    _ e: inout RegionEvaluator, _ plan: ContractionPlan, _ batch: [LoopVariable], _ memory: Memory,
    _ type: DataType, _ width: Int, _ block: LoopVariable, _ blockSize: Int,
    first: Int, depth: Int
  ) -> [Statement] {
    let n = plan.columns.reduce(1, *)
    let panels = (n + width - 1) / width
    let (panel, column, step) = (e.variable(panels), e.variable(n), e.variable(depth))
    let c = plan.rightCoordinate(
      batch, column: IndexExpression(column), depth: IndexExpression(step) + first)
    let perPanel = blockSize / width
    let place =
      (IndexExpression(panel) - IndexExpression(block) * perPanel) * (depth * width)
      + IndexExpression(step) * width
      + (IndexExpression(column) - IndexExpression(panel) * width)
    e.scopes = [RegionEvaluator.Scope(variables: Set(c.flatMap(\.variables)))]
    let id = e.evaluate(plan.right, c)
    let inner = Statement.loop(
      Loop(
        column, BlockExtent(total: n, size: width, index: panel), mode: .vector(unroll: 2),
        body: e.scopes[0].statements + [.store(memory, place, id, type)]))
    let extent = BlockExtent(total: panels, size: perPanel, index: block)
    if e.isContiguous(plan.right, c, along: column) {
      return [.loop(Loop(step, body: [.loop(Loop(panel, extent, body: [inner]))]))]
    }
    return [.loop(Loop(panel, extent, body: [.loop(Loop(step, body: [inner]))]))]
  }

  /// The smallest equal parts of `total` that are within the limit, rounded up to a multiple.
  static func blockSize(_ total: Int, limit: Int, multiple: Int) -> Int {
    let parts = (total + limit - 1) / limit
    let even = (total + parts - 1) / max(parts, 1)
    return min((even + multiple - 1) / multiple * multiple, max(total, 1))
  }

  /// Loops over a finished block of a product that compute the members on it and store the outputs.
  static func epilogue(
    _ e: inout RegionEvaluator, _ region: Region, _ root: ValueID, _ coordinate: [IndexExpression],
    outer: [(LoopVariable, BlockExtent)], inner: (LoopVariable, BlockExtent),
    outerScope: Set<LoopVariable>,
    _ memory: Memory, _ position: IndexExpression
  ) -> [Statement] {
    e.resident[root] = (memory, { _ in position })
    e.scopes = [RegionEvaluator.Scope(variables: outerScope)]
    func nest(_ e: inout RegionEvaluator, _ rest: ArraySlice<(LoopVariable, BlockExtent)>) {
      if let (variable, extent) = rest.first {
        let statements = e.inScope([variable]) { nest(&$0, rest.dropFirst()) }
        e.append(.loop(Loop(variable, extent, body: statements)))
        return
      }
      let statements = e.inScope([inner.0]) { e in
        for output in region.outputs {
          e.store(output, coordinate, linearize(coordinate, e.graph.sizes(output.value)))
        }
      }
      e.append(
        .loop(Loop(inner.0, inner.1, mode: .vector(unroll: e.cost <= 8 ? 2 : 1), body: statements)))
    }
    nest(&e, outer[...])
    return e.scopes[0].statements
  }

  /// The right operand in panels [batch, panel, depth, width]; what lies beyond the last column is
  /// never written and never used.
  private static func pack(
    _ graph: Graph, _ plan: ContractionPlan, _ type: DataType, _ width: Int, _ target: Target
  ) -> KernelCall {
    let (n, k) = (plan.columns.reduce(1, *), plan.depth.reduce(1, *))
    let panels = (n + width - 1) / width
    var e = RegionEvaluator(graph, Region(.rows(domain: [], axes: []), members: [], outputs: []))
    let batch = plan.batch.map { e.variable($0) }
    let (panel, column, depth) = (e.variable(panels), e.variable(n), e.variable(k))
    let c = plan.rightCoordinate(
      batch, column: IndexExpression(column), depth: IndexExpression(depth))
    let position =
      ((plan.flat(batch) * panels + IndexExpression(panel)) * k + IndexExpression(depth)) * width
      + (IndexExpression(column) - IndexExpression(panel) * width)
    // Neighbouring columns in memory: whole rows of several panels are read at a time. Otherwise each
    // panel follows its columns down, which then are the streams.
    let isRowMajor = e.isContiguous(plan.right, c, along: column)
    let panelBlock = isRowMajor ? min(panels, 32) : 1
    let depthBlock = max(1, min(k, 32768 / (width * panelBlock)))
    let group = e.variable((panels + panelBlock - 1) / panelBlock)
    let chunk = e.variable((k + depthBlock - 1) / depthBlock)
    e.scopes = [RegionEvaluator.Scope(variables: Set(batch + [panel, chunk, depth, column]))]
    let id = e.evaluate(plan.right, c)
    let statements = e.scopes[0].statements
    var parameters = e.parameters
    parameters.append(Parameter(type, plan.batch.reduce(1, *) * panels * k * width, isOutput: true))
    let store = Statement.store(.parameter(parameters.count - 1), position, id, type)
    let columns = Statement.loop(
      Loop(
        column, BlockExtent(total: n, size: width, index: panel),
        mode: .vector(unroll: width / target.lanes), body: statements + [store]))
    let depthExtent = BlockExtent(total: k, size: depthBlock, index: chunk)
    let panelExtent = BlockExtent(total: panels, size: panelBlock, index: group)
    let body: Statement =
      isRowMajor
      ? .loop(Loop(depth, depthExtent, body: [.loop(Loop(panel, panelExtent, body: [columns]))]))
      : .loop(Loop(panel, panelExtent, body: [.loop(Loop(depth, depthExtent, body: [columns]))]))
    let kernel = Lowering.named(
      Kernel(
        name: "", parameters: parameters, locals: [], grid: batch + [group, chunk], body: [body],
        flops: 0,
        bytesMoved: Lowering.bytes(parameters)), "pack", type, target)
    return KernelCall(kernel: kernel, bindings: Lowering.bindings(e) + [.temporary(0)], inPlace: [])
  }

  /// The left operand as [batch, rows, depth] in row-major order.
  private static func copyLeft(
    _ graph: Graph, _ plan: ContractionPlan, _ type: DataType, _ target: Target, slot: Int
  ) -> KernelCall {
    var e = RegionEvaluator(graph, Region(.rows(domain: [], axes: []), members: [], outputs: []))
    let batch = plan.batch.map { e.variable($0) }
    let (m, k) = (plan.rows.reduce(1, *), plan.depth.reduce(1, *))
    let (row, depth) = (e.variable(m), e.variable(k))
    let c = plan.leftCoordinate(
      batch, row: IndexExpression(row), depth: IndexExpression(depth))
    e.scopes = [RegionEvaluator.Scope(variables: Set(batch + [row, depth]))]
    let id = e.evaluate(plan.left, c)
    let statements = e.scopes[0].statements
    var parameters = e.parameters
    parameters.append(Parameter(type, plan.batch.reduce(1, *) * m * k, isOutput: true))
    let position = (plan.flat(batch) * m + IndexExpression(row)) * k + IndexExpression(depth)
    let rowBlock = max(1, 32768 / max(k, 1))
    let block = e.variable((m + rowBlock - 1) / rowBlock)
    let inner = Loop(
      depth, mode: .vector(unroll: 1),
      body: statements + [.store(.parameter(parameters.count - 1), position, id, type)])
    let outer = Loop(row, BlockExtent(total: m, size: rowBlock, index: block), body: [.loop(inner)])
    let kernel = Lowering.named(
      Kernel(
        name: "", parameters: parameters, locals: [], grid: batch + [block], body: [.loop(outer)],
        flops: 0,
        bytesMoved: Lowering.bytes(parameters)), "copy", type, target)
    return KernelCall(
      kernel: kernel, bindings: Lowering.bindings(e) + [.temporary(slot)], inPlace: [])
  }
}
