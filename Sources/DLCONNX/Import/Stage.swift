import DLCFormats
package import DLCGraph
package import DLCTensor

/// A part of a model that is one graph: everything up to where shapes depend on data.
package struct Stage {
  /// The graph, as function `forward`; nil when nothing is left to compute before the cut.
  package var module: Module?
  /// The names among its inputs that are given as arrays.
  package var inputs: [String] = []
  /// The input that takes the run's seed, where an operator draws random numbers.
  package var seedInput: String?
  /// Results of which only a part is there: along an axis, as many as a result of that name says.
  package var bounds: [String: (axis: Int, count: String)] = [:]
  /// What remains.
  var later = NodeList(nodes: [], initializers: [:])
  /// Names whose values the rest must know to be built.
  package var needed: Set<String> = []
  /// What must hold of the result `checksName`: of two integers each.
  var checks: [IndexCheck] = []
  static let checksName = "#indices"
  /// The first reason for which something remains.
  package var reason = ""
  /// Inputs by whose values, were they known, that would not be one.
  package var deciding: [String] = []
  /// Nodes whose graphs are run by the session, by their first result.
  var hosted: Set<String> = []
  /// The inputs that were bound by value though they were not asked to be.
  package var boundByValue: Set<String> = []
}

/// Imports stages.
struct StageBuilder {
  let model: ONNXModel
  /// Dimensions that the types of inputs name, with default sizes.
  var dimensions: [(name: String, size: Int)] = []
  /// What may be bound by value, and is where it has to be known.
  var candidates: [String: Tensor]
  /// Whether every input is one of the graph's, read or not: the model is imported for its own sake.
  var keepsInputs = false
  /// Stored tensors of one element that are parameters, not constants.
  var scalars: Set<String> = []
  /// So many elements an input may have to be bound by value without being asked for.
  static let maximumStatic = 1024

  /// - Parameters:
  ///   - types: what is there, by name.
  ///   - statics: names among them that are bound by value.
  ///   - wanted: the results of the whole.
  func build(
    _ list: NodeList, types: [(name: String, type: TensorType)], statics: Set<String>,
    wanted: [String]
  ) throws(DLCError) -> Stage {
    var statics = statics
    while true {
      var attempt = StageAttempt(
        builder: self, list: list, types: types, statics: statics, wanted: wanted)
      if let more = try attempt.run() {
        statics.formUnion(more)
        continue
      }
      attempt.stage.boundByValue = statics
      return attempt.stage
    }
  }
}

/// One try at a stage, which ends early when more inputs must be bound by value.
private struct StageAttempt {
  let builder: StageBuilder
  let list: NodeList
  let types: [(name: String, type: TensorType)]
  let statics: Set<String>
  let wanted: [String]
  var stage = Stage()
  /// The nodes that are left for later, and the counts of results that are there in part.
  var later: [ONNXNode] = []
  var counts: [String: Value] = [:]

  /// - Returns: inputs to bind by value before the next try; nil when the stage stands.
  mutating func run() throws(DLCError) -> Set<String>? {
    var module = Module(builder.model.graph.name.isEmpty ? "onnx" : builder.model.graph.name)
    for dimension in builder.dimensions {
      module.dimension(dimension.name, default: dimension.size)
    }
    let g = FunctionBuilder(dimensions: Set(builder.dimensions.map(\.name)), isTraining: false)
    let importer = GraphImporter(
      builder.model, g, keepsChecks: !builder.keepsInputs, scalars: builder.scalars)
    let scope = ImportScope(list.initializers)
    do throws(ImportStop) {
      if let more = try walk(importer, scope) { return more }
      let open = NodeList(nodes: later, initializers: scope.initializers)
      stage.later = NodeList(
        nodes: Self.sequences(open.reads, scope) + later, initializers: scope.initializers)
      guard try emit(importer, scope) > 0 else { return nil }
    } catch {
      throw Self.mistake(error).uncalled
    }
    if let failure = g.failure { throw failure.uncalled }
    for state in g.states { module.add(state) }
    module.add(Function("forward", try g.graph.normalized()))
    for (name, value) in importer.states where module.state(name) != nil {
      try module.setValue(value, of: name)
    }
    try module.chooseDefaults()
    try module.verify()
    stage.module = module
    return nil
  }

