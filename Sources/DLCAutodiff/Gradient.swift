public import DLCGraph
package import DLCTensor

/// Derivative functions of modules.
package enum Gradient {
  /// The output that is the sum of all elements of a gradient, to differentiate once more.
  package static let scalarName = "gradient_sum"

  /// Adds a function with the inputs of `function` whose outputs are `d_<name>` for every target. When
  /// the output is no scalar, the function also takes the cotangent `d_<output>`.
  /// - Parameters:
  ///   - names: inputs and parameters; all floating-point ones by default.
  ///   - asScalar: adds the sum of all gradient elements as an output of its own.
  /// - Throws: `.graph` for an unknown output or target, `.unsupported` where there is no derivative.
  package static func add(
    to module: inout Module, function: String, of output: String, by names: [String]?,
    named name: String, asScalar: Bool
  ) throws(DLCError) {
    let (source, g) = try opened(module, function)
    guard let result = source.graph.results.first(where: { $0.name == output }) else {
      let others = module.functions.filter { $0.outputs.contains { $0.name == output } }
        .map(\.name)
      throw DLCError(
        .graph, "function '\(function)' has no output '\(output)'",
        remedy: "it has \(source.outputs.map(\.name).joined(separator: ", "))"
          + (others.isEmpty ? "" : "; function \(Spelling.list(others)) has '\(output)'"))
    }
    let graph = source.graph
    let type = graph.type(result.value)
    guard type.dataType.isFloat else {
      throw DLCError(.graph, "output '\(output)' is \(type), not floating-point")
    }
    var targets: [(name: String, value: Value)] = []
    for (argument, value) in zip(graph.arguments, graph.argumentValues)
    where argument.type.dataType.isFloat {
      let isTarget = names?.contains(argument.name) ?? true
      if isTarget { targets.append((argument.name, g.value(value))) }
    }
    if let unknown = names?.first(where: { name in !targets.contains { $0.name == name } }) {
      throw DLCError(
        .graph, "function '\(function)' has no floating-point input or parameter '\(unknown)'",
        remedy: Spelling.remedy(
          for: unknown,
          among: graph.arguments.filter { $0.type.dataType.isFloat }.map(\.name)))
    }
    let primal = g.value(result.value)
    // An array is differentiated along a cotangent that the new function takes.
    let seed =
      type.rank == 0
      ? g.constant(1, like: primal) : g.input("d_\(output)", type.dataType, type.shape)
    let cotangents = try ReverseMode.pullback(
      g, outputs: [(primal, seed)], targets: targets.map(\.value))
    var total: Value?
    for (target, cotangent) in zip(targets, cotangents) {
      let gradient = cotangent ?? g.constant(0, like: target.value)
      g.output("d_\(target.name)", gradient)
      let sum = g.sum(gradient, axes: Array(gradient.shape.indices))
      if asScalar { total = total.map { $0 + sum } ?? sum }
    }
    if asScalar, let total { g.output(scalarName, total) }
    try finish(g, name, &module)
  }

  /// Adds the vector-Jacobian product of a function: inputs are those of `function` and `d_<output>`
  /// for each floating-point output, outputs are `d_<name>` for each target.
  /// - Parameter names: inputs and parameters; all floating-point ones that are read by default.
  package static func addPullback(
    to module: inout Module, function: String, by names: [String]? = nil, named name: String
  ) throws(DLCError) {
    let (source, g) = try opened(module, function)
    let graph = source.graph
    var outputs: [(value: Value, cotangent: Value)] = []
    for result in graph.results where graph.type(result.value).dataType.isFloat {
      let type = graph.type(result.value)
      outputs.append(
        (g.value(result.value), g.input("d_\(result.name)", type.dataType, type.shape)))
    }
    // Inputs first, then parameters, each in their order.
    var targets: [(name: String, value: Value)] = []
    let arguments = Array(zip(graph.arguments, graph.argumentValues)).filter {
      $0.0.type.dataType.isFloat && names?.contains($0.0.name) ?? true
    }
    for (argument, value) in arguments where argument.kind == .input {
      targets.append((argument.name, g.value(value)))
    }
    for state in module.states where state.isParameter {
      for (argument, value) in arguments
      where argument.kind == .state && argument.name == state.name {
        targets.append((state.name, g.value(value)))
      }
    }
    let cotangents = try g.vjp(outputs, by: targets.map(\.value))
    for (target, cotangent) in zip(targets, cotangents) { g.output("d_\(target.name)", cotangent) }
    try finish(g, name, &module)
  }

  /// A function, and a builder that goes on from its graph without its results.
  private static func opened(_ module: Module, _ name: String) throws(DLCError) -> (
    Function, FunctionBuilder
  ) {
    guard let source = module.function(name) else {
      throw DLCError(.graph, "there is no function '\(name)'")
    }
    var graph = source.graph
    graph.results = []
    graph.updates = []
    return (source, FunctionBuilder(extending: graph, states: module.states))
  }

  private static func finish(_ g: FunctionBuilder, _ name: String, _ module: inout Module)
    throws(DLCError)
  {
    if let failure = g.failure { throw failure }
    module.add(Function(name, try g.graph.normalized()))
    try module.verify()
  }
}

