import DLCTensor

/// Functions that are made of others.
extension FunctionBuilder {
  /// What a called function gives, by name.
  public struct Results {
    fileprivate let builder: FunctionBuilder
    fileprivate let function: String
    /// Nil after a mistake, which is reported already.
    fileprivate let values: [String: Value]?
    /// The names of the results, in the function's order.
    public let names: [String]

    /// The result of that name; a name that the function does not have is a mistake of the caller.
    public subscript(
      _ name: String, file: StaticString = #fileID, line: UInt = #line
    ) -> Value {
      builder.enter(file, line, []) { g throws(DLCError) in
        guard let values else { return g.poison }
        guard let value = values[name] else {
          throw DLCError(
            .graph, "function '\(function)' has no output '\(name)'",
            remedy: Spelling.remedy(for: name, among: names))
        }
        return value
      }
    }
  }

  /// Computes what an earlier function of the module computes, as part of this one: it reads the same
  /// state, its state updates are this function's, and it is differentiated with it. Named dimensions of
  /// its inputs take the sizes of what they are given. In a function that measures (see `Module.phase`), a
  /// phase's name stands for the function that measures it.
  ///
  /// Random numbers are those of the seed that it is given: two calls with one seed draw the same.
  ///
  /// ```swift
  /// try module.function("decode") { g in
  ///   g.output("image", g.input("z", .float32, ["n", 2]) * 2)
  /// }
  /// try module.function("sample") { g in
  ///   let z = RandomStream(g, key: g.input("seed", .int64)).normal([16, 2])
  ///   g.output("images", g.call("decode", ["z": z])["image"])  // [16, 2]
  /// }
  /// ```
  ///
  /// - Parameter arguments: a value for each input.
  public func call(
    _ name: String, _ arguments: [String: Value], file: StaticString = #fileID, line: UInt = #line
  ) -> Results {
    enter(
      file, line, Array(arguments.values),
      failing: { _ in Results(builder: self, function: name, values: nil, names: []) }
    ) { g throws(DLCError) in
      let function = try callee(name)
      for given in arguments.keys.sorted()
      where !function.inputs.contains(where: { $0.name == given }) {
        throw DLCError(
          .graph, "function '\(name)' has no input '\(given)'",
          remedy: Spelling.remedy(for: given, among: function.inputs.map(\.name)))
      }
      return Results(
        builder: self, function: name, values: try g.results(of: function, arguments),
        names: function.outputs.map(\.name))
    }
  }

  /// The result of an earlier function of the module that has one, for values of its inputs in their
  /// order; see the other `call`.
  public func call(
    _ name: String, _ arguments: Value..., file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, arguments) { g throws(DLCError) in
      let function = try callee(name)
      let (inputs, outputs) = (function.inputs, function.outputs)
      guard inputs.count == arguments.count else {
        let list = inputs.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
        throw DLCError(
          .graph,
          "function '\(name)' has \(counted(inputs.count, "input")) (\(list)), \(arguments.count) are given"
        )
      }
      guard outputs.count == 1 else {
        throw DLCError(
          .graph, "function '\(name)' has \(counted(outputs.count, "output"))",
          remedy: "call it with its inputs by name, and take the outputs by name")
      }
      let named = Dictionary(
        zip(inputs.map(\.name), arguments).map { ($0, $1) }, uniquingKeysWith: { a, _ in a })
      return try g.results(of: function, named)[outputs[0].name] ?? poison
    }
  }

  /// The function that a call in this one means.
  private func callee(_ name: String) throws(DLCError) -> Function {
    let measuring = Module.evaluationName(name)
    let found =
      (isTraining ? nil : functions.first { $0.name == measuring })
      ?? functions.first { $0.name == name }
    guard let found else {
      throw DLCError(
        .graph, "there is no function '\(name)' to call before this one",
        remedy: Spelling.remedy(for: name, among: functions.map(\.name)))
    }
    return found
  }

  private func results(
    of function: Function, _ arguments: [String: Value]
  ) throws(DLCError) -> [String: Value] {
    var sizes: [String: Size] = [:]
    for (name, type) in function.inputs {
      guard let value = arguments[name] else {
        throw DLCError(
          .graph, "input '\(name)' of function '\(function.name)' is missing; it is \(type)")
      }
      let isFitting = value.dataType == type.dataType && value.rank == type.rank
      for (declared, given) in zip(type.shape, value.shape) where isFitting {
        if let free = declared.name, sizes[free] == nil { sizes[free] = given }
      }
      guard isFitting, type.shape.map({ $0.replacing(sizes) }) == value.shape else {
        throw DLCError(
          .type,
          "input '\(name)' of function '\(function.name)' is \(type), the value is \(value.type)")
      }
    }
    let graph = try function.graph.mappingDimensions { $0.replacing(sizes) }
    var values: [Value] = []
    for argument in graph.arguments {
      if argument.kind == .input {
        values.append(arguments[argument.name]!)
      } else {
        guard let state = knownState(argument.name) else { return [:] }
        values.append(try read(state))
      }
    }
    let before = failureCount
    let (results, updates) = inline(graph, values)
    try requireSuccess(since: before)
    for entry in graph.updates { if let value = updates[entry.name] { update(entry.name, value) } }
    return results
  }
}
