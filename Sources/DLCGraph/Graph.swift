package import DLCTensor

/// Names a value of one graph.
package struct ValueID: Hashable, Sendable {
  package var index: Int
  package init(_ index: Int) { self.index = index }
}

/// Names a node of one graph.
package struct NodeID: Hashable, Sendable {
  package var index: Int
  package init(_ index: Int) { self.index = index }
}

/// One operation applied to values.
package struct Node: Hashable, Sendable {
  package var operation: Operation
  package var operands: [ValueID]
  package var results: [ValueID]
  /// The path of the scope that it was built in, for people; it has no meaning and may be empty.
  package var name: String
  /// Where the builder call stands, as `File.swift:12`; may be empty.
  package var location: String

  /// Nodes that compute the same are equal, whatever they are called and wherever they stand.
  package static func == (a: Node, b: Node) -> Bool {
    a.operands == b.operands && a.results == b.results && a.operation == b.operation
  }

  package func hash(into hasher: inout Hasher) {
    hasher.combine(operation)
    hasher.combine(operands)
    hasher.combine(results)
  }
}

/// A value that enters a graph from outside.
package struct Argument: Hashable, Sendable {
  /// `captured`: a value from around a region that stays the same in every iteration.
  package enum Kind: String, Hashable, Sendable { case input, state, captured }
  package var kind: Kind
  package var name: String
  package var type: TensorType

  package init(_ kind: Kind, _ name: String, _ type: TensorType) {
    self.kind = kind
    self.name = name
    self.type = type
  }
}

package struct NamedValue: Hashable, Sendable {
  package var name: String
  package var value: ValueID
  package init(_ name: String, _ value: ValueID) {
    self.name = name
    self.value = value
  }
}

