package import DLCGraph
package import DLCTensor

extension ONNXModel {
  /// What an import knows besides the model.
  package struct Bindings: Sendable {
    /// Sizes of named dimensions.
    package var sizes: [String: Int] = [:]
    /// Values of inputs, which are then no inputs of the graph.
    package var values: [String: Tensor] = [:]
    /// Shapes of inputs.
    package var shapes: [String: [Int]] = [:]
    /// Whether the graph is differentiated: initialisers of rank 1 or more and one element are parameters then, which are constants else.
    package var differentiates = false

    package init(
      sizes: [String: Int] = [:], values: [String: Tensor] = [:], shapes: [String: [Int]] = [:],
      differentiates: Bool = false
    ) {
      self.sizes = sizes
      self.values = values
      self.shapes = shapes
      self.differentiates = differentiates
    }
  }

  /// The names of dimensions that inputs declare, as a graph of dlc has them.
  package var dimensionNames: [String] {
    var names: [String] = []
    for (_, type, isOptional) in inputTypes where !isOptional {
      for size in type.shape {
        if let name = size.name, !names.contains(name) { names.append(name) }
      }
    }
    return names
  }

  /// The sizes of named axes, but for first ones, that arrays under the names of inputs say.
  package func inner(_ shapes: [String: [Int]]) -> [String: Int] {
    var sizes: [String: Int] = [:]
    let batches = Set(inputTypes.compactMap { $0.type.shape.first?.name })
    for (name, type, _) in inputTypes {
      guard let shape = shapes[name], shape.count == type.rank else { continue }
      for (size, number) in zip(type.shape, shape) {
        if let name = size.name, !batches.contains(name) { sizes[name] = number }
      }
    }
    return sizes
  }

  /// The model as a module with one function, `forward`. Dimensions that nothing binds stay named.
  /// - Throws: `.unsupported` for operators that are not imported, and when the shape of a value depends on data;
  ///   `.dimension` when a size must be bound for the graph to have one form.
  package func module(_ bindings: Bindings = Bindings()) throws(DLCError) -> Module {
    do throws(DLCError) {
      return try imported(bindings)
    } catch {
      throw error.location.contains(path) ? error : error.within(path)
    }
  }

  /// The graph to compile ahead of a run: the whole model, or where shapes depend on data the first part of it.
  /// - Returns: the graph, and where the model is cut, for which reason; nil for a whole one.
  /// - Throws: as `module`; `.dimension` when the sizes of a part are not all bound.
  package func compilable(_ bindings: Bindings = Bindings()) throws(DLCError)
    -> (module: Module, cut: String?)
  {
    do throws(DLCError) {
      let (stage, list) = try stage(bindings)
      if let module = stage.whole { return (module, nil) }
      return (try firstPart(list, bindings), stage.reason)
    } catch {
      throw error.location.contains(path) ? error : error.within(path)
    }
  }

  /// What is known of a model before it runs.
  package struct Outline {
    /// The graph, or what of it comes before the cut; nil when that is nothing.
    package var module: Module?
    /// Where the model is cut, for which reason; nil for one that is a single graph.
    package var cut: String?
    /// Inputs by whose values, were they known, the cut would not be there.
    package var deciding: [String] = []
    /// How many nodes come after the cut.
    package var laterCount = 0
    /// One node of each operator after the cut that is not imported.
    package var unsupported: [Violation] = []

    package init(
      module: Module? = nil, cut: String? = nil, deciding: [String] = [], laterCount: Int = 0,
      unsupported: [Violation] = []
    ) {
      self.module = module
      self.cut = cut
      self.deciding = deciding
      self.laterCount = laterCount
      self.unsupported = unsupported
    }
  }

  /// The graph as far as it is known without a run; sizes that nothing binds stay named.
  /// - Throws: as `module`, but not for a model that is cut.
  package func outline(_ bindings: Bindings = Bindings()) throws(DLCError) -> Outline {
    do throws(DLCError) {
      let stage = try stage(bindings).stage
      if let module = stage.whole { return Outline(module: module) }
      var unknown: [ONNXNode] = []
      collectUnsupported(in: stage.later.nodes, &unknown)
      return Outline(
        module: stage.module, cut: stage.reason, deciding: stage.deciding,
        laterCount: stage.later.nodes.count,
        unsupported: unknown.map {
          Violation(label: "operator", message: $0.unsupported, place: "node '\($0.name)'")
        })
    } catch {
      throw error.location.contains(path) ? error : error.within(path)
    }
  }

