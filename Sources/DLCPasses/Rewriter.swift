package import DLCGraph
package import DLCTensor

/// How many more rewrites are allowed; bisecting a wrong result lowers it (`--rewrite-limit`).
package struct RewriteBudget: Sendable {
  package var remaining: Int
  package private(set) var used = 0
  package init(_ limit: Int = Int.max) { remaining = limit }

  package mutating func take() -> Bool {
    if remaining == 0 { return false }
    remaining -= 1
    used += 1
    return true
  }
}

/// The graph that a sweep builds, as a rule sees it: everything before the node is there already.
package struct RewriteContext {
  package fileprivate(set) var graph: Graph
  /// The graph that is rewritten, and the node in it that is looked at.
  package let before: Graph
  package fileprivate(set) var site = NodeID(0)
  private var properties: ValueProperties
  /// How often values of the graph before are used by what is needed, and what is.
  private let usesBefore: [Int]
  private let isNeeded: [Bool]
  /// The uses of new values: by what rules added, and by what of the old graph is still to come.
  private var uses: [Int] = []
  private var map: [ValueID]
  private var usersBefore: [[NodeID]]?

  fileprivate init(_ before: Graph) {
    self.before = before
    graph = Graph()
    properties = ValueProperties(of: before)
    (usesBefore, isNeeded) = before.neededUses
    map = [ValueID](repeating: ValueID(-1), count: before.types.count)
    for (argument, value) in zip(before.arguments, before.argumentValues) {
      record(value, graph.addArgument(argument))
    }
  }

  /// Adds an operation in the place of the node that is being rewritten.
  package mutating func add(_ operation: Operation, _ operands: [ValueID]) throws(DLCError)
    -> ValueID
  {
    try addAll(operation, operands)[0]
  }

  /// The same of an operation with several results.
  package mutating func addAll(_ operation: Operation, _ operands: [ValueID]) throws(DLCError)
    -> [ValueID]
  {
    for operand in operands { use(operand, 1) }
    let node = before[site]
    return try graph.append(operation, operands, name: node.name, location: node.location)
  }

  /// Adds all nodes of another graph applied to values, under their own names.
  /// - Returns: its results.
  package mutating func addAll(of body: Graph, _ arguments: [ValueID]) throws(DLCError) -> [ValueID]
  {
    var inner = Dictionary(uniqueKeysWithValues: zip(body.argumentValues, arguments))
    try graph.append(body, &inner)
    for node in body.nodes { for operand in node.operands { use(inner[operand]!, 1) } }
    return body.results.map { inner[$0.value]! }
  }

  package mutating func constant(_ number: Double, _ type: DataType) throws(DLCError) -> ValueID {
    try add(.constant(Constant(Tensor(splat: number, type, []))), [])
  }

  /// A number in every element.
  package mutating func constant(_ number: Double, _ type: TensorType) throws(DLCError) -> ValueID {
    let scalar = try constant(number, type.dataType)
    return type.rank == 0 ? scalar : try add(.broadcast(Broadcast(type.shape, axes: [])), [scalar])
  }

  package mutating func binary(_ f: BinaryFunction, _ a: ValueID, _ b: ValueID) throws(DLCError)
    -> ValueID
  {
    try add(.binary(Binary(f)), [a, b])
  }

  package func type(_ value: ValueID) -> TensorType { graph.type(value) }

  package func operation(_ value: ValueID) -> (Operation, [ValueID])? {
    graph.definition(value).map { ($0.operation, $0.operands) }
  }

  // MARK: Users

  /// How many operands and ways out of the graph a value is. It may be fewer: what the sweep's rewrites leave
  /// without a use still counts.
  package func uses(_ value: ValueID) -> Int {
    value.index < uses.count ? uses[value.index] : 0
  }

  /// How often a result of the node that is looked at is used.
  package func uses(ofResult result: Int) -> Int { usesBefore[before[site].results[result].index] }

  /// The types of the results of the node that is looked at.
  package var resultTypes: [TensorType] { before[site].results.map { before.type($0) } }

  /// The nodes that use a value of the graph before and are needed.
  package mutating func users(before value: ValueID) -> [NodeID] {
    if usersBefore == nil {
      var users = [[NodeID]](repeating: [], count: before.types.count)
      for id in before.nodeIDs {
        guard isNeeded[id.index] else { continue }
        for operand in before[id].operands where users[operand.index].last != id {
          users[operand.index].append(id)
        }
      }
      usersBefore = users
    }
    return usersBefore![value.index]
  }

  private mutating func use(_ value: ValueID, _ count: Int) {
    while uses.count <= value.index { uses.append(0) }
    uses[value.index] += count
  }

  // MARK: Properties

  /// The number that a value is everywhere, seen through broadcasts and reshapes.
  package func splat(_ value: ValueID) -> ScalarConstant? {
    var value = value
    while let (operation, operands) = operation(value) {
      switch operation {
      case .constant(let c):
        guard c.value.count == 1 else { return nil }
        return c.value.dataType.isFloat
          ? .float(c.value.doubles[0]) : .integer(c.value.integers[0])
      case .broadcast, .reshape, .transpose: value = operands[0]
      default: return nil
      }
    }
    return nil
  }

  package func isSplat(_ value: ValueID, _ number: Double) -> Bool {
    switch splat(value) {
    case .float(let v): v == number && (number != 0 || v.sign == .plus)
    case .integer(let v): Double(v) == number
    case nil: false
    }
  }

  /// What is known of a value's elements.
  package mutating func facts(_ value: ValueID) -> ValueFacts { properties.facts(value, in: graph) }

  /// Whether a value is the same in every run.
  package mutating func isSteady(_ value: ValueID) -> Bool { properties.isSteady(value, in: graph) }

  // MARK: The sweep

  /// The node that is looked at, with operands of the new graph; nil for one that nobody needs.
  fileprivate var node: Node? {
    guard isNeeded[site.index] else { return nil }
    var moved = before[site]
    for index in moved.operands.indices { moved.operands[index] = map[moved.operands[index].index] }
    // It has no results in the new graph yet: `resultTypes` says what they are.
    for index in moved.results.indices { moved.results[index] = ValueID(-1) }
    return moved
  }

  /// Says what a value of the graph before is now.
  private mutating func record(_ old: ValueID, _ new: ValueID) {
    map[old.index] = new
    use(new, usesBefore[old.index])
  }

  fileprivate mutating func keep(_ node: Node) throws(DLCError) {
    let made = try graph.append(
      node.operation, node.operands, name: node.name, location: node.location)
    for (old, new) in zip(before[site].results, made) { record(old, new) }
  }

  /// - Throws: `.graph` when a replacement has another type, or there is none of what is used.
  fileprivate mutating func replace(_ node: Node, by made: [ValueID?], _ rule: String)
    throws(DLCError)
  {
    for operand in node.operands { use(operand, -1) }
    for (index, old) in before[site].results.enumerated() {
      guard index < made.count, let new = made[index] else {
        if usesBefore[old.index] == 0 { continue }
        throw DLCError(
          .graph, "rule \(rule) gives nothing for result \(index)",
          at: "\(node.operation.mnemonic)")
      }
      guard type(new) == before.type(old) else {
        throw DLCError(
          .graph, "rule \(rule) turns \(before.type(old)) into \(type(new))",
          at: "\(node.operation.mnemonic)")
      }
      record(old, new)
    }
  }

  fileprivate func finished() -> Graph {
    var graph = graph
    graph.results = before.results.map { NamedValue($0.name, map[$0.value.index]) }
    graph.updates = before.updates.map { NamedValue($0.name, map[$0.value.index]) }
    return graph
  }
}

