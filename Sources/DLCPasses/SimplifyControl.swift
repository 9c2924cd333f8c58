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
        let body: Graph
        let operands: ArraySlice<ValueID>
        switch node.operation {
        case .call(let call): (body, operands) = (call.body, node.operands[...])
        case .cond(let cond):
          guard case .constant(let c)? = out.definition(node.operands[0])?.operation else {
            return nil
          }
          let split = 1 + cond.then.arguments.count
          let isTrue = c.value.integers[0] != 0
          body = isTrue ? cond.then : cond.otherwise
          operands = isTrue ? node.operands[1..<split] : node.operands[split...]
        default: return nil
        }
        changed = true
        counts["inline", default: 0] += 1
        var map = Dictionary(
          uniqueKeysWithValues: zip(body.argumentValues, operands))
        try out.append(body, &map)
        return body.results.map { map[$0.value]! }
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
      guard used.contains(true) else { return nil }
      switch node.operation {
      case .scan(let scan): return try trim(&out, scan, node, used, &counts)
      case .cond(let cond):
        let keep = used.indices.filter { used[$0] }
        let (then, first) = try pruned(cond.then, keep)
        let (otherwise, second) = try pruned(cond.otherwise, keep)
        let split = 1 + cond.then.arguments.count
        let operands =
          [node.operands[0]] + first.map { node.operands[1 + $0] }
          + second.map { node.operands[split + $0] }
        if operands.count == node.operands.count && keep.count == used.count { return nil }
        counts["trim", default: 0] += 1
        let made = try out.append(
          .cond(Cond(then: then, otherwise: otherwise)), operands, name: node.name,
          location: node.location)
        return spread(made, keep, used.count)
      default: return nil
      }
    }
  }

  private func spread(_ made: [ValueID], _ kept: [Int], _ count: Int) -> [ValueID?] {
    var results = [ValueID?](repeating: nil, count: count)
    for (index, value) in zip(kept, made) { results[index] = value }
    return results
  }

  /// The values that some results of a graph depend on.
  private func live(_ graph: Graph, _ keep: some Sequence<Int>) -> Set<ValueID> {
    var live = Set(keep.map { graph.results[$0].value })
    for node in graph.nodes.reversed() where node.results.contains(where: { live.contains($0) }) {
      live.formUnion(node.operands)
    }
    return live
  }

  /// A graph that gives only some results, with the arguments that it still needs and those of
  /// `arguments`.
  private func pruned(_ graph: Graph, _ keep: [Int], arguments always: [Int] = []) throws(DLCError)
    -> (Graph, [Int])
  {
    let live = live(graph, keep)
    let always = Set(always)
    var (out, map, arguments) = (Graph(), [ValueID: ValueID](), [Int]())
    for (index, value) in graph.argumentValues.enumerated()
    where always.contains(index) || live.contains(value) {
      arguments.append(index)
      map[value] = out.addArgument(graph.arguments[index])
    }
    for node in graph.nodes where node.results.contains(where: { live.contains($0) }) {
      let made = try out.append(
        node.operation, node.operands.map { map[$0]! }, name: node.name, location: node.location)
      for (old, new) in zip(node.results, made) { map[old] = new }
    }
    out.results = keep.enumerated().map {
      NamedValue("r\($0.offset)", map[graph.results[$0.element].value]!)
    }
    return (out, arguments)
  }

  private func trim(
    _ out: inout Graph, _ scan: Scan, _ node: Node, _ used: [Bool], _ counts: inout [String: Int]
  ) throws(DLCError) -> [ValueID?]? {
    // Carried values that are used, or that something used depends on.
    var keep = Set(used.indices.filter { used[$0] })
    while true {
      let live = live(scan.body, keep)
      let more = (0..<scan.carried).filter {
        live.contains(scan.body.argumentValues[$0]) && !keep.contains($0)
      }
      if more.isEmpty { break }
      keep.formUnion(more)
    }
    let kept = keep.sorted()
    let carried = kept.filter { $0 < scan.carried }
    // A carried value that is written but not read needs its argument all the same.
    let (body, arguments) = try pruned(scan.body, kept, arguments: carried)
    if arguments.count == scan.body.arguments.count && kept.count == used.count { return nil }
    counts["trim", default: 0] += 1
    var small = scan
    small.body = body
    small.carried = carried.count
    small.stacked =
      arguments.filter {
        $0 >= scan.carried && $0 < scan.carried + scan.stacked
      }.count
    let made = try out.append(
      .scan(small), arguments.map { node.operands[$0] }, name: node.name, location: node.location)
    return spread(made, kept, used.count)
  }
}
