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
  package internal(set) var graph = Graph()
  let session: BuildSession
  /// Whether the function is to be trained: layers then drop out at random and use the statistics of the
  /// batch. False in the function that measures (see `Module.phase`).
  public var isTraining: Bool { session.isTraining }
  /// The builder around this one, when it builds a region.
  let parent: FunctionBuilder?
  var captures: [ValueID: Value] = [:]
  /// Values from around the region, in the order of its captured arguments.
  var capturedValues: [Value] = []

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

  init(inside parent: FunctionBuilder) {
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
  @TaskLocal static var underway: FunctionBuilder?

  /// The functions that this one can call.
  var functions: [Function] { session.functions }

  /// The builders' shared list of states.
  func knownState(_ name: String) -> State? { session.state(name) }

  var root: FunctionBuilder { parent?.root ?? self }

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

  /// Takes back the mistakes since there were `count` of them: those of a part that is given up.
  package func forgetFailures(since count: Int) { session.forgetFailures(since: count) }

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
    return try replacingScope(path) { () throws(E) in try located(at: place, body) }
  }

  /// Runs `body` so that the nodes added in it stand at a place that is known otherwise.
  package func located<R, E: Error>(at place: String, _ body: () throws(E) -> R) throws(E) -> R {
    if place.isEmpty { return try body() }
    return try session.replacing(.call(SourceLocation(place)), body)
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
  func reaches(_ value: Value) throws(DLCError) -> Bool {
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
  func areSound(_ sizes: [Size]) throws(DLCError) -> Bool {
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
}
