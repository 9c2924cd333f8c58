package import DLCTensor

/// A scalar value in a kernel: defined once, visible to what follows in its block and inside it.
package struct ScalarID: Hashable, Sendable {
  package var index: Int
  package init(_ index: Int) { self.index = index }
}

/// Memory that a kernel touches: one of its parameters, or scratch that each worker has for itself.
package enum Memory: Hashable, Sendable {
  case parameter(Int)
  case local(Int)
}

package struct Parameter: Hashable, Sendable {
  package var type: DataType
  package var count: Int
  package var isOutput: Bool
  package init(_ type: DataType, _ count: Int, isOutput: Bool) {
    self.type = type
    self.count = count
    self.isOutput = isOutput
  }
}

package struct Local: Hashable, Sendable {
  package var type: DataType
  package var count: Int
  package init(_ type: DataType, _ count: Int) {
    self.type = type
    self.count = count
  }
}

package enum Expression: Hashable, Sendable {
  case constant(ScalarConstant, DataType)
  case load(Memory, IndexExpression, DataType)
  /// A position as a number.
  case index(IndexExpression, DataType)
  /// A scalar operation on operands of the given type.
  case apply(ScalarOperation, DataType, [ScalarID])
  /// The first operand times the second, plus the third: a step of a product (see `SumOrder`).
  case multiplyAdd(DataType, [ScalarID])
  /// Word `index` of the Philox stream of key and counter.
  case randomBits(IndexExpression, key: ScalarID, counter: ScalarID)
}

/// A value that a loop carries from one iteration to the next.
package struct Accumulator: Hashable, Sendable {
  package var type: DataType
  package var initial: ScalarConstant
  /// What the body sees, what it computes, and what remains after the loop.
  package var current: ScalarID
  package var next: ScalarID
  package var result: ScalarID
  /// How partial results are combined; nil forbids splitting the loop, into lanes or into groups.
  package var combiner: Combiner?

  package init(
    _ type: DataType, initial: ScalarConstant, current: ScalarID, next: ScalarID, result: ScalarID,
    combiner: Combiner?
  ) {
    self.type = type
    self.initial = initial
    self.current = current
    self.next = next
    self.result = result
    self.combiner = combiner
  }
}

/// How many of `total` things lie in block number `index` of size `size`; without index, all.
package struct BlockExtent: Hashable, Sendable {
  package var total: Int
  package var size: Int
  package var index: LoopVariable?

  package init(total: Int, size: Int, index: LoopVariable?) {
    self.total = total
    self.size = size
    self.index = index
  }

  package init(_ total: Int) { self.init(total: total, size: total, index: nil) }

  package var blockCount: Int { (total + size - 1) / max(size, 1) }
  /// The extent of the last block.
  package var lastSize: Int { total - (blockCount - 1) * size }
}

package struct Loop: Hashable, Sendable {
  package enum Mode: Hashable, Sendable {
    case serial
    /// Lanes of the target's vector width, several vectors at a time, the rest under a mask.
    /// `width` times as many lanes hold several registers, so that loops inside work on all of them.
    case vector(unroll: Int, width: Int = 1)
  }
  package var variable: LoopVariable
  package var extent: BlockExtent
  package var mode: Mode
  package var accumulators: [Accumulator]
  package var body: [Statement]

  package init(
    _ variable: LoopVariable, _ extent: BlockExtent? = nil, mode: Mode = .serial,
    accumulators: [Accumulator] = [], body: [Statement]
  ) {
    self.variable = variable
    self.extent = extent ?? BlockExtent(variable.extent)
    self.mode = mode
    self.accumulators = accumulators
    self.body = body
  }
}