/// A directional rewrite of a node of some kinds: what it gives stands for the node's results, and has their
/// types.
package struct RewriteRule: Sendable {
  package typealias Body<Result> =
    @Sendable (inout RewriteContext, Node) throws(DLCError) -> Result?
  package var name: String
  /// What the node may be that it looks at.
  package var roots: [Operation.Kind]
  /// One value for each result; nil for one that nobody uses.
  package var apply: Body<[ValueID?]>

  /// A rule for nodes with one result.
  package init(_ name: String, at roots: [Operation.Kind], apply: @escaping Body<ValueID>) {
    self.name = name
    self.roots = roots
    self.apply = { (context, node) throws(DLCError) in
      guard node.results.count == 1, let value = try apply(&context, node) else { return nil }
      return [value]
    }
  }

  /// A rule for nodes with any number of results.
  package static func several(
    _ name: String, at roots: [Operation.Kind], apply: @escaping Body<[ValueID?]>
  ) -> RewriteRule {
    var rule = RewriteRule(name, at: roots) { (_, _) throws(DLCError) in nil }
    rule.apply = apply
    return rule
  }
}

/// Rules by the operator at their root, in order: the first that fires decides.
package struct RuleTable: Sendable, ExpressibleByArrayLiteral {
  package let list: [RewriteRule]
  private let byRoot: [[RewriteRule]]

  package init(arrayLiteral rules: RewriteRule...) {
    list = rules
    byRoot = Operation.Kind.allCases.map { kind in rules.filter { $0.roots.contains(kind) } }
  }

  package subscript(_ root: Operation.Kind) -> [RewriteRule] { byRoot[root.rawValue] }
}

extension Graph {
  /// How often each value is used by needed nodes and by what leaves the graph, and which nodes are needed.
  fileprivate var neededUses: (uses: [Int], nodes: [Bool]) {
    var uses = [Int](repeating: 0, count: types.count)
    var needed = [Bool](repeating: false, count: nodes.count)
    for value in escaping { uses[value.index] += 1 }
    for (index, node) in nodes.enumerated().reversed()
    where node.results.contains(where: { uses[$0.index] > 0 }) {
      needed[index] = true
      for operand in node.operands { uses[operand.index] += 1 }
    }
    return (uses, needed)
  }

  /// Rebuilds the graph in order without what nobody needs, giving each node with its new operands to the
  /// rules of its kind. Returns how often each rule fired.
  package func rewritten(_ table: RuleTable, _ budget: inout RewriteBudget) throws(DLCError)
    -> (graph: Graph, counts: [String: Int])
  {
    guard nodes.contains(where: { !table[$0.operation.kind].isEmpty }) else { return (self, [:]) }
    var context = RewriteContext(self)
    var counts: [String: Int] = [:]
    sites: for id in nodeIDs {
      context.site = id
      guard let node = context.node else { continue }
      for rule in table[node.operation.kind] where budget.remaining > 0 {
        guard let made = try rule.apply(&context, node) else { continue }
        try context.replace(node, by: made, rule.name)
        _ = budget.take()
        counts[rule.name, default: 0] += 1
        continue sites
      }
      try context.keep(node)
    }
    return (context.finished(), counts)
  }
}
