package import DLCKernel
import DLCTensor

/// How a convolution runs.
package struct ConvolutionSchedule: Hashable, Sendable, Codable {
  package enum Algorithm: String, Hashable, Sendable, Codable, CaseIterable {
    /// Weights times columns that each tile gathers into panels.
    case implicitProduct
    /// Pixels side by side, with channels in lanes: where each channel has a kernel of its own.
    case depthwise
    /// Pixels, gathered as they lie, times kernels in panels: where channels lie side by side.
    case pixelProduct
    /// For every tap a product over batch and positions: the gradient of a kernel.
    case kernelGradient
    /// Products of transformed kernels with transformed tiles.
    case winograd
  }

  package var algorithm: Algorithm
  /// What is held in registers; without a product so many pixels.
  package var tile: RegisterTile
  /// Output channels and positions of a tile of the grid; a kernel's gradient has all its columns.
  package var rowBlock: Int
  package var columnBlock: Int
  /// Whether kernels are put into strips by a step of its own.
  package var packsKernels: Bool
  /// How the operands that are views are copied; nil for those that are read where they lie.
  package var copies: [RowSchedule?]
  /// Vectors at a time of the epilogue, along a row of the result.
  package var epilogueUnroll: Int
  /// Whether the sums of a depthwise one wait in memory for what follows.
  package var keepsSums = false
}

/// What the schedule of a convolution depends on.
package struct ConvolutionProblem: Hashable, Sendable {
  package var types: ContractTypes
  package var batch: Int
  package var groups: Int
  /// Output channels of a group, input channels and taps, output positions.
  package var channels: Int
  package var depth: Int
  package var positions: Int
  /// Of a kernel's gradient: the outputs that stand side by side in panels.
  package var gradientOutputs: Int?
  /// Set where it is computed by transforms.
  package var tiling: WinogradTiling?
  /// Positions of a line, where blocks have whole ones: lines of a result that lies in a frame are apart.
  package var line: Int?
  /// Whether kernels are the same in all runs.
  package var isSteady: Bool
  /// Whether neighbouring positions are neighbours in the input.
  package var isContiguous: Bool
  /// Whether channels lie side by side, in images and in the result.
  package var isChannelsLast: Bool
  /// Whether each channel has a kernel of its own as well.
  package var allChannels: Int { groups * channels }
  package var isDepthwise: Bool { isChannelsLast && gradientOutputs == nil && groups > 1 }
  package var epilogue: Int

  package var text: String {
    "convolution\(isSteady ? " steady" : "") \(types.text) \(batch)x\(groups)x[\(channels), \(depth)]x[\(depth), \(positions)]\(gradientOutputs == nil ? "" : " kernel gradient")\(isChannelsLast ? " channels last" : "")\(tiling.map { " winograd \($0.transform.outputs)" } ?? "")\(line.map { " lines of \($0)" } ?? "") epilogue \(epilogue)"
  }
}

extension ConvolutionSchedule {
  /// Every schedule that is worth a price.
  package static func candidates(
    _ problem: ConvolutionProblem, copies: [RowSchedule?], _ target: Target
  ) -> [Candidate<ConvolutionSchedule>] {
    Algorithm.allCases.flatMap { algorithm -> [Candidate<ConvolutionSchedule>] in
      switch algorithm {
      case .implicitProduct: implicitProducts(problem, copies, target)
      case .depthwise: problem.isDepthwise ? depthwise(problem, copies, target) : []
      case .pixelProduct:
        problem.isChannelsLast && !problem.isDepthwise
          ? pixelProducts(problem, copies, target) : []
      case .kernelGradient: [gradient(problem, target)]
      case .winograd: winograd(problem, target)
      }
    }
  }

