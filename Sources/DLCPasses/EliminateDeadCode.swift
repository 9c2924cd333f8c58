package import DLCGraph
package import DLCTensor

/// Drops nodes whose results nobody uses, and state that is not read. Inputs stay: they are the signature.
package struct EliminateDeadCode: Pass {
  package init() {}
  package var name: String { "eliminate-dead-code" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    var live = Set(graph.escaping)
    for node in graph.nodes.reversed() where node.results.contains(where: { live.contains($0) }) {
      live.formUnion(node.operands)
    }
    var result = Graph()
    var map: [ValueID: ValueID] = [:]
    let updated = Set(graph.updates.map(\.name))
    for (argument, value) in zip(graph.arguments, graph.argumentValues)
    where argument.kind != .state || live.contains(value) || updated.contains(argument.name) {
      map[value] = result.addArgument(argument)
    }
    var dropped = 0
    for node in graph.nodes {
      guard node.results.contains(where: { live.contains($0) }) else {
        dropped += 1
        continue
      }
      let values = try result.append(
        node.operation, node.operands.map { map[$0]! }, name: node.name, location: node.location)
      for (old, new) in zip(node.results, values) { map[old] = new }
    }
    result.results = graph.results.map { NamedValue($0.name, map[$0.value]!) }
    result.updates = graph.updates.map { NamedValue($0.name, map[$0.value]!) }
    return (result, dropped == 0 ? [:] : ["dead-node": dropped])
  }
}
