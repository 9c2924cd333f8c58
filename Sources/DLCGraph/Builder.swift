public import DLCTensor

/// A value of a function that is being built.
///
/// ```swift
/// let x = g.input("x", .float32, ["n", 3])
/// let slope = g.select(x > 0, x, x * 0.5)
/// g.output("y", slope - g.sum(x, axes: [1], keepAxes: true))  // [n, 3]
/// ```
public struct Value: Sendable {
  package let builder: FunctionBuilder
  package let id: ValueID
  /// Element type and shape.
  public let type: TensorType

  /// Its element type.
  public var dataType: DataType { type.dataType }
  /// Its sizes, outermost axis first.
  public var shape: [Size] { type.shape }
  /// How many axes it has; 0 for a scalar.
  public var rank: Int { type.rank }

  /// Whether a mistake made it; it then has axes of unknown size.
  package var isPoisoned: Bool { id.index < 0 }
}

/// Builds the graph of one function.
///
/// Calls do not throw: a mistake is kept with the source line of the call, its results are poisoned,
/// and whatever is given a poisoned value does nothing and gives poisoned results. `Module.function`
/// throws all mistakes that do not follow from one another. Sizes of a poisoned value can be read;
/// they poison what they are given to.
///
/// Axes count from the front, negative ones from the end. While a loop or branch is built, all calls
/// add to it, whichever builder they are called on.
///
/// ```swift
/// let x = g.input("x", .float32, ["n", 3])
/// let hidden = g.tanh(g.linear(x, g.parameter("w", [8, 3])))  // [n, 8]
/// g.output("y", g.mean(hidden * hidden + 1, axes: [-1]))  // [n]
/// ```
public final class FunctionBuilder: @unchecked Sendable {
  // Used by one thread while `Module.function` runs its closure; never shared.
  package private(set) var graph = Graph()
  private let session: BuildSession
  /// Whether the function is to be trained: layers then drop out at random and use the statistics of the
  /// batch. False in the function that measures (see `Module.phase`).
  public var isTraining: Bool { session.isTraining }
  /// The builder around this one, when it builds a region.
  private let parent: FunctionBuilder?
  private var captures: [ValueID: Value] = [:]
  /// Values from around the region, in the order of its captured arguments.
  private var capturedValues: [Value] = []

  /// - Parameter dimensions: the names that sizes may have; nil for any.
  package init(
    states: [State] = [], dimensions: Set<String>? = nil, isTraining: Bool = true,
    functions: [Function] = []
  ) {
    session = BuildSession(
      graph, states: states, dimensions: dimensions, isTraining: isTraining)
    session.functions = functions
    parent = nil
  }

  private init(inside parent: FunctionBuilder) {
    session = parent.session
    self.parent = parent
  }

  /// Continues an existing graph (autodiff and passes that add nodes).
  package init(extending graph: Graph, states: [State] = []) {
    self.graph = graph
    session = BuildSession(graph, states: states, dimensions: nil, isTraining: true)
    parent = nil
  }

  /// The function that is being built by this task, which hears of misplaced values.
  @TaskLocal fileprivate static var underway: FunctionBuilder?

  /// The functions that this one can call.
  var functions: [Function] { session.functions }

  /// The builders' shared list of states.
  func knownState(_ name: String) -> State? { session.state(name) }

  private var root: FunctionBuilder { parent?.root ?? self }

  /// The builder that calls add to now: that of the innermost open region.
  package var current: FunctionBuilder { session.regions.last ?? root }

  package var states: [State] { session.states }

  /// The mistakes so far, as one error.
  package var failure: DLCError? {
    guard var first = session.failures.first else { return nil }
    first.others = Array(session.failures.dropFirst())
    return first
  }

  package func value(_ id: ValueID) -> Value { Value(builder: self, id: id, type: graph.type(id)) }

  // MARK: Calls

  /// A value that stands for the result of a mistake. It has every axis that a tensor can have, so that
  /// its sizes can be read.
  package var poison: Value {
    Value(
      builder: self, id: ValueID(-1),
      type: TensorType(.float32, [Size](repeating: .unknown, count: TensorType.maximumRank)))
  }

  /// Keeps a mistake, which is said to stand at the call under way.
  /// - Returns: a poisoned value.
  @discardableResult
  package func fail(_ error: DLCError) -> Value {
    // It stands at the builder's call, not at one inside of dlc.
    var single = error.uncalled
    single.others = []
    if !session.failures.contains(single) {
      let place = session.exactLocation()
      let isPlaced = place.isEmpty || single.location.contains(place)
      session.report(isPlaced ? single : single.within(place))
    }
    for other in error.others { fail(other) }
    return poison
  }