  private static func implicitProducts(
    _ problem: ConvolutionProblem, _ copies: [RowSchedule?], _ target: Target
  ) -> [Candidate<ConvolutionSchedule>] {
    let (tile, width) = (target.tile, target.panelWidth(problem.types.c))
    var seen: Set<ConvolutionSchedule> = []
    var result: [Candidate<ConvolutionSchedule>] = []
    for rows in [256, 128, 512] {
      let rowBlock = evenBlock(problem.channels, limit: rows, multiple: tile.rows)
      // Elements of panels that stay in the cache; work of some tens of microseconds, or more where kernels come from far.
      // Before an epilogue sums may lie near too.
      let sums = problem.epilogue > 0 ? [Int.max, 1 << 16, 1 << 15, 1 << 14] : [Int.max]
      let limits = [
        (1 << 17, 6_000_000), (1 << 16, 6_000_000), (1 << 15, 6_000_000), (1 << 17, 48_000_000),
        (1 << 18, 48_000_000),
      ]
      for (sums, (scratch, work)) in sums.flatMap({ sums in limits.map { (sums, $0) } }) {
        let wanted = min(
          work / max(2 * rowBlock * problem.depth, 1), scratch / max(problem.depth, 1),
          sums / rowBlock)
        // Blocks of whole panels, or of whole lines.
        let unit = problem.line ?? width
        let units = (problem.positions + unit - 1) / unit
        let schedule = ConvolutionSchedule(
          algorithm: .implicitProduct, tile: tile, rowBlock: rowBlock,
          columnBlock: evenBlock(units, limit: max(1, wanted / unit), multiple: 1) * unit,
          packsKernels: problem.isSteady, copies: copies,
          epilogueUnroll: vectorsOfEpilogue(problem.epilogue))
        guard seen.insert(schedule).inserted else { continue }
        result.append(
          Candidate(
            schedule: schedule, cycles: schedule.implicitCost(problem, target),
            obstacle: problem.gradientOutputs != nil
              ? "summed over batch and positions at once, a kernel's gradient has another order"
              : problem.tiling != nil
                ? "its shape is one for transforms, whose sums have another order"
                : problem.isChannelsLast
                  ? "its channels lie side by side, and pixels are summed in another order" : nil))
      }
    }
    return result
  }

  private static func pixelProducts(
    _ problem: ConvolutionProblem, _ copies: [RowSchedule?], _ target: Target
  ) -> [Candidate<ConvolutionSchedule>] {
    let tile = target.tile(rows: problem.positions)
    let width = tile.vectors * target.vectorBytes / problem.types.c.byteCount
    let panels = (problem.channels + width - 1) / width
    var seen: Set<ConvolutionSchedule> = []
    var result: [Candidate<ConvolutionSchedule>] = []
    for pixels in [96, 48, 192, 24] {
      for channels in [256, 128, 512, 64] {
        let schedule = ConvolutionSchedule(
          algorithm: .pixelProduct, tile: tile,
          rowBlock: evenBlock(panels, limit: max(1, channels / width), multiple: 1) * width,
          columnBlock: evenBlock(problem.positions, limit: pixels, multiple: tile.rows),
          packsKernels: true, copies: [copies[0], nil],
          epilogueUnroll: vectorsOfEpilogue(problem.epilogue))
        guard seen.insert(schedule).inserted else { continue }
        result.append(
          Candidate(
            schedule: schedule, cycles: schedule.pixelCost(problem, target),
            obstacle: problem.tiling != nil
              ? "its shape is one for transforms, whose sums have another order" : nil))
      }
    }
    return result
  }

  private static func depthwise(
    _ problem: ConvolutionProblem, _ copies: [RowSchedule?], _ target: Target
  ) -> [Candidate<ConvolutionSchedule>] {
    let (width, lanes) = (problem.line!, target.vectorBytes / problem.types.c.byteCount)
    var seen: Set<ConvolutionSchedule> = []
    var result: [Candidate<ConvolutionSchedule>] = []
    for side in target.registerCount >= 32 ? [14, 7, 4] : [7, 4] {
      for vectors in [8, 4, 16, 1 << 20] {
        let channels = evenBlock(problem.allChannels, limit: vectors * lanes, multiple: lanes)
        for sums in [1 << 18, 1 << 16, 1 << 20] {
          let lines = evenBlock(
            problem.positions / width, limit: max(1, sums / (channels * width * problem.depth)),
            multiple: 1)
          let schedule = ConvolutionSchedule(
            algorithm: .depthwise,
            tile: RegisterTile(rows: evenBlock(width, limit: side, multiple: 1), vectors: 1),
            rowBlock: channels, columnBlock: lines * width, packsKernels: false, copies: copies,
            epilogueUnroll: vectorsOfEpilogue(problem.epilogue), keepsSums: problem.epilogue > 8)
          guard seen.insert(schedule).inserted else { continue }
          result.append(
            Candidate(schedule: schedule, cycles: schedule.depthwiseCost(problem, target)))
        }
      }
    }
    return result
  }

