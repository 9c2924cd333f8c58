import DLCGraph
import DLCLowering
import DLCProgram
import DLCTensor

/// Computes values again, shortly before a late use, instead of keeping them: less memory for more work.
///
/// Candidates are stored values that nobody uses for a long stretch across the place where most bytes
/// are live (the activations of a training step). They are tried by bytes saved for work added; each is
/// kept only when the placed arena really gets smaller.
struct Rematerialization {
  private let limit: Int
  private let attempts = 96

  init(limit: Int) { self.limit = limit }

  /// The graph with what must be computed again so that the plan fits, or as far as that goes.
  func fit(_ graph: Graph, _ plan: (Graph) -> Plan) throws(DLCError) -> Plan {
    var best = plan(graph)
    var refused: Set<Choice> = []
    for _ in 0..<attempts where best.assembled.program.arenaBytes > limit {
      guard let choice = candidate(best, refused) else { break }
      let next = try recomputed(best.tree.graph, choice)
      let trial = plan(next)
      if trial.assembled.program.arenaBytes < best.assembled.program.arenaBytes {
        best = trial
      } else {
        refused.insert(choice)
      }
    }
    return best
  }

  private struct Choice: Hashable {
    var value: ValueID
    /// Uses by this node and later ones get the new copy.
    var from: Int
  }

  /// Nodes that use each value, with uses through views counted as uses of what is viewed.
  private func uses(_ graph: Graph) -> [[Int]] {
    var uses = [[Int]](repeating: [], count: graph.types.count)
    for (index, node) in graph.nodes.enumerated() {
      for operand in node.operands { uses[operand.index].append(index) }
    }
    for (index, node) in graph.nodes.enumerated().reversed() {
      if case .view = graph.structure(node) {
        uses[node.operands[0].index] += uses[node.results[0].index].filter { $0 != index }
      }
    }
    return uses.map { Array(Set($0)).sorted() }
  }

  private func candidate(_ plan: Plan, _ refused: Set<Choice>) -> Choice? {
    let graph = plan.tree.graph
    let stored = Set(
      plan.tree.regions.flatMap(\.region.outputs).filter { $0.port == nil }.map(\.value))
    let uses = uses(graph)
    // Live bytes at each node; the place where they are most.
    var change = [Int](repeating: 0, count: graph.nodes.count + 2)
    for value in stored {
      guard let definition = graph.definitions[value.index] else { continue }
      let last = uses[value.index].last ?? definition.index
      change[definition.index] += graph.type(value).byteCount
      change[last + 1] -= graph.type(value).byteCount
    }
    var (live, most, peak) = (0, -1, 0)
    for (index, amount) in change.enumerated() {
      live += amount
      if live > most { (most, peak) = (live, index) }
    }
    var best: (score: Double, choice: Choice)?
    for value in stored {
      guard let definition = graph.definitions[value.index], definition.index < peak,
        graph[definition].results.count == 1, graph[definition].operation.regions.isEmpty,
        let from = uses[value.index].first(where: { $0 > peak })
      else { continue }
      if case .randomBits = graph.structure(graph[definition]) { continue }
      let bytes = graph.type(value).byteCount
      guard bytes * 500 > most else { continue }
      let choice = Choice(value: value, from: from)
      if refused.contains(choice) { continue }
      let work = chain(graph, value, peak, uses).reduce(0) {
        $0 + graph.work(of: $1).instructions
      }
      let score = Double(bytes) / Double(max(work, 1))
      if best.map({ score > $0.score }) ?? true {
        best = (score, choice)
      }
    }
    return best?.choice
  }

  /// What must be computed again for a value: its node, and those before it whose results are not kept
  /// that long anyway.
  private func chain(_ graph: Graph, _ value: ValueID, _ until: Int, _ uses: [[Int]]) -> Set<NodeID>
  {
    var nodes: Set<NodeID> = []
    func visit(_ value: ValueID, _ depth: Int) {
      guard let id = graph.definitions[value.index], !nodes.contains(id) else { return }
      let node = graph[id]
      if depth > 0 {
        if uses[value.index].contains(where: { $0 > until }) { return }
        guard depth < 24, node.results.count == 1, node.operation.regions.isEmpty else { return }
        if case .randomBits = graph.structure(node) { return }
      }
      nodes.insert(id)
      for operand in node.operands { visit(operand, depth + 1) }
    }
    visit(value, 0)
    return nodes
  }

  /// The graph with copies of a value's chain before the first late use.
  private func recomputed(_ graph: Graph, _ choice: Choice) throws(DLCError) -> Graph {
    let uses = uses(graph)
    let nodes = chain(graph, choice.value, choice.from - 1, uses)
    var (result, map) = (Graph(), [ValueID: ValueID]())
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      map[value] = result.addArgument(argument)
    }
    /// Copies, for the nodes from `choice.from` on.
    var late: [ValueID: ValueID] = [:]
    for (index, node) in graph.nodes.enumerated() {
      if index == choice.from {
        for id in nodes.sorted(by: { $0.index < $1.index }) {
          let source = graph[id]
          let made = try result.append(
            source.operation, source.operands.map { late[$0] ?? map[$0]! }, name: source.name,
            location: source.location)
          late[source.results[0]] = made[0]
        }
      }
      // Views of the value are taken again, so that late users see the copy through them.
      var operands = node.operands.map { map[$0]! }
      if index >= choice.from {
        operands = try node.operands.map { (operand) throws(DLCError) in
          try copy(graph, operand, &result, &late) ?? map[operand]!
        }
      }
      let made = try result.append(
        node.operation, operands, name: node.name, location: node.location)
      for (old, new) in zip(node.results, made) { map[old] = new }
    }
    result.results = graph.results.map { NamedValue($0.name, map[$0.value]!) }
    result.updates = graph.updates.map { NamedValue($0.name, map[$0.value]!) }
    return result
  }

  /// The copy of a value, or of what it is a view of; nil when there is none.
  private func copy(
    _ graph: Graph, _ value: ValueID, _ result: inout Graph, _ late: inout [ValueID: ValueID]
  ) throws(DLCError) -> ValueID? {
    if let known = late[value] { return known }
    guard let node = graph.definition(value), case .view = graph.structure(node),
      let inner = try copy(graph, node.operands[0], &result, &late)
    else { return nil }
    let made = try result.append(
      node.operation, [inner], name: node.name, location: node.location)[0]
    late[value] = made
    return made
  }
}
