package import DLCGraph
package import DLCTensor

/// Puts called graphs in the place of their calls, takes the known way of a branch, unites loops that
/// compute the same, and drops what loops carry, stack or capture for nobody.
package struct SimplifyControl: Pass {
  package init() {}
  package var name: String { "simplify-control" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    guard graph.nodes.contains(where: { !$0.operation.regions.isEmpty }) else {
      return (graph, [:])
    }
    var counts: [String: Int] = [:]
    var current = try inlined(graph, &counts)
    current = try merged(current, &counts)
    current = try trimmed(current, &counts)
    return (current, counts)
  }

  private func inlined(_ graph: Graph, _ counts: inout [String: Int]) throws(DLCError) -> Graph {
    var (current, changed) = (graph, true)
    while changed {
      changed = false
      current = try current.rebuilt { (out, _, node) throws(DLCError) in
        let arm: ControlFlow.Arm
        switch node.operation.flow {
        case .call(let body)?: arm = body
        case .branch(let predicate, let then, let otherwise)?:
          guard case .constant(let c)? = out.definition(node.operands[predicate])?.operation else {
            return nil
          }
          arm = c.value.integers[0] != 0 ? then : otherwise
        default: return nil
        }
        changed = true
        counts["inline", default: 0] += 1
        var map = Dictionary(
          uniqueKeysWithValues: zip(arm.graph.argumentValues, node.operands[arm.operands]))
        try out.append(arm.graph, &map)
        return arm.graph.results.map { map[$0.value]! }
      }
    }
    return current
  }

  /// A scan that another scan repeats with more results (the pullback's) becomes that one.
  private func merged(_ graph: Graph, _ counts: inout [String: Int]) throws(DLCError) -> Graph {
    var best: [NodeID: NodeID] = [:]
    let scans = graph.nodeIDs.filter {
      if case .scan = graph[$0].operation { true } else { false }
    }
    for alike in Dictionary(grouping: scans, by: { graph[$0].operands }).values {
      for (position, early) in alike.enumerated() {
        for late in alike[(position + 1)...] where isCovered(graph[early], by: graph[late]) {
          let known = best[early].map { graph[$0].results.count } ?? 0
          if graph[late].results.count > known { best[early] = late }
        }
      }
    }
    if best.isEmpty { return graph }
    var hoisted: [NodeID: [ValueID]] = [:]
    return try graph.rebuilt { (out, id, node) throws(DLCError) in
      if let done = hoisted[id] { return done }
      guard let late = best[id] else { return nil }
      counts["merge-scans", default: 0] += 1
      let results: [ValueID]
      if let known = hoisted[late] {
        results = known
      } else {
        let source = graph[late]
        results = try out.append(
          source.operation, node.operands, name: source.name, location: source.location)
        hoisted[late] = results
      }
      return Array(results[..<node.results.count])
    }
  }

  private func isCovered(_ a: Node, by b: Node) -> Bool {
    guard a.operands == b.operands, case .scan(let x) = a.operation,
      case .scan(let y) = b.operation, x.length == y.length, x.carried == y.carried,
      x.stacked == y.stacked, x.reverse == y.reverse, x.body.arguments == y.body.arguments,
      x.body.results.count <= y.body.results.count
    else { return false }
    return x.body.nodes == y.body.nodes
      && zip(x.body.results, y.body.results).allSatisfy { $0.value == $1.value }
  }

  // MARK: What nobody uses

  private func trimmed(_ graph: Graph, _ counts: inout [String: Int]) throws(DLCError) -> Graph {
    let uses = graph.useCounts
    return try graph.rebuilt { (out, id, node) throws(DLCError) in
      let used = graph[id].results.map { uses[$0.index] > 0 }
      guard used.contains(true), let control = node.operation.control,
        let small = try control.trimmed(to: used)
      else { return nil }
      counts["trim", default: 0] += 1
      let made = try out.append(
        small.operation, small.operands.map { node.operands[$0] }, name: node.name,
        location: node.location)
      return spread(made, small.results, used.count)
    }
  }

  private func spread(_ made: [ValueID], _ kept: [Int], _ count: Int) -> [ValueID?] {
    var results = [ValueID?](repeating: nil, count: count)
    for (index, value) in zip(kept, made) { results[index] = value }
    return results
  }
}