  /// Throws when a mistake was made since there were `count` of them.
  package func requireSuccess(since count: Int) throws(DLCError) {
    if session.failures.count > count { throw session.failures[count] }
  }

  /// How many mistakes there are.
  package var failureCount: Int { session.failures.count }

  /// The entry of every public function: notes where the call stands, unless it is part of another
  /// call, and checks the operands.
  /// - Parameters:
  ///   - operands: the values that the call is given; nil for one that is left out.
  ///   - failing: makes the results of a mistake from a poisoned value.
  ///   - body: gets the builder that calls add to now; what it throws is kept.
  package func enter<R>(
    _ file: StaticString, _ line: UInt, _ operands: [Value?], failing: (Value) -> R,
    _ body: (FunctionBuilder) throws(DLCError) -> R
  ) -> R {
    enter(.call(SourceLocation(file, line)), operands, failing: failing, body)
  }

  package func enter(
    _ file: StaticString, _ line: UInt, _ operands: [Value?],
    _ body: (FunctionBuilder) throws(DLCError) -> Value
  ) -> Value { enter(file, line, operands, failing: { $0 }, body) }

  private func enter<R>(
    _ caller: BuildSession.Caller, _ operands: [Value?], failing: (Value) -> R,
    _ body: (FunctionBuilder) throws(DLCError) -> R
  ) -> R {
    perform(caller) { builder in
      guard !session.isFinished else { return failing(poison) }
      do throws(DLCError) {
        for operand in operands {
          guard let operand else { continue }
          guard try builder.reaches(operand) else { return failing(builder.poison) }
        }
        return try body(builder)
      } catch {
        return failing(builder.fail(error))
      }
    }
  }

  private func perform<R>(_ caller: BuildSession.Caller, _ body: (FunctionBuilder) -> R) -> R {
    if session.isFinished, let underway = Self.underway, !underway.session.isFinished {
      underway.session.within(caller) {
        _ = underway.fail(DLCError(.graph, "the builder of another function is used"))
      }
    }
    return session.within(caller) { body(current) }
  }

  /// The entry of functions that take graphs as closures, which are run after every mistake, for how
  /// many results they have.
  /// - Parameter body: gets the builder that calls add to now, and whether the closures are the user's own
  ///   code.
  func enterControl<R>(
    _ file: StaticString, _ line: UInt, _ body: (FunctionBuilder, _ isOutermost: Bool) -> R
  ) -> R {
    let isOutermost = session.caller == nil
    return perform(.call(SourceLocation(file, line))) { body($0, isOutermost) }
  }

  /// The type of an operand; nil for one that is poisoned or misplaced.
  func usableType(_ value: Value) -> TensorType? {
    guard !session.isFinished else { return nil }
    do throws(DLCError) { return try reaches(value) ? value.type : nil } catch {
      fail(error)
      return nil
    }
  }

  /// The entry of Swift's operators, which belong to the function that is being built.
  static func operate(
    _ operands: Value..., body: (FunctionBuilder) throws(DLCError) -> Value
  ) -> Value {
    let owners = operands.map(\.builder) + [underway].compactMap { $0 }
    let owner = owners.first { !$0.session.isFinished } ?? owners[0]
    return owner.enter(.operation, operands, failing: { $0 }, body)
  }

  /// Runs `body` so that the nodes added in it stand at a place that is known otherwise; where none is
  /// known they stand where they would.
  /// - Parameter scope: the path of the node that they are the derivative of.
  package func located<R, E: Error>(
    at place: String, of scope: String, _ body: () throws(E) -> R
  ) throws(E) -> R {
    let suffix = "/derivative"
    let path = scope.isEmpty || scope.hasSuffix(suffix) ? scope : scope + suffix
    return try replacingScope(path) { () throws(E) in
      if place.isEmpty { return try body() }
      return try session.replacing(.call(SourceLocation(place)), body)
    }
  }

  /// Runs `body` in a scope: the nodes that are added in it carry its path, such as `block2/attention`, by which
  /// listings and profiles say what they belong to. Layers open one for each of them. Nothing depends on it.
  public func scope<R, E: Error>(_ name: String, _ body: () throws(E) -> R) throws(E) -> R {
    try replacingScope(session.scope.isEmpty ? name : "\(session.scope)/\(name)", body)
  }