/// C[rows, columns] = A B by register-tiled microkernels. B lies in panels of `panelWidth` columns.
package struct ContractStatement: Hashable, Sendable {
  package var types: ContractTypes
  package var a: Memory
  package var aBase: IndexExpression
  package var aRowStride: Int
  package var aDepthStride: Int
  /// Whether A lies in strips: register tile after register tile of a block, and in each the rows of a step of the
  /// depth side by side. The strides are then those between rows on the whole, and 1.
  package var aIsInStrips = false
  package var b: Memory
  package var bBase: IndexExpression
  package var bPanelStride: Int
  package var bDepthStride: Int
  package var panelWidth: Int
  package var c: Memory
  package var cBase: IndexExpression
  package var cRowStride: Int
  /// Whether C has room for whole panels, so that edges need no mask.
  package var cIsPadded: Bool
  package var rows: BlockExtent
  package var columns: BlockExtent
  package var depth: Int
  /// Rows of a whole register tile.
  package var tileRows: Int
  /// The depth is summed in parts of this size.
  package var depthBlock: Int
  /// Adds to what C holds.
  package var accumulates: Bool
  /// What becomes of the sums; nil: they are stored in C.
  package var finish: ProductFinish?
  /// Room for the sums of groups of parts (see `SumOrder`), one for each level above the first: blocks
  /// like C, with rows of whole panels.
  package var partials: [Memory] = []
  /// Whether C is touched: with a finish only where sums are added to in parts.
  package var usesResult: Bool { finish == nil || accumulates || depth > depthBlock }
  package var partialRowStride: Int {
    (columns.size + panelWidth - 1) / panelWidth * panelWidth
  }
  package var partialCount: Int { rows.size * partialRowStride }

  package init(
    types: ContractTypes, a: Memory, aBase: IndexExpression, aRowStride: Int, aDepthStride: Int,
    b: Memory, bBase: IndexExpression, bPanelStride: Int, bDepthStride: Int, panelWidth: Int,
    c: Memory, cBase: IndexExpression, cRowStride: Int, cIsPadded: Bool, rows: BlockExtent,
    columns: BlockExtent, depth: Int, tileRows: Int, depthBlock: Int, accumulates: Bool = false
  ) {
    self.types = types
    self.a = a
    self.aBase = aBase
    self.aRowStride = aRowStride
    self.aDepthStride = aDepthStride
    self.b = b
    self.bBase = bBase
    self.bPanelStride = bPanelStride
    self.bDepthStride = bDepthStride
    self.panelWidth = panelWidth
    self.c = c
    self.cBase = cBase
    self.cRowStride = cRowStride
    self.cIsPadded = cIsPadded
    self.rows = rows
    self.columns = columns
    self.depth = depth
    self.tileRows = tileRows
    self.depthBlock = depthBlock
    self.accumulates = accumulates
  }
}

/// The types of the factors of a product, which are converted to that of the sums before they are multiplied.
package struct ContractTypes: Hashable, Sendable {
  package var a: DataType
  package var b: DataType
  package var c: DataType
  package init(_ a: DataType, _ b: DataType, into c: DataType) {
    (self.a, self.b, self.c) = (a, b, c)
  }
  package init(_ type: DataType) { self.init(type, type, into: type) }

  package var text: String { isUniform ? "\(c)" : "\(a) \(b) into \(c)" }

  /// Whether all three are one type.
  package var isUniform: Bool { a == c && b == c }

  /// Whether every element of the factors is one of the sums' type.
  package var isExact: Bool { a.widens(to: c) && b.widens(to: c) }
}

/// Gathers the columns of an implicit convolution matrix into panels: for every tap (row) and output
/// position (column) the input element under it.
package struct PackStatement: Hashable, Sendable {
  package struct Axis: Hashable, Sendable {
    package var extent: Int
    package var stride: Int
    package init(_ extent: Int, _ stride: Int) {
      self.extent = extent
      self.stride = stride
    }
  }
  package var type: DataType
  package var source: Memory
  package var base: IndexExpression
  package var taps: [Axis]
  package var positions: [Axis]
  package var columns: BlockExtent
  package var destination: Memory
  package var panelWidth: Int

  package init(
    type: DataType, source: Memory, base: IndexExpression, taps: [Axis], positions: [Axis],
    columns: BlockExtent, destination: Memory, panelWidth: Int
  ) {
    self.type = type
    self.source = source
    self.base = base
    self.taps = taps
    self.positions = positions
    self.columns = columns
    self.destination = destination
    self.panelWidth = panelWidth
  }
}

/// Asks for memory that is read soon, a row's piece some rows ahead, which the processor does not foresee.
/// It changes nothing but time.
package struct PrefetchStatement: Hashable, Sendable {
  package var memory: Memory
  package var type: DataType
  /// The first element of the present row's piece, and its elements.
  package var base: IndexExpression
  package var count: Int
  /// How many elements further the piece lies that is asked for; it may be beyond the memory.
  package var ahead: Int

  package init(
    _ memory: Memory, _ type: DataType, base: IndexExpression, count: Int, ahead: Int
  ) {
    self.memory = memory
    self.type = type
    self.base = base
    self.count = count
    self.ahead = ahead
  }

  /// Lines of the cache that the piece touches, where it begins with one.
  package var lines: Int { (count * type.byteCount + 63) / 64 }
}

package indirect enum Statement: Hashable, Sendable {
  case define(ScalarID, Expression)
  case store(Memory, IndexExpression, ScalarID, DataType)
  case prefetch(PrefetchStatement)
  case loop(Loop)
  case contract(ContractStatement)
  case pack(PackStatement)
  case winograd(WinogradStatement)
  /// Gives an index variable the value of an int64 scalar, moved into the variable's extent: positions
  /// that depend on data stay inside their memory.
  case bind(LoopVariable, ScalarID)
  /// Runs the statements where the bool scalar is true; only outside vector loops.
  case when(ScalarID, [Statement])
}

