import DLCGraph
import DLCKernel
import DLCTensor

/// Writes the kernels of a convolution of images [n, h, w, c], whose channels lie side by side: pixels are the rows of a
/// product, gathered as they lie, and kernels stand in panels of output channels.
///
/// What the taps of a line of a kernel meet is one run of memory, so that a row of the product is a few copies.
struct PixelProductLowering: KernelWriter {
  private let region: Region
  private let node: Node
  private let geometry: ConvolutionGeometry
  private let schedule: ConvolutionSchedule
  private let graph: Graph
  private let target: Target
  private let type: DataType
  private let width: Int
  // [n, h, w, c] and [n, y, x, m], and the kernel's lines and columns.
  private let input: [Int]
  private let output: [Int]
  private let taps: [Int]
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }
  private var calls: [KernelCall] = []
  private var temporaries: [Local] = []
  // The grid: batch, blocks of pixels, blocks of output channels.
  private let batch: LoopVariable
  private let pixelBlocks: LoopVariable
  private let channelBlocks: LoopVariable
  private let pixel: LoopVariable
  private let channel: LoopVariable

  init(
    _ region: Region, _ node: Node, _ geometry: ConvolutionGeometry,
    _ schedule: ConvolutionSchedule, _ graph: Graph, _ target: Target
  ) {
    self.region = region
    self.node = node
    self.geometry = geometry
    self.schedule = schedule
    self.graph = graph
    self.target = target
    type = graph.type(node.results[0]).dataType
    width = schedule.tile.vectors * target.vectorBytes / type.byteCount
    input = graph.sizes(node.operands[0])
    output = graph.sizes(node.results[0])
    taps = Array(graph.sizes(node.operands[1]).picked(geometry.dimensions.kernel)[2...])
    var e = RegionEvaluator(graph, region)
    let pixels = output[1] * output[2]
    batch = e.variable(output[0])
    pixelBlocks = e.variable((pixels + schedule.columnBlock - 1) / schedule.columnBlock)
    channelBlocks = e.variable((output[3] + schedule.rowBlock - 1) / schedule.rowBlock)
    pixel = e.variable(pixels)
    channel = e.variable(output[3])
    for variable in [batch, pixelBlocks, channelBlocks] { e.draft.addTiles(variable) }
    self.e = e
  }

  private var pixels: Int { output[1] * output[2] }
  private var depth: Int { taps[0] * taps[1] * input[3] }
  private var panels: Int { (output[3] + width - 1) / width }
  private var isDirect: Bool { region.members.count == 1 && region.outputs.count == 1 }
  private var pixelExtent: BlockExtent {
    BlockExtent(total: pixels, size: schedule.columnBlock, index: pixelBlocks)
  }
  private var channelExtent: BlockExtent {
    BlockExtent(total: output[3], size: schedule.rowBlock, index: channelBlocks)
  }

  // MARK: What is summed

  /// Part of a run of memory: from some element on, under the taps of a line (or under one tap, where taps are apart).
  private struct Piece {
    var line: Int
    var tap: Int
    var offset: Int
    var count: Int
  }

  /// The parts of the depth, each summed at once: what the shape alone decides.
  private var parts: [[Piece]] {
    let isRun = geometry.kernelDilation[1] == 1
    let run = (isRun ? taps[1] : 1) * input[3]
    let starts = (0..<taps[0]).flatMap { line in
      (0..<(isRun ? 1 : taps[1])).map { (line, $0) }
    }
    let size = SumOrder.productPart(run)
    if size < run {
      return starts.flatMap { line, tap in
        stride(from: 0, to: run, by: size).map {
          [Piece(line: line, tap: tap, offset: $0, count: min(size, run - $0))]
        }
      }
    }
    let pieces = starts.map { Piece(line: $0, tap: $1, offset: 0, count: run) }
    let each = max(1, SumOrder.shortDepth / run)
    return stride(from: 0, to: pieces.count, by: each).map {
      Array(pieces[$0..<min($0 + each, pieces.count)])
    }
  }

  // MARK: Kernels

  mutating func run() -> LoweredRegion {
    let source = e.operand(node.operands[0], schedule.copies[0], target, &calls, &temporaries)
    let kernels = packKernels()
    let parts = parts
    let longest = parts.map { $0.reduce(0) { $0 + $1.count } }.max()!
    let rows = e.local(type, schedule.columnBlock * longest)
    let (memory, base, stride) = result()
    var first = 0
    for part in parts {
      let count = part.reduce(0) { $0 + $1.count }
      gather(part, source, rows, count)
      var product = ContractStatement(
        types: ContractTypes(type), a: rows, aBase: IndexExpression(0), aRowStride: count,
        aDepthStride: 1, b: kernels,
        bBase: IndexExpression(channelBlocks) * (schedule.rowBlock / width * depth * width)
          + first * width, bPanelStride: depth * width, bDepthStride: width, panelWidth: width,
        c: memory, cBase: base, cRowStride: stride, cIsPadded: !isDirect, rows: pixelExtent,
        columns: channelExtent, depth: count, tileRows: schedule.tile.rows, depthBlock: count,
        accumulates: first > 0)
      e.makeRoom(for: &product)
      draft.append(.contract(product))
      first += count
    }
    if !isDirect {
      let place =
        (IndexExpression(pixel) - IndexExpression(pixelBlocks) * schedule.columnBlock) * stride
        + (IndexExpression(channel) - IndexExpression(channelBlocks) * schedule.rowBlock)
      let at =
        [IndexExpression(batch)] + delinearize(IndexExpression(pixel), [output[1], output[2]])
        + [IndexExpression(channel)]
      e.epilogue(
        node.results[0], in: memory, at: { _ in place }, at, rows: (pixel, pixelExtent),
        columns: (channel, channelExtent), unroll: schedule.epilogueUnroll)
    }
    calls.append(
      e.call(
        isDirect ? "pixel_product" : "pixel_product_epilogue", type, target,
        flops: 2 * output.reduce(1, *) * depth))
    return LoweredRegion(calls: calls, temporaries: temporaries)
  }

  /// Where sums go: to their own place, or into scratch memory that the epilogue reads.
  private mutating func result() -> (memory: Memory, base: IndexExpression, stride: Int) {
    guard isDirect else {
      let room = (schedule.rowBlock + width - 1) / width * width
      return (e.local(type, schedule.columnBlock * room), IndexExpression(0), room)
    }
    let first =
      IndexExpression(batch) * pixels + IndexExpression(pixelBlocks) * schedule.columnBlock
    return (
      e.parameter(.destination(region.outputs[0]), node.results[0]),
      first * output[3] + IndexExpression(channelBlocks) * schedule.rowBlock, output[3]
    )
  }

  /// Rows of the product: for every pixel of the tile what is under part of the taps.
  private mutating func gather(_ part: [Piece], _ source: Memory, _ rows: Memory, _ count: Int) {
    let strides = rowMajorStrides(input)
    let (batch, first) = (batch, IndexExpression(pixelBlocks) * schedule.columnBlock)
    let (geometry, output, type) = (geometry, output, type)
    each(variable(pixels), block: pixelExtent) { w, pixel in
      let at = delinearize(pixel, [output[1], output[2]])
      var place = 0
      for piece in part {
        let line = at[0] * geometry.strides[0] + piece.line * geometry.kernelDilation[0]
        let column = at[1] * geometry.strides[1] + piece.tap * geometry.kernelDilation[1]
        let start =
          IndexExpression(batch) * strides[0] + line * strides[1] + column * strides[2]
          + piece.offset
        let target = (pixel - first) * count + place
        w.each(piece.count, .vector(unroll: 4)) { w, i in
          w.store(rows, target + i, w.load(source, start + i, type), type)
        }
        place += piece.count
      }
    }
  }

  /// Kernels in panels [panel, line, column, channel, width] of output channels.
  private mutating func packKernels() -> Memory {
    let (slot, count) = (temporaries.count, panels * depth * width)
    temporaries.append(Local(type, count))
    let (node, type, width, depth, channels) = (node, type, width, depth, output[3])
    let shape = taps + [input[3]]
    let dimensions = geometry.dimensions
    var e = RegionEvaluator(graph)
    let (panel, column, step) = (e.variable(panels), e.variable(channels), e.variable(depth))
    let panelBlock = e.tiles(panels, size: 1)
    let depthBlock = e.tiles(depth, size: max(1, min(depth, 32768 / width)))
    let loops = [
      LoopShape(panel, panelBlock), LoopShape(step, depthBlock),
      LoopShape(
        column, BlockExtent(total: channels, size: width, index: panel),
        mode: .vector(unroll: width / target.lanes)),
    ]
    e.nest(loops) { e in
      let tap = delinearize(IndexExpression(step), shape)
      let element = e.evaluate(
        node.operands[1],
        [IndexExpression(column), tap[2], tap[0], tap[1]].placed(dimensions.kernel))
      let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
      let place =
        (IndexExpression(panel) * depth + IndexExpression(step)) * width
        + (IndexExpression(column) - IndexExpression(panel) * width)
      e.store(memory, place, element, type)
    }
    calls.append(e.call("pack_kernels", type, target, flops: 0))
    return self.e.parameter(.temporary(slot), type, count: count)
  }
}
