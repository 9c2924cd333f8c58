import DLCGraph
import DLCKernel
import DLCTensor

/// Writes the statements that compute values of a region at given coordinates.
///
/// Scopes stand for the loops that are open, outermost first. A value is computed in the innermost
/// scope whose variables its coordinate mentions, so what does not change in a loop stays out of it.
struct RegionEvaluator {
  let graph: Graph
  let region: Region
  private(set) var parameters: [Parameter] = []
  private(set) var parameterValues: [ParameterSource] = []
  private(set) var locals: [Local] = []
  var scopes: [Scope] = []
  private var nextScalar = 0
  private var nextVariable = 0
  /// Values that live in memory of the kernel itself, the result of a tiled product and cached rows, and
  /// where an element lies there; nil for one that is not there.
  var resident: [ValueID: (Memory, ([IndexExpression]) -> IndexExpression?)] = [:]
  /// Every element position that was loaded or stored, for merging loops.
  private(set) var accesses: [IndexExpression] = []
  /// The price of one element of the innermost loop.
  private(set) var cost = 0
  private(set) var usesRandomBits = false
  /// The longest product that is computed inside, and in how many registers its parts may run side by
  /// side, when no loop over elements runs in lanes.
  private(set) var productDepth = 0
  var spreadWidth: Int?
  /// The sums of more parts than this are not kept.
  private static let spreadLimit = 1 << 17
  /// The scope in which each scalar is defined.
  private var depths: [ScalarID: Int] = [:]

  struct Scope {
    var variables: Set<LoopVariable>
    var statements: [Statement] = []
    var memo: [Key: ScalarID] = [:]
    var bindings: [BindingKey: IndexExpression] = [:]
  }

  struct BindingKey: Hashable {
    var value: ValueID
    var coordinate: [IndexExpression]
    var extent: Int
  }

  struct Key: Hashable {
    var value: ValueID
    var coordinate: [IndexExpression]
  }

  /// What a parameter is bound to.
  enum ParameterSource: Hashable {
    case value(ValueID)
    case destination(Region.Destination)
    /// Memory between the kernels of the region.
    case temporary(Int)
  }

  init(_ graph: Graph, _ region: Region) {
    self.graph = graph
    self.region = region
  }

  mutating func variable(_ extent: Int) -> LoopVariable {
    nextVariable += 1
    return LoopVariable(id: nextVariable - 1, extent: extent)
  }

  mutating func scalar() -> ScalarID {
    nextScalar += 1
    return ScalarID(nextScalar - 1)
  }

  mutating func local(_ type: DataType, _ count: Int) -> Memory {
    locals.append(Local(type, max(count, 1)))
    return .local(locals.count - 1)
  }

  mutating func parameter(_ source: ParameterSource, _ value: ValueID) -> Memory {
    if let known = parameterValues.firstIndex(of: source) { return .parameter(known) }
    let type = graph.type(value)
    var isOutput = false
    if case .destination = source { isOutput = true }
    parameters.append(Parameter(type.dataType, max(type.elementCount, 1), isOutput: isOutput))
    parameterValues.append(source)
    return .parameter(parameters.count - 1)
  }

  /// Gives a product on tiles the memory in which it sums groups of parts.
  mutating func makeRoom(for product: inout ContractStatement) {
    let levels = SumOrder.levels(product.depth, chain: product.depthBlock)
    for _ in 0..<levels { product.partials.append(local(product.types.c, product.partialCount)) }
  }

  /// A parameter for memory of another size than the value has (a packed operand).
  mutating func parameter(_ source: ParameterSource, _ type: DataType, count: Int) -> Memory {
    if let known = parameterValues.firstIndex(of: source) { return .parameter(known) }
    parameters.append(Parameter(type, max(count, 1), isOutput: false))
    parameterValues.append(source)
    return .parameter(parameters.count - 1)
  }

  /// Whether neighbouring values of a variable are neighbours in the memory that a value is read from.
  func isContiguous(_ wanted: ValueID, _ at: [IndexExpression], along variable: LoopVariable)
    -> Bool
  {
    let (value, coordinate) = graph.resolve(wanted, at)
    return linearize(coordinate, graph.sizes(value)).stride(of: variable) == 1
  }

  // MARK: Scopes

  private func scopeIndex(_ coordinate: [IndexExpression]) -> Int {
    let mentioned = Set(coordinate.flatMap(\.variables))
    return scopes.lastIndex { !$0.variables.isDisjoint(with: mentioned) } ?? 0
  }