/// One compiled function: a grid of independent tiles, each running the body.
package struct Kernel: Hashable, Sendable {
  package var name: String
  package var parameters: [Parameter]
  package var locals: [Local]
  /// The tile number is decomposed over these, the last varying fastest.
  package var grid: [LoopVariable]
  package var body: [Statement]
  /// Further parts with tiles of their own, numbered after those of `grid`.
  package var sections: [Section] = []
  /// Floating-point operations and bytes moved in one call of all tiles.
  package var flops: Int
  package var bytesMoved: Int

  package init(
    name: String, parameters: [Parameter], locals: [Local], grid: [LoopVariable], body: [Statement],
    flops: Int, bytesMoved: Int
  ) {
    self.name = name
    self.parameters = parameters
    self.locals = locals
    self.grid = grid
    self.body = body
    self.flops = flops
    self.bytesMoved = bytesMoved
  }

  package struct Section: Hashable, Sendable {
    package var grid: [LoopVariable]
    package var body: [Statement]
    package var tileCount: Int { grid.reduce(1) { $0 * $1.extent } }
    package init(grid: [LoopVariable], body: [Statement]) {
      self.grid = grid
      self.body = body
    }
  }

  package var allSections: [Section] { [Section(grid: grid, body: body)] + sections }

  package var tileCount: Int { allSections.reduce(0) { $0 + $1.tileCount } }

  /// One kernel that does the work of several that are independent of each other. `parameters` of
  /// each kernel become those at the given positions.
  package static func merged(_ kernels: [Kernel], parameters: [Parameter], places: [[Int]])
    -> Kernel
  {
    var (sections, locals) = ([Section](), [Local]())
    for (kernel, places) in zip(kernels, places) {
      for section in kernel.allSections {
        sections.append(
          Section(
            grid: section.grid,
            body: section.body.map { statement in
              statement.mappingMemory { memory in
                switch memory {
                case .parameter(let i): .parameter(places[i])
                case .local(let i): .local(locals.count + i)
                }
              }
            }))
      }
      locals += kernel.locals
    }
    var result = Kernel(
      name: "", parameters: parameters, locals: locals, grid: sections[0].grid,
      body: sections[0].body,
      flops: kernels.reduce(0) { $0 + $1.flops },
      bytesMoved: kernels.reduce(0) { $0 + $1.bytesMoved })
    result.sections = Array(sections.dropFirst())
    return result
  }

  /// Byte offset of each local in a worker's scratch, aligned to cache lines, and the total.
  package var localOffsets: (offsets: [Int], total: Int) {
    var (offsets, total) = ([Int](), 0)
    for local in locals {
      offsets.append(total)
      total += (local.count * local.type.byteCount + 63) / 64 * 64
    }
    return (offsets, total)
  }
}

extension Statement {
  /// The statement with every memory replaced.
  func mappingMemory(_ f: (Memory) -> Memory) -> Statement {
    switch self {
    case .define(let id, .load(let memory, let index, let type)):
      return .define(id, .load(f(memory), index, type))
    case .define, .bind: return self
    case .store(let memory, let index, let value, let type):
      return .store(f(memory), index, value, type)
    case .prefetch(var p):
      p.memory = f(p.memory)
      return .prefetch(p)
    case .loop(var loop):
      loop.body = loop.body.map { $0.mappingMemory(f) }
      return .loop(loop)
    case .when(let id, let body): return .when(id, body.map { $0.mappingMemory(f) })
    case .contract(var c):
      (c.a, c.b, c.c) = (f(c.a), f(c.b), f(c.c))
      c.partials = c.partials.map(f)
      for i in (c.finish?.accesses ?? []).indices {
        c.finish!.accesses[i].memory = f(c.finish!.accesses[i].memory)
      }
      return .contract(c)
    case .pack(var p):
      (p.source, p.destination) = (f(p.source), f(p.destination))
      return .pack(p)
    case .winograd(var w):
      (w.source, w.destination) = (f(w.source), f(w.destination))
      return .winograd(w)
    }
  }
}

extension Statement {
  /// The memory that the statement touches.
  package var memories: [Memory] {
    switch self {
    case .define(_, .load(let memory, _, _)): return [memory]
    case .define, .bind: return []
    case .store(let memory, _, _, _): return [memory]
    case .prefetch(let p): return [p.memory]
    case .loop(let loop): return loop.body.flatMap(\.memories)
    case .when(_, let body): return body.flatMap(\.memories)
    case .contract(let c):
      return [c.a, c.b] + (c.usesResult ? [c.c] : []) + c.partials
        + (c.finish?.accesses.map(\.memory) ?? [])
    case .pack(let p): return [p.source, p.destination]
    case .winograd(let w): return [w.source, w.destination]
    }
  }

  /// The parameters that the statement touches.
  package var parameters: [Int] {
    memories.compactMap { if case .parameter(let i) = $0 { i } else { nil } }
  }

  package var isDefinition: Bool { if case .define = self { true } else { false } }
}
