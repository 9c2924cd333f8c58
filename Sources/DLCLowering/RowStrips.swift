import DLCGraph
import DLCKernel
import DLCTensor

/// The left operand of a product as its register tiles read it: tile after tile, and in each the rows of a step of the
/// depth side by side.
struct RowStrips {
  /// Rows, and those of a block of the grid.
  var rows: Int
  var block: Int
  var tile: RegisterTile
  var depth: Int

  /// Elements of all strips.
  var count: Int { rows * depth }

  /// Tiles of one height, which every one of some blocks has from a row on.
  private struct Run {
    var blocks: Range<Int>
    var first: Int
    var height: Int
    var count: Int
  }

  private var runs: [Run] {
    let whole = rows / block
    return [(0..<whole, block), (whole..<(rows + block - 1) / block, rows % block)].flatMap {
      blocks, size -> [Run] in
      var first = 0
      return blocks.isEmpty
        ? []
        : tile.heights(size).map { height, count in
          defer { first += height * count }
          return Run(blocks: blocks, first: first, height: height, count: count)
        }
    }
  }

  /// Loops over all strips of a matrix; `body` gets the row and the step that an element has, and where it lies. The
  /// rows of a step stand in lanes.
  func write(
    _ e: inout RegionEvaluator,
    _ body: (inout RegionEvaluator, IndexExpression, IndexExpression, IndexExpression) -> Void
  ) {
    // A tile of the grid has some steps of all rows: none depends on where blocks end.
    let steps = e.tiles(depth, size: max(1, 65536 / rows))
    for run in runs {
      let (block, tile, step, row) = (
        e.variable(run.blocks.count), e.variable(run.count), e.variable(depth),
        e.variable(run.height)
      )
      let start =
        (IndexExpression(block) + run.blocks.lowerBound) * self.block + run.first
        + IndexExpression(tile) * run.height
      e.nest([
        LoopShape(block), LoopShape(tile), LoopShape(step, steps),
        LoopShape(row, mode: .vector(unroll: 1)),
      ]) { e in
        let place = start * depth + IndexExpression(step) * run.height + IndexExpression(row)
        body(&e, start + IndexExpression(row), IndexExpression(step), place)
      }
    }
  }
}
