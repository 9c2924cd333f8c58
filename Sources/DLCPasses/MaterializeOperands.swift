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
    var copies: [ValueID: ValueID] = [:]
    let result = try graph.rebuilt { (out, _, node) throws(DLCError) in
      if node.operation.regions.isEmpty { return nil }
      var operands = node.operands
      for (index, operand) in operands.enumerated() where isVirtual(out, operand) {
        if copies[operand] == nil {
          copies[operand] = try out.append(
            .convert(Convert(out.type(operand).dataType)), [operand])[0]
        }
        operands[index] = copies[operand]!
      }
      return try out.append(node.operation, operands, name: node.name, location: node.location)
    }
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
