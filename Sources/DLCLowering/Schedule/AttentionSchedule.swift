package import DLCKernel
import DLCTensor

/// How two products with rows in between run: a tile computes some rows of the first, what is in between, and the same
/// rows of the second; nothing but panels of the right operands is stored.
package struct AttentionSchedule: Hashable, Sendable, Codable {
  package var tile: RegisterTile
  /// Rows of a tile of the grid.
  package var rowBlock: Int
  /// How a row in between runs.
  package var rows: RowSchedule
  /// Whether the right operand of each product is put into panels first.
  package var packs: [Bool]
  /// Panels and steps of the depth that a tile fills which packs the right operand, of each product.
  package var packPanels: [Int]
  package var packDepths: [Int]
  /// Vectors at a time of what follows the second product.
  package var epilogueUnroll: Int
}

/// What that depends on.
package struct AttentionProblem: Hashable, Sendable {
  package var scores: ContractionProblem
  package var weighted: ContractionProblem
  package var rows: RowProblem
  /// The widths of panels with which each right operand can be read where it lies: all that divide this; 0: none.
  package var inPlace: [Int]

  package var text: String {
    "attention: \(scores.text); \(rows.text); \(weighted.text) in place \(inPlace)"
  }
}

extension AttentionSchedule {
  /// Every schedule that is worth a price.
  package static func candidates(_ problem: AttentionProblem, _ target: Target) -> [Candidate<
    AttentionSchedule
  >] {
    let tile = target.tile(rows: problem.scores.rows)
    let width = tile.vectors * target.vectorBytes / problem.scores.types.c.byteCount
    let products = [problem.scores, problem.weighted]
    let panels = products.map { product in
      product.isRowMajor ? min((product.columns + width - 1) / width, 32) : 1
    }
    var (result, seen) = ([Candidate<AttentionSchedule>](), Set<AttentionSchedule>())
    let packs = problem.inPlace.map { $0 == 0 || $0 % width != 0 }
    for count in [8, 4, 2, 1, 16] {
      let schedule = AttentionSchedule(
        tile: tile,
        rowBlock: evenBlock(problem.scores.rows, limit: tile.rows * count, multiple: tile.rows),
        rows: RowSchedule.best(problem.rows, target),
        packs: packs, packPanels: panels,
        packDepths: zip(products, panels).map {
          max(1, min($0.depth, 32768 / (width * $1)))
        },
        epilogueUnroll: vectorsOfEpilogue(problem.weighted.epilogue))
      if seen.insert(schedule).inserted {
        result.append(Candidate(schedule: schedule, cycles: schedule.cost(problem, target)))
      }
    }
    return result
  }

  /// Cycles on one core.
  package func cost(_ problem: AttentionProblem, _ target: Target) -> Double {
    let model = CostModel(target)
    let (scores, weighted) = (problem.scores, problem.weighted)
    let blocks = Double((scores.rows + rowBlock - 1) / rowBlock)
    let tiles = Double(scores.batch) * blocks
    let rows = min(rowBlock, scores.rows)
    let element = Double(scores.types.c.byteCount)
    var perTile = 0.0
    var copied = 0
    for (product, packs) in zip([scores, weighted], packs) {
      if packs { copied += product.batch * product.depth * product.columns }
      perTile += model.contract(
        product.types.c, tile: tile, rows: rows, columns: product.columns, depth: product.depth)
      let bytes = Double(product.columns * product.depth) * element
      perTile += bytes / model.bandwidth(2 * bytes)
    }
    // Each row is written, gone over by every stage, and read again.
    let line = Double(rows * scores.columns)
    let work = problem.rows.stages.reduce(0) { $0 + $1.cost }
    perTile += 0.5 * line / Double(target.lanes) * Double(work)
    perTile +=
      Double(problem.rows.stages.count + 2) * line * element / model.bandwidth(line * element)
    perTile += Double(rows * weighted.columns * weighted.epilogue) / Double(target.lanes)
    return tiles * (perTile + CostModel.tile) * CostModel.waiting(tiles, cores: target.cores)
      + 3 * CostModel.step + 0.5 * Double(copied)
  }
}
