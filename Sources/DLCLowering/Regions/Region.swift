package import DLCGraph
package import DLCKernel
import DLCTensor

/// A fused sub-graph: what becomes one kernel (or a few that fill one buffer).
package struct Region: Sendable {
  package enum Kind: Hashable, Sendable {
    /// Loops over `domain`; values reduced over `axes` are computed row by row. No axes: a pure map.
    case rows(domain: [Int], axes: [Int])
    /// A register-tiled product whose result the members refine.
    case contraction(NodeID)
    case convolution(NodeID)
    /// Two products with rows in between: some rows of all three at a time.
    case attention(Attention)
    /// Boxes copied into the result of a node.
    case assembly(NodeID)
    /// A node with kernels of its own: scatter, prefixes, sorting, factorisations.
    case routine(NodeID)
    /// A node that runs graphs; they are assembled as parts of the program.
    case control(NodeID)
  }
  package var kind: Kind
  /// Nodes whose values are computed inside, in ascending order; none of them is loaded.
  package var members: Set<NodeID>
  /// What is stored.
  package var outputs: [Destination]
  /// Set where the result of a product is stored inside of a greater value, whose rest is filled.
  package var frame: Frame?

  /// A product, rows of its result that are reduced along them, and the product whose left operand they become.
  package struct Attention: Hashable, Sendable {
    package var scores: NodeID
    package var weighted: NodeID
    /// What is computed in between.
    package var between: Set<NodeID>

    /// The region of what is in between, as if it were one of its own.
    func rows(_ graph: Graph) -> Region {
      let value = graph.base(graph[weighted].operands[0])
      let domain = graph.sizes(value)
      return Region(
        .rows(domain: domain, axes: [domain.count - 1]), members: between,
        outputs: [Destination(value: value, port: nil)])
    }
  }

  /// How many elements of each row of a product an element of the domain takes: rows are so many gates side by side,
  /// each as long as those of the domain.
  package var gates = 1

  /// A pad around what a region computes.
  package struct Frame: Hashable, Sendable {
    package var node: NodeID
    /// What is padded, and with what.
    package var inner: ValueID
    package var fill: ValueID
    /// Where the padded value lies in the result.
    package var start: [Int]

    /// Whether it goes around planes of the last two axes alone.
    private var isPlanar: Bool

    /// Whether kernels that store a convolution's result line by line fill what is beside each line; a step of its own
    /// fills it else.
    func isFilledByLines(_ dimensions: ConvolutionDimensions) -> Bool {
      isPlanar && dimensions.output.last == dimensions.output.count - 1
    }

    /// nil for a node that is no pad with one box, or not by a number.
    init?(_ graph: Graph, _ id: NodeID) {
      let node = graph[id]
      guard case .assembly(let pieces, let fill?) = graph.structure(node), pieces.count == 1,
        pieces[0].strides.allSatisfy({ $0 == 1 }), pieces[0].sourceStart.allSatisfy({ $0 == 0 }),
        pieces[0].counts == graph.sizes(node.operands[pieces[0].operand]),
        !pieces[0].counts.contains(0)
      else { return nil }
      self.node = id
      inner = node.operands[pieces[0].operand]
      self.fill = node.operands[fill]
      start = pieces[0].start
      let (inside, around) = (graph.sizes(inner), graph.sizes(node.results[0]))
      isPlanar = around.count > 2 && inside.dropLast(2) == around.dropLast(2)
    }
  }

  /// A value, and the place it is stored: its own buffer, or a result or update of the graph.
  package struct Destination: Hashable, Sendable {
    package var value: ValueID
    package var port: GraphPort?
  }

  /// The sizes of what it computes an element of at a time.
  func domain(_ graph: Graph) -> [Int] {
    switch kind {
    case .rows(let domain, _): return domain
    case .attention(let attention): return graph.sizes(graph[attention.weighted].results[0])
    case .contraction(let id), .convolution(let id), .assembly(let id), .routine(let id),
      .control(let id):
      var sizes = graph.sizes(graph[id].results[0])
      if gates > 1 { sizes[sizes.count - 1] /= gates }
      return sizes
    }
  }

  /// Why its last node is not computed in the region of what uses it.
  package var reason: String

  package init(
    _ kind: Kind, members: Set<NodeID>, outputs: [Destination], reason: String = ""
  ) {
    self.kind = kind
    self.members = members
    self.outputs = outputs
    self.reason = reason
  }

  /// What people call what it computes: the scopes of its nodes, and the line of the last one.
  package func origin(_ graph: Graph) -> String {
    let nodes = members.sorted { $0.index < $1.index }.map { graph[$0] }
    var scopes: [String] = []
    for node in nodes where !node.name.isEmpty && !scopes.contains(node.name) {
      scopes.append(node.name)
    }
    let shown = scopes.prefix(3).joined(separator: ", ") + (scopes.count > 3 ? ", ..." : "")
    let place = nodes.last { !$0.location.isEmpty }?.location ?? ""
    return [shown, place].filter { !$0.isEmpty }.joined(separator: " at ")
  }
}