  /// Runs `body` in the scope of a path that is counted from the function's beginning: what it has in common with
  /// the present one is not entered again.
  package func scope<R, E: Error>(path: String, _ body: () throws(E) -> R) throws(E) -> R {
    let (open, wanted) = (session.scope.split(separator: "/"), path.split(separator: "/"))
    let common = zip(open, wanted).prefix { $0 == $1 }.count
    return try replacingScope((open + wanted.dropFirst(common)).joined(separator: "/"), body)
  }

  private func replacingScope<R, E: Error>(
    _ path: String, _ body: () throws(E) -> R
  ) throws(E) -> R {
    let outer = session.scope
    session.scope = path
    defer { session.scope = outer }
    return try body()
  }

  /// Whether calls can use a value; false for a poisoned one.
  /// - Throws: when it belongs to another function, or to a region that is closed.
  private func reaches(_ value: Value) throws(DLCError) -> Bool {
    guard value.builder.session === session else {
      throw DLCError(.graph, "a value of another function is used")
    }
    if value.isPoisoned {
      explainPoison()
      return false
    }
    var builder: FunctionBuilder? = self
    while let here = builder {
      if here === value.builder { return true }
      builder = here.parent
    }
    throw DLCError(
      .graph, "a value of a loop's or branch's inside is used outside of it",
      remedy: "let the closure return it")
  }

  /// Nothing is poisoned without a mistake, but by the sizes of a value of another function.
  private func explainPoison() {
    guard session.failures.isEmpty else { return }
    fail(DLCError(.graph, "a size of a value is used that another function failed to make"))
  }

  /// The values in the graph that is being built now, for a derivative by `targets` in it.
  /// - Throws: when they depend on one another around the open region, where this derivative does not
  ///   see it.
  package func inside(_ values: [Value], targets: [Value]) throws(DLCError) -> [Value] {
    for value in values
    where value.builder !== self && !targets.contains(where: { $0.id == value.id }) {
      throw DLCError(
        .graph, "a value from around a loop or branch is differentiated inside of it",
        remedy: "take its derivative outside")
    }
    let mine = values.map { local($0)! }
    for target in targets where target.builder !== self {
      var builder = self
      while builder !== target.builder, let parent = builder.parent {
        let start = parent.local(target)!.id
        let reached = parent.graph.dependents(of: start)
        if builder.capturedValues.contains(where: { $0.id != start && reached.contains($0.id) }) {
          throw DLCError(
            .graph,
            "a derivative inside a loop or branch is by a value that others from around it depend on",
            remedy: "compute them inside, or take the derivative outside")
        }
        builder = parent
      }
    }
    return mine
  }

  /// Adds an operation of one result.
  package func add(_ operation: Operation, _ operands: [Value]) -> Value {
    addAll(operation, operands).first ?? poison
  }

  /// Adds an operation. Everything that the builder offers ends here.
  /// - Returns: its results; none after a mistake.
  package func addAll(_ operation: Operation, _ operands: [Value]) -> [Value] {
    let builder = current
    do throws(DLCError) {
      for operand in operands {
        guard try builder.reaches(operand) else { return [] }
      }
      guard try builder.areSound(operation.sizes) else { return [] }
      let ids = operands.map { builder.local($0)!.id }
      let (scope, location) = (session.scope, session.location)
      do throws(DLCError) {
        let results = try builder.graph.append(operation, ids, name: scope, location: location)
        return results.map { builder.value($0) }
      } catch {
        let place = session.exactLocation()
        if place == location { throw error }
        // The same again, for the words.
        _ = try builder.graph.append(operation, ids, name: scope, location: place)
        return []
      }
    } catch {
      builder.fail(error)
      return []
    }
  }

  /// Whether sizes can be used; false for those of a poisoned value.
  /// - Throws: for a size that could not be made, or a name that is not declared.
  private func areSound(_ sizes: [Size]) throws(DLCError) -> Bool {
    for size in sizes where size.constant == nil {
      if let problem = size.problem {
        if !problem.isEmpty { throw DLCError(.dimension, problem) }
        explainPoison()
        return false
      }
      guard let declared = session.dimensions else { continue }
      for name in size.names.sorted() where !declared.contains(name) {
        throw DLCError(
          .dimension, "dimension '\(name)' is not declared",
          remedy: Spelling.nearest(to: name, in: declared.sorted()).map { "did you mean '\($0)'?" }
            ?? "declare it with Module.dimension before the function")
      }
    }
    return true
  }

