package import DLCTensor

/// How an operation runs the graphs that it holds, as data: the interpreter, the flow analyses and
/// assembly read this, never the operator. Positions count the node's operands.
package enum ControlFlow: Hashable, Sendable {
  /// The graph is applied to the operands.
  case call(Arm)
  /// A bool scalar, the operand `predicate`, says which of two graphs gives the results.
  case branch(predicate: Int, then: Arm, otherwise: Arm)
  case loop(ControlLoop)

  /// A graph and the operands that it is applied to.
  package struct Arm: Hashable, Sendable {
    package var name: String
    package var graph: Graph
    package var operands: Range<Int>
    package init(_ name: String, _ graph: Graph, _ operands: Range<Int>) {
      self.name = name
      self.graph = graph
      self.operands = operands
    }
  }

  /// The graphs, in the order in which files and text hold them.
  package var arms: [Arm] {
    switch self {
    case .call(let arm): [arm]
    case .branch(_, let then, let otherwise): [then, otherwise]
    case .loop(let loop): [loop.condition, loop.body].compactMap(\.self)
    }
  }
}

/// A loop that carries values. The body's arguments are the carried values, a slice of each stack, and
/// its captured operands; its results are the next carried values, then a slice of each stacked result.
package struct ControlLoop: Hashable, Sendable {
  /// How many values are carried: the first operands, and the first results.
  package var carried: Int
  /// Operands of which every iteration sees one slice along the first axis.
  package var stacks: Range<Int>
  /// Tested before each iteration on the carried values and its captured operands.
  package var condition: ControlFlow.Arm?
  /// `operands` are those that it captures.
  package var body: ControlFlow.Arm
  /// Iterations: exactly so many without a condition, else at most; nil when nothing bounds them.
  package var count: Size?
  /// From the last slice to the first.
  package var reverse: Bool

  package init(
    carried: Int, stacks: Range<Int>, condition: ControlFlow.Arm?, body: ControlFlow.Arm,
    count: Size?, reverse: Bool
  ) {
    self.carried = carried
    self.stacks = stacks
    self.condition = condition
    self.body = body
    self.count = count
    self.reverse = reverse
  }
}

/// An operator that runs graphs. It states its graphs and its flow; the rest follows.
package protocol ControlOperator: Operator {
  var flow: ControlFlow { get }
  /// The operation without the results that nobody uses, and without what only they need; nil when
  /// everything is needed.
  func trimmed(to used: [Bool]) throws(DLCError) -> TrimmedControl?
}

/// A control operation with fewer results: its operands and results by their old positions.
package struct TrimmedControl: Sendable {
  package var operation: Operation
  package var operands: [Int]
  package var results: [Int]
}

extension ControlOperator {
  package var derivative: Derivative { .control }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .control(flow)
  }

  /// The interpreter follows the flow.
  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    preconditionFailure("'\(mnemonic)' is not evaluated without an interpreter")
  }
}

/// What an analysis knows of values, for walks through control flow.
package struct FlowFacts<Fact> {
  /// Of a value of which nothing is known, as of one that a loop carries.
  package var unknown: Fact
  /// What holds for a value that is one of two.
  package var join: (Fact, Fact) -> Fact
  /// Of a slice of a stack, and of a stack of slices.
  package var slice: (Fact) -> Fact
  package var stack: (Fact) -> Fact

  package init(
    unknown: Fact, join: @escaping (Fact, Fact) -> Fact, slice: @escaping (Fact) -> Fact,
    stack: @escaping (Fact) -> Fact
  ) {
    self.unknown = unknown
    self.join = join
    self.slice = slice
    self.stack = stack
  }
}

extension ControlFlow {
  /// What is known of the results, given what is known of the operands. `walk` follows a graph.
  package func results<Fact>(
    _ operands: [Fact], _ facts: FlowFacts<Fact>, _ walk: (Graph, [Fact]) -> [Fact]
  ) -> [Fact] {
    switch self {
    case .call(let arm): return walk(arm.graph, Array(operands[arm.operands]))
    case .branch(_, let then, let otherwise):
      let a = walk(then.graph, Array(operands[then.operands]))
      let b = walk(otherwise.graph, Array(operands[otherwise.operands]))
      return zip(a, b).map(facts.join)
    case .loop(let loop):
      let carried = [Fact](repeating: facts.unknown, count: loop.carried)
      if let condition = loop.condition {
        _ = walk(condition.graph, carried + operands[condition.operands])
      }
      let slices = operands[loop.stacks].map(facts.slice)
      let results = walk(loop.body.graph, carried + slices + operands[loop.body.operands])
      return carried + results[loop.carried...].map(facts.stack)
    }
  }
}

extension Graph {
  /// The values that some results depend on.
  func live(for results: some Sequence<Int>) -> Set<ValueID> {
    var live = Set(results.map { self.results[$0].value })
    for node in nodes.reversed() where node.results.contains(where: { live.contains($0) }) {
      live.formUnion(node.operands)
    }
    return live
  }

  /// The graph with only some results and what they need.
  /// - Parameter always: arguments that stay although nothing needs them.
  /// - Returns: the graph, and which arguments it still has.
  func pruned(to keep: [Int], keepingArguments always: Set<Int> = []) throws(DLCError)
    -> (graph: Graph, arguments: [Int])
  {
    let live = live(for: keep)
    var (out, map, kept) = (Graph(), [ValueID: ValueID](), [Int]())
    for (index, value) in argumentValues.enumerated()
    where always.contains(index) || live.contains(value) {
      kept.append(index)
      map[value] = out.addArgument(arguments[index])
    }
    for node in nodes where node.results.contains(where: { live.contains($0) }) {
      let made = try out.append(
        node.operation, node.operands.map { map[$0]! }, name: node.name, location: node.location)
      for (old, new) in zip(node.results, made) { map[old] = new }
    }
    out.results = keep.enumerated().map {
      NamedValue("r\($0.offset)", map[results[$0.element].value]!)
    }
    return (out, kept)
  }
}