/// A way out of a graph.
package enum GraphPort: Hashable, Sendable {
  case result(Int)
  case update(Int)
}

extension Graph {
  package func structure(_ node: Node) -> IterationStructure {
    node.operation.definition.structure(
      node.operands.map { type($0) }, node.results.map { type($0) })
  }

  package func sizes(_ value: ValueID) -> [Int] { type(value).sizes }

  /// The coordinate of a view's operand for a coordinate of its result.
  package func operandCoordinate(_ view: View, _ node: Node, _ c: [IndexExpression])
    -> [IndexExpression]
  {
    let from = sizes(node.operands[0])
    switch view {
    case .reshape: return delinearize(linearize(c, sizes(node.results[0])), from)
    case .transpose(let permutation):
      var result = c
      for (axis, source) in permutation.enumerated() { result[source] = c[axis] }
      return result
    case .broadcast(let axes):
      return axes.enumerated().map { from[$0.offset] == 1 ? IndexExpression(0) : c[$0.element] }
    case .slice(let starts, let strides):
      return c.indices.map { c[$0] * strides[$0] + starts[$0] }
    case .reverse(let axes):
      return c.indices.map {
        axes.contains($0) ? IndexExpression(from[$0] - 1) - c[$0] : c[$0]
      }
    }
  }

  /// Follows views down to the value whose elements they show.
  package func resolve(_ value: ValueID, _ coordinate: [IndexExpression]) -> (
    ValueID, [IndexExpression]
  ) {
    var (value, coordinate) = (value, coordinate)
    while let node = definition(value), case .view(let view) = structure(node) {
      coordinate = operandCoordinate(view, node, coordinate)
      value = node.operands[0]
    }
    return (value, coordinate)
  }

  package func base(_ value: ValueID) -> ValueID {
    var value = value
    while let node = definition(value), case .view = structure(node) { value = node.operands[0] }
    return value
  }
}

extension Region {
  /// The canonical text of a region.
  package func text(_ graph: Graph, number: Int) -> String {
    let what: String =
      switch kind {
      case .rows(let domain, let axes):
        axes.isEmpty ? "map \(domain)" : "rows \(domain) reduced over \(axes)"
      case .contraction: gates == 1 ? "contraction" : "contraction of \(gates) gates"
      case .convolution: "convolution"
      case .attention: "attention"
      case .assembly: "assembly"
      case .routine: "routine"
      case .control: "control"
      }
    let origin = origin(graph)
    var lines = ["region \(number) \(what)\(origin.isEmpty ? "" : " of \(origin)") {"]
    if !reason.isEmpty { lines.append("  ends here: \(reason)") }
    for id in members.sorted(by: { $0.index < $1.index }) {
      let node = graph[id]
      let operands = node.operands.map { "%\($0.index)" }.joined(separator: ", ")
      lines.append(
        "  %\(node.results[0].index) = \(node.operation.mnemonic) \(operands) : \(graph.type(node.results[0]))"
      )
    }
    for output in outputs {
      let place =
        switch output.port {
        case nil: ""
        case .result(let i): " to output '\(graph.results[i].name)'"
        case .update(let i): " to state '\(graph.updates[i].name)'"
        }
      lines.append("  store %\(output.value.index)\(place)")
    }
    return (lines + ["}"]).joined(separator: "\n") + "\n"
  }
}