  /// Nodes that put sequences which are read after the cut together again, from elements that are results.
  private static func sequences(_ names: Set<String>, _ scope: ImportScope) -> [ONNXNode] {
    names.sorted().compactMap { name in
      guard let elements = scope.sequences[name] else { return nil }
      let parts = elements.indices.map { "\(name)#\($0)" }
      for (part, element) in zip(parts, elements) { scope.values[part] = element }
      return ONNXNode(
        name: name, domain: "", type: "SequenceConstruct", overload: "", inputs: parts,
        outputs: [name], attributes: [:], opsets: ["": 21])
    }
  }

  private static func mistake(_ stop: ImportStop) -> DLCError {
    switch stop {
    case .failed(let error): error
    case .needs(_, let operand, let node):
      DLCError(.unsupported, "input '\(operand)' of \(node) must be known before the run")
    case .hosted(let reason): DLCError(.unsupported, reason)
    }
  }

  /// Gives values to what is there: constants for what is bound by value, inputs for the rest.
  private mutating func declareInputs(_ importer: GraphImporter, _ scope: ImportScope)
    throws(ImportStop)
  {
    for (name, type) in types
    where list.reads.contains(name) || wanted.contains(name) || builder.keepsInputs {
      if statics.contains(name), let tensor = builder.candidates[name] {
        scope.values[name] = try importer.sound { () throws(ImportStop) in
          importer.g.constant(tensor)
        }
      } else {
        scope.values[name] = try importer.sound { () throws(ImportStop) in
          importer.g.located(at: "input '\(name)'") {
            importer.g.input(name, type.dataType, type.shape)
          }
        }
        stage.inputs.append(name)
      }
    }
  }

  private mutating func walk(_ importer: GraphImporter, _ scope: ImportScope) throws(ImportStop)
    -> Set<String>?
  {
    if list.nodes.contains(where: { RandomOperators.isRandom($0) }) {
      stage.seedInput = importer.declareSeed()
    }
    try declareInputs(importer, scope)
    var work = Array(list.nodes.reversed())
    while let node = work.popLast() {
      if !scope.deferred.isDisjoint(with: node.reads) {
        leave(node, scope)
        continue
      }
      do throws(ImportStop) {
        if let branch = try ControlOperators.decidedBranch(node, importer, scope) {
          work += branch.reversed()
          continue
        }
        let context = try importer.add(node, scope)
        for (position, bound) in context.bounds {
          let name = node.outputs[position]
          stage.bounds[name] = (bound.axis, "\(name)#count")
          counts[name] = bound.count
          scope.deferred.insert(name)
          if stage.reason.isEmpty {
            stage.reason = "the shape of '\(name)', of \(node.title), depends on the data"
          }
        }
      } catch {
        switch error {
        case .failed: throw error
        case .hosted(let reason):
          if stage.reason.isEmpty { stage.reason = reason }
          if let name = node.outputs.first(where: { !$0.isEmpty }) { stage.hosted.insert(name) }
          stage.needed.formUnion(node.inputs.filter { !$0.isEmpty && scope.values[$0] == nil })
        case .needs(let value, let operand, let title):
          if let more = reached(from: value), !more.subtracting(statics).isEmpty { return more }
          guard types.allSatisfy({ $0.type.shape.allSatisfy { $0.constant != nil } }) else {
            throw .failed(
              DLCError(
                .dimension,
                "input '\(operand)' of \(title) depends on sizes or values that are not bound",
                remedy: hint(for: value)))
          }
          guard !statics.contains(operand) else {
            throw .failed(
              DLCError(
                .unsupported, "input '\(operand)' of \(title) cannot be computed before the run"))
          }
          if stage.reason.isEmpty {
            stage.reason = "'\(operand)' of \(title) depends on the data"
            stage.deciding = deciding(value)
          }
          stage.needed.insert(operand)
        }
        leave(node, scope)
      }
    }
    return nil
  }

  private mutating func leave(_ node: ONNXNode, _ scope: ImportScope) {
    scope.deferred.formUnion(node.outputs.filter { !$0.isEmpty })
    later.append(node)
  }

