import DLCTensor

/// A graph as a list of nodes in which each comes after those that it reads, with calls of model-local functions
/// replaced by their bodies.
struct NodeList {
  let nodes: [ONNXNode]
  var initializers: [String: ONNXTensor]
  /// The names that the nodes read.
  let reads: Set<String>
  /// Tells lists of one model apart: what each node gives first.
  let place: [String]

  /// - Parameter nodes: in an order in which they can run.
  init(nodes: [ONNXNode], initializers: [String: ONNXTensor]) {
    self.nodes = nodes
    self.initializers = initializers
    reads = nodes.reduce(into: []) { $0.formUnion($1.reads) }
    place = nodes.map { $0.outputs.first ?? "" }
  }

  /// - Parameter outside: names that are defined around the graph.
  /// - Throws: `.graph` for cycles, names that are defined twice or nowhere, and functions that call themselves.
  init(
    _ graph: ONNXGraph, of model: ONNXModel, outside: Set<String>
  ) throws(DLCError) {
    var expansion = FunctionExpansion(model)
    var names: Set<String> = []
    for input in graph.inputs where !names.insert(input.name).inserted {
      throw DLCError(.graph, "input '\(input.name)' is there twice")
    }
    let known = names.union(graph.initializers.keys)
    var defined = known
    let list = try expansion.expanded(graph.nodes)
    for node in list {
      for name in node.outputs where !name.isEmpty {
        guard defined.insert(name).inserted else {
          throw DLCError(.graph, "value '\(name)' is defined twice", at: node.title)
        }
      }
    }
    self.init(
      nodes: try Self.sorted(list, known: known, outside), initializers: graph.initializers)
    for output in graph.outputs
    where !defined.contains(output.name) && !outside.contains(output.name) {
      throw DLCError(.graph, "output '\(output.name)' is not defined by any node")
    }
  }

  /// The nodes in an order in which they can run; those that can keep their order.
  static func sorted(_ nodes: [ONNXNode], known: Set<String>, _ outside: Set<String>)
    throws(DLCError) -> [ONNXNode]
  {
    var producers: [String: Int] = [:]
    for (index, node) in nodes.enumerated() {
      for name in node.outputs where !name.isEmpty { producers[name] = index }
    }
    var waiting = [Int](repeating: 0, count: nodes.count)
    var readers = [[Int]](repeating: [], count: nodes.count)
    for (index, node) in nodes.enumerated() {
      for name in node.reads {
        if let producer = producers[name] {
          waiting[index] += 1
          readers[producer].append(index)
        } else if !known.contains(name) && !outside.contains(name) {
          throw DLCError(.graph, "value '\(name)' is not defined by any node", at: node.title)
        }
      }
    }
    var ready = Heap(waiting.indices.filter { waiting[$0] == 0 })
    var result: [ONNXNode] = []
    while let next = ready.pop() {
      result.append(nodes[next])
      for reader in readers[next] {
        waiting[reader] -= 1
        if waiting[reader] == 0 { ready.push(reader) }
      }
    }
    guard result.count == nodes.count else {
      let stuck = waiting.firstIndex { $0 > 0 }!
      throw DLCError(.graph, "nodes depend on one another in a cycle", at: nodes[stuck].title)
    }
    return result
  }
}

/// The smallest of a set of integers first.
private struct Heap {
  private var items: [Int] = []

  init(_ ordered: [Int]) { items = ordered }

