import DLCGraph
import DLCKernel
import DLCTensor

/// Numbers of a kernel that is written, as the transforms of convolutions combine them.
struct ScalarArithmetic: LinearArithmetic {
  var e: RegionEvaluator
  let type: DataType

  mutating func multiply(_ a: ScalarID, _ factor: Double) -> ScalarID {
    e.apply(.binary(.multiply), type, a, e.number(factor, type))
  }
  mutating func multiplyAdd(_ a: ScalarID, _ factor: Double, _ b: ScalarID) -> ScalarID {
    let factor = e.number(factor, type)
    return e.define(.multiplyAdd(type, [a, factor, b]))
  }
  mutating func add(_ a: ScalarID, _ b: ScalarID) -> ScalarID {
    e.apply(.binary(.add), type, a, b)
  }
  mutating func subtract(_ a: ScalarID, _ b: ScalarID) -> ScalarID {
    e.apply(.binary(.subtract), type, a, b)
  }
}

/// A convolution with 3x3 kernels by Winograd's transforms: kernels and tiles of the input are transformed, for
/// each place of a transformed tile there is a product over channels, and what they give is transformed back.
///
/// The transform of the kernels is a call of its own, which runs once where they never change; that of the input is
/// one too, which runs every time.
struct WinogradLowering: KernelWriter {
  private let region: Region
  private let node: Node
  private let tiling: WinogradTiling
  private let schedule: ConvolutionSchedule
  private let graph: Graph
  private let target: Target
  private let type: DataType
  private let width: Int
  // x [batches, depth, input lines, input columns], y [batches, channels, output lines, output columns].
  private let input: [Int]
  private let output: [Int]
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }
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
  private var depth: Int { input[1] }
  private var channels: Int { output[1] }
  /// Lines of tiles, those of a block, and the blocks.
  private var lines: Int { output[0] * tiling.lines }
  private var blockLines: Int { schedule.columnBlock / tiling.tiles }
  private var blocks: Int { (lines + blockLines - 1) / blockLines }
  private var blockTiles: Int { min(blockLines, lines) * tiling.tiles }
  private var panels: Int { (blockTiles + width - 1) / width }
  /// Elements of the panels of a product in a block.
  private var productSize: Int { panels * depth * width }

  mutating func run() -> LoweredRegion {
    let kernels = kernels()
    let (padding, source) = planes()
    let tiles = tiles(source)
    let product = products(kernels: kernels.slot, tiles: tiles.slot)
    return LoweredRegion(
      calls: [kernels.call] + padding + [tiles.call, product], temporaries: temporaries)
  }

  private mutating func temporary(_ count: Int) -> Int {
    temporaries.append(Local(type, count))
    return temporaries.count - 1
  }

  /// Kernels as strips of [output channels, input channels], one matrix for each product.
  private mutating func kernels() -> (call: KernelCall, slot: Int) {
    let strips = RowStrips(
      rows: channels, block: schedule.rowBlock, tile: schedule.tile, depth: depth)
    let count = transform.products * strips.count
    let slot = temporary(count)
    let (node, type, transform) = (node, type, transform)
    var e = RegionEvaluator(graph)
    strips.write(&e) { e, row, step, place in
      let taps = (0..<3).map { y in
        (0..<3).map { x in
          e.evaluate(node.operands[1], [row, step, IndexExpression(y), IndexExpression(x)])
        }
      }
      var arithmetic = ScalarArithmetic(e: e, type: type)
      let square = transform.both(taps) { transform.kernel($0, &arithmetic) }
      e = arithmetic.e
      let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
      for (number, value) in square.joined().enumerated() {
        e.store(memory, place + number * strips.count, value, type)
      }
    }
    return (e.call("winograd_kernels", type, target, flops: 0), slot)
  }

  /// Planes of the input, and what they lie in.
  private struct Planes {
    var binding: KernelCall.Binding
    var count: Int
    var line: Int
    var plane: Int
  }

  /// The input where it lies, or copied to where whole tiles have room, zeros beside it.
  private mutating func planes() -> (calls: [KernelCall], Planes) {
    let value = node.operands[0]
    let (rows, columns) = (
      tiling.lines * transform.outputs + 2, tiling.tiles * transform.outputs + 2
    )
    let isWhole = rows == input[2] && columns == input[3]
    if isWhole && graph.base(value) == value {
      return (
        [],
        Planes(
          binding: .value(value), count: input.reduce(1, *), line: columns, plane: rows * columns)
      )
    }
    let count = input[0] * depth * rows * columns
    let slot = temporary(count)
    var e = RegionEvaluator(graph)
    let n = e.tile(input[0])
    let (c, y, x) = (e.variable(depth), e.variable(input[2]), e.variable(input[3]))
    let block = e.tiles(depth, size: max(1, 32768 / (rows * columns)))
    let depth = depth
    func plane(_ c: IndexExpression) -> IndexExpression { (n * depth + c) * (rows * columns) }
    let vector = Loop.Mode.vector(unroll: 2)
    e.nest([LoopShape(c, block), LoopShape(y), LoopShape(x, mode: vector)]) { e in
      let at = [n] + [c, y, x].map { IndexExpression($0) }
      let element = e.evaluate(value, at)
      let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
      e.store(memory, plane(at[1]) + at[2] * columns + at[3], element, type)
    }
    func clear(rows cleared: Range<Int>, columns right: Range<Int>) {
      if cleared.isEmpty || right.isEmpty { return }
      let (c, y, x) = (e.variable(depth), e.variable(cleared.count), e.variable(right.count))
      e.nest([LoopShape(c, block), LoopShape(y), LoopShape(x, mode: vector)]) { e in
        let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
        let row = (IndexExpression(y) + cleared.lowerBound) * columns
        e.store(
          memory, plane(IndexExpression(c)) + row + IndexExpression(x) + right.lowerBound,
          e.number(0, type), type)
      }
    }
    clear(rows: 0..<input[2], columns: input[3]..<columns)
    clear(rows: input[2]..<rows, columns: 0..<columns)
    return (
      [e.call("winograd_planes", type, target, flops: 0)],
      Planes(binding: .temporary(slot), count: count, line: columns, plane: rows * columns)
    )
  }

  /// Tiles of the input as [block, products, panel, channel, width].
  private mutating func tiles(_ planes: Planes) -> (call: KernelCall, slot: Int) {
    let count = blocks * transform.products * productSize
    let slot = temporary(count)
    var e = RegionEvaluator(graph)
    let extent = e.tiles(lines, size: blockLines)
    let perTile = max(1, min(depth, 16384 / (transform.products * panels * width)))
    let channels = e.tiles(depth, size: perTile)
    let first = IndexExpression(channels.index!) * channels.size
    let source = e.parameter(planes.binding, type, count: planes.count)
    let memory = e.parameter(.temporary(slot), type, count: count, isOutput: true)
    e.draft.append(
      .winograd(
        WinogradStatement(
          transform: transform,
          direction: .input(
            WinogradStatement.Planes(
              channels: channels, channelStride: planes.plane, imageStride: depth * planes.plane,
              lineStride: planes.line),
            WinogradStatement.Panels(
              productStride: productSize, panelStride: depth * width, channelStride: width,
              width: width)), type: type, source: source, sourceBase: first * planes.plane,
          destination: memory,
          destinationBase: IndexExpression(extent.index!) * (transform.products * productSize)
            + first * width, lines: extent, linesPerImage: tiling.lines,
          tilesPerLine: tiling.tiles)))
    return (e.call("winograd_tiles", type, target, flops: 0), slot)
  }

  /// The products of a block, their way back, and what follows.
  private mutating func products(kernels: Int, tiles: Int) -> KernelCall {
    let rows = e.tiles(channels, size: schedule.rowBlock)
    let extent = e.tiles(lines, size: blockLines)
    let firstRow = IndexExpression(rows.index!) * rows.size
    let a = e.parameter(.temporary(kernels), type, count: temporaries[kernels].count)
    let b = e.parameter(.temporary(tiles), type, count: temporaries[tiles].count)
    let room = panels * width
    let sums = local(type, transform.products * rows.size * room)
    let number = variable(transform.products)
    let columns = BlockExtent(
      total: lines * tiling.tiles, size: blockLines * tiling.tiles, index: extent.index)
    var product = ContractStatement(
      types: ContractTypes(type), a: a,
      aBase: (IndexExpression(number) * channels + firstRow) * depth, aRowStride: depth,
      aDepthStride: 1, b: b,
      bBase: IndexExpression(extent.index!) * (transform.products * productSize)
        + IndexExpression(number) * productSize, bPanelStride: depth * width, bDepthStride: width,
      panelWidth: width, c: sums, cBase: IndexExpression(number) * (rows.size * room),
      cRowStride: room, cIsPadded: true, rows: rows, columns: columns, depth: depth,
      tileRows: schedule.tile.rows, depthBlock: convolutionDepthBlock(depth))
    product.aIsInStrips = true
    e.makeRoom(for: &product)
    each(number) { w, _ in w.draft.append(.contract(product)) }
    let square = local(type, transform.outputs * transform.outputs * room)
    let channel = variable(channels)
    each(channel, block: rows) { w, channel in
      w.draft.append(
        .winograd(
          WinogradStatement(
            transform: w.transform,
            direction: .output(productStride: rows.size * room, room: room), type: w.type,
            source: sums, sourceBase: (channel - firstRow) * room, destination: square,
            destinationBase: IndexExpression(0), lines: extent, linesPerImage: w.tiling.lines,
            tilesPerLine: w.tiling.tiles)))
      w.epilogue(channel, extent, square, room)
    }
    return e.call(
      "winograd_products", type, target,
      flops: 2 * transform.products * channels * depth * lines * tiling.tiles)
  }

  /// What follows for the elements of a block in one channel, line by line.
  private mutating func epilogue(
    _ channel: IndexExpression, _ extent: BlockExtent, _ memory: Memory, _ room: Int
  ) {
    let (line, row, column) = (
      variable(lines), variable(transform.outputs), variable(output[3])
    )
    let outputs = transform.outputs
    let place =
      IndexExpression(row) * (room * outputs)
      + (IndexExpression(line) - IndexExpression(extent.index!) * blockLines)
      * (tiling.tiles * outputs) + IndexExpression(column)
    e.resident[node.results[0]] = (memory, { _ in place })
    each(line, block: extent) { w, line in
      w.each(row) { w, row in
        let wanted = line.remainder(w.tiling.lines) * outputs + row
        if w.output[2] % outputs == 0 { return w.store(channel, line, wanted, column) }
        // The last lines of tiles go beyond the last line of the result.
        let number = w.position(wanted)
        let limit = w.position(IndexExpression(w.output[2]))
        let isInside = w.apply(.compare(.less), .int64, number, limit)
        w.when(isInside) { w in
          w.store(channel, line, w.bind(number, extent: w.output[2]), column)
        }
      }
    }
  }

  private mutating func store(
    _ channel: IndexExpression, _ line: IndexExpression, _ row: IndexExpression,
    _ column: LoopVariable
  ) {
    let at = [line.quotient(tiling.lines), channel, row, IndexExpression(column)]
    e.each(column, .vector(unroll: schedule.epilogueUnroll)) { e, _ in e.storeOutputs(at) }
    if region.frame?.isFilledByLines(.channelsFirst(spatial: 2)) == true {
      e.storeFrame(beside: Array(at.dropLast()))
    }
  }
}
