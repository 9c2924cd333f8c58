import DLCGraph
import DLCKernel
import DLCTensor

/// Lowers maps and row regions: softmax, norms, reductions, and everything elementwise.
///
/// Reductions are ordered by levels: a level's loop over the row computes every reduction whose
/// operands need only earlier levels, and stores what is ready. Values that are expensive to compute
/// again in a later level are kept in a row buffer.
struct RowLowering {
  private let region: Region
  private let graph: Graph
  private let target: Target
  private let schedule: RowSchedule
  private let domain: [Int]
  private let axes: [Int]
  /// Where the region's one output goes, when not to its own row-major place.
  private let placement: (([IndexExpression]) -> IndexExpression)?
  private let offset: [Int]
  private var evaluator: RegionEvaluator
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
    let body = lowering.statements()
    return lowering.assemble(body)
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
    _ = trial.statements()
    plain.loops = trial.mergeable()
    plain.kept = trial.keptMembers(plain.loops)
    var work = trial
    if plain.loops.count < trial.domain.count || !plain.kept.isEmpty {
      work = RowLowering(region, plain, graph, target, offset, placement)
      _ = work.statements()
    }
    let last = Array(zip(plain.loops, work.variables)).last { !trial.axes.contains($0.0[0]) }?.1
    return RowProblem(
      domain: trial.domain, axes: trial.axes, loops: plain.loops, kept: plain.kept,
      cost: work.evaluator.cost, stages: work.stages, productDepth: work.evaluator.productDepth,
      isAlong: last.map { variable in
        work.evaluator.accesses.allSatisfy {
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
    evaluator = RegionEvaluator(graph, region)
  }

  private func mergeable() -> [[Int]] {
    var groups: [[Int]] = []
    for axis in domain.indices {
      if let last = groups.last?.last,
        axes.contains(last) == axes.contains(axis) || domain[axis] == 1 || domain[last] == 1,
        domain[axis] == 1 || domain[last] == 1 && axes.contains(last) == axes.contains(axis)
          || evaluator.accesses.allSatisfy({ access in
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

  /// Everything inside of the loops over kept axes.
  private mutating func statements() -> [Statement] {
    variables = schedule.loops.map { group in
      evaluator.variable(group.reduce(1) { $0 * domain[$1] })
    }
    var coordinate = domain.map { _ in IndexExpression(0) }
    for (group, variable) in zip(schedule.loops, variables) {
      for (axis, position) in zip(
        group, delinearize(IndexExpression(variable), group.map { domain[$0] }))
      {
        coordinate[axis] = position + offset[axis]
      }
    }
    if rowVariables.isEmpty {
      evaluator.spreadWidth = schedule.spread
      return pureMap(coordinate, keptVariables)
    }
    return rows(coordinate, keptVariables, rowVariables)
  }

  private func destinationIndex(_ output: Region.Destination, _ coordinate: [IndexExpression])
    -> IndexExpression
  {
    placement.map { $0(coordinate) } ?? linearize(coordinate, graph.sizes(output.value))
  }

  private mutating func pureMap(_ coordinate: [IndexExpression], _ kept: [LoopVariable])
    -> [Statement]
  {
    evaluator.scopes = [RegionEvaluator.Scope(variables: Set(kept))]
    for output in region.outputs {
      evaluator.store(
        output, coordinate, destinationIndex(output, zip(coordinate, offset).map { $0 + -$1 }))
    }
    return evaluator.scopes[0].statements
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

  private mutating func rows(
    _ coordinate: [IndexExpression], _ kept: [LoopVariable], _ reduced: [LoopVariable]
  ) -> [Statement] {
    // The evaluator is worked on apart from self, which its closures read.
    let me = self
    var e = evaluator
    defer { evaluator = e }
    let keptAxes = domain.indices.filter { !axes.contains($0) }
    let rowCoordinate = keptAxes.map { coordinate[$0] }
    var levels: [ValueID: Int] = [:]
    let reductions = region.members.sorted { $0.index < $1.index }.map { graph[$0].results[0] }
      .filter { isReduction($0) != nil }
    let isFull = { [graph, domain] (o: Region.Destination) in graph.sizes(o.value) == domain }
    let full = region.outputs.filter(isFull)
    let last = max(
      reductions.map { level($0, &levels) }.max() ?? 0,
      full.map { level($0.value, &levels) + 1 }.max() ?? 0)
    let cached = cachedLevels(full, levels)
    e.scopes = [RegionEvaluator.Scope(variables: Set(kept))]
    var rowPosition = IndexExpression(0)
    for variable in reduced {
      rowPosition = rowPosition * variable.extent + IndexExpression(variable)
    }
    var buffers: [ValueID: Memory] = [:]
    for stage in 1...max(last, 1) {
      let now = reductions.filter { levels[$0] == stage }
      let stores = full.filter { levels[$0.value]! + 1 == stage }
      let keep = cached.filter { $0.value == stage }.map(\.key).sorted { $0.index < $1.index }
      if now.isEmpty && stores.isEmpty && keep.isEmpty { continue }
      for value in keep {
        buffers[value] = e.local(graph.type(value).dataType, reduced.reduce(1) { $0 * $1.extent })
      }
      let before = e.cost
      let unroll =
        stages.count < schedule.stageUnrolls.count ? schedule.stageUnrolls[stages.count] : 1
      let accumulators = me.nest(&e, reduced[...], now, unroll: unroll) { e in
        var next: [ScalarID] = []
        for value in now { next.append(e.evaluate(me.isReduction(value)!.operand, coordinate)) }
        for output in stores {
          e.store(output, coordinate, me.destinationIndex(output, coordinate))
        }
        for value in keep {
          let id = e.evaluate(value, coordinate)
          e.append(.store(buffers[value]!, rowPosition, id, me.graph.type(value).dataType))
        }
        return next
      }
      stages.append(RowProblem.Stage(cost: e.cost - before, reduces: !now.isEmpty))
      for (value, result) in zip(now, accumulators) {
        e.remember(value, rowCoordinate, result, in: 0)
      }
      for value in keep {
        e.resident[value] = (buffers[value]!, { $0 == coordinate ? rowPosition : nil })
      }
    }
    for output in region.outputs where !isFull(output) {
      e.store(output, rowCoordinate, linearize(rowCoordinate, graph.sizes(output.value)))
    }
    return e.scopes[0].statements
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

  /// The loops over the reduced variables of one level; returns the reductions' results.
  private func nest(
    _ evaluator: inout RegionEvaluator, _ reduced: ArraySlice<LoopVariable>,
    _ values: [ValueID], unroll: Int,
    _ body: (inout RegionEvaluator) -> [ScalarID]
  ) -> [ScalarID] {
    func build(_ e: inout RegionEvaluator, _ rest: ArraySlice<LoopVariable>) -> [ScalarID] {
      guard let variable = rest.first else { return body(&e) }
      let ids = values.map { _ in (current: e.scalar(), next: e.scalar(), result: e.scalar()) }
      let statements = e.inScope([variable]) { e in
        let parts = build(&e, rest.dropFirst())
        for (index, value) in values.enumerated() {
          let type = self.graph.type(value).dataType
          let combiner = self.isReduction(value)!.combiner
          e.append(
            .define(
              ids[index].next,
              .apply(combiner.operation, type, [ids[index].current, parts[index]])))
        }
      }
      let isLast = rest.count == 1
      let accumulators = values.enumerated().map { index, value -> Accumulator in
        let type = self.graph.type(value).dataType
        let combiner = self.isReduction(value)!.combiner
        return Accumulator(
          type, initial: combiner.identity(type), current: ids[index].current,
          next: ids[index].next,
          result: ids[index].result, combiner: combiner)
      }
      e.append(
        .loop(
          Loop(
            variable, mode: isLast && isInner ? .vector(unroll: unroll) : .serial,
            accumulators: accumulators, body: statements)))
      return ids.map(\.result)
    }
    return build(&evaluator, reduced)
  }

  // MARK: Tiles

  /// Puts the loops over kept axes around the body: those inside of the split whole, the split one in blocks,
  /// those outside as tiles.
  private mutating func assemble(_ body: [Statement]) -> KernelCall {
    let isVector = axes.isEmpty ? schedule.spread == nil : !isInner
    var (statements, grid) = (body, [LoopVariable]())
    for (position, variable) in keptVariables.enumerated().reversed() {
      let isLanes = isVector && position == keptVariables.count - 1
      let mode: Loop.Mode =
        isLanes ? .vector(unroll: schedule.unroll, width: schedule.width) : .serial
      if let split = schedule.split, position < split.loop {
        grid.insert(variable, at: 0)
      } else if let split = schedule.split, position == split.loop {
        let block = evaluator.variable((variable.extent + split.size - 1) / split.size)
        let extent = BlockExtent(total: variable.extent, size: split.size, index: block)
        statements = [.loop(Loop(variable, extent, mode: mode, body: statements))]
        grid = [block]
      } else {
        statements = [.loop(Loop(variable, mode: mode, body: statements))]
      }
    }
    let elements = domain.reduce(1, *)
    var kernel = Kernel(
      name: "", parameters: evaluator.parameters, locals: evaluator.locals, grid: grid,
      body: elements == 0 && region.outputs.allSatisfy { graph.type($0.value).elementCount == 0 }
        ? [] : statements,
      flops: elements * max(evaluator.cost, 1), bytesMoved: Lowering.bytes(evaluator.parameters))
    let type = graph.type(region.outputs[0].value).dataType
    let structure = axes.isEmpty ? "map" : "rows"
    kernel = Lowering.named(kernel, structure, type, target)
    return KernelCall(
      kernel: kernel, bindings: Lowering.bindings(evaluator),
      inPlace: placement == nil ? Lowering.sharable(region, graph, evaluator) : [])
  }
}