  mutating func push(_ item: Int) {
    items.append(item)
    var i = items.count - 1
    while i > 0, items[(i - 1) / 2] > items[i] {
      items.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  mutating func pop() -> Int? {
    guard let first = items.first else { return nil }
    let last = items.removeLast()
    if items.isEmpty { return first }
    items[0] = last
    var i = 0
    while true {
      var least = i
      for child in [2 * i + 1, 2 * i + 2] where child < items.count && items[child] < items[least] {
        least = child
      }
      if least == i { return first }
      items.swapAt(i, least)
      i = least
    }
  }
}

extension ONNXNode {
  /// The names that it reads, those that its graphs take from around them included.
  var reads: Set<String> {
    var names = Set(inputs.filter { !$0.isEmpty })
    for graph in graphs { names.formUnion(graph.freeNames) }
    // An operator that differentiates names a value.
    if type == "Gradient", case .text(let name)? = attributes["y"] {
      names.insert(String(decoding: name, as: UTF8.self))
    }
    return names
  }

  var graphs: [ONNXGraph] {
    attributes.values.flatMap { attribute -> [ONNXGraph] in
      switch attribute {
      case .graph(let g): [g]
      case .graphs(let list): list
      default: []
      }
    }
  }

  /// The node under other names of values; its graphs keep names of their own.
  func renamed(_ names: (String) -> String) -> ONNXNode {
    var copy = self
    copy.inputs = inputs.map { $0.isEmpty ? $0 : names($0) }
    copy.outputs = outputs.map { $0.isEmpty ? $0 : names($0) }
    copy.attributes = attributes.mapValues { attribute in
      switch attribute {
      case .graph(let g): .graph(g.renamedFree(names))
      case .graphs(let list): .graphs(list.map { $0.renamedFree(names) })
      default: attribute
      }
    }
    return copy
  }
}

extension ONNXGraph {
  /// The names that it defines.
  var definedNames: Set<String> {
    Set(inputs.map(\.name)).union(initializers.keys).union(nodes.flatMap(\.outputs))
  }

  /// The names that it reads and does not define.
  var freeNames: Set<String> {
    nodes.reduce(into: Set(outputs.map(\.name))) { $0.formUnion($1.reads) }
      .subtracting(definedNames)
  }

  /// The graph with other names for what it takes from around it.
  func renamedFree(_ names: (String) -> String) -> ONNXGraph {
    let mine = definedNames
    func outside(_ name: String) -> String { mine.contains(name) ? name : names(name) }
    var copy = self
    copy.nodes = nodes.map { $0.renamed(outside) }
    copy.outputs = outputs.map {
      var info = $0
      info.name = outside($0.name)
      return info
    }
    return copy
  }
}

/// Puts the bodies of functions in the place of their calls.
private struct FunctionExpansion {
  let model: ONNXModel
  private var open: [ONNXModel.FunctionKey] = []
  private var count = 0
  /// Nodes of bodies that were put in so far.
  private var produced = 0
  /// So many they may be.
  private static let limit = 1 << 17

  init(_ model: ONNXModel) { self.model = model }

  mutating func expanded(_ nodes: [ONNXNode]) throws(DLCError) -> [ONNXNode] {
    if model.functions.isEmpty { return nodes }
    var result: [ONNXNode] = []
    for node in nodes {
      let key = ONNXModel.FunctionKey(domain: node.domain, name: node.type, overload: node.overload)
      guard let function = model.functions[key] else {
        var copy = node
        for (name, attribute) in node.attributes {
          if case .graph(var graph) = attribute {
            graph.nodes = try expanded(graph.nodes)
            copy.attributes[name] = .graph(graph)
          }
        }
        result.append(copy)
        continue
      }
      guard !open.contains(key), open.count < 64 else {
        throw DLCError(.graph, "function '\(key.name)' calls itself", at: node.title)
      }
      open.append(key)
      defer { open.removeLast() }
      produced += function.nodes.count
      guard produced < Self.limit else {
        throw DLCError(
          .graph, "the functions of the model expand to more than \(Self.limit) nodes")
      }
      result += try body(of: function, for: node)
    }
    return result
  }

  private mutating func body(of function: ONNXFunction, for call: ONNXNode) throws(DLCError)
    -> [ONNXNode]
  {
    count += 1
    let prefix = "\(call.name)#\(count)/"
    guard call.inputs.count <= function.inputs.count, call.outputs.count <= function.outputs.count
    else {
      throw DLCError(
        .graph, "function '\(function.key.name)' takes fewer inputs or gives fewer outputs",
        at: call.title)
    }
    var names: [String: String] = [:]
    for (position, name) in function.inputs.enumerated() {
      names[name] = position < call.inputs.count ? call.inputs[position] : ""
    }
    var aliases: [ONNXNode] = []
    for (position, name) in function.outputs.enumerated()
    where position < call.outputs.count && !call.outputs[position].isEmpty {
      if names[name] != nil {
        // An input, or an output that is given twice.
        aliases.append(
          ONNXNode(
            name: prefix + name, domain: "", type: "Identity", overload: "", inputs: [names[name]!],
            outputs: [call.outputs[position]], attributes: [:], opsets: function.opsets))
      } else {
        names[name] = call.outputs[position]
      }
    }
    func renamed(_ name: String) -> String { names[name] ?? prefix + name }
    let attributes = function.defaults.merging(call.attributes) { $1 }
    var nodes: [ONNXNode] = []
    for node in function.nodes {
      var copy = node.bound(to: attributes).renamed(renamed)
      copy.name = prefix + node.name
      nodes.append(copy)
    }
    return try expanded(nodes) + aliases
  }
}

extension ONNXNode {
  /// The node with the attributes of a call in place of references to them; those that the call leaves out are left out.
  fileprivate func bound(to call: [String: ONNXAttribute]) -> ONNXNode {
    var copy = self
    for (name, attribute) in attributes {
      switch attribute {
      case .reference(let other): copy.attributes[name] = call[other]
      case .graph(var graph):
        graph.nodes = graph.nodes.map { $0.bound(to: call) }
        copy.attributes[name] = .graph(graph)
      default: break
      }
    }
    return copy
  }
}