  private func imported(_ bindings: Bindings) throws(DLCError) -> Module {
    let stage = try stage(bindings).stage
    guard let module = stage.whole else {
      throw DLCError(
        .unsupported, "the model is no single graph: \(stage.reason)",
        remedy: "dlc run and dlc compile take it in parts" + Self.hint(stage.deciding))
    }
    return module
  }

  /// How a cut would vanish, to be put behind another remedy; empty where it cannot.
  package static func hint(_ deciding: [String]) -> String {
    deciding.isEmpty
      ? ""
      : "; with the value of \(Spelling.list(deciding)), given to dlc import or compile by --value, it would be one graph"
  }

  private func stage(_ bindings: Bindings) throws(DLCError) -> (stage: Stage, list: NodeList) {
    let list = try NodeList(graph, of: self, outside: [])
    let types = try types(bindings)
    var builder = StageBuilder(model: self, candidates: bindings.values)
    builder.keepsInputs = true
    if bindings.differentiates { builder.scalars = Set(graph.initializers.keys) }
    builder.dimensions = types.flatMap { $0.type.shape }.flatMap { $0.names.sorted() }
      .reduce(into: []) { list, name in
        if !list.contains(where: { $0.name == name }) { list.append((name, 1)) }
      }
    let stage = try builder.build(
      list, types: types, statics: Set(bindings.values.keys), wanted: graph.outputs.map(\.name))
    return (stage, list)
  }

  /// What a session runs first for these sizes and values.
  private func firstPart(_ list: NodeList, _ bindings: Bindings) throws(DLCError) -> Module {
    let types = try types(bindings).sorted { $0.name < $1.name }
    let open = Set(types.flatMap { $0.type.shape.flatMap(\.names) }).sorted()
    guard open.isEmpty else {
      throw DLCError(
        .dimension, "the model runs in parts, for whose compilation every size must be known",
        remedy: "bind \(Spelling.list(open)) with --dim")
    }
    let stage = try StageBuilder(model: self, candidates: bindings.values).build(
      list, types: types, statics: [], wanted: graph.outputs.map(\.name))
    guard let module = stage.module else {
      throw DLCError(
        .unsupported, "nothing can be compiled before the run: \(stage.reason)",
        remedy: "dlc run compiles what it needs" + Self.hint(stage.deciding))
    }
    return module
  }

  /// The inputs that a run must give, with their types as far as they are known.
  private func types(_ bindings: Bindings) throws(DLCError) -> [(name: String, type: TensorType)] {
    try requireDimensions(bindings.sizes.keys)
    let sizes = Dictionary(
      bindings.sizes.map { (Self.dimensionName($0.key), Size($0.value)) },
      uniquingKeysWith: { a, _ in a })
    for name in bindings.values.keys where !graph.inputs.contains(where: { $0.name == name }) {
      throw DLCError(
        .binding, "the model has no input '\(name)'",
        remedy: Spelling.remedy(for: name, among: graph.inputs.map(\.name)))
    }
    var types: [(name: String, type: TensorType)] = []
    for info in graph.inputs where graph.initializers[info.name] == nil {
      if let kind = info.otherKind {
        throw DLCError(.unsupported, "input '\(info.name)' is \(kind), which is not supported")
      }
      guard let type = inputTypes.first(where: { $0.name == info.name })?.type else {
        throw DLCError(
          .unsupported,
          "input '\(info.name)' holds \(info.elementType.text), which is not supported")
      }
      if let value = bindings.values[info.name] {
        types.append((info.name, value.type))
      } else if let shape = bindings.shapes[info.name] {
        types.append((info.name, TensorType(type.dataType, sizes: shape)))
      } else {
        guard info.shape != nil else {
          throw DLCError(
            .dimension, "input '\(info.name)' declares no shape",
            remedy: "run it on arrays, which have one")
        }
        types.append((info.name, TensorType(type.dataType, type.shape.map { $0.replacing(sizes) })))
      }
    }
    return types
  }
}

extension Stage {
  /// The graph, when it is all of the model.
  fileprivate var whole: Module? { later.nodes.isEmpty && bounds.isEmpty ? module : nil }
}
