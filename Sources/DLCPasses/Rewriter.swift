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
  fileprivate var name = ""
  fileprivate var location = ""
  private let updated: Set<String>
  /// For each value looked at so far whether it is invariant; values only come at the end.
  private var invariance: [Bool] = []

  fileprivate init(_ graph: Graph, updated: Set<String>) {
    self.graph = graph
    self.updated = updated
  }

  /// Adds an operation in the place of the node that is being rewritten.
  package mutating func add(_ operation: Operation, _ operands: [ValueID]) throws(DLCError)
    -> ValueID
  {
    try graph.append(operation, operands, name: name, location: location)[0]
  }

  package mutating func constant(_ number: Double, _ type: DataType) throws(DLCError) -> ValueID {
    try add(.constant(Constant(Tensor(splat: number, type, []))), [])
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

  /// Whether a value depends only on constants and on state that the function leaves alone.
  package mutating func isInvariant(_ value: ValueID) -> Bool {
    while invariance.count <= value.index {
      let next = ValueID(invariance.count)
      if let (operation, operands) = operation(next) {
        if case .randomBits = operation {
          invariance.append(false)
        } else {
          invariance.append(operands.allSatisfy { invariance[$0.index] })
        }
      } else {
        let argument = graph.arguments[next.index]
        invariance.append(argument.kind != .input && !updated.contains(argument.name))
      }
    }
    return invariance[value.index]
  }
}

/// A directional rewrite: what it gives for a node replaces the node's result, which must keep its type.
package struct RewriteRule: Sendable {
  package var name: String
  package var apply: @Sendable (inout RewriteContext, Node) throws(DLCError) -> ValueID?

  package init(
    _ name: String,
    _ apply: @escaping @Sendable (inout RewriteContext, Node) throws(DLCError) -> ValueID?
  ) {
    self.name = name
    self.apply = apply
  }
}

extension Graph {
  /// Rebuilds the graph in order, giving each node with its new operands to the rules; the first
  /// rule that fires decides. Returns how often each rule fired.
  package func rewritten(_ rules: [RewriteRule], _ budget: inout RewriteBudget) throws(DLCError)
    -> (graph: Graph, counts: [String: Int])
  {
    var start = Graph()
    for argument in arguments { _ = start.addArgument(argument) }
    var context = RewriteContext(start, updated: Set(updates.map(\.name)))
    var map: [ValueID: ValueID] = [:]
    for value in argumentValues { map[value] = value }
    var counts: [String: Int] = [:]
    for node in nodes {
      var moved = node
      moved.operands = node.operands.map { map[$0]! }
      context.name = node.name
      context.location = node.location
      var replaced = false
      for rule in rules where budget.remaining > 0 && node.results.count == 1 {
        guard let value = try rule.apply(&context, moved) else { continue }
        guard context.type(value) == type(node.results[0]) else {
          throw DLCError(
            .graph, "rule \(rule.name) turns \(type(node.results[0])) into \(context.type(value))",
            at: "\(node.operation.mnemonic)")
        }
        _ = budget.take()
        counts[rule.name, default: 0] += 1
        map[node.results[0]] = value
        replaced = true
        break
      }
      if replaced { continue }
      let results = try context.graph.append(
        moved.operation, moved.operands, name: node.name, location: node.location)
      for (old, new) in zip(node.results, results) { map[old] = new }
    }
    var graph = context.graph
    graph.results = results.map { NamedValue($0.name, map[$0.value]!) }
    graph.updates = updates.map { NamedValue($0.name, map[$0.value]!) }
    return (graph, counts)
  }
}
