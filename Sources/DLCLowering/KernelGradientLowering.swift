import DLCGraph
import DLCKernel
import DLCTensor

/// The gradient of a kernel: for every tap a product over batch and positions of shifted planes of x
/// with planes of d. Planes of d are packed to the width of those of x, zeros beside them, so that both
/// are walked as one line.
struct KernelGradientLowering: KernelWriter {
  private let region: Region
  private let root: ValueID
  private let gradient: ConvolutionPlan.KernelGradient
  private let geometry: ConvolutionGeometry
  private let schedule: ConvolutionSchedule
  private let graph: Graph
  private let target: Target
  private let type: DataType
  private let width: Int
  // x [batches, channels, plane of lines], d [batches, outputs, rows, columns].
  private let batches: Int
  private let channels: Int
  private let line: Int
  private let plane: Int
  private let outputs: Int
  private let rows: Int
  private let columns: Int
  /// Extents of the kernel.
  private let taps: [Int]
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }

  init(
    _ region: Region, _ node: Node, _ gradient: ConvolutionPlan.KernelGradient,
    _ geometry: ConvolutionGeometry, _ schedule: ConvolutionSchedule, _ graph: Graph,
    _ target: Target
  ) {
    self.region = region
    root = node.results[0]
    self.gradient = gradient
    self.geometry = geometry
    self.schedule = schedule
    self.graph = graph
    self.target = target
    type = graph.type(root).dataType
    width = target.panelWidth(type)
    let (x, d) = (graph.sizes(gradient.x), graph.sizes(gradient.d))
    (batches, channels, line) = (x[0], x[1], x[3])
    plane = x[2] * x[3]
    (outputs, rows, columns) = (d[1], d[2], d[3])
    taps = graph.sizes(root).picked(Array(geometry.dimensions.output[2...]))
    e = RegionEvaluator(graph, region)
  }

  private var depth: Int { (rows - 1) * line + columns }
  private var panels: Int { (outputs + width - 1) / width }
  private var packed: Int { batches * panels * depth * width }

  mutating func run() -> LoweredRegion {
    let (i, j) = (tile(taps[0]), tile(taps[1]))
    let extent = tiles(channels, size: schedule.rowBlock)
    let first = IndexExpression(extent.index!) * extent.size
    let (channel, output, batch) = (variable(channels), variable(outputs), variable(batches))
    let source = e.parameter(.value(gradient.x), gradient.x)
    let other = e.parameter(.temporary(0), type, count: packed)
    let count = extent.size * panels * width
    let sums = local(type, count)
    // Long batches are summed in groups.
    let group = max(SumOrder.group, Int(Double(batches).squareRoot()))
    let inner = batches > group ? local(type, count) : sums
    let base =
      (IndexExpression(batch) * channels + first) * plane + i * (geometry.strides[0] * line) + j
      * geometry.strides[1]
    var product = ContractStatement(
      types: ContractTypes(type), a: source, aBase: base, aRowStride: plane,
      aDepthStride: geometry.kernelDilation[0],
      b: other, bBase: IndexExpression(batch) * (panels * depth * width),
      bPanelStride: depth * width, bDepthStride: width, panelWidth: width, c: inner,
      cBase: IndexExpression(0), cRowStride: panels * width, cIsPadded: true, rows: extent,
      columns: BlockExtent(outputs), depth: depth, tileRows: schedule.tile.rows,
      depthBlock: convolutionDepthBlock(depth), accumulates: true)
    e.makeRoom(for: &product)
    sum(product, over: batch, inGroupsOf: group, to: sums, count)
    let place =
      (IndexExpression(channel) - first) * (panels * width) + IndexExpression(output)
    let position = [IndexExpression(channel), IndexExpression(output), i, j]
    e.epilogue(
      root, in: sums, at: { _ in place }, position.placed(geometry.dimensions.output),
      rows: (channel, extent), columns: (output, BlockExtent(outputs)),
      unroll: schedule.epilogueUnroll)
    let call = e.call(
      "kernel_gradient", type, target,
      flops: 2 * batches * channels * outputs * taps[0] * taps[1] * rows * columns,
      inPlace: Lowering.sharable(region, graph, e))
    return LoweredRegion(calls: [pack(), call], temporaries: [Local(type, packed)])
  }

  /// The products of all batches, in groups when they have sums of their own.
  private mutating func sum(
    _ product: ContractStatement, over batch: LoopVariable, inGroupsOf group: Int,
    to sums: Memory, _ count: Int
  ) {
    clear(sums, count)
    if product.c == sums {
      each(batch) { w, _ in w.draft.append(.contract(product)) }
      return
    }
    let groups = variable((batches + group - 1) / group)
    let extent = BlockExtent(total: batches, size: group, index: groups)
    each(groups) { w, _ in
      w.clear(product.c, count)
      w.each(batch, block: extent) { w, _ in w.draft.append(.contract(product)) }
      w.each(count, .vector(unroll: 4)) { w, place in
        let before = w.load(sums, place, w.type)
        let part = w.load(product.c, place, w.type)
        w.store(sums, place, w.apply(.binary(.add), w.type, before, part), w.type)
      }
    }
  }

  private mutating func clear(_ memory: Memory, _ count: Int) {
    each(count, .vector(unroll: 4)) { w, place in
      w.store(memory, place, w.number(0, w.type), w.type)
    }
  }

  /// d [n, m, h, w] as panels [n, panel, h lines, width]: `width` outputs side by side; lines are as
  /// long as those of x.
  private func pack() -> KernelCall {
    var e = RegionEvaluator(graph)
    let batch = e.tile(batches)
    let extent = e.tiles(outputs, size: width)
    let panel = IndexExpression(extent.index!)
    let memory = e.parameter(.temporary(0), type, count: packed, isOutput: true)
    func place(_ position: IndexExpression, _ lane: IndexExpression) -> IndexExpression {
      ((batch * panels + panel) * depth + position) * width + lane
    }
    let (row, column, output) = (e.variable(rows), e.variable(columns), e.variable(outputs))
    let lanes = LoopShape(output, extent, mode: .vector(unroll: 1))
    e.nest([LoopShape(row), LoopShape(column), lanes]) { e in
      let at = [row, column].map { IndexExpression($0) }
      let value = e.evaluate(gradient.d, [batch, IndexExpression(output)] + at)
      let lane = IndexExpression(output) - panel * width
      e.store(memory, place(at[0] * line + at[1], lane), value, type)
    }
    if rows > 1 && line > columns {
      e.each(rows - 1) { e, row in
        e.each(line - columns) { e, gap in
          e.each(width, .vector(unroll: 1)) { e, lane in
            e.store(memory, place(row * line + gap + columns, lane), e.number(0, type), type)
          }
        }
      }
    }
    return e.call("pack_planes", type, target, flops: 0)
  }
}
