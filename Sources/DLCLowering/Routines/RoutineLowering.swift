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
struct RoutineWriter {
  let region: Region
  let node: Node
  let schedule: RoutineSchedule
  let graph: Graph
  let target: Target
  var e: RegionEvaluator
  var grid: [LoopVariable] = []

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
    e.scopes = [RegionEvaluator.Scope(variables: [])]
  }

  // MARK: Small words

  func sizes(_ operand: Int) -> [Int] { graph.sizes(node.operands[operand]) }
  func type(_ operand: Int) -> DataType { graph.type(node.operands[operand]).dataType }

  mutating func destination(_ index: Int) -> Memory {
    e.parameter(.destination(region.outputs[index]), region.outputs[index].value)
  }

  mutating func define(_ expression: Expression) -> ScalarID {
    e.define(expression, in: e.scopes.count - 1)
  }

  mutating func apply(
    _ operation: ScalarOperation, _ type: DataType, _ operands: ScalarID...
  )
    -> ScalarID
  { define(.apply(operation, type, operands)) }

  mutating func number(_ value: Double, _ type: DataType) -> ScalarID {
    define(.constant(type.isFloat ? .float(value) : .integer(Int64(value)), type))
  }

  mutating func position(_ index: IndexExpression, _ type: DataType = .int64) -> ScalarID {
    define(.index(index, type))
  }

  mutating func load(_ memory: Memory, _ index: IndexExpression, _ type: DataType)
    -> ScalarID
  {
    define(.load(memory, index, type))
  }

  mutating func store(
    _ memory: Memory, _ index: IndexExpression, _ value: ScalarID, _ type: DataType
  ) { e.append(.store(memory, index, value, type)) }

  mutating func bind(_ value: ScalarID, extent: Int) -> IndexExpression {
    if extent <= 1 { return IndexExpression(0) }
    let variable = e.variable(extent)
    e.append(.bind(variable, value))
    e.scopes[e.scopes.count - 1].variables.insert(variable)
    return IndexExpression(variable)
  }

  /// A value that a loop carries, with what it becomes.
  struct Carried {
    var type: DataType
    var initial: ScalarConstant
    var combiner: Combiner?
  }

  /// A loop; `body` gets its position and the carried values, and gives their next values.
  @discardableResult
  mutating func loop(
    _ extent: Int, _ carried: [Carried] = [], mode: Loop.Mode = .serial, block: BlockExtent? = nil,
    _ body: (inout RoutineWriter, IndexExpression, [ScalarID]) -> [ScalarID]
  ) -> [ScalarID] {
    loop(e.variable(extent), carried, mode: mode, block: block, body)
  }

  mutating func loop(
    _ variable: LoopVariable, _ carried: [Carried], mode: Loop.Mode = .serial,
    block: BlockExtent? = nil,
    _ body: (inout RoutineWriter, IndexExpression, [ScalarID]) -> [ScalarID]
  ) -> [ScalarID] {
    let current = carried.map { _ in e.scalar() }
    e.scopes.append(RegionEvaluator.Scope(variables: [variable]))
    let next = body(&self, IndexExpression(variable), current)
    let statements = e.scopes.removeLast().statements
    let results = carried.map { _ in e.scalar() }
    e.append(
      .loop(
        Loop(
          variable, block, mode: mode,
          accumulators: carried.indices.map {
            Accumulator(
              carried[$0].type, initial: carried[$0].initial, current: current[$0],
              next: next[$0], result: results[$0], combiner: carried[$0].combiner)
          }, body: statements)))
    return results
  }

  mutating func each(
    _ extent: Int, _ mode: Loop.Mode = .serial, block: BlockExtent? = nil,
    _ body: (inout RoutineWriter, IndexExpression) -> Void
  ) {
    loop(extent, mode: mode, block: block) { w, i, _ in
      body(&w, i)
      return []
    }
  }

  mutating func when(_ condition: ScalarID, _ body: (inout RoutineWriter) -> Void) {
    e.scopes.append(RegionEvaluator.Scope(variables: []))
    body(&self)
    let statements = e.scopes.removeLast().statements
    e.append(.when(condition, statements))
  }

  /// A tile for each value of a variable.
  mutating func tile(_ extent: Int) -> IndexExpression {
    let variable = e.variable(extent)
    grid.append(variable)
    e.scopes[0].variables.insert(variable)
    return IndexExpression(variable)
  }

  /// A tile for each block of something.
  mutating func tiles(_ total: Int, size: Int) -> BlockExtent {
    let size = max(1, min(size, total))
    let variable = e.variable((total + size - 1) / size)
    grid.append(variable)
    return BlockExtent(total: total, size: size, index: variable)
  }

  mutating func finish(_ structure: String, flops: Int) -> KernelCall {
    let isEmpty = region.outputs.allSatisfy { graph.type($0.value).elementCount == 0 }
    let kernel = Kernel(
      name: "", parameters: e.parameters, locals: e.locals, grid: grid,
      body: isEmpty ? [] : e.scopes[0].statements, flops: flops,
      bytesMoved: Lowering.bytes(e.parameters))
    let type = graph.type(region.outputs[0].value).dataType
    return KernelCall(
      kernel: Lowering.named(kernel, structure, type, target), bindings: Lowering.bindings(e),
      inPlace: [])
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
