public import DLCTensor

/// A value of a function that is being built.
public struct Value: Sendable {
  package let builder: FunctionBuilder
  package let id: ValueID
  /// Element type and shape.
  public let type: TensorType

  public var dataType: DataType { type.dataType }
  public var shape: [Dimension] { type.shape }
  public var rank: Int { type.rank }
}

/// Where a builder call stands.
public struct SourceLocation: Sendable {
  package var text: String
  public init(_ file: StaticString, _ line: UInt) { text = "\(file):\(line)" }
}

/// Builds the graph of one function.
///
/// Calls do not throw: the first mistake is kept with the source line of its call and thrown by
/// `Module.function(_:_:)`; what follows it is ignored.
public final class FunctionBuilder: @unchecked Sendable {
  // Used by one thread while `Module.function` runs its closure; never shared.
  package private(set) var graph = Graph()
  package private(set) var failure: DLCError?
  package var states: [State]
  private var nodeName = ""
  /// The builder around this one, when it builds a region.
  private let parent: FunctionBuilder?
  fileprivate let depth: Int
  private var captures: [ValueID: Value] = [:]
  /// Values from around the region, in the order of its captured arguments.
  private var capturedValues: [Value] = []

  package init(states: [State] = []) {
    self.states = states
    parent = nil
    depth = 0
  }

  private init(inside parent: FunctionBuilder) {
    states = []
    self.parent = parent
    depth = parent.depth + 1
    nodeName = parent.nodeName
  }

  /// Continues an existing graph (autodiff and passes that add nodes).
  package init(extending graph: Graph, states: [State] = []) {
    self.graph = graph
    self.states = states
    parent = nil
    depth = 0
  }

  package func value(_ id: ValueID) -> Value {
    Value(builder: self, id: id, type: id.index < 0 ? TensorType(.float32) : graph.type(id))
  }

  package func fail(_ error: DLCError) -> Value {
    if failure == nil { failure = error }
    return value(ValueID(-1))
  }

  /// Runs `body` with a name that the nodes added in it carry.
  public func named<T>(_ name: String, _ body: () -> T) -> T {
    let outer = nodeName
    nodeName = outer.isEmpty ? name : "\(outer).\(name)"
    defer { nodeName = outer }
    return body()
  }

  /// Adds an operation of one result.
  package func add(
    _ operation: Operation, _ operands: [Value], _ file: StaticString, _ line: UInt
  ) -> Value {
    addAll(operation, operands, file, line).first ?? value(ValueID(-1))
  }

  /// Adds an operation. Everything that the builder offers ends here.
  /// - Returns: its results; none after a mistake.
  package func addAll(
    _ operation: Operation, _ operands: [Value], _ file: StaticString, _ line: UInt
  ) -> [Value] {
    guard failure == nil else { return [] }
    var ids: [ValueID] = []
    for operand in operands {
      guard let known = local(operand) else {
        _ = fail(
          DLCError(.graph, "an operand belongs to another function", at: "\(file):\(line)"))
        return []
      }
      ids.append(known.id)
    }
    do {
      let results = try graph.append(operation, ids, name: nodeName, location: "\(file):\(line)")
      return results.map { value($0) }
    } catch {
      _ = fail(error)
      return []
    }
  }

  /// Adds a graph with values for its arguments, in their order.
  /// - Returns: its results and updates by name; empty after a mistake.
  package func inline(_ graph: Graph, _ arguments: [Value]) -> (
    results: [String: Value], updates: [String: Value]
  ) {
    var map: [ValueID: Value] = [:]
    for (id, value) in zip(graph.argumentValues, arguments) { map[id] = value }
    for node in graph.nodes {
      guard failure == nil else { return ([:], [:]) }
      do {
        var operands: [ValueID] = []
        for operand in node.operands {
          guard let value = map[operand], let own = local(value) else {
            throw DLCError(.graph, "an inlined graph lacks an argument")
          }
          operands.append(own.id)
        }
        let made = try self.graph.append(
          node.operation, operands, name: node.name, location: node.location)
        for (old, new) in zip(node.results, made) { map[old] = value(new) }
      } catch {
        _ = fail(error as! DLCError)
        return ([:], [:])
      }
    }
    func named(_ list: [NamedValue]) -> [String: Value] {
      Dictionary(list.map { ($0.name, map[$0.value]!) }, uniquingKeysWith: { a, _ in a })
    }
    return (named(graph.results), named(graph.updates))
  }

  // MARK: Regions