extension FunctionBuilder {
  /// Cotangents of `targets` given those of `outputs`; zeros where nothing depends on a target.
  /// - Throws: `.unsupported` naming an operation on the way that has no derivative.
  package func vjp(_ outputs: [(value: Value, cotangent: Value)], by targets: [Value])
    throws(DLCError) -> [Value]
  {
    let parts = try ReverseMode.pullback(self, outputs: outputs, targets: targets)
    return zip(parts, targets).map { $0 ?? constant(0, like: $1) }
  }

  /// The derivatives of a floating-point scalar by each target, in the targets' shapes.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, [3])
  /// let y = g.sum(x * x * x, axes: [0])
  /// g.output("d_x", g.gradient(of: y, by: [x])[0])  // 3 x^2
  /// ```
  public func gradient(
    of scalar: Value, by targets: [Value], file: StaticString = #fileID, line: UInt = #line
  ) -> [Value] {
    enter(file, line, [scalar] + targets, failing: { p in targets.map { _ in p } }) {
      g throws(DLCError) in
      guard scalar.rank == 0 else {
        throw DLCError(
          .graph, "only a scalar has a gradient, this is \(scalar.type)",
          remedy: "give a cotangent with vjp(of:along:by:), or take the sum or mean first")
      }
      return try g.differentiate([(scalar, g.constant(1, like: scalar))], by: targets)
    }
  }

  /// The scalar itself, and its derivatives by each target.
  public func valueAndGradient(
    of scalar: Value, by targets: [Value], file: StaticString = #fileID, line: UInt = #line
  ) -> (value: Value, gradient: [Value]) {
    enter(file, line, [], failing: { p in (p, targets.map { _ in p }) }) {
      (scalar, $0.gradient(of: scalar, by: targets))
    }
  }

  /// The vector-Jacobian product: what each target gets of the outputs' cotangents.
  /// - Parameter cotangents: one for each output, of its type.
  public func vjp(
    of outputs: [Value], along cotangents: [Value], by targets: [Value],
    file: StaticString = #fileID, line: UInt = #line
  ) -> [Value] {
    enter(
      file, line, outputs + cotangents + targets, failing: { p in targets.map { _ in p } }
    ) { g throws(DLCError) in
      guard outputs.count == cotangents.count else {
        throw DLCError(
          .graph, "there are \(outputs.count) outputs and \(cotangents.count) cotangents")
      }
      return try g.differentiate(Array(zip(outputs, cotangents)), by: targets)
    }
  }

  /// Cotangents of checked values, with the mistakes of a derivative said to be at the call.
  private func differentiate(
    _ outputs: [(value: Value, cotangent: Value)], by targets: [Value]
  ) throws(DLCError) -> [Value] {
    for (value, cotangent) in outputs {
      try value.needFloat("what is differentiated")
      guard cotangent.type == value.type else {
        throw DLCError(.graph, "the cotangent of \(value.type) is \(cotangent.type)")
      }
    }
    for target in targets { try target.needFloat("what a derivative is taken by") }
    let values = try inside(outputs.map(\.value), targets: targets)
    let places = try inside(targets, targets: targets)
    return try vjp(Array(zip(values, outputs.map(\.cotangent))), by: places)
  }

  /// Tangents of `outputs` when each input moves along its tangent.
  ///
  /// The pullback is linear in the cotangent, and the pullback of that is the pushforward; what only
  /// served the first of the two is dead code.
  public func jvp(
    of outputs: [Value], along inputs: [(value: Value, tangent: Value)],
    file: StaticString = #fileID, line: UInt = #line
  ) -> [Value] {
    enter(
      file, line, outputs + inputs.flatMap { [$0.value, $0.tangent] },
      failing: { p in outputs.map { _ in p } }
    ) { g throws(DLCError) in
      for output in outputs { try output.needFloat("what is differentiated") }
      for (value, tangent) in inputs {
        try value.needFloat("what a derivative is taken by")
        guard tangent.type == value.type else {
          throw DLCError(.graph, "the tangent of \(value.type) is \(tangent.type)")
        }
      }
      let targets = inputs.map(\.value)
      let values = try g.inside(outputs, targets: targets)
      let places = try g.inside(targets, targets: targets)
      let seeds = outputs.map { g.constant(0, like: $0) }
      let back = try ReverseMode.pullback(
        g, outputs: Array(zip(values, seeds)), targets: places)
      var forward: [(value: Value, cotangent: Value)] = []
      for (part, input) in zip(back, inputs) {
        if let part { forward.append((part, input.tangent)) }
      }
      return try g.vjp(forward, by: seeds)
    }
  }
}