  mutating func define(_ expression: Expression, in scope: Int) -> ScalarID {
    let id = scalar()
    depths[id] = scope
    scopes[scope].statements.append(.define(id, expression))
    return id
  }

  /// Opens a scope for a loop, fills it, and returns its statements.
  mutating func inScope(_ variables: Set<LoopVariable>, _ body: (inout RegionEvaluator) -> Void)
    -> [Statement]
  {
    scopes.append(Scope(variables: variables))
    body(&self)
    return scopes.removeLast().statements
  }

  mutating func append(_ statement: Statement) {
    scopes[scopes.count - 1].statements.append(statement)
  }

  // MARK: Values

  /// The scalar that holds an element of a value.
  mutating func evaluate(_ wanted: ValueID, _ at: [IndexExpression]) -> ScalarID {
    let (value, coordinate) = graph.resolve(wanted, at)
    let key = Key(value: value, coordinate: coordinate)
    for scope in scopes.reversed() { if let known = scope.memo[key] { return known } }
    // What takes a loop of its own stays where it is asked for.
    let home = takesLoop(value) ? scopes.count - 1 : scopeIndex(coordinate)
    let id = compute(value, coordinate, home)
    scopes[max(home, depths[id] ?? scopes.count - 1)].memo[key] = id
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

  mutating func remember(
    _ value: ValueID, _ coordinate: [IndexExpression], _ id: ScalarID, in scope: Int
  ) {
    depths[id] = scope
    scopes[scope].memo[Key(value: value, coordinate: coordinate)] = id
  }

  private mutating func compute(_ value: ValueID, _ coordinate: [IndexExpression], _ home: Int)
    -> ScalarID
  {
    let type = graph.type(value)
    if let (memory, position) = resident[value], let index = position(coordinate) {
      accesses.append(index)
      return define(.load(memory, index, type.dataType), in: scopeIndex([index]))
    }
    let defining = graph.definitions[value.index]
    if let id = defining {
      switch graph.structure(graph[id]) {
      case .constant(let tensor) where tensor.count == 1:
        let scalar: ScalarConstant =
          type.dataType.isFloat ? .float(tensor.doubles[0]) : .integer(tensor.integers[0])
        return define(.constant(scalar, type.dataType), in: 0)
      case .iota(let axis): return define(.index(coordinate[axis], type.dataType), in: home)
      default: break
      }
    }
    guard let id = defining, region.members.contains(id) else {
      let memory = parameter(.value(value), value)
      let index = linearize(coordinate, type.sizes)
      accesses.append(index)
      cost += InstructionCost.access
      return define(.load(memory, index, type.dataType), in: home)
    }
    let node = graph[id]
    let operandType = graph.type(node.operands.last!).dataType
    switch graph.structure(node) {
    case .map(let operation):
      let operands = node.operands.map { evaluate($0, coordinate) }
      cost += InstructionCost.of(operation)
      return define(.apply(operation, operandType, operands), in: deepest(home, operands))
    case .randomBits:
      let operands = node.operands.map { evaluate($0, []) }
      cost += InstructionCost.randomBits
      return define(
        .randomBits(linearize(coordinate, type.sizes), key: operands[0], counter: operands[1]),
        in: deepest(home, operands))
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

  /// The scope for what uses scalars: what takes a loop may stand deeper than its coordinate asks.
  private func deepest(_ home: Int, _ operands: [ScalarID]) -> Int {
    operands.reduce(home) { max($0, depths[$1] ?? scopes.count - 1) }
  }

  /// An index variable bound to an integer element, moved into its extent.
  mutating func bound(_ value: ValueID, _ at: [IndexExpression], extent: Int) -> IndexExpression {
    if extent <= 1 { return IndexExpression(0) }
    let key = BindingKey(value: value, coordinate: at, extent: extent)
    for scope in scopes.reversed() { if let known = scope.bindings[key] { return known } }
    let raw = evaluate(value, at)
    let home = deepest(scopeIndex(resolvedCoordinate(value, at)), [raw])
    let wide = signed(raw, graph.type(value).dataType, in: home)
    let variable = variable(extent)
    scopes[home].statements.append(.bind(variable, wide))
    scopes[home].variables.insert(variable)
    let position = IndexExpression(variable)
    scopes[home].bindings[key] = position
    return position
  }

  /// An index as int64; what is beyond it is beyond every axis.
  mutating func signed(_ index: ScalarID, _ type: DataType, in home: Int) -> ScalarID {
    if type == .int64 { return index }
    var small = index
    if type == .uint64 {
      let limit = define(.constant(.integer(.max), type), in: 0)
      small = define(.apply(.binary(.minimum), type, [index, limit]), in: home)
    }
    return define(.apply(.convert(.int64), type, [small]), in: home)
  }

  private func resolvedCoordinate(_ value: ValueID, _ at: [IndexExpression]) -> [IndexExpression] {
    graph.resolve(value, at).1
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

  /// Serial loops over `extents` that combine what `element` gives; stands in the current scope.
  private mutating func inlineReduction(
    _ type: DataType, _ combiner: Combiner, _ extents: [Int],
    _ element: (inout RegionEvaluator, [IndexExpression]) -> ScalarID
  ) -> ScalarID {
    let variables = extents.map { variable($0) }
    func nest(_ e: inout RegionEvaluator, _ depth: Int) -> ScalarID {
      if depth == variables.count { return element(&e, variables.map { IndexExpression($0) }) }
      let (current, next, result) = (e.scalar(), e.scalar(), e.scalar())
      let body = e.inScope([variables[depth]]) { e in
        let part = nest(&e, depth + 1)
        e.append(.define(next, .apply(combiner.operation, type, [current, part])))
      }
      e.append(
        .loop(
          Loop(
            variables[depth],
            accumulators: [
              Accumulator(
                type, initial: combiner.identity(type), current: current, next: next,
                result: result,
                combiner: combiner)
            ], body: body)))
      e.depths[result] = e.scopes.count - 1
      return result
    }
    cost += extents.reduce(2, *)
    // Whatever is computed while these loops are open belongs to them.
    return nest(&self, 0)
  }

  private mutating func window(_ node: Node, _ g: WindowGeometry, _ c: [IndexExpression])
    -> ScalarID
  {
    let axes = g.window.indices.filter { g.window[$0] > 1 }
    return inlineReduction(
      graph.type(node.results[0]).dataType, g.combiner, axes.map { g.window[$0] }
    ) { e, taps in
      var position = c.indices.map { c[$0] * g.strides[$0] }
      for (tap, axis) in zip(taps, axes) {
        position[axis] = position[axis] + tap * g.dilation[axis]
      }
      return e.evaluate(node.operands[0], position)
    }
  }

  private mutating func product(_ node: Node, _ a: ScalarID, _ b: ScalarID) -> ScalarID {
    let id = scalar()
    append(.define(id, .apply(.binary(.multiply), graph.type(node.results[0]).dataType, [a, b])))
    return id
  }

  private mutating func contraction(_ node: Node, _ g: ContractionGeometry, _ c: [IndexExpression])
    -> ScalarID
  {
    let (a, b) = (graph.sizes(node.operands[0]), graph.sizes(node.operands[1]))
    let type = graph.type(node.results[0]).dataType
    let extents = g.lhsContracting.map { a[$0] }
    return depthSum(type, extents.reduce(1, *)) { e, step in
      let taps = delinearize(step, extents)
      var position = c.makeIterator()
      var (ac, bc) = (a.map { _ in IndexExpression(0) }, b.map { _ in IndexExpression(0) })
      for (x, y) in zip(g.lhsBatch, g.rhsBatch) {
        ac[x] = position.next()!
        bc[y] = ac[x]
      }
      for axis in g.lhsFree(a.count) { ac[axis] = position.next()! }
      for axis in g.rhsFree(b.count) { bc[axis] = position.next()! }
      for (tap, (x, y)) in zip(taps, zip(g.lhsContracting, g.rhsContracting)) {
        ac[x] = tap
        bc[y] = tap
      }
      return (
        e.widened(e.evaluate(node.operands[0], ac), node.operands[0], to: type),
        e.widened(e.evaluate(node.operands[1], bc), node.operands[1], to: type)
      )
    }
  }

  /// A factor as the type of the sums holds it.
  private mutating func widened(_ id: ScalarID, _ value: ValueID, to type: DataType) -> ScalarID {
    let from = graph.type(value).dataType
    if from == type { return id }
    return define(.apply(.convert(type), from, [id]), in: scopes.count - 1)
  }

  /// The sum of `depth` products in the order of all products (see `SumOrder`); stands in the current
  /// scope. `factors` gives those of one step.
  private mutating func depthSum(
    _ type: DataType, _ depth: Int,
    _ factors: (inout RegionEvaluator, IndexExpression) -> (ScalarID, ScalarID)
  ) -> ScalarID {
    cost += 2 * depth + 2
    productDepth = max(productDepth, depth)
    let size = SumOrder.productPart(depth)
    let step = variable(depth)
    func part(_ e: inout RegionEvaluator, _ extent: BlockExtent) -> ScalarID {
      e.loop(
        step, extent, type, initial: type.isFloat ? .float(0) : .integer(0), combiner: nil
      ) { e, sum in
        let (a, b) = factors(&e, IndexExpression(step))
        let depth = e.scopes.count - 1
        if type.isFloat { return e.define(.multiplyAdd(type, [a, b, sum]), in: depth) }
        let product = e.define(.apply(.binary(.multiply), type, [a, b]), in: depth)
        return e.define(.apply(.binary(.add), type, [sum, product]), in: depth)
      }
    }
    if depth <= size || !type.isFloat { return part(&self, BlockExtent(depth)) }
    let count = (depth + size - 1) / size
    let number = variable(count)
    let extent = BlockExtent(total: depth, size: size, index: number)
    // -0 changes nothing, not even the sign of a zero: the first part stays as it is.
    func total(
      _ e: inout RegionEvaluator, _ term: (inout RegionEvaluator, LoopVariable) -> ScalarID
    )
      -> ScalarID
    {
      let turn = e.variable(count)
      return e.loop(turn, nil, type, initial: .float(-0.0), combiner: .sum) { e, sum in
        let value = term(&e, turn)
        return e.define(.apply(.binary(.add), type, [sum, value]), in: e.scopes.count - 1)
      }
    }
    guard let spreadWidth, count <= Self.spreadLimit else {
      return loop(number, nil, type, initial: .float(-0.0), combiner: .sum) { e, sum in
        let value = part(&e, extent)
        return e.define(.apply(.binary(.add), type, [sum, value]), in: e.scopes.count - 1)
      }
    }
    // Few elements: the parts of one run side by side in lanes, and are added afterwards.
    let sums = local(type, count)
    let whole = depth / size
    let lane = variable(whole)
    let body = inScope([lane]) { e in
      let inner = e.variable(size)
      let sum = e.loop(inner, nil, type, initial: .float(0), combiner: nil) { e, sum in
        let (a, b) = factors(&e, IndexExpression(lane) * size + IndexExpression(inner))
        return e.define(.multiplyAdd(type, [a, b, sum]), in: e.scopes.count - 1)
      }
      e.append(.store(sums, IndexExpression(lane), sum, type))
    }
    append(.loop(Loop(lane, mode: .vector(unroll: 1, width: spreadWidth), body: body)))
    if whole < count {
      let inner = variable(depth - whole * size)
      let sum = loop(inner, nil, type, initial: .float(0), combiner: nil) { e, sum in
        let (a, b) = factors(&e, IndexExpression(inner) + whole * size)
        return e.define(.multiplyAdd(type, [a, b, sum]), in: e.scopes.count - 1)
      }
      append(.store(sums, IndexExpression(whole), sum, type))
    }
    return total(&self) { e, turn in
      e.define(.load(sums, IndexExpression(turn), type), in: e.scopes.count - 1)
    }
  }

  /// A serial loop that carries one value; stands in the current scope.
  private mutating func loop(
    _ variable: LoopVariable, _ extent: BlockExtent?, _ type: DataType, initial: ScalarConstant,
    combiner: Combiner?, _ body: (inout RegionEvaluator, ScalarID) -> ScalarID
  ) -> ScalarID {
    let (current, result) = (scalar(), scalar())
    var next = current
    let statements = inScope([variable]) { e in
      e.depths[current] = e.scopes.count - 1
      next = body(&e, current)
    }
    append(
      .loop(
        Loop(
          variable, extent,
          accumulators: [
            Accumulator(
              type, initial: initial, current: current, next: next, result: result,
              combiner: combiner)
          ], body: statements)))
    depths[result] = scopes.count - 1
    return result
  }

  private mutating func convolution(_ node: Node, _ g: ConvolutionGeometry, _ c: [IndexExpression])
    -> ScalarID
  {
    let kernel = graph.sizes(node.operands[1])
    let perGroup = max(kernel[0] / g.groups, 1)
    let type = graph.type(node.results[0]).dataType
    let group = g.groups == 1 ? IndexExpression(0) : c[1].quotient(perGroup)
    return inlineReduction(type, .sum, Array(kernel.dropFirst())) { e, taps in
      var position = [c[0], group * kernel[1] + taps[0]]
      for i in g.strides.indices {
        position.append(c[i + 2] * g.strides[i] + taps[i + 1] * g.kernelDilation[i])
      }
      return e.product(
        node, e.evaluate(node.operands[0], position), e.evaluate(node.operands[1], [c[1]] + taps))
    }
  }

  private mutating func argReduction(
    _ node: Node, _ largest: Bool, _ axis: Int, _ c: [IndexExpression]
  ) -> ScalarID {
    extreme(
      graph.type(node.operands[0]).dataType, graph.type(node.results[0]).dataType, largest,
      count: graph.sizes(node.operands[0])[axis]
    ) { e, v in
      var position = c
      position.insert(v, at: axis)
      return (e.evaluate(node.operands[0], position), v)
    }
  }

  private mutating func argWindow(
    _ node: Node, _ g: ArgWindowGeometry, _ c: [IndexExpression]
  ) -> ScalarID {
    let sizes = graph.sizes(node.operands[0])
    return extreme(
      graph.type(node.operands[0]).dataType, .int32, g.largest, count: g.window.reduce(1, *)
    ) { e, v in
      let taps = delinearize(v, g.window)
      let position = c.indices.map { c[$0] * g.strides[$0] + taps[$0] * g.dilation[$0] }
      let number = linearize(Array(position[g.leading...]), Array(sizes[g.leading...]))
      return (e.evaluate(node.operands[0], position), number)
    }
  }

  /// The number of the first extreme of `count` elements; a NaN counts as the extreme.
  private mutating func extreme(
    _ type: DataType, _ indexType: DataType, _ largest: Bool, count: Int,
    _ element: (inout RegionEvaluator, IndexExpression) -> (ScalarID, number: IndexExpression)
  ) -> ScalarID {
    let v = variable(count)
    let ids = (0..<6).map { _ in scalar() }
    let (bestValue, nextValue, lastValue) = (ids[0], ids[1], ids[2])
    let (bestIndex, nextIndex, lastIndex) = (ids[3], ids[4], ids[5])
    let body = inScope([v]) { e in
      let (x, number) = element(&e, IndexExpression(v))
      let depth = e.scopes.count - 1
      let here = e.define(.index(number, indexType), in: depth)
      // Better than the best, or the first element at all, or the first NaN.
      let turn = e.define(.index(IndexExpression(v), .int64), in: depth)
      let zero = e.define(.constant(.integer(0), .int64), in: depth)
      let first = e.define(.apply(.compare(.equal), .int64, [turn, zero]), in: depth)
      var better = e.define(
        .apply(.compare(largest ? .greater : .less), type, [x, bestValue]), in: depth)
      if type.isFloat {
        let xNaN = e.define(.apply(.compare(.not_equal), type, [x, x]), in: depth)
        let bestIsNumber = e.define(
          .apply(.compare(.equal), type, [bestValue, bestValue]), in: depth)
        let either = e.define(.apply(.binary(.or), .bool, [better, xNaN]), in: depth)
        better = e.define(.apply(.binary(.and), .bool, [either, bestIsNumber]), in: depth)
      }
      let take = e.define(.apply(.binary(.or), .bool, [better, first]), in: depth)
      e.append(.define(nextValue, .apply(.select, type, [take, x, bestValue])))
      e.append(.define(nextIndex, .apply(.select, indexType, [take, here, bestIndex])))
    }
    cost += 4 * count
    append(
      .loop(
        Loop(
          v,
          accumulators: [
            Accumulator(
              type, initial: Combiner.maximum.identity(type), current: bestValue, next: nextValue,
              result: lastValue, combiner: nil),
            Accumulator(
              indexType, initial: .integer(0), current: bestIndex, next: nextIndex,
              result: lastIndex, combiner: nil),
          ], body: body)))
    depths[lastIndex] = scopes.count - 1
    return lastIndex
  }

  /// Stores an element of a value at its place in a destination.
  mutating func store(
    _ destination: Region.Destination, _ at: [IndexExpression], _ position: IndexExpression
  ) {
    let value = evaluate(destination.value, at)
    let memory = parameter(.destination(destination), destination.value)
    accesses.append(position)
    append(.store(memory, position, value, graph.type(destination.value).dataType))
  }
}
