package import DLCGraph
package import DLCKernel
package import DLCTensor

/// How a product runs on register tiles.
package struct ContractionSchedule: Hashable, Sendable, Codable {
  /// Where the right operand is put into panels.
  package enum Packing: String, Hashable, Sendable, Codable {
    /// By a step of its own, which runs once where the operand never changes.
    case step
    /// In the tile that uses it, a part of the depth at a time, while it is in the cache.
    case tile
  }

  package var tile: RegisterTile
  package var packing: Packing
  /// Whether the left operand is copied to where its rows lie at regular distances.
  package var copiesLeft: Bool
  /// Rows and columns of a tile of the grid; columns in whole panels.
  package var rowBlock: Int
  package var columnBlock: Int
  /// Panels and steps of the depth that a tile of the packing step fills; rows that one of the copy does.
  package var packPanels: Int
  package var packDepth: Int
  package var copyRows: Int
  /// Vectors at a time of the epilogue, along a row of the result.
  package var epilogueUnroll: Int
}

/// What the schedule of a product depends on.
package struct ContractionProblem: Hashable, Sendable {
  package var types: ContractTypes
  package var batch: Int
  package var rows: Int
  /// Of a gate.
  package var columns: Int
  /// How many pieces of the columns each element of the epilogue takes.
  package var gates = 1
  package var depth: Int
  /// Whether the right operand is packed once before all runs.
  package var isSteady: Bool
  /// Whether the left operand lies at regular distances.
  package var isStrided: Bool
  /// Whether neighbouring columns of the right operand are neighbours in memory.
  package var isRowMajor: Bool
  /// Vector instructions of the epilogue for an element; 0 where the product is stored as it is.
  package var epilogue: Int

  package var text: String {
    "product \(types.text) \(batch)x[\(rows), \(depth)]x[\(depth), \(columns)]\(isSteady ? " steady" : "")\(isStrided ? "" : " gathered")\(isRowMajor ? " row-major" : " column-major")\(gates == 1 ? "" : " of \(gates) gates") epilogue \(epilogue)"
  }
}

extension ContractionSchedule {
  /// The longest depth that a tile can pack in parts and still keep the order of sums.
  private static func packableDepth(_ depth: Int) -> Int {
    SumOrder.group * SumOrder.productPart(depth)
  }

  /// Every schedule that is worth a price.
  package static func candidates(_ problem: ContractionProblem, _ target: Target) -> [Candidate<
    ContractionSchedule
  >] {
    let tile = target.tile(rows: problem.rows)
    let width = tile.vectors * target.vectorBytes / problem.types.c.byteCount
    let panels = (problem.columns + width - 1) / width
    var result: [Candidate<ContractionSchedule>] = []
    var seen: Set<ContractionSchedule> = []
    for packing in [Packing.step, .tile] {
      let tiles = packing == .step ? [16, 8, 32, 4, 2] : [32, 16, 8]
      for count in tiles {
        let rowBlock = evenBlock(problem.rows, limit: tile.rows * count, multiple: tile.rows)
        let most = packing == .step ? 512 : 192
        for wanted in [most, most / 2, most / 4, most * 2, most / 8, most / 16] {
          // Some tens of microseconds of work in a tile.
          let limit =
            min(max(64, 12_000_000 / max(2 * rowBlock * problem.depth, 1)), wanted)
            / problem.gates
          let packPanels = problem.isRowMajor ? min(panels, 32) : 1
          let schedule = ContractionSchedule(
            tile: tile, packing: packing, copiesLeft: !problem.isStrided, rowBlock: rowBlock,
            columnBlock: evenBlock(panels, limit: max(1, limit / width), multiple: 1) * width,
            packPanels: packPanels,
            packDepth: max(1, min(problem.depth, 32768 / (width * packPanels))),
            copyRows: max(1, 32768 / max(problem.depth, 1)),
            epilogueUnroll: vectorsOfEpilogue(problem.epilogue, gates: problem.gates))
          guard seen.insert(schedule).inserted else { continue }
          result.append(
            Candidate(
              schedule: schedule, cycles: schedule.cost(problem, target),
              obstacle: schedule.obstacle(problem)))
        }
      }
    }
    return result
  }

  private func obstacle(_ problem: ContractionProblem) -> String? {
    if packing == .tile && problem.isSteady {
      return "an operand that never changes is packed once"
    }
    let limit = Self.packableDepth(problem.depth)
    if packing == .tile && problem.depth > limit {
      return
        "a depth of \(problem.depth) in parts of a tile would be summed in another order than beyond \(limit)"
    }
    return nil
  }

  /// Cycles on one core.
  package func cost(_ problem: ContractionProblem, _ target: Target) -> Double {
    let model = CostModel(target)
    let element = Double(problem.types.b.byteCount)
    let rowBlocks = Double((problem.rows + rowBlock - 1) / rowBlock)
    let columnBlocks = Double((problem.columns + columnBlock - 1) / columnBlock)
    let (tiles, gates) = (Double(problem.batch) * rowBlocks * columnBlocks, Double(problem.gates))
    let (rows, columns, depth) = (
      min(rowBlock, problem.rows), min(columnBlock, problem.columns), problem.depth
    )
    // Bytes of a part of the depth that a tile goes over again and again.
    let part = min(depth, SumOrder.productPart(depth))
    let panelBytes = Double(part * columns) * element
    let leftBytes = Double(rows * part) * element
    var perTile = model.contract(
      problem.types.c, tile: tile, rows: rows, columns: columns, depth: depth)
    // The panels pass through once for each register tile of rows, the left rows for each panel.
    let heights = Double((rows + tile.rows - 1) / tile.rows)
    let sweeps = Double((depth + part - 1) / part)
    func refill(_ bytes: Double, _ times: Double) -> Double {
      bytes <= Double(target.caches.l1) / 2
        ? 0 : 0.25 * bytes * times / model.bandwidth(bytes + leftBytes)
    }
    perTile += sweeps * refill(panelBytes, heights)
    perTile *= gates
    let fetched = Double((rows + columns * problem.gates) * depth) * element
    let whole = Double((problem.rows + problem.columns * problem.gates) * depth) * element
    perTile += 0.25 * fetched / model.bandwidth(whole)
    perTile += Double(rows * columns * problem.epilogue) / Double(target.lanes)
    switch packing {
    case .step: break
    case .tile:
      // Short pieces of rows, each time from where the whole operand is.
      let whole = Double(problem.columns * problem.gates * depth) * element
      perTile += gates * Double(columns * depth) * element / model.bandwidth(whole)
      perTile += model.copy(
        problem.types.b, count: columns * problem.gates * depth, isContiguous: problem.isRowMajor)
    }
    var total = tiles * (perTile + CostModel.tile) + CostModel.step
    if packing == .step && !problem.isSteady {
      let count = problem.batch * problem.columns * problem.gates * depth
      total += CostModel.step
      total += model.copy(problem.types.b, count: count, isContiguous: problem.isRowMajor)
      total += 2 * Double(count) * element / model.bandwidth(2 * Double(count) * element)
    }
    if copiesLeft {
      let count = problem.batch * problem.rows * depth
      total += CostModel.step + model.copy(problem.types.b, count: count, isContiguous: false)
    }
    return total * CostModel.waiting(tiles, cores: target.cores)
  }
}
