package import DLCGraph
package import DLCTensor

/// Makes the arithmetic of half floats that of float32, through loops and branches.
///
/// A half float is a way to store a number: inside a function it is carried in float32, and it is rounded
/// once, where a conversion says so or where it leaves the function as a result or as state. The
/// interpreter does the same. What only moves elements of stored values is left as it is.
package struct WidenHalfFloats: FunctionPass {
  package init() {}
  package var name: String { "widen-half-floats" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    // Kernels rely on this form, so the budget of optional rewrites does not apply.
    guard Self.hasHalfFloats(graph) else { return (graph, [:]) }
    var widening = Widening(graph, isRegion: false)
    let result = try widening.run()
    return (result, widening.count == 0 ? [:] : ["widen": widening.count])
  }

  private static func hasHalfFloats(_ graph: Graph) -> Bool {
    graph.types.contains { $0.dataType.isHalf }
      || graph.nodes.contains { $0.operation.regions.contains(where: hasHalfFloats) }
  }
}

extension DataType {
  /// Whether arithmetic is done in a wider type.
  fileprivate var isHalf: Bool { self != computeType }
}

/// The new form of one graph, as it grows.
private struct Widening {
  private let graph: Graph
  /// Whether half floats come in and go out as float32.
  private let isRegion: Bool
  private var out = Graph()
  /// Values of the declared type; a half float may be here, in `wide`, or in both.
  private var stored: [ValueID: ValueID] = [:]
  private var wide: [ValueID: ValueID] = [:]
  /// How many nodes compute in a wider type than they did.
  private(set) var count = 0

  init(_ graph: Graph, isRegion: Bool) {
    self.graph = graph
    self.isRegion = isRegion
  }

  mutating func run() throws(DLCError) -> Graph {
    for (argument, value) in zip(graph.arguments, graph.argumentValues) {
      var argument = argument
      let isWide = isRegion && argument.type.dataType.isHalf
      if isWide { argument.type.dataType = .float32 }
      let made = out.addArgument(argument)
      if isWide { wide[value] = made } else { stored[value] = made }
    }
    for node in graph.nodes { try add(node) }
    for result in graph.results {
      out.results.append(NamedValue(result.name, try leaving(result.value)))
    }
    for update in graph.updates {
      out.updates.append(NamedValue(update.name, try leaving(update.value)))
    }
    return out
  }

  private mutating func leaving(_ value: ValueID) throws(DLCError) -> ValueID {
    if isRegion { return try operand(value) }
    if let known = stored[value] { return known }
    let rounded = try out.append(.convert(Convert(graph.type(value).dataType)), [wide[value]!])[0]
    stored[value] = rounded
    return rounded
  }

  /// The value as arithmetic takes it.
  private mutating func operand(_ value: ValueID) throws(DLCError) -> ValueID {
    guard graph.type(value).dataType.isHalf else { return stored[value]! }
    if let known = wide[value] { return known }
    let made = try out.append(.convert(Convert(.float32)), [stored[value]!])[0]
    wide[value] = made
    return made
  }

  private mutating func add(_ node: Node) throws(DLCError) {
    func append(_ operation: Operation, _ operands: [ValueID]) throws(DLCError) -> [ValueID] {
      try out.append(operation, operands, name: node.name, location: node.location)
    }
    let kept = node.operands.compactMap { stored[$0] }
    if case .convert(let convert) = node.operation {
      try add(node, convert)
    } else if Self.movesElements(node.operation), kept.count == node.operands.count {
      for (old, new) in zip(node.results, try append(node.operation, kept)) { stored[old] = new }
    } else {
      var operands: [ValueID] = []
      for value in node.operands { operands.append(try operand(value)) }
      let results = try append(try widened(node.operation), operands)
      if (node.operands + node.results).contains(where: { graph.type($0).dataType.isHalf }) {
        count += 1
      }
      for (old, new) in zip(node.results, results) {
        if graph.type(old).dataType.isHalf { wide[old] = new } else { stored[old] = new }
      }
    }
  }

  private mutating func add(_ node: Node, _ convert: Convert) throws(DLCError) {
    let (from, to) = (node.operands[0], node.results[0])
    if let known = stored[from], graph.type(from).dataType == convert.target {
      stored[to] = known
    } else if let known = wide[from], convert.target == .float32 {
      stored[to] = known
    } else if !convert.rounds {
      wide[to] = stored[from]!
    } else {
      stored[to] = try out.append(
        node.operation, [wide[from] ?? stored[from]!], name: node.name, location: node.location)[0]
    }
  }

  private func widened(_ operation: Operation) throws(DLCError) -> Operation {
    switch operation {
    case .iota(var iota) where iota.type.dataType.isHalf:
      iota.type.dataType = .float32
      return .iota(iota)
    case .dimension(let dimension) where dimension.dataType.isHalf:
      return .dimension(DimensionSize(dimension.size, .float32))
    default:
      guard !operation.regions.isEmpty else { return operation }
      var regions: [Graph] = []
      for region in operation.regions {
        var inner = Widening(region, isRegion: true)
        regions.append(try inner.run())
      }
      return try operation.withRegions(regions)
    }
  }

  /// Whether results are elements of the operands as they are.
  private static func movesElements(_ operation: Operation) -> Bool {
    switch operation {
    case .constant, .reshape, .transpose, .broadcast, .slice, .pad, .concatenate, .reverse, .select,
      .gather, .dynamicSlice, .dynamicUpdate, .sort:
      true
    default: false
    }
  }
}
