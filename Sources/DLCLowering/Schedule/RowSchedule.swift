package import DLCKernel
package import DLCTensor

/// How a map, or rows with their reductions, run.
package struct RowSchedule: Hashable, Sendable, Codable {
  /// The axes of the domain that are one loop each, outermost first.
  package var loops: [[Int]]
  /// In how many registers the parts of a long product run side by side, where elements are few; nil: elements
  /// run in lanes.
  package var spread: Int?
  /// Vectors of the loop over elements at a time, and registers of elements that loops inside work on.
  package var unroll: Int
  package var width: Int
  /// The same of the loop along a row, stage by stage: each stage needs what those before it reduced.
  package var stageUnrolls: [Int]
  /// Members whose rows are kept between stages, by their number in the region.
  package var kept: [Int]
  /// The loop over kept axes that tiles split, counted from the outermost, and elements of it in a tile: those
  /// outside are tiles one by one, those inside whole. nil: one tile.
  package var split: Split?

  package struct Split: Hashable, Sendable, Codable {
    package var loop: Int
    package var size: Int
  }
}

/// What the schedule of rows depends on.
package struct RowProblem: Hashable, Sendable {
  package var domain: [Int]
  package var axes: [Int]
  package var loops: [[Int]]
  package var kept: [Int]
  /// Vector instructions for an element, and of each stage.
  package var cost: Int
  package var stages: [Stage]
  /// Whether functions are computed that are long chains of instructions.
  package var hasChains: Bool
  /// The longest product that is computed inside.
  package var productDepth: Int
  /// Whether neighbouring elements are neighbours, or the same, in all memory that is touched.
  package var isAlong: Bool

  package struct Stage: Hashable, Sendable {
    package var cost: Int
    package var reduces: Bool
    package var hasChains: Bool
  }

  package var text: String {
    "\(axes.isEmpty ? "map" : "rows") \(domain)\(axes.isEmpty ? "" : " over \(axes)") cost \(cost)\(hasChains ? " of chains" : "")\(productDepth > 0 ? " product \(productDepth)" : "")\(isAlong ? "" : " strided")"
      + " loops \(loops)\(kept.isEmpty ? "" : " kept \(kept)")"
      + stages.map {
        " stage \($0.cost)\($0.hasChains ? " of chains" : "")\($0.reduces ? " reduces" : "")"
      }.joined()
  }

  /// Extents of the loops over kept axes, and the elements of a row.
  var keptExtents: [Int] {
    loops.filter { !axes.contains($0[0]) }.map { $0.reduce(1) { $0 * domain[$1] } }
  }
  var rowLength: Int { axes.reduce(1) { $0 * domain[$1] } }
  /// Whether the innermost loop runs along a row.
  var isInner: Bool { RowLowering.isInner(loops, axes, domain) }
}

extension RowSchedule {
  /// Vector instructions that a tile has at most: some tens of microseconds.
  private static let budget = 400_000
  /// What lives in registers at a time, in instructions whose results do: more spills.
  private static let live = 32.0

  /// Every schedule that is worth a price.
  package static func candidates(_ problem: RowProblem, _ target: Target) -> [Candidate<
    RowSchedule
  >] {
    let elements = problem.domain.reduce(1, *)
    let spreads = problem.productDepth > 0 && elements * 16 * target.lanes <= problem.productDepth
    let isVector = problem.axes.isEmpty ? !spreads : !problem.isInner
    let unrolls = problem.axes.isEmpty && isVector ? [4, 2, 1] : [1]
    return unrolls.map { unroll in
      var schedule = RowSchedule(
        loops: problem.loops, spread: spreads ? max(1, 16 / target.lanes) : nil, unroll: unroll,
        width: 1, stageUnrolls: problem.stages.map { stageUnroll($0) }, kept: problem.kept,
        split: nil)
      schedule.width = isVector ? width(problem, target) : 1
      schedule.split = schedule.split(problem, target, isVector: isVector)
      return Candidate(
        schedule: schedule, cycles: schedule.cost(problem, target),
        obstacle: fits(unroll, problem.cost) || problem.hasChains
          ? nil : "\(unroll) vectors at a time do not stay in registers")
    }
  }

  /// Whether so many independent chains of an element's instructions stay in registers.
  private static func fits(_ unroll: Int, _ cost: Int) -> Bool {
    unroll == 1 || Double(unroll) * (Double(cost) + 1.5) <= live
  }

  private static func stageUnroll(_ stage: RowProblem.Stage) -> Int {
    if stage.hasChains { return 4 }
    let most = [4, 2, 1].first { fits($0, stage.cost) }!
    // Two chains of a reduction hide more than a spill costs.
    return stage.reduces ? max(most, stage.cost <= 24 ? 2 : 1) : most
  }

  /// Sums down columns take several registers of columns along, as whole cache lines. So do products, and
  /// where the columns stand apart in memory, 16 of them are as many streams as are followed.
  private static func width(_ problem: RowProblem, _ target: Target) -> Int {
    let wanted: Int
    if problem.axes.isEmpty {
      wanted = problem.productDepth < 16 ? 1 : problem.isAlong ? 8 : max(1, 16 / target.lanes)
    } else {
      wanted = problem.cost <= 6 ? 8 : problem.cost <= 14 ? 4 : 1
    }
    let extent = problem.keptExtents.last ?? 1
    return [8, 4, 2, 1].first {
      $0 <= wanted && target.lanes * $0 <= max(extent, target.lanes)
    }!
  }

  /// The loop that tiles split, from the innermost out: the first that is more work than a tile has.
  private func split(_ problem: RowProblem, _ target: Target, isVector: Bool) -> Split? {
    let extents = problem.keptExtents
    // What does little with an element takes as long as memory does.
    let (work, tooLong) = max(problem.cost, 4).multipliedReportingOverflow(by: problem.rowLength)
    var inner = tooLong ? Int.max : max(work, 1)
    for loop in extents.indices.reversed() {
      let extent = extents[loop]
      let (total, overflow) = inner.multipliedReportingOverflow(by: max(extent, 1))
      if !overflow && total <= Self.budget || extent <= 1 {
        inner = overflow ? Int.max : total
        continue
      }
      let isLanes = isVector && loop == extents.count - 1
      let step = isLanes ? target.lanes * unroll * width : 1
      let size = min(max(1, Self.budget / inner + step - 1) / step * step, extent)
      return Split(loop: loop, size: max(size, step))
    }
    return nil
  }

  /// Cycles on one core.
  package func cost(_ problem: RowProblem, _ target: Target) -> Double {
    let elements = Double(problem.domain.reduce(1, *))
    let perVector = 0.5 * Double(problem.cost) + 1 / Double(unroll)
    let latency = (problem.hasChains ? Double(problem.cost) : 3) / Double(unroll)
    return elements / Double(target.lanes) * max(perVector, latency) + CostModel.step
  }
}