  /// Cycles on one core: loads and sums of each vector of channels, and what follows.
  private func depthwiseCost(_ problem: ConvolutionProblem, _ target: Target) -> Double {
    let lanes = Double(target.vectorBytes / problem.types.c.byteCount)
    let lines = Double(columnBlock / problem.line!)
    let blocks = (Double(problem.positions / problem.line!) / lines).rounded(.up)
    let tiles =
      Double(problem.batch) * blocks * (Double(problem.allChannels) / Double(rowBlock)).rounded(.up)
    let vectors = Double(columnBlock) * Double(rowBlock) / lanes
    // Two loads in a cycle: weights for all pixels together, and each element for about two of its sums.
    let taps = Double(problem.depth)
    let loads = taps * (1 / Double(tile.rows) + 0.5) / 2
    let perVector =
      max(taps / Double(target.multiplyAddUnits), loads * (problem.channels == 1 ? 1 : 2))
      + Double(problem.epilogue) + 3
    var perTile = vectors * perVector + lines * 20
    let model = CostModel(target)
    let element = Double(problem.types.c.byteCount)
    let weightBytes = taps * Double(rowBlock) * element
    if weightBytes > Double(target.caches.l1) / 2 {
      perTile += vectors / Double(tile.rows) * taps * 16 / model.bandwidth(weightBytes)
    }
    // Lines that a tile walks over again and again, from the nearest cache that holds them.
    let side = (taps / Double(problem.channels)).squareRoot()
    let windowBytes = side * Double(problem.line! * rowBlock) * element
    if windowBytes > Double(target.caches.l1) / 2 {
      let reads = side * (Double(tile.rows) + side - 1) / Double(tile.rows)
      perTile += 0.5 * vectors * reads * lanes * element / model.bandwidth(windowBytes)
    }
    // Images come from far: lines at the end of a tile twice, and parts of pixels in pieces that are soon over.
    let isPart = rowBlock < problem.allChannels
    let pixelBytes = vectors * lanes * element * (lines + side - 1) / lines
    let imageBytes = 2 * Double(problem.positions * problem.allChannels) * element
    let isFar = imageBytes > Double(target.caches.l2) * 4
    perTile += (isPart && isFar ? 1.5 : 1) * pixelBytes / model.bandwidth(imageBytes)
    let total = tiles * (perTile + CostModel.tile) + CostModel.step
    return total * CostModel.waiting(tiles, cores: target.cores)
  }

  /// Cycles on one core: gathering rows, products and the epilogue of every tile.
  private func pixelCost(_ problem: ConvolutionProblem, _ target: Target) -> Double {
    let model = CostModel(target)
    let element = Double(problem.types.c.byteCount)
    let channelBlocks = Double((problem.channels + rowBlock - 1) / rowBlock)
    let pixelBlocks = Double((problem.positions + columnBlock - 1) / columnBlock)
    let tiles = Double(problem.batch) * channelBlocks * pixelBlocks
    let (rows, columns) = (min(columnBlock, problem.positions), min(rowBlock, problem.channels))
    var perTile = model.contract(
      problem.types.c, tile: tile, rows: rows, columns: columns, depth: problem.depth)
    perTile += model.copy(problem.types.c, count: rows * problem.depth, isContiguous: true)
    // Kernels pass once for each tile, from as far as all that it goes over lies.
    let kernelBytes = Double(columns * problem.depth) * element
    let wholeBytes = Double(problem.channels * problem.depth) * element
    perTile += 0.5 * kernelBytes / model.bandwidth(wholeBytes)
    let sumBytes = Double(rows * columns) * element
    perTile += Double(rows * columns * problem.epilogue) / Double(target.lanes)
    perTile += (problem.epilogue > 0 ? 2 : 1) * sumBytes / model.bandwidth(2 * sumBytes)
    let total = tiles * (perTile + CostModel.tile) + CostModel.step
    return total * CostModel.waiting(tiles, cores: target.cores)
  }

