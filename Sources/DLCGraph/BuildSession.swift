import DLCTensor

/// What the builders of one function share, its own and those of the loops and branches in it.
final class BuildSession {
  /// Every mistake that does not follow from another.
  private(set) var failures: [DLCError] = []
  private(set) var states: [State]
  private var statePositions: [String: Int]
  /// The arguments of the function by name, and the names of its outputs and updates: the lists are in
  /// the graph, and would be searched from the front.
  var arguments: [String: Int] = [:]
  var outputs: Set<String> = []
  var updates: Set<String> = []
  /// The declared dimensions; nil when any name will do.
  let dimensions: Set<String>?
  /// The builders of the regions that are open, outermost first.
  var regions: [FunctionBuilder] = []
  /// Whether the function is done: nothing is added to it any more.
  var isFinished = false
  /// The path of the scopes that are open.
  var scope = ""
  /// The outermost call under way: the functions that a call is made of stand where it stands.
  private(set) var caller: Caller?
  /// Whether the call under way has made a mistake: what else it finds follows from it.
  private var hasFailed = false
  /// The line of the operator under way, once it was looked for.
  private var lineOfOperator: String?
  /// The last call that knew its line.
  private var last: SourceLocation?

  /// What a public entry is called as.
  enum Caller {
    case call(SourceLocation)
    case operation
  }

  /// Whether the function is to be trained.
  let isTraining: Bool
  /// The functions of the module so far, which this one can call.
  var functions: [Function] = []

  /// - Parameter graph: what the function has already.
  init(_ graph: Graph, states: [State], dimensions: Set<String>?, isTraining: Bool) {
    self.isTraining = isTraining
    self.states = states
    self.dimensions = dimensions
    statePositions = Dictionary(
      states.indices.map { (states[$0].name, $0) }, uniquingKeysWith: { first, _ in first })
    for index in graph.arguments.indices { arguments[graph.arguments[index].name] = index }
    outputs = Set(graph.results.map(\.name))
    updates = Set(graph.updates.map(\.name))
  }

  /// The state of that name.
  func state(_ name: String) -> State? { statePositions[name].map { states[$0] } }

  func add(_ state: State) {
    statePositions[state.name] = states.count
    states.append(state)
  }

  /// Runs `body` as part of the outermost call under way, or of this one when there is none.
  func within<R, E: Error>(_ caller: Caller, _ body: () throws(E) -> R) throws(E) -> R {
    guard self.caller == nil else { return try body() }
    if case .call(let location) = caller { last = location }
    return try replacing(caller, body)
  }

  /// Runs `body` as part of another call, or of none (user code that a call runs).
  func replacing<R, E: Error>(_ caller: Caller?, _ body: () throws(E) -> R) throws(E) -> R {
    let outer = (caller: self.caller, hasFailed: hasFailed)
    // A derivative places its operations elsewhere within one call.
    let isAnother = outer.caller == nil || caller == nil
    if isAnother { (hasFailed, lineOfOperator) = (false, nil) }
    self.caller = caller
    defer {
      self.caller = outer.caller
      if isAnother { hasFailed = outer.hasFailed }
    }
    return try body()
  }

  /// What a new node is said to stand at. Operators stand at the call before them.
  var location: String {
    if case .call(let location) = caller { return location.text }
    return last?.text ?? ""
  }

  /// Where a mistake is made.
  func exactLocation() -> String {
    guard case .operation = caller else { return location }
    let found = lineOfOperator ?? SourceLocation.onStack(near: last)?.text ?? ""
    lineOfOperator = found
    return found
  }

  func report(_ error: DLCError) {
    if failures.contains(error) || caller != nil && hasFailed { return }
    failures.append(error)
    hasFailed = true
  }

  func forgetFailures(since count: Int) {
    failures.removeLast(max(failures.count - count, 0))
    hasFailed = false
  }
}
