package import DLCGraph
package import DLCTensor

/// Gives the graphs of control flow operands that lie in memory: views and counters are copied first.
package struct MaterializeOperands: Pass {
  package init() {}
  package var name: String { "materialize-operands" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    guard graph.nodes.contains(where: { !$0.operation.regions.isEmpty }) else {
      return (graph, [:])
    }
    var result = Graph()
    var map: [ValueID: ValueID] = [:]
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      map[value] = result.addArgument(argument)
    }
    var copies: [ValueID: ValueID] = [:]
    for node in graph.nodes {
      var operands = node.operands.map { map[$0]! }
      if !node.operation.regions.isEmpty {
        for (index, operand) in operands.enumerated() where isVirtual(result, operand) {
          if copies[operand] == nil {
            copies[operand] = try result.append(
              .convert(Convert(result.type(operand).dataType)), [operand])[0]
          }
          operands[index] = copies[operand]!
        }
      }
      let made = try result.append(
        node.operation, operands, name: node.name, location: node.location)
      for (old, new) in zip(node.results, made) { map[old] = new }
    }
    result.results = graph.results.map { NamedValue($0.name, map[$0.value]!) }
    result.updates = graph.updates.map { NamedValue($0.name, map[$0.value]!) }
    return (result, copies.isEmpty ? [:] : ["materialize": copies.count])
  }

  private func isVirtual(_ graph: Graph, _ value: ValueID) -> Bool {
    guard let node = graph.definition(value) else { return false }
    switch node.operation.definition.structure(
      node.operands.map { graph.type($0) }, node.results.map { graph.type($0) })
    {
    case .view, .iota: return true
    default: return false
    }
  }
}