  private static func gradient(_ problem: ConvolutionProblem, _ target: Target) -> Candidate<
    ConvolutionSchedule
  > {
    let (tile, width) = (target.tile, target.panelWidth(problem.types.c))
    let outputs = problem.gradientOutputs ?? problem.positions
    let panels = (outputs + width - 1) / width
    let rowBlock = max(
      tile.rows,
      evenBlock(
        problem.channels, limit: max(tile.rows, 16384 / (panels * width)), multiple: tile.rows))
    let model = CostModel(target)
    let cycles =
      Double(problem.batch)
      * model.contract(
        problem.types.c, tile: tile, rows: problem.channels, columns: outputs, depth: problem.depth)
    return Candidate(
      schedule: ConvolutionSchedule(
        algorithm: .kernelGradient, tile: tile, rowBlock: rowBlock, columnBlock: panels * width,
        packsKernels: false, copies: [nil, nil], epilogueUnroll: vectorsOfEpilogue(problem.epilogue)
      ),
      cycles: cycles + 2 * CostModel.step,
      obstacle: problem.gradientOutputs == nil
        ? "its operands are not exchanged in batch and channels, as a kernel's gradient has them"
        : nil)
  }

  /// Cycles on one core: gathering, products and the epilogue of every tile.
  private func implicitCost(_ problem: ConvolutionProblem, _ target: Target) -> Double {
    let model = CostModel(target)
    let element = Double(problem.types.b.byteCount)
    let rowBlocks = Double((problem.channels + rowBlock - 1) / rowBlock)
    let columnBlocks = Double((problem.positions + columnBlock - 1) / columnBlock)
    let tiles = Double(problem.batch * problem.groups) * rowBlocks * columnBlocks
    let (rows, columns) = (min(rowBlock, problem.channels), min(columnBlock, problem.positions))
    var perTile = model.contract(
      problem.types.c, tile: tile, rows: rows, columns: columns, depth: problem.depth)
    let panelBytes = Double(columns * problem.depth) * element
    let heights = Double((rows + tile.rows - 1) / tile.rows)
    if panelBytes > Double(target.caches.l1) / 2 {
      perTile += 0.25 * heights * panelBytes / model.bandwidth(panelBytes)
    }
    perTile += model.copy(
      problem.types.b, count: columns * problem.depth, isContiguous: problem.isContiguous)
    perTile += Double(rows * columns * problem.epilogue) / Double(target.lanes)
    if problem.epilogue > 0 {
      // Sums are written and read again beside what they become.
      let sumBytes = Double(rows * columns) * element
      perTile += 2 * sumBytes / model.bandwidth(2 * sumBytes + panelBytes)
    }
    // The kernels pass once for each tile, and panels with them.
    let kernelBytes = Double(rows * problem.depth * problem.types.a.byteCount)
    let isNear = kernelBytes + panelBytes <= Double(target.caches.l2)
    perTile += (isNear ? 0.25 : 1) * kernelBytes / model.bandwidth(kernelBytes + panelBytes)
    let total = tiles * (perTile + CostModel.tile) + CostModel.step
    return total * CostModel.waiting(tiles, cores: target.cores)
  }
}