  /// Adds a graph with values for its arguments, in their order.
  /// - Returns: its results and updates by name; empty after a mistake.
  package func inline(_ graph: Graph, _ arguments: [Value]) -> (
    results: [String: Value], updates: [String: Value]
  ) {
    let builder = current
    var map: [ValueID: ValueID] = [:]
    do throws(DLCError) {
      for (id, value) in zip(graph.argumentValues, arguments) {
        guard try builder.reaches(value) else { return ([:], [:]) }
        map[id] = builder.local(value)!.id
      }
      for node in graph.nodes {
        let made = try builder.graph.append(
          node.operation, node.operands.map { map[$0] ?? ValueID(-1) }, name: node.name,
          location: node.location)
        for (old, new) in zip(node.results, made) { map[old] = new }
      }
    } catch {
      builder.fail(error)
      return ([:], [:])
    }
    func named(_ list: [NamedValue]) -> [String: Value] {
      Dictionary(
        list.map { ($0.name, builder.value(map[$0.value]!)) }, uniquingKeysWith: { a, _ in a })
    }
    return (named(graph.results), named(graph.updates))
  }

  // MARK: Regions

  /// The value in this graph, for one that is reached: a value from around a region is captured by its
  /// first use. Constants are repeated instead.
  private func local(_ outside: Value) -> Value? {
    if outside.builder === self { return outside }
    guard let outer = parent?.local(outside) else { return nil }
    if let known = captures[outer.id] { return known }
    if let copy = repeated(outer) { return copy }
    let argument = Argument(.captured, "k\(capturedValues.count)", outer.type)
    let inner = value(graph.addArgument(argument))
    capturedValues.append(outer)
    captures[outer.id] = inner
    return inner
  }

  /// The value from around the region that one of its captured arguments stands for.
  package func outside(_ value: Value) -> Value? {
    guard value.builder === self, let position = graph.argumentValues.firstIndex(of: value.id),
      graph.arguments[position].kind == .captured
    else { return nil }
    let number = graph.arguments[..<position].count { $0.kind == .captured }
    return capturedValues[number]
  }

  private func repeated(_ outer: Value) -> Value? {
    guard let node = outer.builder.graph.definition(outer.id) else { return nil }
    var operands: [ValueID] = []
    switch node.operation {
    case .constant(let c) where c.value.count > 16: return nil
    case .constant, .dimension, .iota: break
    case .broadcast:
      guard let inner = repeated(outer.builder.value(node.operands[0])) else { return nil }
      operands = [inner.id]
    default: return nil
    }
    guard
      let made = try? graph.append(
        node.operation, operands, name: node.name, location: node.location)
    else { return nil }
    let copy = value(made[0])
    captures[outer.id] = copy
    return copy
  }

  /// Builds the graph of a region.
  /// - Parameters:
  ///   - inputs: types of the region's arguments; nil for one that stands for a poisoned value.
  ///   - isOutermost: whether `body` is the user's own code.
  /// - Returns: the graph, the values that it captures, and how many results it has; no graph after a
  ///   mistake.
  package func region(
    _ inputs: [TensorType?], isOutermost: Bool = false,
    _ body: (FunctionBuilder, [Value]) -> [Value]
  ) -> (graph: Graph?, captured: [Value], count: Int) {
    let inner = FunctionBuilder(inside: current)
    guard !session.isFinished else {
      return (nil, [], body(inner, inputs.map { _ in poison }).count)
    }
    session.regions.append(inner)
    defer { session.regions.removeLast() }
    let arguments = inputs.enumerated().map { number, type in
      guard let type else { return inner.poison }
      return inner.value(inner.graph.addArgument(Argument(.input, "a\(number)", type)))
    }
    let results =
      isOutermost
      ? session.replacing(nil) { body(inner, arguments) } : body(inner, arguments)
    var isWhole = !inputs.contains(nil)
    for (number, result) in results.enumerated() {
      do throws(DLCError) {
        guard try inner.reaches(result) else {
          isWhole = false
          continue
        }
        inner.graph.results.append(NamedValue("r\(number)", inner.local(result)!.id))
      } catch {
        inner.fail(error)
        isWhole = false
      }
    }
    guard isWhole else { return (nil, [], results.count) }
    do throws(DLCError) {
      return (try inner.graph.normalized(), inner.capturedValues, results.count)
    } catch {
      inner.fail(error)
      return (nil, [], results.count)
    }
  }

