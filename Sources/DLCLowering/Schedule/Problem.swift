package import DLCGraph
package import DLCKernel
import DLCTensor

/// What a region's schedule depends on.
package enum Problem: Hashable, Sendable {
  case rows(RowProblem)
  case contraction(ContractionProblem)
  case convolution(ConvolutionProblem, copies: [RowProblem?])
  case attention(AttentionProblem)
  case assembly([RowProblem])
  case routine(String, RoutineSchedule, copy: RowProblem?)
  case control

  package init(
    _ region: Region, _ graph: Graph, _ properties: inout ValueProperties, _ target: Target
  ) {
    switch region.kind {
    case .rows: self = .rows(RowLowering.problem(region, graph, target))
    case .contraction(let id):
      let plan = ContractionPlan(graph, graph[id], target, gates: region.gates)!
      self = .contraction(
        plan.problem(graph, &properties, epilogue: Self.epilogue(region, id, graph)))
    case .convolution(let id):
      let node = graph[id]
      let plan = ConvolutionPlan(graph, node, target)!
      let copies = node.operands.map { value -> RowProblem? in
        if graph.base(value) == value || plan.kernelGradient != nil { return nil }
        return RowLowering.problem(Lowering.copyRegion(value, graph), graph, target)
      }
      self = .convolution(
        plan.problem(
          graph, node, &properties, isFramed: region.frame != nil,
          epilogue: Self.epilogue(region, id, graph)), copies: copies)
    case .attention(let attention):
      let (scores, weighted) = attention.plans(graph, target)
      self = .attention(
        AttentionProblem(
          scores: scores.problem(graph, &properties, epilogue: 0),
          weighted: weighted.problem(
            graph, &properties,
            epilogue: Self.epilogue(
              region, attention.weighted, graph, without: attention.between)),
          rows: RowLowering.problem(attention.rows(graph), graph, target),
          inPlace: [scores, weighted].map { plan in
            let batch = plan.batch.indices.map { LoopVariable(id: $0, extent: plan.batch[$0]) }
            return plan.panelsInPlace(graph, batch, 1) == nil ? 0 : plan.columnCount
          }))
    case .assembly(let id):
      self = .assembly(
        AssemblyLowering.boxes(region, id, graph).map {
          RowLowering.problem($0.region, graph, target, offset: $0.source, placement: $0.place)
        })
    case .routine(let id):
      let node = graph[id]
      var schedule = RoutineSchedule(copy: nil, tileAxes: 0, block: 1)
      schedule.choose(graph.structure(node), node.operands.map { graph.sizes($0) })
      var copy: RowProblem?
      switch graph.structure(node) {
      case .scatter, .dynamicUpdate:
        copy = RowLowering.problem(
          Lowering.copyRegion(node.operands[0], graph), graph, target)
      default: break
      }
      let types = node.operands.map { "\(graph.type($0))" }.joined(separator: ", ")
      self = .routine("\(node.operation.mnemonic) of \(types)", schedule, copy: copy)
    case .control: self = .control
    }
  }

  /// Vector instructions of the members after a product, for an element.
  private static func epilogue(
    _ region: Region, _ id: NodeID, _ graph: Graph, without others: Set<NodeID> = []
  ) -> Int {
    region.members.subtracting(others).reduce(0) { sum, member in
      guard member != id, case .map(let operation) = graph.structure(graph[member]) else {
        return sum
      }
      return sum + InstructionCost.of(operation)
    }
  }

  /// One line that is equal for equal problems.
  package var text: String {
    switch self {
    case .rows(let p): p.text
    case .contraction(let p): p.text
    case .convolution(let p, let copies):
      p.text + copies.compactMap { $0.map { ", copy of \($0.text)" } }.joined()
    case .attention(let p): p.text
    case .assembly(let pieces): "assembly of " + pieces.map(\.text).joined(separator: "; ")
    case .routine(let text, _, let copy): text + (copy.map { ", copy of \($0.text)" } ?? "")
    case .control: "control"
    }
  }

  /// Every schedule that is worth a price, the cheapest legal one first, then the other legal ones.
  package func candidates(_ target: Target) -> [Candidate<RegionSchedule>] {
    let all: [Candidate<RegionSchedule>] =
      switch self {
      case .rows(let p): Self.wrapped(RowSchedule.candidates(p, target)) { .rows($0) }
      case .contraction(let p):
        Self.wrapped(ContractionSchedule.candidates(p, target)) { .contraction($0) }
      case .convolution(let p, let copies):
        Self.wrapped(
          ConvolutionSchedule.candidates(
            p, copies: copies.map { $0.map { RowSchedule.best($0, target) } }, target)
        ) { .convolution($0) }
      case .attention(let p):
        Self.wrapped(AttentionSchedule.candidates(p, target)) { .attention($0) }
      case .assembly(let pieces): [Self.assembly(pieces, target)]
      case .routine(_, var schedule, let copy):
        {
          schedule.copy = copy.map { RowSchedule.best($0, target) }
          return [Candidate(schedule: .routine(schedule), cycles: 0)]
        }()
      case .control: [Candidate(schedule: .control, cycles: 0)]
      }
    // Stable: of equal ones the first.
    return all.enumerated().sorted {
      ($0.element.obstacle == nil ? 0 : 1, $0.element.cycles, $0.offset)
        < ($1.element.obstacle == nil ? 0 : 1, $1.element.cycles, $1.offset)
    }.map(\.element)
  }

  /// Why a schedule cannot be taken for the problem; nil when it can.
  package func obstacle(to schedule: RegionSchedule, _ target: Target) -> String? {
    let known = candidates(target)
    guard let candidate = known.first(where: { $0.schedule == schedule }) else {
      return "it is none of the \(known.count) schedules of \(text)"
    }
    return candidate.obstacle
  }

  /// Parts of one kernel at most: each is code that LLVM sees at once.
  static let mergeLimit = 24

  private static func assembly(_ pieces: [RowProblem], _ target: Target) -> Candidate<
    RegionSchedule
  > {
    let schedules = pieces.map { RowSchedule.best($0, target) }
    return Candidate(
      schedule: .assembly(
        AssemblySchedule(
          pieces: schedules, merged: mergeLimit, fillBlock: AssemblySchedule.usualFillBlock)),
      cycles: zip(schedules, pieces).reduce(0) { $0 + $1.0.cost($1.1, target) })
  }

  private static func wrapped<S>(_ list: [Candidate<S>], _ wrap: (S) -> RegionSchedule)
    -> [Candidate<
      RegionSchedule
    >]
  {
    list.map { Candidate(schedule: wrap($0.schedule), cycles: $0.cycles, obstacle: $0.obstacle) }
  }
}

extension RowSchedule {
  /// The cheapest; one without any unrolling is always legal.
  static func best(_ problem: RowProblem, _ target: Target) -> RowSchedule {
    candidates(problem, target).cheapest()!
  }
}

extension RoutineSchedule {
  /// Tiles of some tens of microseconds.
  fileprivate mutating func choose(_ structure: IterationStructure, _ operands: [[Int]]) {
    switch structure {
    case .scatter(let g, _):
      let updates = operands[2]
      let longest = g.splitAxis(operands[0], updates).map { updates[$0] } ?? 1
      block = max(16, (longest / 8 + 15) / 16 * 16)
    case .dynamicUpdate:
      let update = operands[1]
      // Leading axes become tiles while the rest is more than a little work.
      while tileAxes + 1 < update.count, update[tileAxes...].reduce(1, *) > 1 << 16 {
        tileAxes += 1
      }
    case .prefix(let g):
      let length = max(operands[0][g.axis], 1)
      let isLast = operands[0][(g.axis + 1)...].allSatisfy { $0 == 1 }
      block = isLast ? max(1, (1 << 16) / length) : max(64, (1 << 16) / length / 16 * 16)
    case .routine(.triangularSolve): block = 64
    default: break
    }
  }
}