/// Squares of outputs that a convolution is made of by transforms: what the shape alone decides, never the batch, the
/// machine or the number of threads, as sums have another order then.
package struct WinogradTiling: Hashable, Sendable {
  package var transform: WinogradTransform
  /// Lines of tiles of an image, and tiles of a line.
  package var lines: Int
  package var tiles: Int

  init(_ transform: WinogradTransform, height: Int, width: Int) {
    self.transform = transform
    lines = (height + transform.outputs - 1) / transform.outputs
    tiles = (width + transform.outputs - 1) / transform.outputs
  }

  /// Tiles of a block at most, but for lines that are longer.
  fileprivate static let blockTiles = 256

  /// Whether places in the images of a block, from its first image on, are 32-bit numbers, as the kernels have them.
  private func isCountable(depth: Int) -> Bool {
    let plane = (lines * transform.outputs + 2) * (tiles * transform.outputs + 2)
    let images = max(1, Self.blockTiles / tiles) / lines + 2
    return Double(images) * Double(depth) * Double(plane) < 0x1p31
  }

  /// The tiling with the least work, if that is well below the work of the sums themselves.
  package static func best(depth: Int, channels: Int, height: Int, width: Int) -> WinogradTiling? {
    guard depth >= 16, channels >= 16, height >= 4, width >= 4 else { return nil }
    // Multiply-adds. Reading an element of a kernel takes as long as 16 of them, gathering one of the input as 3.
    let direct = 9 * Double(height * width + 16) * Double(depth) * Double(channels + 3)
    /// As many, and what the transforms of a tile take: 28 for an element of the input, 10 for one of the result.
    func work(_ tiling: WinogradTiling) -> Double {
      let count = Double(tiling.lines * tiling.tiles)
      let products = (count + 16) * Double(depth) * Double(channels)
      let transforms = count * Double(28 * depth + 10 * channels)
      return Double(tiling.transform.products) * (products + transforms)
    }
    let tilings = [4, 2].map {
      WinogradTiling(WinogradTransform(outputs: $0), height: height, width: width)
    }
    let best = tilings.min { work($0) < work($1) }!
    return work(best) < 0.8 * direct && best.isCountable(depth: depth) ? best : nil
  }
}

extension ConvolutionSchedule {
  private static func winograd(_ problem: ConvolutionProblem, _ target: Target) -> [Candidate<
    ConvolutionSchedule
  >] {
    guard let tiling = problem.tiling else { return [] }
    let lanes = target.vectorBytes / problem.types.c.byteCount
    let lines = problem.batch * tiling.lines
    var seen: Set<ConvolutionSchedule> = []
    var result: [Candidate<ConvolutionSchedule>] = []
    for wanted in [32, 24, 48, 64, 96, 128, 192, WinogradTiling.blockTiles] {
      // Where channels are in lanes, blocks of tiles may end within a line.
      let count =
        problem.isChannelsLast
        ? evenBlock(lines * tiling.tiles, limit: wanted, multiple: target.tile.rows)
        : evenBlock(lines, limit: max(1, wanted / tiling.tiles), multiple: 1) * tiling.tiles
      let isNarrow = count <= lanes && !problem.isChannelsLast
      let tile = isNarrow ? RegisterTile(rows: target.tile.rows, vectors: 1) : target.tile
      for rows in [32, 64, 128, 256, 512] {
        let schedule = ConvolutionSchedule(
          algorithm: .winograd, tile: tile,
          rowBlock: evenBlock(
            problem.channels, limit: rows,
            multiple: problem.isChannelsLast ? tile.vectors * lanes : tile.rows),
          columnBlock: count, packsKernels: true, copies: [nil, nil],
          epilogueUnroll: vectorsOfEpilogue(problem.epilogue))
        guard seen.insert(schedule).inserted else { continue }
        result.append(
          Candidate(
            schedule: schedule,
            cycles: problem.isChannelsLast
              ? schedule.winogradPixelCost(problem, tiling, target)
              : schedule.winogradCost(problem, tiling, target)))
      }
    }
    return result
  }

