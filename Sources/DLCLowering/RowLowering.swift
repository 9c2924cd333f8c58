import DLCGraph
import DLCKernel
import DLCTensor

/// Lowers maps and row regions: softmax, norms, reductions, and everything elementwise.
///
/// Reductions are ordered by levels: a level's loop over the row computes every reduction whose
/// operands need only earlier levels, and stores what is ready. Values that are expensive to compute
/// again in a later level are kept in a row buffer.
struct RowLowering: KernelWriter {
  private let region: Region
  private let graph: Graph
  private let target: Target
  private let schedule: RowSchedule
  private let domain: [Int]
  private let axes: [Int]
  /// Where the region's one output goes, when not to its own row-major place.
  private let placement: (([IndexExpression]) -> IndexExpression)?
  private let offset: [Int]
  private var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }
  private var variables: [LoopVariable] = []
  /// The stages that have been written.
  private var stages: [RowProblem.Stage] = []

  static func lower(
    _ region: Region, _ schedule: RowSchedule, _ graph: Graph, _ target: Target
  ) -> KernelCall {
    lower(region, schedule, graph, target, offset: domain(region).map { _ in 0 }, placement: nil)
  }

  /// `offset` is added to the coordinate that values are computed at; `placement` says where they go.
  static func lower(
    _ region: Region, _ schedule: RowSchedule, _ graph: Graph, _ target: Target, offset: [Int],
    placement: (([IndexExpression]) -> IndexExpression)?
  ) -> KernelCall {
    var lowering = RowLowering(region, schedule, graph, target, offset, placement)
    lowering.write()
    return lowering.call()
  }

  /// Writes one row of a region into a kernel that computes more: the row at a coordinate without its last axis, which
  /// is reduced, to where `placement` says.
  static func write(
    _ region: Region, _ schedule: RowSchedule, _ graph: Graph, _ target: Target,
    into e: inout RegionEvaluator, row: [IndexExpression],
    placement: @escaping ([IndexExpression]) -> IndexExpression
  ) {
    var lowering = RowLowering(
      region, schedule, graph, target, domain(region).map { _ in 0 }, placement)
    lowering.e = e
    lowering.variables = schedule.loops.map { group in
      lowering.variable(group.reduce(1) { $0 * lowering.domain[$1] })
    }
    lowering.writeRows(row + [IndexExpression(lowering.rowVariables[0])])
    e = lowering.e
  }

  private static func domain(_ region: Region) -> [Int] {
    guard case .rows(let domain, _) = region.kind else { preconditionFailure() }
    return domain
  }

  /// What the schedule of a region depends on: a trial with one loop per axis shows every access, and axes
  /// that all accesses walk alike are one loop; a second one shows the work.
  static func problem(
    _ region: Region, _ graph: Graph, _ target: Target, offset: [Int]? = nil,
    placement: (([IndexExpression]) -> IndexExpression)? = nil
  ) -> RowProblem {
    let offset = offset ?? domain(region).map { _ in 0 }
    var plain = RowSchedule(
      loops: domain(region).indices.map { [$0] }, unroll: 1, width: 1, stageUnrolls: [], kept: [])
    var trial = RowLowering(region, plain, graph, target, offset, placement)
    trial.write()
    plain.loops = trial.mergeable()
    plain.kept = trial.keptMembers(plain.loops)
    var work = trial
    if plain.loops.count < trial.domain.count || !plain.kept.isEmpty {
      work = RowLowering(region, plain, graph, target, offset, placement)
      work.write()
    }
    let last = Array(zip(plain.loops, work.variables)).last { !trial.axes.contains($0.0[0]) }?.1
    return RowProblem(
      domain: trial.domain, axes: trial.axes, loops: plain.loops, kept: plain.kept,
      cost: work.e.cost, stages: work.stages, hasChains: work.e.hasChains,
      productDepth: work.e.productDepth,
      isAlong: last.map { variable in
        work.e.accesses.allSatisfy {
          $0.stride(of: variable).map { $0 == 0 || $0 == 1 } ?? false
        }
      } ?? true)
  }

  private init(
    _ region: Region, _ schedule: RowSchedule, _ graph: Graph, _ target: Target, _ offset: [Int],
    _ placement: (([IndexExpression]) -> IndexExpression)?
  ) {
    guard case .rows(let domain, let axes) = region.kind else { preconditionFailure() }
    self.region = region
    self.schedule = schedule
    self.graph = graph
    self.target = target
    self.domain = domain
    self.axes = axes
    self.offset = offset
    self.placement = placement
    e = RegionEvaluator(graph, region)
  }

  private func mergeable() -> [[Int]] {
    var groups: [[Int]] = []
    for axis in domain.indices {
      if let last = groups.last?.last,
        axes.contains(last) == axes.contains(axis) || domain[axis] == 1 || domain[last] == 1,
        domain[axis] == 1 || domain[last] == 1 && axes.contains(last) == axes.contains(axis)
          || e.accesses.allSatisfy({ access in
            guard let outer = access.stride(of: variables[last]),
              let inner = access.stride(of: variables[axis])
            else { return false }
            return outer == inner * domain[axis]
          }), axes.contains(last) == axes.contains(axis)
      {
        groups[groups.count - 1].append(axis)
      } else {
        groups.append([axis])
      }
    }
    return groups
  }

  /// The loops over kept axes, and those along a row, outermost first.
  private var keptVariables: [LoopVariable] {
    zip(schedule.loops, variables).filter { !axes.contains($0.0[0]) }.map(\.1)
  }
  private var rowVariables: [LoopVariable] {
    zip(schedule.loops, variables).filter { axes.contains($0.0[0]) }.map(\.1)
  }
  /// Whether the innermost loop runs along a row, in vectors.
  private var isInner: Bool { Self.isInner(schedule.loops, axes, domain) }

  static func isInner(_ loops: [[Int]], _ axes: [Int], _ domain: [Int]) -> Bool {
    guard let last = loops.last, axes.contains(last[0]) else { return false }
    return last.reduce(1) { $0 * domain[$1] } > 1
  }

  /// The loops over kept axes, and everything inside of them.
  private mutating func write() {
    variables = schedule.loops.map { group in variable(group.reduce(1) { $0 * domain[$1] }) }
    var coordinate = domain.map { _ in IndexExpression(0) }
    for (group, variable) in zip(schedule.loops, variables) {
      for (axis, position) in zip(
        group, delinearize(IndexExpression(variable), group.map { domain[$0] }))
      {
        coordinate[axis] = position + offset[axis]
      }
    }
    nest(keptLoops()) { w in
      if w.rowVariables.isEmpty { w.writeMap(coordinate) } else { w.writeRows(coordinate) }
    }
  }

  /// The loops over kept axes: those inside of the split whole, the split one in blocks, those outside as
  /// tiles.
  private mutating func keptLoops() -> [LoopShape] {
    let isVector = axes.isEmpty ? schedule.spread == nil : !isInner
    let kept = keptVariables
    var loops: [LoopShape] = []
    for (position, variable) in kept.enumerated() {
      let isLanes = isVector && position == kept.count - 1
      let mode: Loop.Mode =
        isLanes ? .vector(unroll: schedule.unroll, width: schedule.width) : .serial
      if let split = schedule.split, position < split.loop {
        draft.addTiles(variable)
      } else if let split = schedule.split, position == split.loop {
        loops.append(LoopShape(variable, tiles(variable.extent, size: split.size), mode: mode))
      } else {
        loops.append(LoopShape(variable, mode: mode))
      }
    }
    return loops
  }

  private func destinationIndex(_ output: Region.Destination, _ coordinate: [IndexExpression])
    -> IndexExpression
  {
    placement.map { $0(coordinate) } ?? linearize(coordinate, graph.sizes(output.value))
  }

  private mutating func writeMap(_ coordinate: [IndexExpression]) {
    e.spreadWidth = schedule.spread
    for output in region.outputs {
      e.store(
        output, coordinate, destinationIndex(output, zip(coordinate, offset).map { $0 + -$1 }))
    }
  }

  // MARK: Levels

  private func isReduction(_ value: ValueID) -> (combiner: Combiner, operand: ValueID)? {
    guard let id = graph.definitions[value.index], region.members.contains(id),
      case .reduction(let combiner, let over) = graph.structure(graph[id]), over.sorted() == axes,
      graph.sizes(graph[id].operands[0]) == domain
    else { return nil }
    return (combiner, graph[id].operands[0])
  }

  /// The level of a value: the number of row loops that must come before it is known.
  private func level(_ value: ValueID, _ memo: inout [ValueID: Int]) -> Int {
    if let known = memo[value] { return known }
    var result = 0
    if let id = graph.definitions[value.index] {
      let node = graph[id]
      var isView = false
      if case .view = graph.structure(node) { isView = true }
      if region.members.contains(id) || isView {
        for operand in node.operands { result = max(result, level(operand, &memo)) }
        if isReduction(value) != nil { result += 1 }
      }
    }
    memo[value] = result
    return result
  }

  private mutating func writeRows(_ coordinate: [IndexExpression]) {
    let rowCoordinate = domain.indices.filter { !axes.contains($0) }.map { coordinate[$0] }
    var levels: [ValueID: Int] = [:]
    let reductions = members.map { graph[$0].results[0] }.filter { isReduction($0) != nil }
    let full = region.outputs.filter { graph.sizes($0.value) == domain }
    let last = max(
      reductions.map { level($0, &levels) }.max() ?? 0,
      full.map { level($0.value, &levels) + 1 }.max() ?? 0)
    let cached = cachedLevels(full, levels)
    for stage in 1...max(last, 1) {
      let work = Stage(
        reductions: reductions.filter { levels[$0] == stage },
        stores: full.filter { levels[$0.value]! + 1 == stage },
        kept: cached.filter { $0.value == stage }.map(\.key).sorted { $0.index < $1.index })
      write(work, coordinate, rowCoordinate)
    }
    for output in region.outputs where graph.sizes(output.value) != domain {
      e.store(output, rowCoordinate, linearize(rowCoordinate, graph.sizes(output.value)))
    }
  }

  /// What one loop over a row does.
  private struct Stage {
    var reductions: [ValueID]
    var stores: [Region.Destination]
    /// Values that later stages read from a row buffer.
    var kept: [ValueID]
  }

  private mutating func write(
    _ work: Stage, _ coordinate: [IndexExpression], _ rowCoordinate: [IndexExpression]
  ) {
    if work.reductions.isEmpty && work.stores.isEmpty && work.kept.isEmpty { return }
    let along = rowVariables
    let rowPosition = along.reduce(IndexExpression(0)) { $0 * $1.extent + IndexExpression($1) }
    let length = along.reduce(1) { $0 * $1.extent }
    let buffers = work.kept.map { local(graph.type($0).dataType, length) }
    let (before, hadChains) = (e.cost, e.hasChains)
    e.hasChains = false
    let unroll =
      stages.count < schedule.stageUnrolls.count ? schedule.stageUnrolls[stages.count] : 1
    let carried = work.reductions.map {
      Carried(graph.type($0).dataType, isReduction($0)!.combiner)
    }
    let results = reduce(
      along[...], carried, innermost: isInner ? .vector(unroll: unroll) : .serial
    ) { w in
      let next = work.reductions.map { w.e.evaluate(w.isReduction($0)!.operand, coordinate) }
      for output in work.stores {
        w.e.store(output, coordinate, w.destinationIndex(output, coordinate))
      }
      for (value, buffer) in zip(work.kept, buffers) {
        let id = w.e.evaluate(value, coordinate)
        w.store(buffer, rowPosition, id, w.graph.type(value).dataType)
      }
      return next
    }
    stages.append(
      RowProblem.Stage(
        cost: e.cost - before, reduces: !work.reductions.isEmpty, hasChains: e.hasChains))
    e.hasChains = e.hasChains || hadChains
    for (value, result) in zip(work.reductions, results) {
      e.remember(value, rowCoordinate, result)
    }
    for (value, buffer) in zip(work.kept, buffers) {
      e.resident[value] = (buffer, { $0 == coordinate ? rowPosition : nil })
    }
  }

  /// The members in order: what a schedule counts.
  private var members: [NodeID] { region.members.sorted { $0.index < $1.index } }

  /// Of the values whose rows are kept, the level at which each is computed.
  private func cachedLevels(_ full: [Region.Destination], _ levels: [ValueID: Int]) -> [ValueID:
    Int]
  {
    if schedule.kept.isEmpty { return [:] }
    let uses = uses(full, levels)
    let members = members
    var result: [ValueID: Int] = [:]
    for number in schedule.kept where members.indices.contains(number) {
      let value = graph[members[number]].results[0]
      if let first = uses[value]?.min() { result[value] = first }
    }
    return result
  }

  /// The levels at which each full member is used.
  private func uses(_ full: [Region.Destination], _ levels: [ValueID: Int]) -> [ValueID: Set<Int>] {
    var memo = levels
    var uses: [ValueID: Set<Int>] = [:]
    func walk(_ value: ValueID, _ stage: Int) {
      guard let id = graph.definitions[value.index], region.members.contains(id),
        graph.sizes(value) == domain,
        uses[value, default: []].insert(stage).inserted
      else { return }
      for operand in graph[id].operands { walk(operand, stage) }
    }
    for id in region.members {
      if let reduction = isReduction(graph[id].results[0]) {
        walk(reduction.operand, level(graph[id].results[0], &memo))
      }
    }
    for output in full { walk(output.value, level(output.value, &memo) + 1) }
    return uses
  }

  /// Full values that a later level needs again and that cost more than a load, where the loop along a row
  /// is the innermost one.
  private func keptMembers(_ loops: [[Int]]) -> [Int] {
    let row = axes.reduce(1) { $0 * domain[$1] }
    guard !axes.isEmpty, Self.isInner(loops, axes, domain), row <= 1 << 16 else { return [] }
    let full = region.outputs.filter { graph.sizes($0.value) == domain }
    let uses = uses(full, [:])
    return members.enumerated().filter { _, id in
      guard uses[graph[id].results[0]]?.count ?? 0 > 1,
        case .map(let operation) = graph.structure(graph[id])
      else { return false }
      return InstructionCost.of(operation) >= 4
    }.map(\.offset)
  }

  private mutating func call() -> KernelCall {
    let elements = domain.reduce(1, *)
    return e.call(
      axes.isEmpty ? "map" : "rows", graph.type(region.outputs[0].value).dataType, target,
      flops: elements * max(e.cost, 1),
      inPlace: placement == nil ? Lowering.sharable(region, graph, e) : [])
  }
}
