package import DLCTensor

/// A kernel while it is written: the numbers that are taken, its memory, and the loops that are open,
/// outermost first, with the statements that stand in them so far.
package struct KernelDraft: Sendable {
  /// What an open loop, or several directly inside each other, gives to its statements.
  package struct Scope: Sendable {
    /// No other scope of the draft has it.
    package let number: Int
    package fileprivate(set) var variables: Set<LoopVariable>
    fileprivate var statements: [Statement] = []
  }

  package private(set) var parameters: [Parameter] = []
  package private(set) var locals: [Local] = []
  package private(set) var grid: [LoopVariable] = []
  package private(set) var scopes = [Scope(number: 0, variables: [])]
  /// The outermost scope that a definition may stand in.
  private var outermost = 0
  private var (scalars, variables, numbers) = (0, 0, 1)
  /// The scope in which each scalar is defined.
  private var depths: [ScalarID: Int] = [:]

  package init() {}

  /// The statements outside of all loops.
  package var body: [Statement] { scopes[0].statements }

  /// The innermost open scope.
  package var depth: Int { scopes.count - 1 }

  // MARK: Names

  package mutating func variable(_ extent: Int) -> LoopVariable {
    variables += 1
    return LoopVariable(id: variables - 1, extent: extent)
  }

  package mutating func scalar() -> ScalarID {
    scalars += 1
    return ScalarID(scalars - 1)
  }

  package mutating func local(_ type: DataType, _ count: Int) -> Memory {
    locals.append(Local(type, max(count, 1)))
    return .local(locals.count - 1)
  }

  package mutating func parameter(_ type: DataType, _ count: Int, isOutput: Bool) -> Memory {
    parameters.append(Parameter(type, max(count, 1), isOutput: isOutput))
    return .parameter(parameters.count - 1)
  }

  /// Tiles for each value of a variable, inside of those that are there.
  package mutating func addTiles(_ variable: LoopVariable) {
    grid.append(variable)
    scopes[0].variables.insert(variable)
  }

  // MARK: Scopes

  /// The scope for what depends on indices: the innermost one that gives a variable of theirs.
  package func home(_ indices: [IndexExpression]) -> Int {
    let mentioned = Set(indices.flatMap(\.variables))
    return max(outermost, scopes.lastIndex { !$0.variables.isDisjoint(with: mentioned) } ?? 0)
  }

  /// The scope for what uses scalars: they may stand deeper than its indices ask.
  package func home(_ indices: [IndexExpression], after operands: [ScalarID]) -> Int {
    operands.reduce(home(indices)) { max($0, depth(of: $1)) }
  }

  /// The scope in which a scalar is known.
  package func depth(of id: ScalarID) -> Int { depths[id] ?? depth }

  /// Makes a scalar known in a scope: what loops give when they end.
  package mutating func place(_ id: ScalarID, in scope: Int) { depths[id] = scope }

  package mutating func define(_ expression: Expression, in scope: Int) -> ScalarID {
    let id = scalar()
    depths[id] = scope
    scopes[scope].statements.append(.define(id, expression))
    return id
  }

  /// Adds a statement to the innermost scope.
  package mutating func append(_ statement: Statement) {
    scopes[depth].statements.append(statement)
  }

  /// Adds a statement before the open loop inside `scope`.
  package mutating func append(_ statement: Statement, in scope: Int) {
    scopes[scope].statements.append(statement)
  }

  /// A variable with the value of an int64 scalar, moved into its extent.
  package mutating func bind(_ value: ScalarID, extent: Int, in scope: Int) -> LoopVariable {
    let variable = variable(extent)
    scopes[scope].statements.append(.bind(variable, value))
    scopes[scope].variables.insert(variable)
    return variable
  }

  package mutating func open(_ variables: Set<LoopVariable>) {
    scopes.append(Scope(number: numbers, variables: variables))
    numbers += 1
  }

  package mutating func close() -> [Statement] { scopes.removeLast().statements }

  /// Lets nothing move out of the innermost scope.
  /// - Returns: what was the outermost scope for definitions before.
  fileprivate mutating func seal() -> Int {
    defer { outermost = depth }
    return outermost
  }

  fileprivate mutating func unseal(_ before: Int) { outermost = before }
}

/// A value that a loop carries from one iteration to the next.
package struct Carried: Hashable, Sendable {
  package var type: DataType
  package var initial: ScalarConstant
  /// How partial results are combined; nil forbids splitting the loop.
  package var combiner: Combiner?

  package init(_ type: DataType, initial: ScalarConstant, combiner: Combiner? = nil) {
    self.type = type
    self.initial = initial
    self.combiner = combiner
  }

  /// What a reduction carries.
  package init(_ type: DataType, _ combiner: Combiner) {
    self.init(type, initial: combiner.identity(type), combiner: combiner)
  }
}

/// How a loop goes over its variable.
package struct LoopShape: Hashable, Sendable {
  package var variable: LoopVariable
  package var extent: BlockExtent
  package var mode: Loop.Mode

  package init(
    _ variable: LoopVariable, _ extent: BlockExtent? = nil, mode: Loop.Mode = .serial
  ) {
    self.variable = variable
    self.extent = extent ?? BlockExtent(variable.extent)
    self.mode = mode
  }
}

/// What writes a kernel. Loops are closures, which get the writer and what the loop gives: its position and
/// the values that it carries.
package protocol KernelWriter {
  var draft: KernelDraft { get set }
}

