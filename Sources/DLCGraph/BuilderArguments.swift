public import DLCTensor

/// What a function takes and gives.
extension FunctionBuilder {
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
