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
    let before = g.failureCount
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
      case .control, .rule:
        let pull = Pullback(
          g: g, operands: node.operands.map { g.value($0) },
          results: node.results.map { g.value($0) },
          cotangents: node.results.map { cotangents[$0] })
        let parts: [Value?]
        // What is added stands where the node stands that it is the derivative of.
        parts = try g.located(at: node.location, of: node.name) { () throws(DLCError) in
          if case .rule(let rule) = node.operation.definition.derivative { return rule(pull) }
          return try ControlPullback.pullback(
            node.operation, pull, active: node.operands.map { active.contains($0) })
        }
        try g.requireSuccess(since: before)
        for (operand, part) in zip(node.operands, parts) {
          if let part, active.contains(operand) { accumulate(operand, part) }
        }
      }
    }
    return targets.map { cotangents[$0.id] }
  }
}
