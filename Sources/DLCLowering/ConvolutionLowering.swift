package import DLCGraph
package import DLCKernel
import DLCTensor

/// Whether a convolution runs as an implicit product: weights times gathered columns.
package struct ConvolutionPlan {
  package var groups: Int
  package var channels: Int  // output channels of a group
  package var taps: [Int]  // input channels of a group, then the kernel's extents
  package var positions: [Int]  // spatial extents of the result

  /// nil when it is too small or too thin, or does not have the form that legalisation gives.
  package init?(_ graph: Graph, _ node: Node, _ target: Target) {
    guard case .convolution(let g) = graph.structure(node) else { return nil }
    let type = graph.type(node.results[0]).dataType
    guard type == .float32 || type == .float64 else { return nil }
    let isPlain =
      (g.paddingLow + g.paddingHigh).allSatisfy { $0 == 0 }
      && g.inputDilation.allSatisfy { $0 == 1 }
    precondition(isPlain, "padding and input dilation are made explicit before lowering")
    let kernel = graph.sizes(node.operands[1])
    groups = g.groups
    channels = kernel[0] / g.groups
    taps = Array(kernel.dropFirst())
    positions = Array(graph.sizes(node.results[0]).dropFirst(2))
    let (depth, columns) = (taps.reduce(1, *), positions.reduce(1, *))
    guard channels >= 2, columns >= 2, depth >= 2, channels * depth * columns >= 512 else {
      return nil
    }
    // Both operands are read as they lie.
    for operand in node.operands where graph.base(operand) != operand { return nil }
    for operand in node.operands {
      if let base = graph.definition(operand), case .iota = graph.structure(base) { return nil }
      if let base = graph.definition(operand), case .constant(let tensor) = graph.structure(base),
        tensor.count == 1
      {
        return nil
      }
    }
  }
}

enum ConvolutionLowering {
  static func lower(_ region: Region, _ id: NodeID, _ graph: Graph, _ target: Target)
    -> LoweredRegion
  {
    let node = graph[id]
    guard case .convolution(let g) = graph.structure(node),
      let plan = ConvolutionPlan(graph, node, target)
    else { preconditionFailure("the region has no convolution") }
    let type = graph.type(node.results[0]).dataType
    let width = target.panelWidth(type)
    let root = node.results[0]
    let input = graph.sizes(node.operands[0])
    let inputStrides = rowMajorStrides(input)
    let (depth, columns) = (plan.taps.reduce(1, *), plan.positions.reduce(1, *))
    var e = RegionEvaluator(graph, region)
    let (batch, group) = (e.variable(input[0]), e.variable(plan.groups))
    let (channel, column) = (e.variable(plan.channels), e.variable(columns))

    let rowBlock = ContractionLowering.blockSize(
      plan.channels, limit: 256, multiple: target.tile.rows)
    let wanted = min(6_000_000 / max(2 * rowBlock * depth, 1), (1 << 17) / depth)
    let columnBlock = min((columns + width - 1) / width * width, max(width, wanted / width * width))
    let rowBlocks = e.variable((plan.channels + rowBlock - 1) / rowBlock)
    let columnBlocks = e.variable((columns + columnBlock - 1) / columnBlock)
    let rowExtent = BlockExtent(total: plan.channels, size: rowBlock, index: rowBlocks)
    let columnExtent = BlockExtent(total: columns, size: columnBlock, index: columnBlocks)

    let source = e.parameter(.value(node.operands[0]), node.operands[0])
    let weights = e.parameter(.value(node.operands[1]), node.operands[1])
    let packed = e.local(type, depth * columnBlock)
    var taps = [PackStatement.Axis(plan.taps[0], inputStrides[1])]
    for i in g.strides.indices {
      taps.append(.init(plan.taps[i + 1], inputStrides[i + 2] * g.kernelDilation[i]))
    }
    let positions = g.strides.indices.map {
      PackStatement.Axis(plan.positions[$0], inputStrides[$0 + 2] * g.strides[$0])
    }
    let pack = PackStatement(
      type: type, source: source,
      base: IndexExpression(batch) * inputStrides[0] + IndexExpression(group)
        * (plan.taps[0] * inputStrides[1]),
      taps: taps, positions: positions, columns: columnExtent, destination: packed,
      panelWidth: width)

    let isDirect = region.members == [id] && region.outputs.count == 1
    let firstChannel =
      IndexExpression(group) * plan.channels + IndexExpression(rowBlocks) * rowBlock
    let cMemory: Memory
    let cBase: IndexExpression
    if isDirect {
      cMemory = e.parameter(.destination(region.outputs[0]), root)
      cBase =
        (IndexExpression(batch) * (plan.groups * plan.channels) + firstChannel) * columns
        + IndexExpression(columnBlocks) * columnBlock
    } else {
      cMemory = e.local(type, rowBlock * columnBlock)
      cBase = IndexExpression(0)
    }
    let cStride = isDirect ? columns : columnBlock
    let product = ContractStatement(
      type: type, a: weights, aBase: firstChannel * depth, aRowStride: depth, aDepthStride: 1,
      b: packed,
      bBase: IndexExpression(0), bPanelStride: depth * width, bDepthStride: width,
      panelWidth: width, c: cMemory,
      cBase: cBase, cRowStride: cStride, cIsPadded: !isDirect, rows: rowExtent,
      columns: columnExtent, depth: depth,
      depthBlock: depth <= 768
        ? depth : ContractionLowering.blockSize(depth, limit: 512, multiple: 4))
    var body: [Statement] = [.pack(pack), .contract(product)]
    if !isDirect {
      let coordinate =
        [IndexExpression(batch), IndexExpression(group) * plan.channels + IndexExpression(channel)]
        + delinearize(IndexExpression(column), plan.positions)
      body += ContractionLowering.epilogue(
        &e, region, root, coordinate, outer: [(channel, rowExtent)], inner: (column, columnExtent),
        outerScope: [batch, group, rowBlocks, columnBlocks], cMemory,
        (IndexExpression(channel) - IndexExpression(rowBlocks) * rowBlock) * cStride
          + (IndexExpression(column) - IndexExpression(columnBlocks) * columnBlock))
    }
    var kernel = Kernel(
      name: "", parameters: e.parameters, locals: e.locals,
      grid: [batch, group, rowBlocks, columnBlocks], body: body,
      flops: 2 * input[0] * plan.groups * plan.channels * columns * depth,
      bytesMoved: Lowering.bytes(e.parameters))
    kernel = Lowering.named(kernel, isDirect ? "convolution" : "convolution_epilogue", type, target)
    return LoweredRegion(
      calls: [KernelCall(kernel: kernel, bindings: Lowering.bindings(e), inPlace: [])],
      temporaries: [])
  }
}
