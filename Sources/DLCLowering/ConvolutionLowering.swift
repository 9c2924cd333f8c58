package import DLCGraph
package import DLCKernel
import DLCTensor

/// Whether a convolution runs as an implicit product: weights times gathered columns.
package struct ConvolutionPlan {
  package var types: ContractTypes
  package var groups: Int
  package var channels: Int  // output channels of a group
  /// What is summed over, as axes of a kernel [m, c/groups, kernel...]: in the order that they lie in, so
  /// that the weights of an output channel are at regular distances.
  var depthAxes: [Int]
  package var taps: [Int]  // their extents
  /// The spatial axes of a result [n, m, spatial...] in the order that they lie in.
  var positionAxes: [Int]
  package var positions: [Int]  // their extents
  /// Set when it sums over batch and positions, as the gradient of a kernel does.
  var kernelGradient: KernelGradient?
  /// Set when it is computed by transforms.
  package var tiling: WinogradTiling?
  /// Whether channels lie side by side, in images and in the result.
  package var isChannelsLast = false
  /// Whether each channel, or each of small groups of as many on both sides, has a kernel of its own, where channels lie
  /// side by side.
  package var isDepthwise = false

  /// x [n, c, H, W] and d [n, m, h, w], whose first two axes the convolution sees exchanged.
  struct KernelGradient {
    var x: ValueID
    var d: ValueID
  }

  /// nil when it is too small or too thin, has no microkernels for its types, or does not have the form that
  /// legalisation gives.
  package init?(_ graph: Graph, _ node: Node, _ target: Target) {
    guard case .convolution(let g) = graph.structure(node) else { return nil }
    types = ContractTypes(
      graph.type(node.operands[1]).dataType, graph.type(node.operands[0]).dataType,
      into: graph.type(node.results[0]).dataType)
    guard [DataType.float32, .float64, .int32].contains(types.c) else { return nil }
    let isPlain =
      (g.paddingLow + g.paddingHigh).allSatisfy { $0 == 0 }
      && g.inputDilation.allSatisfy { $0 == 1 }
    precondition(isPlain, "padding and input dilation are made explicit before lowering")
    let dimensions = g.dimensions
    let last = dimensions.kernel.count - 1
    precondition(
      dimensions.kernel[0] == 0 || dimensions.kernel[0] == last,
      "output channels are brought to an end of the kernel before lowering")
    let kernel = graph.sizes(node.operands[1]).picked(dimensions.kernel)
    let output = graph.sizes(node.results[0]).picked(dimensions.output)
    groups = g.groups
    channels = kernel[0] / g.groups
    depthAxes = (1...last).sorted { dimensions.kernel[$0] < dimensions.kernel[$1] }
    taps = kernel.picked(depthAxes)
    positionAxes = (2...last).sorted { dimensions.output[$0] < dimensions.output[$1] }
    positions = output.picked(positionAxes)
    let (depth, columns) = (taps.reduce(1, *), positions.reduce(1, *))
    let pixels = ConvolutionDimensions.channelsLast(spatial: g.strides.count)
    let isPlanar = g.strides.count == 2 && types.isUniform && types.c.isFloat
    isDepthwise =
      isPlanar && dimensions == pixels && columns > 0
      && g.hasSmallGroups(kernel)
    let isProduct =
      channels >= 2 && columns >= 2 && depth >= 2 && channels * depth * columns >= 512
    guard isDepthwise || isProduct else { return nil }
    if isPlanar, g.groups == 1,
      Set(g.kernelDilation).count == 1,
      let x = Self.exchanged(graph, node.operands[0], dimensions.input),
      let d = Self.exchanged(graph, node.operands[1], dimensions.kernel)
    {
      kernelGradient = KernelGradient(x: x, d: d)
    }
    isChannelsLast =
      isDepthwise
      || isPlanar && kernelGradient == nil && g.groups == 1
        && dimensions.input == pixels.input && dimensions.output == pixels.output
    tiling = kernelGradient == nil ? winogradTiling(g, kernel) : nil
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
  /// How it is made of squares of outputs: 3x3 kernels that move by one, over lines of positions.
  private func winogradTiling(_ g: ConvolutionGeometry, _ kernel: [Int]) -> WinogradTiling? {
    guard types.isUniform, types.c == .float32, groups == 1,
      isChannelsLast || g.dimensions == .channelsFirst(spatial: 2),
      kernel[2...] == [3, 3], g.strides == [1, 1], g.kernelDilation == [1, 1]
    else { return nil }
    return WinogradTiling.best(
      depth: kernel[1], channels: channels, height: positions[0], width: positions[1])
  }

  /// What its schedule depends on.
  /// - Parameter epilogue: vector instructions that follow for an element.
  func problem(
    _ graph: Graph, _ node: Node, _ properties: inout ValueProperties, isFramed: Bool,
    epilogue: Int
  ) -> ConvolutionProblem {
    guard case .convolution(let g) = graph.structure(node) else {
      preconditionFailure("the node is no convolution")
    }
    let input = graph.sizes(node.operands[0])
    guard let kernelGradient else {
      let inner = positionAxes[positionAxes.count - 1]
      let step = rowMajorStrides(input)[g.dimensions.input[inner]] * g.strides[inner - 2]
      return ConvolutionProblem(
        types: types, batch: input[g.dimensions.input[0]], groups: groups, channels: channels,
        depth: taps.reduce(1, *), positions: positions.reduce(1, *), gradientOutputs: nil,
        tiling: tiling, line: isFramed && tiling == nil || isDepthwise ? positions.last! : nil,
        isSteady: properties.isSteady(node.operands[1], in: graph),
        isContiguous: step == 1, isChannelsLast: isChannelsLast, epilogue: epilogue)
    }
    let (x, d) = (graph.sizes(kernelGradient.x), graph.sizes(kernelGradient.d))
    return ConvolutionProblem(
      types: types, batch: x[0], groups: 1, channels: x[1], depth: (d[2] - 1) * x[3] + d[3],
      positions: positions.reduce(1, *), gradientOutputs: d[1], isSteady: false,
      isContiguous: true, isChannelsLast: false, epilogue: epilogue)
  }

  /// The value [n, c, h, w] that an operand shows with its first two axes exchanged.
  /// - Parameter axes: the operand's axes in the order that the convolution takes them.
  fileprivate static func exchanged(_ graph: Graph, _ operand: ValueID, _ axes: [Int]) -> ValueID? {
    let sizes = graph.sizes(operand).picked(axes)
    let c = sizes.enumerated().map {
      IndexExpression(LoopVariable(id: $0.offset, extent: $0.element))
    }
    let (value, position) = graph.resolve(operand, c.placed(axes))
    guard graph.type(value).rank == 4,
      graph.sizes(value) == [sizes[1], sizes[0], sizes[2], sizes[3]],
      position == [c[1], c[0], c[2], c[3]]
    else { return nil }
    return value
  }
}

/// How much of a depth is summed at a time.
func convolutionDepthBlock(_ depth: Int) -> Int {
  depth <= 768 ? depth : SumOrder.evenPart(depth, limit: 512)
}

/// Writes the kernels of one convolution as an implicit product.
struct ConvolutionLowering: KernelWriter {
  private let region: Region
  private let node: Node
  private let geometry: ConvolutionGeometry
  private let plan: ConvolutionPlan
  private let schedule: ConvolutionSchedule
  private let graph: Graph
  private let target: Target
  private let types: ContractTypes
  private let width: Int
  // Sizes and strides as [n, c, spatial...], [m, c/groups, kernel...], [n, m, spatial...].
  private let input: (sizes: [Int], strides: [Int])
  private let weights: (sizes: [Int], strides: [Int])
  private let output: (sizes: [Int], strides: [Int])
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }
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
    var lowered: LoweredRegion
    switch schedule.algorithm {
    case .kernelGradient:
      var lowering = KernelGradientLowering(
        region, node, plan.kernelGradient!, g, schedule, graph, target)
      lowered = lowering.run()
    case .depthwise:
      lowered = DepthwiseLowering(region, node, g, schedule, graph, target).lower()
    case .pixelProduct:
      var lowering = PixelProductLowering(region, node, g, schedule, graph, target)
      lowered = lowering.run()
    case .winograd where plan.isChannelsLast:
      var lowering = WinogradPixelLowering(region, node, plan.tiling!, schedule, graph, target)
      lowered = lowering.run()
    case .winograd:
      var lowering = WinogradLowering(region, node, plan.tiling!, schedule, graph, target)
      lowered = lowering.run()
    case .implicitProduct:
      var lowering = ConvolutionLowering(region, node, g, plan, schedule, graph, target)
      lowered = lowering.run()
    }
    let byLines = schedule.algorithm == .implicitProduct || schedule.algorithm == .winograd
    if !byLines || region.frame?.isFilledByLines(g.dimensions) != true {
      lowered.fillFrame(of: region, "convolution_frame", graph, target)
    }
    return lowered
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
    types = plan.types
    width = schedule.tile.vectors * target.vectorBytes / types.c.byteCount
    func layout(_ value: ValueID, _ axes: [Int]) -> (sizes: [Int], strides: [Int]) {
      let sizes = graph.sizes(value)
      return (sizes.picked(axes), rowMajorStrides(sizes).picked(axes))
    }
    input = layout(node.operands[0], geometry.dimensions.input)
    weights = layout(node.operands[1], geometry.dimensions.kernel)
    output = layout(node.results[0], geometry.dimensions.output)
    var e = RegionEvaluator(graph, region)
    let columns = plan.positions.reduce(1, *)
    batch = e.variable(input.sizes[0])
    group = e.variable(plan.groups)
    channel = e.variable(plan.channels)
    column = e.variable(columns)
    rowBlocks = e.variable((plan.channels + schedule.rowBlock - 1) / schedule.rowBlock)
    columnBlocks = e.variable((columns + schedule.columnBlock - 1) / schedule.columnBlock)
    for variable in [batch, group, rowBlocks, columnBlocks] { e.draft.addTiles(variable) }
    self.e = e
  }

  private var depth: Int { plan.taps.reduce(1, *) }
  private var columns: Int { plan.positions.reduce(1, *) }
  /// Whether the product is stored as it is: positions of a channel are neighbours in the result.
  private var isDirect: Bool {
    region.members.count == 1 && region.outputs.count == 1
      && geometry.dimensions.output[..<2].allSatisfy { $0 < 2 }
  }
  /// Columns of the panels of a block.
  private var room: Int { (schedule.columnBlock + width - 1) / width * width }
  private var rowExtent: BlockExtent {
    BlockExtent(total: plan.channels, size: schedule.rowBlock, index: rowBlocks)
  }
  private var columnExtent: BlockExtent {
    BlockExtent(total: columns, size: schedule.columnBlock, index: columnBlocks)
  }

  private mutating func run() -> LoweredRegion {
    let source = operand(0)
    let kernels = schedule.packsKernels ? packKernels() : operand(1)
    let packed = e.local(types.b, depth * room)
    let firstChannel =
      IndexExpression(group) * plan.channels + IndexExpression(rowBlocks) * schedule.rowBlock
    let cMemory: Memory
    var cBase = IndexExpression(0)
    if isDirect {
      cMemory = e.parameter(.destination(region.outputs[0]), node.results[0])
      cBase =
        IndexExpression(batch) * output.strides[0] + firstChannel * output.strides[1]
        + IndexExpression(columnBlocks) * schedule.columnBlock
    } else {
      cMemory = e.local(types.c, schedule.rowBlock * room)
    }
    let cStride = isDirect ? output.strides[1] : room
    var product = ContractStatement(
      types: types, a: kernels,
      aBase: firstChannel * (schedule.packsKernels ? depth : weights.strides[0]),
      aRowStride: schedule.packsKernels ? depth : weights.strides[0],
      aDepthStride: weights.strides[plan.depthAxes[plan.depthAxes.count - 1]], b: packed,
      bBase: IndexExpression(0), bPanelStride: depth * width, bDepthStride: width,
      panelWidth: width, c: cMemory, cBase: cBase, cRowStride: cStride, cIsPadded: !isDirect,
      rows: rowExtent, columns: columnExtent, depth: depth, tileRows: schedule.tile.rows,
      depthBlock: convolutionDepthBlock(depth))
    product.aIsInStrips = schedule.packsKernels
    e.makeRoom(for: &product)
    draft.append(.pack(pack(source, packed)))
    draft.append(.contract(product))
    if !isDirect { epilogue(cMemory, cStride) }
    calls.append(
      e.call(
        isDirect ? "convolution" : "convolution_epilogue", types.c, target,
        flops: 2 * input.sizes[0] * plan.groups * plan.channels * columns * depth))
    return LoweredRegion(calls: calls, temporaries: temporaries)
  }

  private mutating func operand(_ index: Int) -> Memory {
    e.operand(node.operands[index], schedule.copies[index], target, &calls, &temporaries)
  }

  /// Kernels in strips, group by group.
  private mutating func packKernels() -> Memory {
    let strips = RowStrips(
      rows: plan.channels, block: schedule.rowBlock, tile: schedule.tile, depth: depth)
    let (slot, count) = (temporaries.count, plan.groups * strips.count)
    temporaries.append(Local(types.a, count))
    let (plan, node, type, dimensions) = (plan, node, types.a, geometry.dimensions)
    var e = RegionEvaluator(graph)
    let group = e.tile(plan.groups)
    strips.write(&e) { e, row, step, place in
      var at = [IndexExpression](repeating: group * plan.channels + row, count: weights.sizes.count)
      for (axis, tap) in zip(plan.depthAxes, delinearize(step, plan.taps)) { at[axis] = tap }
      let element = e.evaluate(node.operands[1], at.placed(dimensions.kernel))
      let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
      e.store(memory, group * strips.count + place, element, type)
    }
    calls.append(e.call("pack_kernels", type, target, flops: 0))
    return self.e.parameter(.temporary(slot), type, count: count)
  }

  /// The columns of a tile: for every tap and position the input under it.
  private func pack(_ source: Memory, _ packed: Memory) -> PackStatement {
    let strides = input.strides
    let taps = plan.depthAxes.map { axis in
      PackStatement.Axis(
        weights.sizes[axis], strides[axis] * (axis == 1 ? 1 : geometry.kernelDilation[axis - 2]))
    }
    let positions = plan.positionAxes.map { axis in
      PackStatement.Axis(output.sizes[axis], strides[axis] * geometry.strides[axis - 2])
    }
    return PackStatement(
      type: types.b, source: source,
      base: IndexExpression(batch) * strides[0] + IndexExpression(group)
        * (weights.sizes[1] * strides[1]),
      taps: taps, positions: positions, columns: columnExtent, destination: packed,
      panelWidth: width)
  }

  private mutating func epilogue(_ memory: Memory, _ stride: Int) {
    let isLast = geometry.dimensions.output[1] == output.sizes.count - 1
    if region.frame != nil && !isLast { return epilogueByLines(memory, stride) }
    let place =
      (IndexExpression(channel) - IndexExpression(rowBlocks) * schedule.rowBlock) * stride
      + (IndexExpression(column) - IndexExpression(columnBlocks) * schedule.columnBlock)
    // What lies side by side in the result is the innermost loop.
    let (channels, columns) = ((channel, rowExtent), (column, columnExtent))
    e.epilogue(
      node.results[0], in: memory, at: { _ in place },
      coordinate(delinearize(IndexExpression(column), plan.positions)),
      rows: isLast ? columns : channels, columns: isLast ? channels : columns,
      unroll: schedule.epilogueUnroll)
  }

  /// The coordinate of a result of the present batch, group and channel.
  private func coordinate(_ positions: [IndexExpression]) -> [IndexExpression] {
    var result = output.sizes.map { _ in IndexExpression(0) }
    result[0] = IndexExpression(batch)
    result[1] = IndexExpression(group) * plan.channels + IndexExpression(channel)
    for (axis, at) in zip(plan.positionAxes, positions) { result[axis] = at }
    return result.placed(geometry.dimensions.output)
  }

  /// Lines of a block, which are apart in the result, one by one.
  private mutating func epilogueByLines(_ memory: Memory, _ stride: Int) {
    let width = plan.positions.last!
    let (line, position) = (variable(columns / width), variable(width))
    let extent = BlockExtent(
      total: columns / width, size: schedule.columnBlock / width, index: columnBlocks)
    let first = IndexExpression(columnBlocks) * extent.size
    let place =
      (IndexExpression(channel) - IndexExpression(rowBlocks) * schedule.rowBlock) * stride
      + (IndexExpression(line) - first) * width + IndexExpression(position)
    let at = coordinate(
      delinearize(IndexExpression(line), plan.positions.dropLast()) + [IndexExpression(position)])
    e.resident[node.results[0]] = (memory, { _ in place })
    let unroll = schedule.epilogueUnroll
    let isFilled = region.frame!.isFilledByLines(geometry.dimensions)
    each(channel, block: rowExtent) { w, _ in
      w.each(line, block: extent) { w, _ in
        w.e.each(position, .vector(unroll: unroll)) { e, _ in e.storeOutputs(at) }
        if isFilled { w.e.storeFrame(beside: Array(at.dropLast())) }
      }
    }
  }
}
