import DLCGraph
import DLCKernel
import DLCTensor

/// Writes the statements that compute values of a region at given coordinates.
///
/// A value is computed in the innermost loop whose variable its coordinate mentions, so what does not
/// change in a loop stays out of it.
struct RegionEvaluator: KernelWriter {
  let graph: Graph
  let region: Region
  var draft = KernelDraft()
  /// What the parameters are bound to.
  private(set) var bindings: [KernelCall.Binding] = []
  /// Values that live in memory of the kernel itself, the result of a tiled product and cached rows, and
  /// where an element lies there; nil for one that is not there.
  var resident: [ValueID: (Memory, ([IndexExpression]) -> IndexExpression?)] = [:]
  /// Memory of the kernel itself that outputs of a part go to, in the place of a destination.
  var diverted: [ValueID: Memory] = [:]
  /// Every element position that was loaded or stored, for merging loops.
  private(set) var accesses: [IndexExpression] = []
  /// What was loaded from memory outside of the kernel.
  private(set) var reads: [(memory: Memory, index: IndexExpression, type: DataType)] = []
  /// The price of one element of the innermost loop.
  var cost = 0
  /// Whether a function was computed that is a long chain of instructions.
  var hasChains = false
  /// The longest product that is computed inside, and in how many registers its parts may run side by
  /// side, when no loop over elements runs in lanes.
  var productDepth = 0
  var spreadWidth: Int?
  /// What is known in each scope, by its number.
  private var known: [Int: Known] = [:]

  private struct Known {
    var scalars: [Key: ScalarID] = [:]
    var bindings: [BindingKey: IndexExpression] = [:]
  }

  private struct BindingKey: Hashable {
    var value: ValueID
    var coordinate: [IndexExpression]
    var extent: Int
  }

  private struct Key: Hashable {
    var value: ValueID
    var coordinate: [IndexExpression]
  }

  init(_ graph: Graph, _ region: Region) {
    self.graph = graph
    self.region = region
  }

  /// Without a region: everything that is read lies in memory.
  init(_ graph: Graph) {
    self.init(graph, Region(.rows(domain: [], axes: []), members: [], outputs: []))
  }

  mutating func parameter(_ source: KernelCall.Binding, _ value: ValueID) -> Memory {
    parameter(source, graph.type(value).dataType, count: graph.type(value).elementCount)
  }

  /// A parameter for memory of another size than the value has (a packed operand).
  mutating func parameter(
    _ source: KernelCall.Binding, _ type: DataType, count: Int, isOutput: Bool = false
  ) -> Memory {
    if let known = bindings.firstIndex(of: source) { return .parameter(known) }
    bindings.append(source)
    if case .destination = source { return draft.parameter(type, count, isOutput: true) }
    return draft.parameter(type, count, isOutput: isOutput)
  }

  /// Gives a product on tiles the memory in which it sums groups of parts.
  mutating func makeRoom(for product: inout ContractStatement) {
    let levels = SumOrder.levels(product.depth, chain: product.depthBlock)
    for _ in 0..<levels { product.partials.append(local(product.types.c, product.partialCount)) }
  }

  /// Whether neighbouring values of a variable are neighbours in the memory that a value is read from.
  func isContiguous(_ wanted: ValueID, _ at: [IndexExpression], along variable: LoopVariable)
    -> Bool
  {
    let (value, coordinate) = graph.resolve(wanted, at)
    return linearize(coordinate, graph.sizes(value)).stride(of: variable) == 1
  }

  // MARK: Values

  /// The scalar that holds an element of a value.
  mutating func evaluate(_ wanted: ValueID, _ at: [IndexExpression]) -> ScalarID {
    let (value, coordinate) = graph.resolve(wanted, at)
    let key = Key(value: value, coordinate: coordinate)
    for scope in draft.scopes.reversed() {
      if let id = known[scope.number]?.scalars[key] { return id }
    }
    // What takes a loop of its own stays where it is asked for.
    let home = takesLoop(value) ? draft.depth : draft.home(coordinate)
    let id = compute(value, coordinate, home)
    remember(key, id, in: max(home, draft.depth(of: id)))
    return id
  }

  private func takesLoop(_ value: ValueID) -> Bool {
    guard resident[value] == nil, let id = graph.definitions[value.index],
      region.members.contains(id)
    else { return false }
    return switch graph.structure(graph[id]) {
    case .map, .randomBits, .gather, .dynamicSlice: false
    default: true
    }
  }

  private mutating func remember(_ key: Key, _ id: ScalarID, in scope: Int) {
    known[draft.scopes[scope].number, default: Known()].scalars[key] = id
  }

