package import DLCGraph
package import DLCTensor

/// Reverse-mode differentiation of graphs, after each operator's own rule. The result is an ordinary
/// graph, so it can be differentiated again.
package enum ReverseMode {
  /// Cotangents of `targets` given those of `outputs`, added to the function that `g` builds.
  /// - Returns: one value per target; nil where no output depends on it.
  /// - Throws: `.unsupported` when an operation on the way has no derivative.
  package static func pullback(
    _ g: FunctionBuilder, outputs: [(value: Value, cotangent: Value)], targets: [Value]
  ) throws(DLCError) -> [Value?] {
    let graph = g.graph
    // Only what depends on a target carries a cotangent.
    var active = Set(targets.map(\.id))
    for node in graph.nodes where node.operands.contains(where: { active.contains($0) }) {
      for result in node.results where graph.type(result).dataType.isFloat { active.insert(result) }
    }
    var cotangents: [ValueID: Value] = [:]
    func accumulate(_ id: ValueID, _ value: Value) {
      cotangents[id] = cotangents[id].map { $0 + value } ?? value
    }
    for (value, cotangent) in outputs where active.contains(value.id) {
      accumulate(value.id, cotangent)
    }
    for node in graph.nodes.reversed() where node.results.contains(where: { cotangents[$0] != nil })
    {
      guard node.operands.contains(where: { active.contains($0) }) else { continue }
      switch node.operation.definition.derivative {
      case .zero: continue
      case .undefined(let reason):
        throw DLCError(
          .unsupported, reason,
          at: "\(node.operation.mnemonic)\(node.location.isEmpty ? "" : " at \(node.location)")")
      case .rule(let rule):
        let parts = rule(
          Pullback(
            g: g, operands: node.operands.map { g.value($0) },
            results: node.results.map { g.value($0) },
            cotangents: node.results.map { cotangents[$0] }))
        if let failure = g.failure { throw failure }
        for (operand, part) in zip(node.operands, parts) {
          if let part, active.contains(operand) { accumulate(operand, part) }
        }
      }
    }
    return targets.map { cotangents[$0.id] }
  }
}

/// Derivative functions of modules.
package enum Gradient {
  /// The output that stands for the sum of all squares of a gradient, to differentiate once more.
  package static let scalarName = "gradient_sum"

  /// Adds a function with the inputs of `function` whose outputs are `d_<name>` for every target.
  /// - Parameters:
  ///   - names: inputs and parameters; all floating-point ones by default.
  ///   - asScalar: adds the sum of all gradient elements as an output of its own.
  /// - Throws: `.graph` for an unknown output or target, `.unsupported` where there is no derivative.
  package static func add(
    to module: inout Module, function: String, of output: String, by names: [String]?,
    named name: String, asScalar: Bool
  ) throws(DLCError) {
    guard let source = module.function(function) else {
      throw DLCError(.graph, "there is no function '\(function)'")
    }
    guard let result = source.graph.results.first(where: { $0.name == output }) else {
      throw DLCError(
        .graph, "function '\(function)' has no output '\(output)'",
        remedy: "it has \(source.outputs.map(\.name).joined(separator: ", "))")
    }
    var graph = source.graph
    guard graph.type(result.value).dataType.isFloat, graph.type(result.value).rank == 0 else {
      throw DLCError(
        .graph, "output '\(output)' is \(graph.type(result.value)), not a floating-point scalar")
    }
    graph.results = []
    graph.updates = []
    let g = FunctionBuilder(extending: graph, states: module.states)
    var targets: [(name: String, value: Value)] = []
    for (argument, value) in zip(graph.arguments, graph.argumentValues)
    where argument.type.dataType.isFloat {
      let isTarget = names?.contains(argument.name) ?? true
      if isTarget { targets.append((argument.name, g.value(value))) }
    }
    if let unknown = names?.first(where: { name in !targets.contains { $0.name == name } }) {
      throw DLCError(
        .graph, "function '\(function)' has no floating-point input or parameter '\(unknown)'")
    }
    let scalar = g.value(result.value)
    let cotangents = try ReverseMode.pullback(
      g, outputs: [(scalar, g.constant(1, like: scalar))], targets: targets.map(\.value))
    var total: Value?
    for (target, cotangent) in zip(targets, cotangents) {
      let gradient = cotangent ?? g.constant(0, like: target.value)
      g.output("d_\(target.name)", gradient)
      let sum = g.sum(gradient, axes: Array(gradient.shape.indices))
      if asScalar { total = total.map { $0 + sum } ?? sum }
    }
    if asScalar, let total { g.output(scalarName, total) }
    if let failure = g.failure { throw failure }
    module.add(Function(name, g.graph))
    try module.verify()
  }
}
