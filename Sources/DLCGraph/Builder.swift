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
  private var body: [(Operation, [ValueID])] = []
  private var argumentValues: [String: Value] = [:]
  private var currentLocation = ""
  private var nodeName = ""

  package init(states: [State] = []) { self.states = states }

  /// Continues an existing graph (autodiff and passes that add nodes).
  package init(extending graph: Graph, states: [State] = []) {
    self.graph = graph
    self.states = states
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

  /// Adds an operation. Everything that the builder offers ends here.
  package func add(
    _ operation: Operation, _ operands: [Value], _ file: StaticString, _ line: UInt
  ) -> Value {
    guard failure == nil else { return value(ValueID(-1)) }
    for operand in operands where operand.builder !== self || operand.id.index < 0 {
      return fail(DLCError(.graph, "an operand belongs to another function", at: "\(file):\(line)"))
    }
    do {
      let ids = try graph.append(
        operation, operands.map(\.id), name: nodeName, location: "\(file):\(line)")
      return value(ids[0])
    } catch { return fail(error) }
  }

  // MARK: Arguments and results

  /// Declares an input; inputs and state come before the first operation.
  public func input(
    _ name: String, _ type: DataType = .float32, _ shape: [Dimension] = [],
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    argument(Argument(.input, name, TensorType(type, shape)), file, line)
  }

  private func argument(_ argument: Argument, _ file: StaticString, _ line: UInt) -> Value {
    guard failure == nil else { return value(ValueID(-1)) }
    let place = "\(file):\(line)"
    guard graph.nodes.isEmpty else {
      return fail(
        DLCError(
          .graph, "'\(argument.name)' is declared after the first operation", at: place,
          remedy: "declare inputs and state first"))
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
    if let known = states.first(where: { $0.name == state.name }) {
      guard known.type == state.type else {
        return fail(
          DLCError(
            .graph, "state '\(state.name)' is \(known.type) elsewhere, not \(state.type)",
            at: "\(file):\(line)"))
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
    functions.append(Function(name, builder.graph))
    do { try verify() } catch {
      functions.removeLast()
      throw error
    }
  }
}