  /// Cycles on one core: the transform of the input, then products and their way back in every tile.
  private func winogradCost(
    _ problem: ConvolutionProblem, _ tiling: WinogradTiling, _ target: Target
  ) -> Double {
    let model = CostModel(target)
    let element = Double(problem.types.c.byteCount)
    let lanes = Double(target.vectorBytes) / element
    let transform = tiling.transform
    let products = Double(transform.products)
    let total = problem.batch * tiling.lines * tiling.tiles
    let columns = min(columnBlock, total)
    let width = tile.vectors * Int(lanes)
    let room = Double((columns + width - 1) / width * width)
    let vectors = (Double(columns) / lanes).rounded(.up)
    let blocks = (Double(total) / Double(columns)).rounded(.up)
    let rows = min(rowBlock, problem.channels)
    let rowBlocks = (Double(problem.channels) / Double(rows)).rounded(.up)
    let depth = Double(problem.depth / 9)
    let panelBytes = products * depth * room * element
    let forward =
      blocks
      * (depth * vectors * model.inputTransform(transform)
        + panelBytes / model.bandwidth(blocks * panelBytes)) + CostModel.step
    var perTile =
      products
      * model.contract(
        problem.types.c, tile: tile, rows: rows, columns: columns, depth: Int(depth))
    // Panels, kernels and sums pass once, each from as far as all of it lies.
    let kernelBytes = products * Double(rows) * depth * element
    let sumBytes = products * Double(rows) * room * element
    perTile += 0.5 * panelBytes / model.bandwidth(blocks * panelBytes)
    perTile += 0.5 * kernelBytes / model.bandwidth(rowBlocks * kernelBytes + panelBytes)
    perTile += sumBytes / model.bandwidth(sumBytes + panelBytes / products)
    perTile += Double(rows) * vectors * model.outputTransform(transform)
    perTile +=
      Double(rows * columns * transform.outputs * transform.outputs * (problem.epilogue + 2))
      / lanes
    let tiles = blocks * rowBlocks
    let back = tiles * (perTile + CostModel.tile) + CostModel.step
    return forward + back * CostModel.waiting(tiles, cores: target.cores)
  }

  /// The same where channels are in lanes: tiles are the rows of the products, and kernels stand in panels.
  private func winogradPixelCost(
    _ problem: ConvolutionProblem, _ tiling: WinogradTiling, _ target: Target
  ) -> Double {
    let model = CostModel(target)
    let element = Double(problem.types.c.byteCount)
    let lanes = Double(target.vectorBytes) / element
    let transform = tiling.transform
    let products = Double(transform.products)
    let total = problem.batch * tiling.lines * tiling.tiles
    let (rows, columns) = (min(columnBlock, total), min(rowBlock, problem.channels))
    let depth = Double(problem.depth / 9)
    let inputBytes = products * Double(total) * depth * element
    let forward =
      Double(total) * depth / lanes * model.outputTransform(transform)
      + inputBytes / model.bandwidth(inputBytes) + CostModel.step
    var perTile =
      products
      * model.contract(
        problem.types.c, tile: tile, rows: rows, columns: columns, depth: Int(depth))
    // The rows of a product come from where all of them lie, then for every panel from the nearest cache that has them.
    let leftBytes = Double(rows) * depth * element
    let panels = (Double(columns) / lanes / Double(tile.vectors)).rounded(.up)
    perTile += products * leftBytes / model.bandwidth(inputBytes)
    if leftBytes > Double(target.caches.l1) / 2 {
      perTile += 0.25 * products * (panels - 1) * leftBytes / model.bandwidth(leftBytes)
    }
    let kernelBytes = products * Double(columns) * depth * element
    let wholeBytes = products * Double(problem.channels) * depth * element
    perTile += 0.5 * kernelBytes / model.bandwidth(wholeBytes)
    let sums = Double(rows * columns)
    perTile += 2 * products * sums * element / model.bandwidth(products * sums * element)
    perTile += sums / lanes * model.outputTransform(transform)
    perTile +=
      sums * Double(transform.outputs * transform.outputs * (problem.epilogue + 2)) / lanes
    let blocks = (Double(total) / Double(rows)).rounded(.up)
    let tiles = blocks * (Double(problem.channels) / Double(columns)).rounded(.up)
    let back = tiles * (perTile + CostModel.tile) + CostModel.step
    return forward + back * CostModel.waiting(tiles, cores: target.cores)
  }
}