  // MARK: Arguments and results

  /// Declares an input of the function, which runs are given by name.
  ///
  /// ```swift
  /// let image = g.input("image", .float32, ["n", 1, 2, 2])
  /// let label = g.input("label", .int32, ["n"])
  /// let scale = g.input("scale")  // a float32 scalar
  /// ```
  public func input(
    _ name: String, _ type: DataType = .float32, _ shape: [Size] = [],
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, []) { _ throws(DLCError) in
      try declare(Argument(.input, name, TensorType(type, shape)))
    }
  }

  private func declare(_ argument: Argument) throws(DLCError) -> Value {
    guard session.regions.isEmpty || argument.kind == .state else {
      throw DLCError(.graph, "input '\(argument.name)' is declared inside a loop or branch")
    }
    let what = argument.kind == .input ? "input" : "state"
    guard !argument.name.isEmpty else { throw DLCError(.graph, "an \(what) has no name") }
    let root = root
    if let known = session.arguments[argument.name].map({ root.graph.arguments[$0] }) {
      throw DLCError(
        .graph,
        known.kind == argument.kind
          ? "\(what) '\(argument.name)' is declared twice"
          : "'\(argument.name)' is an input and a state")
    }
    guard try areSound(argument.type.shape) else { return poison }
    try argument.type.validate()
    session.arguments[argument.name] = root.graph.arguments.count
    return root.value(root.graph.addArgument(argument))
  }

  /// Reads a trainable parameter, which the first use in a module declares.
  ///
  /// ```swift
  /// let w = g.parameter("w", [2, 3])
  /// let b = g.parameter("b", [2], .constant(10))
  /// g.output("y", g.linear(g.input("x", .float32, ["n", 3]), w, b))
  /// ```
  public func parameter(
    _ name: String, _ shape: [Size], _ initializer: Initializer = .glorotUniform,
    _ type: DataType = .float32, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    state(
      State(
        name: name, type: TensorType(type, shape), initializer: initializer, isParameter: true),
      file, line)
  }

  /// Reads state that losses are not differentiated by, and which the first use in a module declares.
  public func state(
    _ name: String, _ type: DataType = .float32, _ shape: [Size] = [],
    _ initializer: Initializer = .zeros, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    state(
      State(
        name: name, type: TensorType(type, shape), initializer: initializer, isParameter: false),
      file, line)
  }

  private func state(_ state: State, _ file: StaticString, _ line: UInt) -> Value {
    enter(file, line, []) { _ throws(DLCError) in try read(state) }
  }

  /// Reads a state tensor of the module.
  func read(_ state: State) throws(DLCError) -> Value {
    guard try areSound(state.type.shape) else { return poison }
    let known = session.state(state.name)
    if known == nil {
      do { try state.initializer.validate(for: state.type.dataType) } catch {
        throw error.within("state '\(state.name)'")
      }
    }
    if let known, known.type != state.type {
      throw DLCError(
        .graph, "state '\(state.name)' is \(known.type) elsewhere, not \(state.type)")
    }
    let root = root
    if let position = session.arguments[state.name],
      root.graph.arguments[position].kind == .state
    {
      return root.value(root.graph.argumentValues[position])
    }
    let value = try declare(Argument(.state, state.name, state.type))
    if known == nil { session.add(state) }
    return value
  }

  /// Names a result. Runs give them in the order of these calls.
  public func output(
    _ name: String, _ value: Value, file: StaticString = #fileID, line: UInt = #line
  ) {
    enter(file, line, [value], failing: { _ in }) { g throws(DLCError) in
      guard session.regions.isEmpty else {
        throw DLCError(
          .graph, "output '\(name)' is named inside a loop or branch",
          remedy: "let the closure return it")
      }
      guard !name.isEmpty else { throw DLCError(.graph, "an output has no name") }
      guard session.outputs.insert(name).inserted else {
        throw DLCError(.graph, "two outputs are named '\(name)'")
      }
      g.graph.results.append(NamedValue(name, value.id))
    }
  }

  /// Gives a state tensor of the module, which has the value's type, its value after the run.
  ///
  /// ```swift
  /// let count = g.state("count", .int32)
  /// g.update("count", count + 1)
  /// g.output("count", count)  // 0, 1, 2, ... from run to run
  /// ```
  public func update(
    _ name: String, _ value: Value, file: StaticString = #fileID, line: UInt = #line
  ) {
    enter(file, line, [value], failing: { _ in }) { g throws(DLCError) in
      guard session.regions.isEmpty else {
        throw DLCError(
          .graph, "state '\(name)' is updated inside a loop or branch",
          remedy: "let the closure return the new value")
      }
      guard let state = session.state(name) else {
        throw DLCError(
          .graph, "there is no state '\(name)' to update",
          remedy: Spelling.remedy(for: name, among: states.map(\.name)))
      }
      guard state.type == value.type else {
        throw DLCError(.graph, "state '\(name)' is \(state.type), its update is \(value.type)")
      }
      guard session.updates.insert(name).inserted else {
        throw DLCError(.graph, "state '\(name)' is updated twice")
      }
      g.graph.updates.append(NamedValue(name, value.id))
    }
  }
}

