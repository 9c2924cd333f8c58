import DLCGraph
import DLCKernel
import DLCTensor

/// A convolution with 3x3 kernels by Winograd's transforms, of images [n, h, w, c] whose channels lie side by side: what
/// `WinogradLowering` does for planes, with channels in lanes.
///
/// Tiles of the input are the rows of the products, channels the depth, and transformed kernels stand in panels of output
/// channels.
struct WinogradPixelLowering: KernelWriter {
  private let region: Region
  private let node: Node
  private let tiling: WinogradTiling
  private let schedule: ConvolutionSchedule
  private let graph: Graph
  private let target: Target
  private let type: DataType
  private let width: Int
  // x [n, h, w, depth], y [n, h - 2, w - 2, channels].
  private let input: [Int]
  private let output: [Int]
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }
  private var calls: [KernelCall] = []
  private var temporaries: [Local] = []

  init(
    _ region: Region, _ node: Node, _ tiling: WinogradTiling, _ schedule: ConvolutionSchedule,
    _ graph: Graph, _ target: Target
  ) {
    self.region = region
    self.node = node
    self.tiling = tiling
    self.schedule = schedule
    self.graph = graph
    self.target = target
    type = graph.type(node.results[0]).dataType
    width = schedule.tile.vectors * target.vectorBytes / type.byteCount
    input = graph.sizes(node.operands[0])
    output = graph.sizes(node.results[0])
    e = RegionEvaluator(graph, region)
  }

  private var transform: WinogradTransform { tiling.transform }
  private var depth: Int { input[3] }
  private var channels: Int { output[3] }
  private var panels: Int { (channels + width - 1) / width }
  /// Lines of tiles of all images, and tiles.
  private var lines: Int { output[0] * tiling.lines }
  private var tiles: Int { lines * tiling.tiles }

  mutating func run() -> LoweredRegion {
    let kernels = kernels()
    let inputs = inputs()
    calls.append(products(kernels: kernels, inputs: inputs))
    return LoweredRegion(calls: calls, temporaries: temporaries)
  }

  private mutating func temporary(_ count: Int) -> Int {
    temporaries.append(Local(type, count))
    return temporaries.count - 1
  }

  /// Kernels as [products, panel, channel, width].
  private mutating func kernels() -> Int {
    let size = panels * depth * width
    let (count, node, type, transform, width) = (
      transform.products * size, node, type, transform, width
    )
    let slot = temporary(count)
    guard case .convolution(let g) = graph.structure(node) else {
      preconditionFailure("the node is no convolution")
    }
    var e = RegionEvaluator(graph)
    let (panel, column, step) = (e.variable(panels), e.variable(channels), e.variable(depth))
    let loops = [
      LoopShape(panel, e.tiles(panels, size: 1)),
      LoopShape(step, e.tiles(depth, size: max(1, 4096 / width))),
      LoopShape(
        column, BlockExtent(total: channels, size: width, index: panel), mode: .vector(unroll: 1)),
    ]
    let depth = depth
    e.nest(loops) { e in
      let taps = (0..<3).map { y in
        (0..<3).map { x in
          e.evaluate(
            node.operands[1],
            [
              IndexExpression(column), IndexExpression(step), IndexExpression(y),
              IndexExpression(x),
            ].placed(g.dimensions.kernel))
        }
      }
      var arithmetic = ScalarArithmetic(e: e, type: type)
      let square = transform.both(taps) { transform.kernel($0, &arithmetic) }
      e = arithmetic.e
      let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
      let place =
        (IndexExpression(panel) * depth + IndexExpression(step)) * width
        + (IndexExpression(column) - IndexExpression(panel) * width)
      for (number, value) in square.joined().enumerated() {
        e.store(memory, place + number * size, value, type)
      }
    }
    calls.append(e.call("winograd_kernels", type, target, flops: 0))
    return slot
  }

  /// A line or a column of the input under a tile. What goes beyond the last one only meets outputs that nobody asks
  /// for: any number will do there, so that the last one stands for it.
  private static func position(
    _ e: inout RegionEvaluator, _ tile: IndexExpression, _ offset: Int, _ tiling: (Int, Int),
    extent: Int
  ) -> IndexExpression {
    let (count, outputs) = tiling
    let wanted = tile * outputs + offset
    if (count - 1) * outputs + offset < extent { return wanted }
    return e.bind(e.position(wanted), extent: extent)
  }

  /// Transformed tiles of the input as [products, tile, channel].
  private mutating func inputs() -> Int {
    let (value, type, transform, tiling, input) = (node.operands[0], type, transform, tiling, input)
    let (depth, tiles) = (depth, tiles)
    let count = transform.products * tiles * depth
    let slot = temporary(count)
    var e = RegionEvaluator(graph)
    let line = e.tile(lines)
    let channelBlock = e.tiles(
      depth,
      size: max(
        target.lanes,
        min(depth, 16384 / (transform.products * tiling.tiles)) / target.lanes * target.lanes))
    let image = line.quotient(tiling.lines)
    let rows = (0..<transform.inputs).map {
      Self.position(
        &e, line.remainder(tiling.lines), $0, (tiling.lines, transform.outputs), extent: input[1])
    }
    e.each(tiling.tiles) { e, tile in
      let columns = (0..<transform.inputs).map {
        Self.position(&e, tile, $0, (tiling.tiles, transform.outputs), extent: input[2])
      }
      e.each(depth, .vector(unroll: 1), block: channelBlock) { e, channel in
        let square = rows.map { row in
          columns.map { column in e.evaluate(value, [image, row, column, channel]) }
        }
        var arithmetic = ScalarArithmetic(e: e, type: type)
        let transformed = transform.both(square) { transform.input($0, &arithmetic) }
        e = arithmetic.e
        let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
        let place = (line * tiling.tiles + tile) * depth + channel
        for (number, scalar) in transformed.joined().enumerated() {
          e.store(memory, place + number * (tiles * depth), scalar, type)
        }
      }
    }
    calls.append(e.call("winograd_tiles", type, target, flops: 0))
    return slot
  }

  /// The products of a block of tiles and channels, their way back, and what follows.
  private mutating func products(kernels: Int, inputs: Int) -> KernelCall {
    let block = e.tiles(tiles, size: schedule.columnBlock)
    let channelBlock = e.tiles(channels, size: schedule.rowBlock)
    let room = (schedule.rowBlock + width - 1) / width * width
    let a = e.parameter(.temporary(inputs), type, count: temporaries[inputs].count)
    let b = e.parameter(.temporary(kernels), type, count: temporaries[kernels].count)
    let sums = local(type, transform.products * schedule.columnBlock * room)
    let number = variable(transform.products)
    let firstTile = IndexExpression(block.index!) * schedule.columnBlock
    let firstChannel = IndexExpression(channelBlock.index!) * schedule.rowBlock
    var product = ContractStatement(
      types: ContractTypes(type), a: a,
      aBase: (IndexExpression(number) * tiles + firstTile) * depth, aRowStride: depth,
      aDepthStride: 1, b: b,
      bBase: IndexExpression(number) * (panels * depth * width) + firstChannel * depth,
      bPanelStride: depth * width, bDepthStride: width, panelWidth: width, c: sums,
      cBase: IndexExpression(number) * (schedule.columnBlock * room), cRowStride: room,
      cIsPadded: true, rows: block, columns: channelBlock, depth: depth,
      tileRows: schedule.tile.rows, depthBlock: convolutionDepthBlock(depth))
    e.makeRoom(for: &product)
    each(number) { w, _ in w.draft.append(.contract(product)) }
    let square = local(type, transform.outputs * transform.outputs * room)
    each(variable(tiles), block: block) { w, tile in
      w.back(sums, square, (tile - firstTile) * room, room, channelBlock)
      w.store(square, tile, room, channelBlock)
    }
    return e.call(
      "winograd_products", type, target,
      flops: 2 * transform.products * channels * depth * tiles)
  }

  /// The products of a tile as outputs [line, column, channel].
  private mutating func back(
    _ sums: Memory, _ square: Memory, _ start: IndexExpression, _ room: Int, _ block: BlockExtent
  ) {
    let (transform, type, size) = (transform, type, schedule.columnBlock * room)
    let first = IndexExpression(block.index!) * schedule.rowBlock
    e.each(channels, .vector(unroll: 1), block: block) { e, channel in
      let at = channel - first
      let products = (0..<transform.inputs).map { y in
        (0..<transform.inputs).map { x in
          e.load(sums, start + at + (y * transform.inputs + x) * size, type)
        }
      }
      var arithmetic = ScalarArithmetic(e: e, type: type)
      let outputs = transform.both(products) { transform.output($0, &arithmetic) }
      e = arithmetic.e
      for (number, value) in outputs.joined().enumerated() {
        e.store(square, at + number * room, value, type)
      }
    }
  }

  /// What follows for the outputs of a tile that there are.
  private mutating func store(
    _ square: Memory, _ tile: IndexExpression, _ room: Int, _ block: BlockExtent
  ) {
    let (outputs, output, tiling) = (transform.outputs, output, tiling)
    let line = tile.quotient(tiling.tiles)
    let image = line.quotient(tiling.lines)
    let first = IndexExpression(block.index!) * schedule.rowBlock
    let (row, column, channel) = (variable(outputs), variable(outputs), variable(channels))
    let place =
      (IndexExpression(row) * outputs + IndexExpression(column)) * room + IndexExpression(channel)
      - first
    e.resident[node.results[0]] = (square, { _ in place })
    let unroll = schedule.epilogueUnroll
    each(row) { w, row in
      w.inside(line.remainder(tiling.lines) * outputs + row, output[1], outputs) { w, y in
        w.each(column) { w, column in
          w.inside(tile.remainder(tiling.tiles) * outputs + column, output[2], outputs) { w, x in
            w.e.each(channel, .vector(unroll: unroll), block: block) { e, channel in
              e.storeOutputs([image, y, x, channel])
            }
          }
        }
      }
    }
  }

  /// What is done at a position that is one: the last tiles go beyond the last one.
  private mutating func inside(
    _ wanted: IndexExpression, _ extent: Int, _ outputs: Int,
    _ body: (inout WinogradPixelLowering, IndexExpression) -> Void
  ) {
    if extent % outputs == 0 { return body(&self, wanted) }
    let number = position(wanted)
    let limit = position(IndexExpression(extent))
    let isInside = apply(.compare(.less), .int64, number, limit)
    when(isInside) { w in body(&w, w.bind(number, extent: extent)) }
  }
}