  /// The value in this graph: a value from around a region is captured by its first use. Constants
  /// are repeated instead.
  private func local(_ outside: Value) -> Value? {
    if outside.builder === self { return outside.id.index < 0 ? nil : outside }
    guard let parent, let outer = parent.local(outside) else { return nil }
    if let known = captures[outer.id] { return known }
    if let copy = repeated(outer) { return copy }
    let argument = Argument(.captured, "k\(capturedValues.count)", outer.type)
    let inner = value(graph.addArgument(argument))
    capturedValues.append(outer)
    captures[outer.id] = inner
    return inner
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
  /// - Returns: the graph, and the values that it captures; nil after a mistake.
  package func region(
    _ inputs: [TensorType], _ body: (FunctionBuilder, [Value]) -> [Value]
  ) -> (graph: Graph, captured: [Value])? {
    guard failure == nil else { return nil }
    let inner = FunctionBuilder(inside: self)
    let arguments = inputs.enumerated().map { number, type in
      inner.value(inner.graph.addArgument(Argument(.input, "a\(number)", type)))
    }
    for (number, result) in body(inner, arguments).enumerated() {
      guard let own = inner.local(result) else {
        if inner.failure == nil {
          _ = inner.fail(DLCError(.graph, "a region's result belongs to another function"))
        }
        break
      }
      inner.graph.results.append(NamedValue("r\(number)", own.id))
    }
    do throws(DLCError) {
      if let failure = inner.failure { throw failure }
      return (try inner.graph.normalized(), inner.capturedValues)
    } catch {
      if failure == nil { failure = error }
      return nil
    }
  }

  /// The builder of the innermost of two values.
  package static func innermost(_ a: Value, _ b: Value) -> FunctionBuilder {
    a.builder.depth >= b.builder.depth ? a.builder : b.builder
  }

  // MARK: Arguments and results

  /// Declares an input.
  public func input(
    _ name: String, _ type: DataType = .float32, _ shape: [Dimension] = [],
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    argument(Argument(.input, name, TensorType(type, shape)), file, line)
  }

  private func argument(_ argument: Argument, _ file: StaticString, _ line: UInt) -> Value {
    guard failure == nil else { return value(ValueID(-1)) }
    let place = "\(file):\(line)"
    guard parent == nil else {
      return fail(DLCError(.graph, "input '\(argument.name)' is declared in a region", at: place))
    }
    if graph.arguments.contains(where: { $0.kind == argument.kind && $0.name == argument.name }) {
      return fail(DLCError(.graph, "'\(argument.name)' is declared twice", at: place))
    }
    do { try argument.type.validate() } catch { return fail(error.within(place)) }
    return value(graph.addArgument(argument))
  }

  /// Reads a trainable parameter, which the first use in a module declares.
  public func parameter(
    _ name: String, _ shape: [Dimension], _ initializer: Initializer = .glorotUniform,
    _ type: DataType = .float32, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    state(
      State(
        name: name, type: TensorType(type, shape), initializer: initializer, isParameter: true),
      file, line)
  }

  /// Reads state that losses are not differentiated by.
  public func state(
    _ name: String, _ type: DataType = .float32, _ shape: [Dimension] = [],
    _ initializer: Initializer = .zeros, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    state(
      State(
        name: name, type: TensorType(type, shape), initializer: initializer, isParameter: false),
      file, line)
  }

  private func state(_ state: State, _ file: StaticString, _ line: UInt) -> Value {
    if let parent { return parent.state(state, file, line) }
    if let known = states.first(where: { $0.name == state.name }) {
      guard known.type == state.type else {
        return fail(
          DLCError(
            .graph, "state '\(state.name)' is \(known.type) elsewhere, not \(state.type)",
            at: "\(file):\(line)"))
      }
      if let position = graph.arguments.firstIndex(where: {
        $0.kind == .state && $0.name == state.name
      }) {
        return value(graph.argumentValues[position])
      }
    } else {
      states.append(state)
    }
    return argument(Argument(.state, state.name, state.type), file, line)
  }

  /// Names a result.
  public func output(_ name: String, _ value: Value) {
    guard failure == nil else { return }
    if graph.results.contains(where: { $0.name == name }) {
      _ = fail(DLCError(.graph, "two outputs are named '\(name)'"))
    }
    graph.results.append(NamedValue(name, value.id))
  }

  /// Gives a state tensor its value after the run.
  public func update(_ name: String, _ value: Value) {
    guard failure == nil else { return }
    guard states.first(where: { $0.name == name })?.type == value.type else {
      _ = fail(DLCError(.graph, "update of '\(name)' does not have the state's type"))
      return
    }
    graph.updates.append(NamedValue(name, value.id))
  }
}

extension Module {
  /// Adds a function that `body` builds.
  /// - Throws: the first mistake that a builder call in `body` made, with its source line.
  public mutating func function(_ name: String, _ body: (FunctionBuilder) -> Void) throws(DLCError)
  {
    let builder = FunctionBuilder(states: states)
    body(builder)
    if let failure = builder.failure { throw failure.within("function \(name)") }
    states = builder.states
    functions.append(Function(name, try builder.graph.normalized()))
    do { try verify() } catch {
      functions.removeLast()
      throw error
    }
  }
}