extension Module {
  /// Adds a function that `body` builds.
  ///
  /// ```swift
  /// try module.function("area") { g in
  ///   g.output("area", g.input("width") * g.input("height"))
  /// }
  /// ```
  ///
  /// - Parameter training: what its `isTraining` is: false for a function that is used and not trained, so
  ///   that dropout does nothing and batch norm uses its running statistics.
  /// - Throws: the mistakes that the builder calls in `body` made, each with its source line; the
  ///   module is then as it was.
  public mutating func function(
    _ name: String, training: Bool = true, file: StaticString = #fileID, line: UInt = #line,
    _ body: (FunctionBuilder) -> Void
  ) throws(DLCError) { try function(name, isTraining: training, "\(file):\(line)", body) }

  /// Adds a function that is trained and the one that measures it, from one definition: `name`, and
  /// `name_evaluation`, for which `body` runs again with `isTraining` false, so that dropout does
  /// nothing and batch norm uses its running statistics.
  ///
  /// ```swift
  /// try module.phase("loss") { g in
  ///   let (x, labels) = (g.input("x", .float32, ["n", 4]), g.input("y", .int32, ["n"]))
  ///   let logits = Layers(g).linear("out", x, 3)
  ///   g.output("loss", g.softmaxCrossEntropy(logits, labels))
  ///   g.output("accuracy", g.accuracy(logits, labels))
  /// }
  /// let functions = module.functions.map(\.name)  // ["loss", "loss_evaluation"]
  /// ```
  ///
  /// - Throws: as `function` does; then neither is added.
  public mutating func phase(
    _ name: String, file: StaticString = #fileID, line: UInt = #line,
    _ body: (FunctionBuilder) -> Void
  ) throws(DLCError) {
    var copy = self
    try copy.function(name, isTraining: true, "\(file):\(line)", body)
    try copy.function(Self.evaluationName(name), isTraining: false, "\(file):\(line)", body)
    self = copy
  }

  /// The name of the function that measures a phase.
  package static func evaluationName(_ phase: String) -> String { "\(phase)_evaluation" }

  private mutating func function(
    _ name: String, isTraining: Bool, _ place: String, _ body: (FunctionBuilder) -> Void
  ) throws(DLCError) {
    guard !name.isEmpty, function(name) == nil else {
      throw DLCError(
        .graph, name.isEmpty ? "a function has no name" : "function '\(name)' is there already",
        at: place)
    }
    let builder = FunctionBuilder(
      states: states, dimensions: Set(dimensions.map(\.name)), isTraining: isTraining,
      functions: functions)
    FunctionBuilder.$underway.withValue(builder) { body(builder) }
    let graph = try builder.finish("function \(name)", place)
    let before = self
    states = builder.states
    functions.append(Function(name, graph))
    do { try verify() } catch {
      self = before
      throw error.location.contains(place) ? error.uncalled : error.uncalled.within(place)
    }
  }
}

extension FunctionBuilder {
  /// Ends the building of a function.
  /// - Throws: every mistake that was made.
  fileprivate func finish(_ name: String, _ place: String) throws(DLCError) -> Graph {
    session.isFinished = true
    if let failure { throw failure.within(name) }
    if graph.results.isEmpty && graph.updates.isEmpty {
      throw DLCError(
        .graph, "the function gives nothing", at: "\(name): \(place)",
        remedy: "name a result with output")
    }
    return try graph.normalized()
  }
}
