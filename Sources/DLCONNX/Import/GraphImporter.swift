import DLCGraph
import DLCTensor
import DLCTraining

/// What a name stands for.
enum ImportedValue {
  case tensor(Value)
  case sequence([Value])
}

/// The values that names stand for, in one graph of a model.
final class ImportScope {
  let parent: ImportScope?
  var values: [String: Value] = [:]
  var initializers: [String: ONNXTensor]
  /// The elements of names that stand for sequences.
  var sequences: [String: [Value]] = [:]
  /// Names that another stage gives.
  var deferred: Set<String> = []

  init(_ initializers: [String: ONNXTensor], in parent: ImportScope? = nil) {
    self.initializers = initializers
    self.parent = parent
  }

  /// The elements of a sequence, which a graph around may define.
  func sequence(_ name: String) -> [Value]? { sequences[name] ?? parent?.sequence(name) }
}

/// Builds the graph of a function of dlc from nodes of an ONNX model.
final class GraphImporter {
  let model: ONNXModel
  let g: FunctionBuilder
  let knowledge = Knowledge()
  /// Stored tensors that became states of the module, by name.
  private(set) var states: [String: Tensor] = [:]
  /// What a run checks of the graph that is being built; nothing is kept where nobody reads it.
  var indexChecks: [(check: IndexCheck, found: Value)] = []
  let keepsChecks: Bool
  /// The key and the counter of random numbers, when an operator may ask for them.
  private var random: (key: Value, count: Int)?

  /// Stored tensors of one element that are parameters, not constants.
  private let scalars: Set<String>

  init(_ model: ONNXModel, _ g: FunctionBuilder, keepsChecks: Bool, scalars: Set<String> = []) {
    self.model = model
    self.scalars = scalars
    self.g = g
    self.keepsChecks = keepsChecks
  }

  // MARK: Names

  /// The value of a name, which a graph around may define.
  func value(_ name: String, _ scope: ImportScope) throws(ImportStop) -> Value {
    var search: ImportScope? = scope
    while let here = search {
      if let value = here.values[name] { return value }
      if let tensor = here.initializers[name] {
        let value = try stored(tensor, name)
        // A state belongs to the whole; a constant to the graph that is being built, which may lie in that of the scope.
        let owner = tensor.value.map { isState($0, name) } == true ? here : scope
        owner.values[name] = value
        return value
      }
      search = here.parent
    }
    if scope.sequence(name) != nil {
      throw .failed(
        DLCError(.unsupported, "'\(name)' is a sequence, where only tensors are supported"))
    }
    throw .failed(DLCError(.graph, "value '\(name)' is not defined by any node"))
  }

  /// A stored tensor: a parameter when losses can be differentiated by it, else a constant; large ones that are no
  /// floating-point numbers are states, so that they are not copied.
  func stored(_ tensor: ONNXTensor, _ name: String) throws(ImportStop) -> Value {
    guard let value = tensor.value else {
      throw .failed(
        DLCError(
          .unsupported, "tensor '\(name)' holds \(tensor.elementType.text), which is not supported")
      )
    }
    guard isState(value, name) else {
      return try sound { () throws(ImportStop) in g.constant(value) }
    }
    var unique = name
    var number = 1
    while let other = states[unique], !other.sharesMemory(value) {
      number += 1
      unique = "\(name)#\(number)"
    }
    states[unique] = value
    knowledge.stored[unique] = value
    let shape = value.shape.map { Size($0) }
    return try sound { () throws(ImportStop) in
      isParameter(value, name)
        ? g.parameter(unique, shape, .zeros, value.dataType)
        : g.state(unique, value.dataType, shape, .zeros)
    }
  }

  /// What `body` builds. A mistake that the builder keeps in it is thrown, before anything reads what it left; it comes
  /// before what `body` then finds wrong itself.
  func sound<R>(_ body: () throws(ImportStop) -> R) throws(ImportStop) -> R {
    let before = g.failureCount
    let result: R
    do throws(ImportStop) { result = try body() } catch {
      try attempt { () throws(DLCError) in try g.requireSuccess(since: before) }
      throw error
    }
    try attempt { () throws(DLCError) in try g.requireSuccess(since: before) }
    return result
  }

  private func isParameter(_ value: Tensor, _ name: String) -> Bool {
    value.dataType.isFloat && !value.shape.isEmpty && (value.count > 1 || scalars.contains(name))
  }

  private func isState(_ value: Tensor, _ name: String) -> Bool {
    isParameter(value, name) || value.count > Knowledge.maximumCount
  }

  // MARK: Nodes

