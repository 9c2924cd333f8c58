public import DLCTensor

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