  /// What a value is at a coordinate, in the innermost scope.
  mutating func remember(_ value: ValueID, _ coordinate: [IndexExpression], _ id: ScalarID) {
    draft.place(id, in: draft.depth)
    remember(Key(value: value, coordinate: coordinate), id, in: draft.depth)
  }

  private mutating func compute(_ value: ValueID, _ coordinate: [IndexExpression], _ home: Int)
    -> ScalarID
  {
    let type = graph.type(value)
    if let (memory, position) = resident[value], let index = position(coordinate) {
      accesses.append(index)
      return draft.define(.load(memory, index, type.dataType), in: draft.home([index]))
    }
    let defining = graph.definitions[value.index]
    if let id = defining {
      switch graph.structure(graph[id]) {
      case .constant(let tensor) where tensor.count == 1:
        let scalar: ScalarConstant =
          type.dataType.isFloat ? .float(tensor.doubles[0]) : .integer(tensor.integers[0])
        return draft.define(.constant(scalar, type.dataType), in: draft.home([]))
      case .iota(let axis): return draft.define(.index(coordinate[axis], type.dataType), in: home)
      default: break
      }
    }
    guard let id = defining, region.members.contains(id) else {
      let memory = parameter(.value(value), value)
      let index = linearize(coordinate, type.sizes)
      accesses.append(index)
      cost += InstructionCost.access
      reads.append((memory, index, type.dataType))
      return draft.define(.load(memory, index, type.dataType), in: home)
    }
    let node = graph[id]
    let operandType = graph.type(node.operands.last!).dataType
    switch graph.structure(node) {
    case .map(let operation):
      let operands = node.operands.map { evaluate($0, coordinate) }
      cost += InstructionCost.of(operation)
      hasChains = hasChains || InstructionCost.isChain(operation) && operandType.isFloat
      return draft.define(
        .apply(operation, operandType, operands), in: draft.home(coordinate, after: operands))
    case .randomBits:
      let operands = node.operands.map { evaluate($0, []) }
      cost += InstructionCost.randomBits
      return draft.define(
        .randomBits(linearize(coordinate, type.sizes), key: operands[0], counter: operands[1]),
        in: draft.home(coordinate, after: operands))
    case .gather(let g): return gather(node, g, coordinate)
    case .dynamicSlice:
      let (from, size) = (graph.sizes(node.operands[0]), graph.sizes(node.results[0]))
      let position = from.indices.map { axis in
        bound(node.operands[axis + 1], [], extent: from[axis] - size[axis] + 1) + coordinate[axis]
      }
      cost += InstructionCost.access
      return evaluate(node.operands[0], position)
    case .argWindow(let g): return argWindow(node, g, coordinate)
    case .window(let g): return window(node, g, coordinate)
    case .contraction(let g): return contraction(node, g, coordinate)
    case .convolution(let g): return convolution(node, g, coordinate)
    case .argReduction(let largest, let axis): return argReduction(node, largest, axis, coordinate)
    case .reduction(let combiner, let axes):
      // Reductions of a row region are scheduled before they are asked for; others are computed here.
      return inlineReduction(
        type.dataType, combiner, axes.sorted().map { graph.sizes(node.operands[0])[$0] }
      ) { e, taps in
        var (kept, inner) = (coordinate.makeIterator(), taps.makeIterator())
        let position = e.graph.sizes(node.operands[0]).indices.map {
          axes.contains($0) ? inner.next()! : kept.next()!
        }
        return e.evaluate(node.operands[0], position)
      }
    default: preconditionFailure("\(node.operation.mnemonic) cannot be computed inside a region")
    }
  }

  /// An index variable bound to an integer element, moved into its extent.
  mutating func bound(_ value: ValueID, _ at: [IndexExpression], extent: Int) -> IndexExpression {
    if extent <= 1 { return IndexExpression(0) }
    let key = BindingKey(value: value, coordinate: at, extent: extent)
    for scope in draft.scopes.reversed() {
      if let position = known[scope.number]?.bindings[key] { return position }
    }
    let raw = evaluate(value, at)
    let home = draft.home(graph.resolve(value, at).1, after: [raw])
    let wide = signed(raw, graph.type(value).dataType, in: home)
    let position = IndexExpression(draft.bind(wide, extent: extent, in: home))
    known[draft.scopes[home].number, default: Known()].bindings[key] = position
    return position
  }

  /// An index as int64; what is beyond it is beyond every axis.
  mutating func signed(_ index: ScalarID, _ type: DataType, in home: Int) -> ScalarID {
    if type == .int64 { return index }
    var small = index
    if type == .uint64 {
      let limit = draft.define(.constant(.integer(.max), type), in: draft.home([]))
      small = draft.define(.apply(.binary(.minimum), type, [index, limit]), in: home)
    }
    return draft.define(.apply(.convert(.int64), type, [small]), in: home)
  }