  /// The inputs that a value depends on, when they may be bound by value.
  private func reached(from value: Value) -> Set<String>? {
    inputs(deciding: value) { argument in
      guard let tensor = builder.candidates[argument.name] else { return false }
      return tensor.count <= StageBuilder.maximumStatic
        && (!tensor.dataType.isFloat || value.dataType.isFloat)
    }
  }

  /// The inputs that a value depends on; nil where it depends on what cannot be bound by value.
  private func inputs(deciding value: Value, _ isBindable: (Argument) -> Bool) -> Set<String>? {
    let graph = value.builder.graph
    var found: Set<String> = []
    var seen: Set<ValueID> = []
    var open = [value.id]
    while let id = open.popLast() {
      guard seen.insert(id).inserted else { continue }
      if let node = graph.definition(id) {
        if node.operation.flow != nil { return nil }
        if case .randomBits = node.operation { return nil }
        open += node.operands
      } else if let argument = graph.argument(id), argument.kind == .input {
        guard isBindable(argument) else { return nil }
        found.insert(argument.name)
      } else if graph.argument(id)?.kind == .captured {
        return nil
      }
    }
    return found
  }

  /// Inputs whose values people may know ahead, and that decide a value.
  private func deciding(_ value: Value) -> [String] {
    (inputs(deciding: value) { !$0.type.dataType.isFloat || value.dataType.isFloat } ?? []).sorted()
  }

  private func hint(for value: Value) -> String {
    let names = deciding(value)
    return names.isEmpty
      ? "bind the sizes with --dim"
      : "bind the sizes with --dim, or give the values of \(Spelling.list(names)) with --value"
  }

  /// Names the results; returns how many there are.
  private mutating func emit(_ importer: GraphImporter, _ scope: ImportScope) throws(ImportStop)
    -> Int
  {
    let given = Set(types.map(\.name))
    let names = stage.later.reads.union(wanted).union(stage.needed)
    var count = 0
    // Results in the model's order, then what the rest reads.
    for name in wanted + names.subtracting(wanted).sorted() {
      let isBounded = stage.bounds[name] != nil
      guard isBounded || !scope.deferred.contains(name) else { continue }
      let isResult = wanted.contains(name)
      if given.contains(name) && !(isResult && builder.keepsInputs) { continue }
      guard scope.values[name] != nil || isResult else { continue }
      if list.initializers[name] != nil && !isResult { continue }
      importer.g.output(name, try importer.value(name, scope))
      count += 1
      if isBounded {
        importer.g.output(stage.bounds[name]!.count, importer.g.convert(counts[name]!, .int64))
      }
    }
    if !importer.indexChecks.isEmpty {
      stage.checks = importer.indexChecks.map(\.check)
      importer.g.output(
        Stage.checksName, importer.g.concatenate(importer.indexChecks.map(\.found), axis: 0))
      count += 1
    }
    return count
  }
}

extension Module {
  /// Gives named dimensions sizes for which the graph is sound: 1 for first axes of inputs where that is, and for the
  /// others the smallest that are.
  /// - Throws: `.dimension` when none of those that are tried is.
  fileprivate mutating func chooseDefaults() throws(DLCError) {
    guard !dimensions.isEmpty, let function = functions.first else { return }
    let batches = Set(function.inputs.compactMap { $0.type.shape.first?.name })
    let usual = [1, 2, 4, 8, 16, 32, 64, 128, 224, 256, 320, 512, 576, 640, 1024, 4096]
    var reason = ""
    for candidates in [usual, Array(3...200)] {
      for isBatchOne in [true, false] {
        for size in candidates {
          var sizes: [String: Int] = [:]
          for (name, _) in dimensions {
            sizes[name] = isBatchOne && batches.contains(name) ? 1 : size
          }
          do throws(DLCError) {
            _ = try function.graph.bound(to: sizes)
            for (name, size) in sizes { dimension(name, default: size) }
            return
          } catch {
            if reason.isEmpty { reason = error.uncalled.message }
          }
        }
      }
    }
    let names = dimensions.map(\.name)
    throw DLCError(
      .dimension,
      "the sizes \(Spelling.list(names)) are open, but no sizes that were tried fit: with 1 \(reason)",
      remedy:
        "sizes may be fixed inside of the model: say them, as \(names.map { "--dim \($0)=N" }.joined(separator: " ")); \(InputArrays.described(function.inputs))"
    )
  }
}
