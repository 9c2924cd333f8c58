package import DLCGraph
package import DLCTensor

/// Takes out all work on arrays without elements: such a result is a constant without elements, and a
/// product or convolution over none is zero. What is left has elements wherever it loops, so lowering
/// needs no case for none (a batch of 0 rows, say).
package struct FoldEmpty: Pass {
  package init() {}
  package var name: String { "fold-empty" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    func isEmpty(_ value: ValueID) -> Bool { graph.type(value).shape.contains { $0 == 0 } }
    guard graph.nodes.contains(where: { $0.results.contains(where: isEmpty) }) || graph
      .argumentValues.contains(where: isEmpty)
    else { return (graph, [:]) }
    var count = 0
    let result = try graph.rebuilt { (out, id, node) throws(DLCError) in
      let types = graph[id].results.map { graph.type($0) }
      if graph[id].results.allSatisfy(isEmpty) {
        if case .constant = node.operation { return nil }
        count += 1
        var made: [ValueID?] = []
        for type in types {
          let value = Tensor(zeros: type.dataType, type.sizes)
          made += try out.append(.constant(Constant(value)), [])
        }
        return made
      }
      switch node.operation {
      case .dotGeneral, .convolution:
        guard graph[id].operands.contains(where: isEmpty) else { return nil }
        count += 1
        let zero = try out.append(.constant(Constant(Tensor(zeros: types[0].dataType, []))), [])
        return try out.append(.broadcast(Broadcast(types[0].shape, axes: [])), zero)
      default: return nil
      }
    }
    if count == 0 { return (graph, [:]) }
    return (try EliminateDeadCode().run(result, &budget).graph, ["fold-empty": count])
  }
}
