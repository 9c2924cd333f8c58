package import DLCGraph
package import DLCKernel
import DLCTensor

/// Whether a convolution runs as an implicit product: weights times gathered columns.
package struct ConvolutionPlan {
  package var groups: Int
  package var channels: Int  // output channels of a group
  package var taps: [Int]  // input channels of a group, then the kernel's extents
  package var positions: [Int]  // spatial extents of the result
  /// Set when it sums over batch and positions, as the gradient of a kernel does.
  var kernelGradient: KernelGradient?

  /// x [n, c, H, W] and d [n, m, h, w], whose first two axes the convolution sees exchanged.
  struct KernelGradient {
    var x: ValueID
    var d: ValueID
  }

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
    if g.groups == 1, g.strides.count == 2, Set(g.kernelDilation).count == 1,
      let x = Self.exchanged(graph, node.operands[0]),
      let d = Self.exchanged(graph, node.operands[1])
    {
      kernelGradient = KernelGradient(x: x, d: d)
    }
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

extension ConvolutionPlan {
  /// What its schedule depends on.
  /// - Parameter epilogue: vector instructions that follow for an element.
  func problem(_ graph: Graph, _ node: Node, epilogue: Int) -> ConvolutionProblem {
    guard case .convolution(let g) = graph.structure(node) else {
      preconditionFailure("the node is no convolution")
    }
    let type = graph.type(node.results[0]).dataType
    let batch = graph.sizes(node.operands[0])[0]
    guard let kernelGradient else {
      return ConvolutionProblem(
        type: type, batch: batch, groups: groups, channels: channels, depth: taps.reduce(1, *),
        positions: positions.reduce(1, *), gradientOutputs: nil,
        isContiguous: g.strides.last == 1, epilogue: epilogue)
    }
    let (x, d) = (graph.sizes(kernelGradient.x), graph.sizes(kernelGradient.d))
    return ConvolutionProblem(
      type: type, batch: x[0], groups: 1, channels: x[1], depth: (d[2] - 1) * x[3] + d[3],
      positions: graph.sizes(node.results[0]).suffix(2).reduce(1, *), gradientOutputs: d[1],
      isContiguous: true, epilogue: epilogue)
  }

  /// The value that an operand shows with its first two axes exchanged.
  fileprivate static func exchanged(_ graph: Graph, _ operand: ValueID) -> ValueID? {
    let sizes = graph.sizes(operand)
    let c = sizes.enumerated().map {
      IndexExpression(LoopVariable(id: $0.offset, extent: $0.element))
    }
    let (value, position) = graph.resolve(operand, c)
    guard value != operand, graph.type(value).rank == 4,
      graph.sizes(value) == [sizes[1], sizes[0], sizes[2], sizes[3]],
      position == [c[1], c[0], c[2], c[3]]
    else { return nil }
    return value
  }
}

/// How much of a depth is summed at a time.
private func depthBlock(_ depth: Int) -> Int {
  depth <= 768 ? depth : SumOrder.evenPart(depth, limit: 512)
}

/// Writes the kernels of one convolution as an implicit product.
struct ConvolutionLowering {
  private let region: Region
  private let node: Node
  private let geometry: ConvolutionGeometry
  private let plan: ConvolutionPlan
  private let schedule: ConvolutionSchedule
  private let graph: Graph
  private let target: Target
  private let type: DataType
  private let width: Int
  private let input: [Int]
  private var e: RegionEvaluator
  private var calls: [KernelCall] = []
  private var temporaries: [Local] = []
  // The grid: batch, groups, blocks of output channels, blocks of positions.
  private let batch: LoopVariable
  private let group: LoopVariable
  private let rowBlocks: LoopVariable
  private let columnBlocks: LoopVariable
  private let channel: LoopVariable
  private let column: LoopVariable

  static func lower(
    _ region: Region, _ id: NodeID, _ schedule: ConvolutionSchedule, _ graph: Graph,
    _ target: Target
  ) -> LoweredRegion {
    let node = graph[id]
    guard case .convolution(let g) = graph.structure(node),
      let plan = ConvolutionPlan(graph, node, target)
    else { preconditionFailure("the region has no convolution") }
    switch schedule.algorithm {
    case .kernelGradient:
      return KernelGradientLowering.lower(
        region, node, plan.kernelGradient!, g, schedule, graph, target)
    case .implicitProduct:
      var lowering = ConvolutionLowering(region, node, g, plan, schedule, graph, target)
      return lowering.run()
    }
  }

  private init(
    _ region: Region, _ node: Node, _ geometry: ConvolutionGeometry, _ plan: ConvolutionPlan,
    _ schedule: ConvolutionSchedule, _ graph: Graph, _ target: Target
  ) {
    self.region = region
    self.node = node
    self.geometry = geometry
    self.plan = plan
    self.schedule = schedule
    self.graph = graph
    self.target = target
    type = graph.type(node.results[0]).dataType
    width = schedule.tile.vectors * target.vectorBytes / type.byteCount
    input = graph.sizes(node.operands[0])
    var e = RegionEvaluator(graph, region)
    let columns = plan.positions.reduce(1, *)
    batch = e.variable(input[0])
    group = e.variable(plan.groups)
    channel = e.variable(plan.channels)
    column = e.variable(columns)
    rowBlocks = e.variable((plan.channels + schedule.rowBlock - 1) / schedule.rowBlock)
    columnBlocks = e.variable((columns + schedule.columnBlock - 1) / schedule.columnBlock)
    self.e = e
  }

  private var depth: Int { plan.taps.reduce(1, *) }
  private var columns: Int { plan.positions.reduce(1, *) }
  private var isDirect: Bool { region.members.count == 1 && region.outputs.count == 1 }
  private var rowExtent: BlockExtent {
    BlockExtent(total: plan.channels, size: schedule.rowBlock, index: rowBlocks)
  }
  private var columnExtent: BlockExtent {
    BlockExtent(total: columns, size: schedule.columnBlock, index: columnBlocks)
  }

  private mutating func run() -> LoweredRegion {
    let source = operand(0)
    let weights = operand(1)
    let packed = e.local(type, depth * schedule.columnBlock)
    let firstChannel =
      IndexExpression(group) * plan.channels + IndexExpression(rowBlocks) * schedule.rowBlock
    let cMemory: Memory
    var cBase = IndexExpression(0)
    if isDirect {
      cMemory = e.parameter(.destination(region.outputs[0]), node.results[0])
      cBase =
        (IndexExpression(batch) * (plan.groups * plan.channels) + firstChannel) * columns
        + IndexExpression(columnBlocks) * schedule.columnBlock
    } else {
      cMemory = e.local(type, schedule.rowBlock * schedule.columnBlock)
    }
    let cStride = isDirect ? columns : schedule.columnBlock
    var product = ContractStatement(
      types: ContractTypes(type), a: weights, aBase: firstChannel * depth, aRowStride: depth,
      aDepthStride: 1, b: packed, bBase: IndexExpression(0), bPanelStride: depth * width,
      bDepthStride: width, panelWidth: width, c: cMemory, cBase: cBase, cRowStride: cStride,
      cIsPadded: !isDirect, rows: rowExtent, columns: columnExtent, depth: depth,
      tileRows: schedule.tile.rows, depthBlock: depthBlock(depth))
    e.makeRoom(for: &product)
    var body: [Statement] = [.pack(pack(source, packed)), .contract(product)]
    if !isDirect { body += epilogue(cMemory, cStride) }
    let kernel = Kernel(
      name: "", parameters: e.parameters, locals: e.locals,
      grid: [batch, group, rowBlocks, columnBlocks], body: body,
      flops: 2 * input[0] * plan.groups * plan.channels * columns * depth,
      bytesMoved: Lowering.bytes(e.parameters))
    calls.append(
      KernelCall(
        kernel: Lowering.named(
          kernel, isDirect ? "convolution" : "convolution_epilogue", type, target),
        bindings: Lowering.bindings(e), inPlace: []))
    return LoweredRegion(calls: calls, temporaries: temporaries)
  }

  /// An operand where it lies, or a view copied to where it lies in order.
  private mutating func operand(_ index: Int) -> Memory {
    let value = node.operands[index]
    guard let schedule = schedule.copies[index] else { return e.parameter(.value(value), value) }
    let count = max(graph.type(value).elementCount, 1)
    var call = Lowering.copy(
      value, schedule, graph, target, to: .temporary(temporaries.count))
    call.inPlace = []
    calls.append(call)
    temporaries.append(Local(type, count))
    return e.parameter(.temporary(temporaries.count - 1), type, count: count)
  }

  /// The columns of a tile: for every tap and position the input under it.
  private func pack(_ source: Memory, _ packed: Memory) -> PackStatement {
    let strides = rowMajorStrides(input)
    var taps = [PackStatement.Axis(plan.taps[0], strides[1])]
    for i in geometry.strides.indices {
      taps.append(.init(plan.taps[i + 1], strides[i + 2] * geometry.kernelDilation[i]))
    }
    let positions = geometry.strides.indices.map {
      PackStatement.Axis(plan.positions[$0], strides[$0 + 2] * geometry.strides[$0])
    }
    return PackStatement(
      type: type, source: source,
      base: IndexExpression(batch) * strides[0] + IndexExpression(group)
        * (plan.taps[0] * strides[1]),
      taps: taps, positions: positions, columns: columnExtent, destination: packed,
      panelWidth: width)
  }

  private mutating func epilogue(_ memory: Memory, _ stride: Int) -> [Statement] {
    let coordinate =
      [IndexExpression(batch), IndexExpression(group) * plan.channels + IndexExpression(channel)]
      + delinearize(IndexExpression(column), plan.positions)
    return ContractionLowering.epilogue(
      &e, region, node.results[0], coordinate, outer: [(channel, rowExtent)],
      inner: (column, columnExtent), outerScope: [batch, group, rowBlocks, columnBlocks], memory,
      (IndexExpression(channel) - IndexExpression(rowBlocks) * schedule.rowBlock) * stride
        + (IndexExpression(column) - IndexExpression(columnBlocks) * schedule.columnBlock))
  }
}

/// The gradient of a kernel: for every tap a product over batch and positions of shifted planes of x
/// with planes of d. Planes of d are packed to the width of those of x, zeros beside them, so that both
/// are walked as one line.
enum KernelGradientLowering {
  static func lower(
    _ region: Region, _ node: Node, _ gradient: ConvolutionPlan.KernelGradient,
    _ g: ConvolutionGeometry, _ schedule: ConvolutionSchedule, _ graph: Graph, _ target: Target
  ) -> LoweredRegion {
    let root = node.results[0]
    let type = graph.type(root).dataType
    let width = target.panelWidth(type)
    let (x, d) = (graph.sizes(gradient.x), graph.sizes(gradient.d))
    let (batches, channels, line) = (x[0], x[1], x[3])
    let plane = x[2] * line
    let (outputs, rows, columns) = (d[1], d[2], d[3])
    let taps = Array(graph.sizes(root).suffix(2))
    let depth = (rows - 1) * line + columns
    let panels = (outputs + width - 1) / width
    let packed = batches * panels * depth * width

    var e = RegionEvaluator(graph, region)
    let block = schedule.rowBlock
    let (i, j) = (e.variable(taps[0]), e.variable(taps[1]))
    let blocks = e.variable((channels + block - 1) / block)
    let (channel, output, batch) = (e.variable(channels), e.variable(outputs), e.variable(batches))
    let extent = BlockExtent(total: channels, size: block, index: blocks)
    let source = e.parameter(.value(gradient.x), gradient.x)
    let other = e.parameter(.temporary(0), type, count: packed)
    let count = block * panels * width
    let sums = e.local(type, count)
    // Long batches are summed in groups.
    let group = max(SumOrder.group, Int(Double(batches).squareRoot()))
    let isGrouped = batches > group
    let inner = isGrouped ? e.local(type, count) : sums
    let groups = e.variable((batches + group - 1) / group)
    let base =
      (IndexExpression(batch) * channels + IndexExpression(blocks) * block) * plane
      + IndexExpression(i) * (g.strides[0] * line) + IndexExpression(j) * g.strides[1]
    var product = ContractStatement(
      types: ContractTypes(type), a: source, aBase: base, aRowStride: plane,
      aDepthStride: g.kernelDilation[0],
      b: other, bBase: IndexExpression(batch) * (panels * depth * width),
      bPanelStride: depth * width, bDepthStride: width, panelWidth: width, c: inner,
      cBase: IndexExpression(0), cRowStride: panels * width, cIsPadded: true, rows: extent,
      columns: BlockExtent(outputs), depth: depth, tileRows: schedule.tile.rows,
      depthBlock: depthBlock(depth), accumulates: true)
    e.makeRoom(for: &product)
    func each(_ body: (IndexExpression) -> [Statement]) -> Statement {
      let place = e.variable(count)
      return .loop(Loop(place, mode: .vector(unroll: 4), body: body(IndexExpression(place))))
    }
    func clear(_ memory: Memory) -> Statement {
      let zero = e.scalar()
      return each {
        [.define(zero, .constant(.float(0), type)), .store(memory, $0, zero, type)]
      }
    }
    var body = [clear(sums)]
    if isGrouped {
      let (before, part, sum) = (e.scalar(), e.scalar(), e.scalar())
      let extent = BlockExtent(total: batches, size: group, index: groups)
      let add = each {
        [
          .define(before, .load(sums, $0, type)), .define(part, .load(inner, $0, type)),
          .define(sum, .apply(.binary(.add), type, [before, part])), .store(sums, $0, sum, type),
        ]
      }
      body.append(
        .loop(
          Loop(
            groups,
            body: [clear(inner), .loop(Loop(batch, extent, body: [.contract(product)])), add])))
    } else {
      body.append(.loop(Loop(batch, body: [.contract(product)])))
    }
    body += ContractionLowering.epilogue(
      &e, region, root,
      [
        IndexExpression(channel), IndexExpression(output), IndexExpression(i), IndexExpression(j),
      ], outer: [(channel, extent)], inner: (output, BlockExtent(outputs)),
      outerScope: [i, j, blocks], sums,
      (IndexExpression(channel) - IndexExpression(blocks) * block) * (panels * width)
        + IndexExpression(output))
    let kernel = Kernel(
      name: "", parameters: e.parameters, locals: e.locals, grid: [i, j, blocks], body: body,
      flops: 2 * batches * channels * outputs * taps[0] * taps[1] * rows * columns,
      bytesMoved: Lowering.bytes(e.parameters))
    return LoweredRegion(
      calls: [
        pack(gradient.d, line, graph, target),
        KernelCall(
          kernel: Lowering.named(kernel, "kernel_gradient", type, target),
          bindings: Lowering.bindings(e), inPlace: Lowering.sharable(region, graph, e)),
      ], temporaries: [Local(type, packed)])
  }

  /// d [n, m, h, w] as panels [n, panel, h lines, width]: `width` outputs side by side; lines are as
  /// long as those of x.
  private static func pack(_ value: ValueID, _ line: Int, _ graph: Graph, _ target: Target)
    -> KernelCall
  {
    let type = graph.type(value).dataType
    let width = target.panelWidth(type)
    let d = graph.sizes(value)
    let (outputs, rows, columns) = (d[1], d[2], d[3])
    let depth = (rows - 1) * line + columns
    let panels = (outputs + width - 1) / width
    var e = RegionEvaluator(graph, Region(.rows(domain: [], axes: []), members: [], outputs: []))
    let (batch, panel) = (e.variable(d[0]), e.variable(panels))
    let (row, column, output) = (e.variable(rows), e.variable(columns), e.variable(outputs))
    let memory = Memory.parameter(1)
    let extent = BlockExtent(total: outputs, size: width, index: panel)
    func place(_ position: IndexExpression, _ lane: IndexExpression) -> IndexExpression {
      ((IndexExpression(batch) * panels + IndexExpression(panel)) * depth + position) * width + lane
    }
    let lane = IndexExpression(output) - IndexExpression(panel) * width
    e.scopes = [RegionEvaluator.Scope(variables: [batch, panel])]
    let copy = e.inScope([row, column, output]) { e in
      let id = e.evaluate(
        value,
        [
          IndexExpression(batch), IndexExpression(output), IndexExpression(row),
          IndexExpression(column),
        ])
      e.append(
        .store(
          memory, place(IndexExpression(row) * line + IndexExpression(column), lane), id, type))
    }
    var body: [Statement] = [
      .loop(
        Loop(
          row,
          body: [
            .loop(
              Loop(
                column,
                body: [.loop(Loop(output, extent, mode: .vector(unroll: 1), body: copy))]))
          ]))
    ]
    if rows > 1 && line > columns {
      let (upper, gap, all) = (
        e.variable(rows - 1), e.variable(line - columns), e.variable(width)
      )
      let zero = e.scalar()
      body.append(
        .loop(
          Loop(
            upper,
            body: [
              .loop(
                Loop(
                  gap,
                  body: [
                    .loop(
                      Loop(
                        all, mode: .vector(unroll: 1),
                        body: [
                          .define(zero, .constant(.float(0), type)),
                          .store(
                            memory,
                            place(
                              IndexExpression(upper) * line + IndexExpression(gap) + columns,
                              IndexExpression(all)), zero, type),
                        ]))
                  ]))
            ])))
    }
    let parameters =
      e.parameters + [Parameter(type, d[0] * panels * depth * width, isOutput: true)]
    let kernel = Kernel(
      name: "", parameters: parameters, locals: [], grid: [batch, panel],
      body: e.scopes[0].statements + body, flops: 0, bytesMoved: Lowering.bytes(parameters))
    return KernelCall(
      kernel: Lowering.named(kernel, "pack_planes", type, target),
      bindings: Lowering.bindings(e) + [.temporary(0)], inPlace: [])
  }
}