/// A computation: values in static single assignment form, nodes in topological order.
///
/// The first values are the arguments; each node defines the values after those of the nodes
/// before it. Appending a node infers and checks its types, so that a graph is always well typed.
/// While a builder works, arguments may be added late; `normalized` then restores the order.
package struct Graph: Hashable, Sendable {
  package private(set) var arguments: [Argument] = []
  package private(set) var argumentValues: [ValueID] = []
  package private(set) var nodes: [Node] = []
  package private(set) var types: [TensorType] = []
  /// The node that defines each value; nil for arguments.
  package private(set) var definitions: [NodeID?] = []
  /// What the graph gives back, in order.
  package var results: [NamedValue] = []
  /// New values of module state.
  package var updates: [NamedValue] = []

  package init() {}

  package subscript(_ id: NodeID) -> Node { nodes[id.index] }

  package func type(_ value: ValueID) -> TensorType { types[value.index] }

  package func definition(_ value: ValueID) -> Node? {
    definitions[value.index].map { nodes[$0.index] }
  }

  /// The argument that a value is; nil for a node's result.
  package func argument(_ value: ValueID) -> Argument? {
    argumentValues.firstIndex(of: value).map { arguments[$0] }
  }

  package var resultTypes: [TensorType] { results.map { type($0.value) } }

  package var nodeIDs: some RandomAccessCollection<NodeID> {
    nodes.indices.lazy.map { NodeID($0) }
  }

  /// All values that leave the graph.
  package var escaping: [ValueID] { results.map(\.value) + updates.map(\.value) }

  @discardableResult
  package mutating func addArgument(_ argument: Argument) -> ValueID {
    let value = ValueID(types.count)
    arguments.append(argument)
    argumentValues.append(value)
    types.append(argument.type)
    definitions.append(nil)
    return value
  }

  /// The same graph with all arguments before the first node.
  package func normalized() throws(DLCError) -> Graph {
    if argumentValues.last?.index ?? -1 == arguments.count - 1 { return self }
    return try rebuilt { (_, _, _) in nil }
  }

  /// The graph built anew, in order. `replace` is given each node with its new operands; it may add it in
  /// another form and say what its results are then (nil for one that nobody uses).
  package func rebuilt(
    _ replace: (inout Graph, NodeID, Node) throws(DLCError) -> [ValueID?]?
  ) throws(DLCError) -> Graph {
    var (result, map) = (Graph(), [ValueID: ValueID]())
    for (argument, value) in zip(arguments, argumentValues) {
      map[value] = result.addArgument(argument)
    }
    for id in nodeIDs {
      var node = self[id]
      node.operands = node.operands.map { map[$0] ?? ValueID(-1) }
      let made: [ValueID?]
      if let special = try replace(&result, id, node) {
        made = special
      } else {
        made = try result.append(
          node.operation, node.operands, name: node.name, location: node.location)
      }
      for (old, new) in zip(self[id].results, made) { map[old] = new }
    }
    result.results = results.map { NamedValue($0.name, map[$0.value]!) }
    result.updates = updates.map { NamedValue($0.name, map[$0.value]!) }
    return result
  }

  /// Adds all nodes of another graph; `map` says what its arguments are here, and then what all its
  /// values are.
  package mutating func append(_ other: Graph, _ map: inout [ValueID: ValueID]) throws(DLCError) {
    for node in other.nodes {
      let values = try append(
        node.operation, node.operands.map { map[$0]! }, name: node.name, location: node.location)
      for (old, new) in zip(node.results, values) { map[old] = new }
    }
  }

  /// The graph with the regions of every node replaced.
  package func mappingRegions(_ body: (Graph) throws(DLCError) -> Graph) throws(DLCError) -> Graph {
    guard nodes.contains(where: { !$0.operation.regions.isEmpty }) else { return self }
    var copy = self
    for index in nodes.indices where !nodes[index].operation.regions.isEmpty {
      var regions: [Graph] = []
      for region in nodes[index].operation.regions { regions.append(try body(region)) }
      copy.nodes[index].operation = try nodes[index].operation.withRegions(regions)
    }
    return copy
  }

  /// Adds a node at the end and returns its results.
  /// - Throws: `.type` when the operands do not suit the operation, `.graph` for a bad operand.
  @discardableResult
  package mutating func append(
    _ operation: Operation, _ operands: [ValueID], name: String = "", location: String = ""
  ) throws(DLCError) -> [ValueID] {
    for operand in operands where !types.indices.contains(operand.index) {
      throw DLCError(.graph, "operand %\(operand.index) is not defined before its use")
    }
    let operandTypes = operands.map { types[$0.index] }
    let resultTypes: [TensorType]
    do {
      resultTypes = try operation.definition.infer(operandTypes)
      for type in resultTypes { try type.validate() }
    } catch {
      let given = operandTypes.map(\.description).joined(separator: ", ")
      var place = "\(operation.mnemonic)(\(given))"
      if !name.isEmpty { place = "'\(name)' \(place)" }
      if !location.isEmpty { place += " at \(location)" }
      throw error.within(place)
    }
    let id = NodeID(nodes.count)
    let first = types.count
    types += resultTypes
    definitions += resultTypes.map { _ in id }
    let results = resultTypes.indices.map { ValueID(first + $0) }
    nodes.append(
      Node(
        operation: operation, operands: operands, results: results, name: name, location: location))
    return results
  }

  /// A value, and all that are computed from it.
  package func dependents(of value: ValueID) -> Set<ValueID> {
    var reached: Set<ValueID> = [value]
    for node in nodes where node.operands.contains(where: { reached.contains($0) }) {
      reached.formUnion(node.results)
    }
    return reached
  }

  /// How often each value is used, escapes included.
  package var useCounts: [Int] {
    var counts = [Int](repeating: 0, count: types.count)
    for node in nodes { for operand in node.operands { counts[operand.index] += 1 } }
    for value in escaping { counts[value.index] += 1 }
    return counts
  }

  /// The graph with every named dimension replaced by its size.
  /// - Throws: `.dimension` for an unbound name, `.type` when the sizes do not fit together.
  package func bound(to bindings: [String: Int]) throws(DLCError) -> Graph {
    try mappingDimensions { (size) throws(DLCError) in try size.substitute(bindings) }
  }

  /// The graph with other sizes, types computed anew.
  package func mappingDimensions(
    _ body: (Size) throws(DLCError) -> Size
  ) throws(DLCError) -> Graph {
    var copy = Graph()
    for argument in arguments {
      let type = try argument.type.mappingDimensions(body)
      _ = copy.addArgument(Argument(argument.kind, argument.name, type))
    }
    for node in nodes {
      let operation = try node.operation.mappingDimensions(body)
      try copy.append(operation, node.operands, name: node.name, location: node.location)
    }
    copy.results = results
    copy.updates = updates
    return copy
  }

  /// Every dimension name that occurs in a type or an attribute.
  package var dimensionNames: Set<String> {
    var names: Set<String> = []
    for type in types { for dimension in type.shape { names.formUnion(dimension.names) } }
    for node in nodes {
      for region in node.operation.regions { names.formUnion(region.dimensionNames) }
      for attribute in node.operation.attributes {
        if case .dimensions(let list) = attribute.value {
          for dimension in list { names.formUnion(dimension.names) }
        }
      }
    }
    return names
  }
}
