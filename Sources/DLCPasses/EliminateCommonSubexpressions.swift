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
    var known: [Key: [ValueID]] = [:]
    var count = 0
    let result = try graph.rebuilt { (out, _, node) throws(DLCError) in
      let key = Key(operation: node.operation, operands: node.operands)
      if let values = known[key], budget.take() {
        count += 1
        return values
      }
      let values = try out.append(
        node.operation, node.operands, name: node.name, location: node.location)
      known[key] = values
      return values
    }
    return (result, count == 0 ? [:] : ["common-subexpression": count])
  }
}