extension KernelWriter {
  // MARK: Scalars

  package mutating func variable(_ extent: Int) -> LoopVariable { draft.variable(extent) }
  package mutating func local(_ type: DataType, _ count: Int) -> Memory { draft.local(type, count) }

  /// A scalar in the innermost scope.
  package mutating func define(_ expression: Expression) -> ScalarID {
    draft.define(expression, in: draft.depth)
  }

  package mutating func apply(
    _ operation: ScalarOperation, _ type: DataType, _ operands: ScalarID...
  ) -> ScalarID {
    define(.apply(operation, type, operands))
  }

  package mutating func number(_ value: Double, _ type: DataType) -> ScalarID {
    define(.constant(type.isFloat ? .float(value) : .integer(Int64(value)), type))
  }

  /// An index as a number.
  package mutating func position(_ index: IndexExpression, _ type: DataType = .int64) -> ScalarID {
    define(.index(index, type))
  }

  package mutating func load(_ memory: Memory, _ index: IndexExpression, _ type: DataType)
    -> ScalarID
  {
    define(.load(memory, index, type))
  }

  package mutating func store(
    _ memory: Memory, _ index: IndexExpression, _ value: ScalarID, _ type: DataType
  ) {
    draft.append(.store(memory, index, value, type))
  }

  /// An int64 scalar as an index below `extent`.
  package mutating func bind(_ value: ScalarID, extent: Int) -> IndexExpression {
    if extent <= 1 { return IndexExpression(0) }
    return IndexExpression(draft.bind(value, extent: extent, in: draft.depth))
  }

  // MARK: Loops

  /// A loop; `body` gives the next values of what is carried.
  /// - Returns: what the carried values are at the end.
  @discardableResult
  package mutating func loop(
    _ variable: LoopVariable, _ carried: [Carried] = [], _ mode: Loop.Mode = .serial,
    block: BlockExtent? = nil,
    _ body: (inout Self, IndexExpression, [ScalarID]) -> [ScalarID]
  ) -> [ScalarID] {
    let current = carried.map { _ in draft.scalar() }
    draft.open([variable])
    for id in current { draft.place(id, in: draft.depth) }
    let next = body(&self, IndexExpression(variable), current)
    let statements = draft.close()
    let results = carried.map { _ in draft.scalar() }
    for id in results { draft.place(id, in: draft.depth) }
    draft.append(
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

  @discardableResult
  package mutating func loop(
    _ extent: Int, _ carried: [Carried], _ mode: Loop.Mode = .serial, block: BlockExtent? = nil,
    _ body: (inout Self, IndexExpression, [ScalarID]) -> [ScalarID]
  ) -> [ScalarID] {
    loop(variable(extent), carried, mode, block: block, body)
  }

  /// A loop that carries nothing.
  package mutating func each(
    _ variable: LoopVariable, _ mode: Loop.Mode = .serial, block: BlockExtent? = nil,
    _ body: (inout Self, IndexExpression) -> Void
  ) {
    loop(variable, [], mode, block: block) { w, i, _ in
      body(&w, i)
      return []
    }
  }

  package mutating func each(
    _ extent: Int, _ mode: Loop.Mode = .serial, block: BlockExtent? = nil,
    _ body: (inout Self, IndexExpression) -> Void
  ) {
    each(variable(extent), mode, block: block, body)
  }

  /// Loops inside each other that combine what the body gives with what is carried, whose combiners say
  /// how.
  package mutating func reduce(
    _ variables: ArraySlice<LoopVariable>, _ carried: [Carried],
    innermost mode: Loop.Mode = .serial, _ body: (inout Self) -> [ScalarID]
  ) -> [ScalarID] {
    guard let variable = variables.first else { return body(&self) }
    return loop(variable, carried, variables.count == 1 ? mode : .serial) { w, _, sums in
      let parts = w.reduce(variables.dropFirst(), carried, innermost: mode, body)
      return carried.indices.map {
        w.apply(carried[$0].combiner!.operation, carried[$0].type, sums[$0], parts[$0])
      }
    }
  }

  /// Loops directly inside each other, outermost first: all that the body computes stands in the
  /// innermost one.
  package mutating func nest(_ loops: [LoopShape], _ body: (inout Self) -> Void) {
    draft.open(Set(loops.map(\.variable)))
    let before = draft.seal()
    body(&self)
    draft.unseal(before)
    var statements = draft.close()
    for loop in loops.reversed() {
      statements = [.loop(Loop(loop.variable, loop.extent, mode: loop.mode, body: statements))]
    }
    for statement in statements { draft.append(statement) }
  }

  /// What is done where a bool is true.
  package mutating func when(_ condition: ScalarID, _ body: (inout Self) -> Void) {
    draft.open([])
    body(&self)
    let statements = draft.close()
    draft.append(.when(condition, statements))
  }

  // MARK: Tiles

  /// A tile for each value of a variable.
  package mutating func tile(_ extent: Int) -> IndexExpression {
    let variable = variable(extent)
    draft.addTiles(variable)
    return IndexExpression(variable)
  }

  /// A tile for each block of something.
  package mutating func tiles(_ total: Int, size: Int) -> BlockExtent {
    let number = variable((total + size - 1) / size)
    draft.addTiles(number)
    return BlockExtent(total: total, size: size, index: number)
  }
}
