package import DLCGraph
package import DLCTensor

/// Computes equal operations on equal operands once.
package struct EliminateCommonSubexpressions: Pass {
  package init() {}
  package var name: String { "eliminate-common-subexpressions" }

  private struct Key: Hashable {
    var operation: Operation
    var operands: [ValueID]
  }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    var result = Graph()
    for argument in graph.arguments { _ = result.addArgument(argument) }
    var map: [ValueID: ValueID] = [:]
    for value in graph.argumentValues { map[value] = value }
    var known: [Key: [ValueID]] = [:]
    var count = 0
    for node in graph.nodes {
      let key = Key(operation: node.operation, operands: node.operands.map { map[$0]! })
      if let values = known[key], budget.take() {
        count += 1
        for (old, new) in zip(node.results, values) { map[old] = new }
        continue
      }
      let values = try result.append(
        node.operation, key.operands, name: node.name, location: node.location)
      known[key] = values
      for (old, new) in zip(node.results, values) { map[old] = new }
    }
    result.results = graph.results.map { NamedValue($0.name, map[$0.value]!) }
    result.updates = graph.updates.map { NamedValue($0.name, map[$0.value]!) }
    return (result, count == 0 ? [:] : ["common-subexpression": count])
  }
}
