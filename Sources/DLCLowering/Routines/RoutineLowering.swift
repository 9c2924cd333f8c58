import DLCGraph
import DLCKernel
import DLCTensor

/// Lowers operations that are algorithms of their own to kernels written out here.
enum RoutineLowering {
  static func lower(
    _ region: Region, _ id: NodeID, _ schedule: RoutineSchedule, _ graph: Graph, _ target: Target
  ) -> LoweredRegion {
    let node = graph[id]
    var writer = RoutineWriter(region, node, schedule, graph, target)
    switch graph.structure(node) {
    case .scatter(let g, let combiner):
      return LoweredRegion(
        calls: [writer.copyOfOperand(), writer.scatter(g, combiner)], temporaries: [])
    case .dynamicUpdate:
      return LoweredRegion(
        calls: [writer.copyOfOperand(), writer.dynamicUpdate()], temporaries: [])
    case .prefix(let g): return LoweredRegion(calls: [writer.prefix(g)], temporaries: [])
    case .routine(.sort(let axis, let keys, let descending)):
      return LoweredRegion(calls: [writer.sort(axis, keys, descending)], temporaries: [])
    case .routine(.cholesky): return LoweredRegion(calls: [writer.cholesky()], temporaries: [])
    case .routine(.triangularSolve(let lower, let transpose, let unit)):
      return LoweredRegion(calls: [writer.solve(lower, transpose, unit)], temporaries: [])
    case .routine(.lu): return LoweredRegion(calls: [writer.lu()], temporaries: [])
    default: preconditionFailure("\(node.operation.mnemonic) is not a routine")
    }
  }
}

extension IndexGeometry {
  /// The longest axis of the updates along which slices are whole: its elements do not meet.
  func splitAxis(_ to: [Int], _ updates: [Int]) -> Int? {
    zip(axes.windowAxes(to.count), axes.offsetAxes)
      .filter { sliceSizes[$0.0] == to[$0.0] }.map(\.1).max { updates[$0] < updates[$1] }
  }
}

/// Writes the kernel of one routine.
struct RoutineWriter: KernelWriter {
  let region: Region
  let node: Node
  let schedule: RoutineSchedule
  let graph: Graph
  let target: Target
  var e: RegionEvaluator
  var draft: KernelDraft {
    get { e.draft }
    _modify { yield &e.draft }
  }

  init(
    _ region: Region, _ node: Node, _ schedule: RoutineSchedule, _ graph: Graph, _ target: Target
  ) {
    self.region = region
    self.node = node
    self.schedule = schedule
    self.graph = graph
    self.target = target
    // What the routine reads comes from memory.
    e = RegionEvaluator(graph, Region(region.kind, members: [], outputs: []))
  }

  // MARK: Small words

  func sizes(_ operand: Int) -> [Int] { graph.sizes(node.operands[operand]) }
  func type(_ operand: Int) -> DataType { graph.type(node.operands[operand]).dataType }

  mutating func destination(_ index: Int) -> Memory {
    e.parameter(.destination(region.outputs[index]), region.outputs[index].value)
  }

  /// A tile for each block of something, as the schedule says.
  mutating func blocks(_ total: Int) -> BlockExtent {
    tiles(total, size: max(1, min(schedule.block, total)))
  }

  func finish(_ structure: String, flops: Int) -> KernelCall {
    e.call(structure, graph.type(region.outputs[0].value).dataType, target, flops: flops)
  }

  /// The first operand copied to the destination (nothing moves when they share memory).
  func copyOfOperand() -> KernelCall {
    Lowering.copy(
      node.operands[0], schedule.copy!, graph, target, to: .destination(region.outputs[0]))
  }

  /// The last two axes are a matrix, the others a tile each.
  mutating func matrices() -> (n: Int, batch: [IndexExpression]) {
    let sizes = sizes(0)
    let outer = Array(sizes.dropLast(2))
    return (sizes.last!, delinearize(tile(outer.reduce(1, *)), outer))
  }
}
