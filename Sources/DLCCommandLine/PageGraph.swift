import DLCGraph
import DLCTensor

/// A graph as the page draws it: a list of nodes that name the ones they read. What control nodes run is part of the
/// list, in scopes of its own.
struct PageGraph {
  struct Node {
    enum Kind: String { case operation, input, state, constant, output, update, argument }
    var kind: Kind
    var name: String
    var type: String
    var scope: [String]
    var place = ""
    var text = ""
    var sources: [Int]
  }
  private(set) var nodes: [Node] = []
  /// Text of a node has so many characters at most: constants and shapes can be long.
  private static let textLimit = 400

  init(_ graph: Graph) {
    var sources: [ValueID: [Int]] = [:]
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      sources[value] = [
        add(
          argument.kind == .input ? .input : .state, argument.name, "\(argument.type)",
          text: "\(argument.kind.rawValue) \(quote(argument.name)) : \(argument.type)")
      ]
    }
    add(graph, inside: [], &sources)
    for (kind, list) in [(Node.Kind.output, graph.results), (.update, graph.updates)] {
      for named in list {
        let type = "\(graph.type(named.value))"
        _ = add(
          kind, named.name, type, text: "\(kind.rawValue) \(quote(named.name)) : \(type)",
          from: sources[named.value] ?? [])
      }
    }
  }

  private mutating func add(
    _ kind: Node.Kind, _ name: String, _ type: String, in scope: [String] = [],
    at place: String = "",
    text: String, from sources: [Int] = []
  ) -> Int {
    var seen: Set<Int> = []
    nodes.append(
      Node(
        kind: kind, name: name, type: type, scope: scope, place: place,
        text: text.count > Self.textLimit ? text.prefix(Self.textLimit) + " …" : text,
        sources: sources.filter { seen.insert($0).inserted }))
    return nodes.count - 1
  }

  /// Adds the nodes of a graph whose arguments are known.
  /// - Parameter outer: the scope of the node that runs it.
  private mutating func add(
    _ graph: Graph, inside outer: [String], _ sources: inout [ValueID: [Int]]
  ) {
    for node in graph.nodes {
      let scope = outer + node.name.split(separator: "/").map(String.init)
      var read = node.operands.flatMap { sources[$0] ?? [] }
      if let flow = node.operation.flow {
        let name = "\(node.operation.mnemonic) %\(node.results.first?.index ?? 0)"
        read = run(flow, node, in: scope + [name], sources) + read
      }
      let isConstant = node.operands.isEmpty && node.operation.regions.isEmpty
      let types = node.results.map { "\(graph.type($0))" }.joined(separator: ", ")
      let index = add(
        isConstant ? .constant : .operation, node.operation.mnemonic, types, in: scope,
        at: node.location, text: Self.text(node, types), from: read)
      for result in node.results { sources[result] = [index] }
    }
  }

  /// Adds what a control node runs.
  /// - Returns: what its graphs give back.
  private mutating func run(
    _ flow: ControlFlow, _ node: DLCGraph.Node, in scope: [String], _ sources: [ValueID: [Int]]
  ) -> [Int] {
    let operands = node.operands.map { sources[$0] ?? [] }
    var results: [Int] = []
    for arm in flow.arms {
      var given = Array(operands[arm.operands])
      if case .loop(let loop) = flow {
        let isBody = arm.name == loop.body.name
        given = operands[..<loop.carried] + (isBody ? operands[loop.stacks] : []) + given
      }
      var inner: [ValueID: [Int]] = [:]
      for ((argument, value), from) in zip(
        zip(arm.graph.arguments, arm.graph.argumentValues), given)
      {
        inner[value] = from
        // What a loop carries is another value in each iteration.
        if case .loop = flow, argument.kind != .captured {
          inner[value] = [
            add(
              .argument, argument.name, "\(argument.type)", in: scope + [arm.name],
              text: "\(argument.kind.rawValue) \(quote(argument.name)) : \(argument.type)",
              from: from)
          ]
        }
      }
      add(arm.graph, inside: scope + [arm.name], &inner)
      results += arm.graph.results.flatMap { inner[$0.value] ?? [] }
    }
    return results
  }

  private static func text(_ node: DLCGraph.Node, _ types: String) -> String {
    var line = node.results.map { "%\($0.index)" }.joined(separator: ", ")
    line += " = \(node.operation.mnemonic)"
    if !node.operands.isEmpty {
      line += " " + node.operands.map { "%\($0.index)" }.joined(separator: ", ")
    }
    let attributes = node.operation.attributes.map { attribute -> String in
      // Elements would be written in hexadecimal first and then cut.
      if case .tensor(let value) = attribute.value, value.count > 16 {
        return "\(attribute.name) = dense(\(value.type), …)"
      }
      return "\(attribute.name) = \(attribute.value.text)"
    }
    if !attributes.isEmpty { line += " {\(attributes.joined(separator: ", "))}" }
    return "\(line) : \(types)"
  }

  var json: JSON {
    .object([
      (
        "nodes",
        .list(
          nodes.map { node in
            .object([
              ("kind", .text(node.kind.rawValue)), ("name", .text(node.name)),
              ("type", .text(node.type)), ("scope", .list(node.scope.map { .text($0) })),
              ("place", .text(node.place)), ("text", .text(node.text)),
              ("from", .list(node.sources.map { .integer($0) })),
            ])
          })
      )
    ])
  }
}