  /// Adds a node to the graph and its results to the scope.
  func add(_ node: ONNXNode, _ scope: ImportScope) throws(ImportStop) -> NodeContext {
    let checks = indexChecks.count
    do throws(ImportStop) {
      guard let mapping = OperatorTable.mapping(node) else {
        var list = [node]
        model.collectUnsupported(in: model.graph.nodes, &list)
        throw .failed(
          DLCError(
            .unsupported,
            list.map { "\($0.unsupported) at node '\($0.name)'" }.joined(separator: ", ")))
      }
      if let most = mapping.inputs, let last = node.inputs.lastIndex(where: { !$0.isEmpty }),
        last >= most
      {
        throw .failed(
          DLCError(
            .graph,
            "'\(node.operatorName)' takes \(most) inputs, not \(last + 1)", at: node.title))
      }
      var operands: [Value?] = []
      for name in node.inputs {
        operands.append(
          name.isEmpty || scope.sequence(name) != nil ? nil : try value(name, scope))
      }
      let context = NodeContext(node, self, scope, operands)
      let results = try sound { () throws(ImportStop) in
        try g.scope(path: Self.scopePath(node.name)) { () throws(ImportStop) in
          try g.located(at: "\(node.type) '\(node.name)'") { () throws(ImportStop) in
            rounded(try mapping.build(context))
          }
        }
      }
      for (position, name) in node.outputs.enumerated()
      where !name.isEmpty && scope.sequences[name] == nil {
        guard position < results.count, let result = results[position] else {
          throw context.unsupported("its output \(position) is not supported")
        }
        scope.values[name] = result
      }
      return context
    } catch {
      // What was tried and given up is not checked.
      indexChecks.removeSubrange(checks...)
      guard case .failed(let mistake) = error else { throw error }
      let title = "'\(node.name)'"
      throw .failed(
        mistake.location.contains(title) || mistake.message.contains(title)
          ? mistake : mistake.within(node.title))
    }
  }

  /// Half floats are rounded once for each operator of ONNX.
  private func rounded(_ results: [Value?]) -> [Value?] {
    results.map { result in
      guard let result, result.dataType != result.dataType.computeType else { return result }
      return g.convert(g.convert(result, .float32), result.dataType)
    }
  }

  /// A node's name as a scope: exporters write paths.
  private static func scopePath(_ name: String) -> String {
    name.split(separator: "/").joined(separator: "/")
  }

  // MARK: Graphs in graphs

  /// The results of a graph that an operator holds, which are tensors, for values of its inputs.
  /// - Throws: as `values`.
  func results(of graph: ONNXGraph, _ arguments: [Value], in outer: ImportScope) throws(ImportStop)
    -> [Value]
  {
    var results: [Value] = []
    let made = try values(of: graph, arguments.map { .tensor($0) }, in: outer)
    for (output, value) in zip(graph.outputs, made) {
      guard case .tensor(let tensor) = value else {
        throw .failed(
          DLCError(
            .unsupported, "'\(output.name)' is a sequence, where only tensors are supported"))
      }
      results.append(tensor)
    }
    return results
  }

  /// The results of a graph that an operator holds, for values of its inputs.
  /// - Throws: what stops its nodes; a graph in a graph cannot be cut.
  func values(
    of graph: ONNXGraph, _ arguments: [ImportedValue], in outer: ImportScope
  ) throws(ImportStop) -> [ImportedValue] {
    let scope = ImportScope(graph.initializers, in: outer)
    guard arguments.count >= graph.inputs.count else {
      throw .failed(
        DLCError(
          .graph, "graph '\(graph.name)' wants \(graph.inputs.count) inputs, not \(arguments.count)"
        ))
    }
    for (input, value) in zip(graph.inputs, arguments) {
      switch value {
      case .tensor(let tensor): scope.values[input.name] = tensor
      case .sequence(let elements): scope.sequences[input.name] = elements
      }
    }
    let list = try attempt { () throws(DLCError) in
      try NodeList(graph, of: model, outside: graph.freeNames)
    }
    for node in list.nodes {
      let context = try add(node, scope)
      if !context.bounds.isEmpty {
        throw .hosted("'\(node.name)' gives a result whose size depends on the data")
      }
    }
    var results: [ImportedValue] = []
    for output in graph.outputs {
      if let elements = scope.sequence(output.name) {
        results.append(.sequence(elements))
      } else {
        results.append(.tensor(try value(output.name, scope)))
      }
    }
    return results
  }

  // MARK: Random numbers

  /// Declares the input that the run's seed is given to.
  /// - Returns: its name, that of dlc's own graphs, unless the model has a value of that name.
  func declareSeed() -> String {
    var name = TrainingStep.seedName
    let graph = model.graph
    if graph.inputs.contains(where: { $0.name == name })
      || graph.nodes.contains(where: { $0.outputs.contains(name) })
    {
      name = "dlc.\(name)"
    }
    random = (g.convert(g.input(name, .int64), .uint64), 0)
    return name
  }

  /// The Philox key and counter for the next random operator: from its attribute, else from the run's seed.
  func nextRandom(seed: Double?) -> (key: Value, counter: Value) {
    if let seed {
      let key = g.constant(
        Tensor(.uint64, [], truncating: [Int64(truncatingWithin: seed.magnitude)]))
      return (key, g.constant(Tensor(.uint64, [], truncating: [0])))
    }
    defer { random!.count += 1 }
    // Each operator has 2^40 words of its own.
    return (
      random!.key,
      g.constant(Tensor(.uint64, [], truncating: [Int64(random!.count) << 40]))
    )
  }
}

extension Tensor {
  func sharesMemory(_ other: Tensor) -> Bool { storage === other.storage }
}
