package import DLCKernel
import DLCTensor

/// How a convolution runs.
package struct ConvolutionSchedule: Hashable, Sendable, Codable {
  package enum Algorithm: String, Hashable, Sendable, Codable, CaseIterable {
    /// Weights times columns that each tile gathers into panels.
    case implicitProduct
    /// For every tap a product over batch and positions: the gradient of a kernel.
    case kernelGradient
  }

  package var algorithm: Algorithm
  package var tile: RegisterTile
  /// Output channels and positions of a tile of the grid; a kernel's gradient has all its columns.
  package var rowBlock: Int
  package var columnBlock: Int
  /// How the operands that are views are copied; nil for those that are read where they lie.
  package var copies: [RowSchedule?]
  /// Vectors at a time of the epilogue, along a row of the result.
  package var epilogueUnroll: Int
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
  /// Whether neighbouring positions are neighbours in the input.
  package var isContiguous: Bool
  package var epilogue: Int

  package var text: String {
    "convolution \(types.text) \(batch)x\(groups)x[\(channels), \(depth)]x[\(depth), \(positions)]\(gradientOutputs == nil ? "" : " kernel gradient") epilogue \(epilogue)"
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
      case .kernelGradient: [gradient(problem, target)]
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
      for (scratch, work) in [
        (1 << 17, 6_000_000), (1 << 16, 6_000_000), (1 << 15, 6_000_000), (1 << 17, 48_000_000),
        (1 << 18, 48_000_000),
      ] {
        let wanted = min(
          work / max(2 * rowBlock * problem.depth, 1), scratch / max(problem.depth, 1))
        let panels = (problem.positions + width - 1) / width
        let schedule = ConvolutionSchedule(
          algorithm: .implicitProduct, tile: tile, rowBlock: rowBlock,
          columnBlock: evenBlock(panels, limit: max(1, wanted / width), multiple: 1) * width,
          copies: copies, epilogueUnroll: vectorsOfEpilogue(problem.epilogue))
        guard seen.insert(schedule).inserted else { continue }
        result.append(
          Candidate(
            schedule: schedule, cycles: schedule.implicitCost(problem, target),
            obstacle: problem.gradientOutputs == nil
              ? nil
              : "summed over batch and positions at once, a kernel's gradient has another order"
          ))
      }
    }
    return result
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
        copies: [nil, nil], epilogueUnroll: vectorsOfEpilogue(problem.epilogue)),
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
    // The kernels pass once for each tile, and panels with them.
    let kernelBytes = Double(rows * problem.depth * problem.types.a.byteCount)
    let isNear = kernelBytes + panelBytes <= Double(target.caches.l2)
    perTile += (isNear ? 0.25 : 1) * kernelBytes / model.bandwidth(kernelBytes + panelBytes)
    let total = tiles * (perTile + CostModel.tile) + CostModel.step
    return total * CostModel.waiting(tiles, cores: target.cores)
  }
}
