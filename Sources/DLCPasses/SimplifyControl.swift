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
    // Lowering takes no calls, so the budget of optional rewrites does not apply.
    var unlimited = RewriteBudget()
    var (current, counts) = (graph, [String: Int]())
    while true {
      let (next, inlined) = try current.rewritten(Self.inlining, &unlimited)
      if inlined.isEmpty { break }
      current = next
      counts.merge(inlined, uniquingKeysWith: +)
    }
    current = try merged(current, &counts)
    let (result, trimmed) = try current.rewritten(Self.trimming, &unlimited)
    return (result, counts.merging(trimmed, uniquingKeysWith: +))
  }

  package static let inlining: RuleTable = [
    .several("inline-call", at: [.call]) { (c, node) throws(DLCError) in
      guard case .call(let body)? = node.operation.flow else { return nil }
      return try c.addAll(of: body.graph, Array(node.operands[body.operands]))
    },
    .several("known-branch", at: [.cond]) { (c, node) throws(DLCError) in
      guard case .branch(let predicate, let then, let otherwise)? = node.operation.flow,
        case .integer(let known)? = c.splat(node.operands[predicate])
      else { return nil }
      let arm = known != 0 ? then : otherwise
      return try c.addAll(of: arm.graph, Array(node.operands[arm.operands]))
    },
  ]

  package static let trimming: RuleTable = [
    .several("trim", at: [.cond, .scan]) { (c, node) throws(DLCError) in
      guard let control = node.operation.control,
        let small = try control.trimmed(to: node.results.indices.map { c.uses(ofResult: $0) > 0 })
      else { return nil }
      let made = try c.addAll(small.operation, small.operands.map { node.operands[$0] })
      var results = [ValueID?](repeating: nil, count: node.results.count)
      for (index, value) in zip(small.results, made) { results[index] = value }
      return results
    }
  ]

  /// A scan that another scan repeats with more results (the pullback's) becomes that one. It is no rule, as
  /// the later scan moves to the place of the earlier one.
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
}
