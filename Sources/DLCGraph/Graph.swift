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
  /// A name for people; it has no meaning and may be empty.
  package var name: String
  /// Where the builder call stands, as `File.swift:12`; may be empty.
  package var location: String
}

/// A value that enters a graph from outside.
package struct Argument: Hashable, Sendable {
  package enum Kind: Hashable, Sendable { case input, state }
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
package struct Graph: Hashable, Sendable {
  package private(set) var arguments: [Argument] = []
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

  package var nodeIDs: some RandomAccessCollection<NodeID> {
    nodes.indices.lazy.map { NodeID($0) }
  }

  package var argumentValues: [ValueID] { arguments.indices.map { ValueID($0) } }

  /// All values that leave the graph.
  package var escaping: [ValueID] { results.map(\.value) + updates.map(\.value) }

  /// Adds an argument; only before the first node.
  package mutating func addArgument(_ argument: Argument) -> ValueID {
    precondition(nodes.isEmpty, "arguments come before nodes")
    arguments.append(argument)
    types.append(argument.type)
    definitions.append(nil)
    return ValueID(types.count - 1)
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
    var copy = Graph()
    for argument in arguments {
      let type = try argument.type.substitute(bindings)
      _ = copy.addArgument(Argument(argument.kind, argument.name, type))
    }
    for node in nodes {
      let operation = try node.operation.substitute(bindings)
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
      for attribute in node.operation.attributes {
        if case .dimensions(let list) = attribute.value {
          for dimension in list { names.formUnion(dimension.names) }
        }
      }
    }
    return names
  }
}
