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
  private let domain: [Int]
  private let axes: [Int]
  /// Where the region's one output goes, when not to its own row-major place.
  private let placement: (([IndexExpression]) -> IndexExpression)?
  private let offset: [Int]
  private var evaluator: RegionEvaluator

  static func lower(_ region: Region, _ graph: Graph, _ target: Target) -> KernelCall {
    guard case .rows(let domain, _) = region.kind else { preconditionFailure() }
    return lower(region, graph, target, offset: domain.map { _ in 0 }, placement: nil)
  }

  /// `offset` is added to the coordinate that values are computed at; `placement` says where they go.
  static func lower(
    _ region: Region, _ graph: Graph, _ target: Target, offset: [Int],
    placement: (([IndexExpression]) -> IndexExpression)?
  ) -> KernelCall {
    guard case .rows(let domain, _) = region.kind else { preconditionFailure() }
    // A trial with one loop per axis shows every access; axes that all accesses walk alike are merged.
    var trial = RowLowering(region, graph, target, offset, placement)
    let first = trial.build(groups: domain.indices.map { [$0] })
    let groups = trial.mergeable()
    let spreads =
      trial.evaluator.productDepth > 0
      && domain.reduce(1, *) * 16 * target.lanes <= trial.evaluator.productDepth
    if groups.count == domain.count, !spreads { return first }
    var final = RowLowering(region, graph, target, offset, placement)
    final.spreads = spreads
    return final.build(groups: groups)
  }

  private init(
    _ region: Region, _ graph: Graph, _ target: Target, _ offset: [Int],
    _ placement: (([IndexExpression]) -> IndexExpression)?
  ) {
    guard case .rows(let domain, let axes) = region.kind else { preconditionFailure() }
    self.region = region
    self.graph = graph
    self.target = target
    self.domain = domain
    self.axes = axes
    self.offset = offset
    self.placement = placement
    evaluator = RegionEvaluator(graph, region)
  }

  private var trialVariables: [LoopVariable] = []
  /// Whether the parts of a product run side by side instead of elements.
  private var spreads = false

  private func mergeable() -> [[Int]] {
    var groups: [[Int]] = []
    for axis in domain.indices {
      if let last = groups.last?.last,
        axes.contains(last) == axes.contains(axis) || domain[axis] == 1 || domain[last] == 1,
        domain[axis] == 1 || domain[last] == 1 && axes.contains(last) == axes.contains(axis)
          || evaluator.accesses.allSatisfy({ access in
            guard let outer = access.stride(of: trialVariables[last]),
              let inner = access.stride(of: trialVariables[axis])
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

  private mutating func build(groups: [[Int]]) -> KernelCall {
    let variables = groups.map { group in evaluator.variable(group.reduce(1) { $0 * domain[$1] }) }
    trialVariables = variables
    var coordinate = domain.map { _ in IndexExpression(0) }
    for (group, variable) in zip(groups, variables) {
      for (axis, position) in zip(
        group, delinearize(IndexExpression(variable), group.map { domain[$0] }))
      {
        coordinate[axis] = position + offset[axis]
      }
    }
    let kept = groups.indices.filter { !axes.contains(groups[$0][0]) }
    let reduced = groups.indices.filter { axes.contains(groups[$0][0]) }
    let body: [Statement]
    let vectorGroup: Int?
    if reduced.isEmpty {
      // The last loop runs in vectors, but for a few elements of long products: each of those does inside.
      if spreads { evaluator.spreadWidth = max(1, 16 / target.lanes) }
      vectorGroup = spreads ? nil : kept.last
      body = pureMap(coordinate, kept.map { variables[$0] })
    } else {
      let isInner =
        reduced.contains { $0 == groups.count - 1 } && variables[groups.count - 1].extent > 1
      vectorGroup = isInner ? nil : kept.last
      body = rows(
        coordinate, kept.map { variables[$0] }, reduced.map { variables[$0] }, isInner: isInner)
    }
    let work = evaluator.cost * reduced.reduce(1) { $0 * variables[$1].extent }
    return assemble(
      kept.map { variables[$0] }, body, hasVectorLoop: vectorGroup != nil, work: max(work, 1))
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
    _ coordinate: [IndexExpression], _ kept: [LoopVariable], _ reduced: [LoopVariable],
    isInner: Bool
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
    let cached = isInner ? cachedValues(full, levels) : [:]
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
      let accumulators = me.nest(&e, reduced[...], isInner: isInner, now, before) { e in
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

  /// Full values that a later level needs again and that cost more than a load, with the level at
  /// which they are computed.
  private func cachedValues(_ full: [Region.Destination], _ levels: [ValueID: Int]) -> [ValueID:
    Int]
  {
    let row = axes.reduce(1) { $0 * domain[$1] }
    guard row <= 1 << 16 else { return [:] }
    var memo = levels
    // The levels at which each member is used.
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
    var result: [ValueID: Int] = [:]
    for (value, stages) in uses where stages.count > 1 {
      guard case .map(let operation) = graph.structure(graph.definition(value)!),
        operation.cost >= 4
      else { continue }
      result[value] = stages.min()!
    }
    return result
  }

  /// The loops over the reduced variables of one level; returns the reductions' results.
  private func nest(
    _ evaluator: inout RegionEvaluator, _ reduced: ArraySlice<LoopVariable>, isInner: Bool,
    _ values: [ValueID], _ costBefore: Int,
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
      let cost = e.cost - costBefore
      let unroll =
        values.isEmpty
        ? Lowering.unroll(cost: cost) : max(Lowering.unroll(cost: cost), cost <= 24 ? 2 : 1)
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

  /// Splits the outer loops into tiles: inner loops whole, one loop in blocks, the rest one by one.
  private mutating func assemble(
    _ kept: [LoopVariable], _ body: [Statement], hasVectorLoop: Bool, work: Int
  ) -> KernelCall {
    let budget = 400_000
    var (statements, inner) = (body, work)
    var grid: [LoopVariable] = []
    for (position, variable) in kept.enumerated().reversed() {
      let isVector = hasVectorLoop && position == kept.count - 1
      let unroll = isVector && axes.isEmpty ? Lowering.unroll(cost: evaluator.cost) : 1
      // Sums down columns take several registers of columns along, as whole cache lines. So do products,
      // and where the columns stand apart in memory, 16 of them are as many streams as are followed.
      let wanted: Int
      if axes.isEmpty {
        let isAlong = evaluator.accesses.allSatisfy {
          $0.stride(of: variable).map { $0 == 0 || $0 == 1 } ?? false
        }
        wanted = evaluator.productDepth < 16 ? 1 : isAlong ? 8 : max(1, 16 / target.lanes)
      } else {
        wanted = evaluator.cost <= 6 ? 8 : evaluator.cost <= 14 ? 4 : 1
      }
      let width =
        isVector
        ? [8, 4, 2, 1].first {
          $0 <= wanted && target.lanes * $0 <= max(variable.extent, target.lanes)
        }! : 1
      let mode: Loop.Mode = isVector ? .vector(unroll: unroll, width: width) : .serial
      let (total, overflow) = inner.multipliedReportingOverflow(by: max(variable.extent, 1))
      if !grid.isEmpty {
        // Outside the split: a tile for each value.
        grid.insert(variable, at: 0)
      } else if !overflow && total <= budget || variable.extent <= 1 {
        statements = [.loop(Loop(variable, mode: mode, body: statements))]
        inner = overflow ? Int.max : total
      } else {
        let step = isVector ? target.lanes * unroll * width : 1
        let size = min(max(1, budget / inner + step - 1) / step * step, variable.extent)
        let block = evaluator.variable((variable.extent + max(size, step) - 1) / max(size, step))
        let extent = BlockExtent(total: variable.extent, size: max(size, step), index: block)
        statements = [.loop(Loop(variable, extent, mode: mode, body: statements))]
        grid = [block]
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