  private mutating func gather(_ node: Node, _ g: IndexGeometry, _ c: [IndexExpression]) -> ScalarID
  {
    let (from, indices) = (graph.sizes(node.operands[0]), graph.sizes(node.operands[1]))
    var position = g.axes.offsets(c, rank: from.count, indicesRank: indices.count)
    for (component, axis) in g.axes.startAxes.enumerated() {
      position[axis] =
        position[axis]
        + bound(
          node.operands[1], g.axes.indexPlace(c, component, indices),
          extent: from[axis] - g.sliceSizes[axis] + 1)
    }
    cost += InstructionCost.gather
    return evaluate(node.operands[0], position)
  }

  /// Stores an element of a value at its place in a destination.
  mutating func store(
    _ destination: Region.Destination, _ at: [IndexExpression], _ position: IndexExpression
  ) {
    let value = evaluate(destination.value, at)
    let memory =
      diverted[destination.value] ?? parameter(.destination(destination), destination.value)
    accesses.append(position)
    store(memory, position, value, graph.type(destination.value).dataType)
  }

  /// Stores what a region computes for an element of its domain: each output, or what a frame is around.
  mutating func storeOutputs(_ at: [IndexExpression]) {
    let domain = region.domain(graph)
    for output in region.outputs {
      let sizes = graph.sizes(output.value)
      guard let frame = region.frame else {
        // The same elements, if in another shape.
        let place = linearize(at, domain)
        store(output, sizes == domain ? at : delinearize(place, sizes), place)
        continue
      }
      let value = evaluate(frame.inner, at)
      let memory = parameter(.destination(output), output.value)
      let position = linearize(zip(at, frame.start).map { $0 + $1 }, sizes)
      accesses.append(position)
      store(memory, position, value, graph.type(output.value).dataType)
    }
  }

  /// Fills what a frame has beside a line that was stored, in the tile that stored it, so that no other worker touches
  /// the same memory: what is before and behind it, and above the first and below the last line.
  /// - Parameter at: the coordinate of the line, without its last axis.
  mutating func storeFrame(beside at: [IndexExpression]) {
    guard let frame = region.frame else { return }
    let output = region.outputs[0]
    let (sizes, inner) = (graph.sizes(output.value), graph.sizes(frame.inner))
    let (rows, columns) = (sizes.count - 2, sizes.count - 1)
    let value = evaluate(frame.fill, [])
    let memory = parameter(.destination(output), output.value)
    let type = graph.type(output.value).dataType
    func place(_ row: IndexExpression, _ column: Int) -> IndexExpression {
      linearize(at.dropLast() + [row, IndexExpression(column)], sizes)
    }
    func fill(_ e: inout RegionEvaluator, _ count: Int, from start: IndexExpression) {
      if count == 0 { return }
      e.each(count, count < 4 ? .serial : .vector(unroll: 1)) { e, i in
        e.store(memory, start + i, value, type)
      }
    }
    let row = at[rows] + frame.start[rows]
    let end = frame.start[columns] + inner[columns]
    fill(&self, frame.start[columns], from: place(row, 0))
    fill(&self, sizes[columns] - end, from: place(row, end))
    let below = frame.start[rows] + inner[rows]
    for (line, first, count) in [
      (0, 0, frame.start[rows]), (inner[rows] - 1, below, sizes[rows] - below),
    ] where count > 0 {
      let isThere = apply(
        .compare(.equal), .int64, position(at[rows]), position(IndexExpression(line)))
      when(isThere) { e in fill(&e, count * sizes[columns], from: place(IndexExpression(first), 0))
      }
    }
  }

  /// The kernel as it has been written, with what its parameters are bound to.
  func call(
    _ structure: String, _ type: DataType, _ target: Target, flops: Int,
    inPlace: [(input: Int, output: Int)] = []
  ) -> KernelCall {
    let isEmpty =
      !region.outputs.isEmpty
      && region.outputs.allSatisfy { graph.type($0.value).elementCount == 0 }
    let kernel = Kernel(
      name: "", parameters: draft.parameters, locals: draft.locals, grid: draft.grid,
      body: isEmpty ? [] : draft.body, flops: flops,
      bytesMoved: Lowering.bytes(draft.parameters)
    ).finishingProducts()
    return KernelCall(
      kernel: Lowering.named(kernel, structure, type, target), bindings: bindings,
      inPlace: inPlace)
  }
}
