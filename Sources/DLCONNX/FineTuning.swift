package import DLCGraph
package import DLCTensor
import DLCTraining

/// A loss on an ONNX model's output, so that its initialisers can be trained.
package struct FineTuning {
  package enum Loss: String, CaseIterable, Sendable {
    case crossEntropy = "cross-entropy"
    case binaryCrossEntropy = "binary-cross-entropy"
    case meanSquaredError = "mean-squared-error"

    /// The operator that makes probabilities of what the loss is of.
    var activation: String? {
      switch self {
      case .crossEntropy: "Softmax"
      case .binaryCrossEntropy: "Sigmoid"
      case .meanSquaredError: nil
      }
    }
  }

  package var loss: Loss
  /// The output that the loss is of; nil for the only one.
  package var output: String?
  /// The input that holds what the output should be.
  package var target = "target"
  /// The shape of all that it should be; nil where it is not known: then class numbers are one for each row.
  package var targetShape: [Int]?
  /// Names of initialisers that stay as they are: those that one of these regular expressions matches as a whole.
  package var frozen: [String] = []
  /// Whether batch norms normalise by the batch and move their running statistics, as in training.
  package var updatesStatistics = false

  package init(_ loss: Loss) { self.loss = loss }

  /// The model with a function `loss` besides `forward`, which gives the `accuracy` of classes too; its parameters are the floating-point initialisers of rank 1 or more
  /// that the output depends on. Batch norms use their stored statistics; where those are updated, `loss` takes those of
  /// the batch. Dropout that the file has is in `loss` alone. Where either is so, `loss_evaluation` is the loss of `forward`.
  /// The cross-entropy of a Softmax or Sigmoid is that of what goes into it.
  /// - Throws: `.unsupported` when the model is no single graph.
  package func module(_ model: ONNXModel, sizes: [String: Int] = [:]) throws(DLCError) -> Module {
    let dropping = model.withBatchNorms(isTraining: false).model
    let model = dropping.withoutDropout
    let bindings = ONNXModel.Bindings(sizes: sizes, differentiates: true)
    let imported = try model.module(bindings)
    let forward = imported.functions[0].graph
    let names = forward.results.map(\.name)
    guard let name = output ?? (names.count == 1 ? names[0] : nil), names.contains(name) else {
      throw DLCError(
        .usage, output.map { "the model has no output '\($0)'" } ?? "the model has several outputs",
        remedy: "--output names one of \(Spelling.list(names))")
    }
    var module = try self.module(imported, reached: forward.needed(for: name), model)
    module.add(Function("forward", forward))
    // What the loss is of, which need not be a result of the model.
    let logits = loss.activation.flatMap { model.operand(of: $0, giving: name) }
    let result = logits ?? name
    func graph(_ model: ONNXModel) throws(DLCError) -> Graph {
      try (logits.map(model.giving) ?? model).module(bindings).functions[0].graph
    }
    let plain = logits == nil ? forward : try graph(model)
    guard updatesStatistics else {
      let drops = dropping.graph.nodes.contains(where: \.isDropping)
      try add("loss", to: &module, drops ? try graph(dropping) : plain, result, [:])
      if drops { try add("loss_evaluation", to: &module, plain, result, [:]) }
      return module
    }
    let (training, next) = dropping.withBatchNorms(isTraining: true)
    let patterns = try patterns
    let moving = next.filter { move in
      module.state(move.key) != nil && !patterns.contains { matches($0, move.key) }
    }
    guard !moving.isEmpty else {
      throw DLCError(
        .usage, "the model has no batch norm with running statistics of its own to move",
        at: model.path,
        remedy:
          "leave out --update-statistics, or export the model with its batch norms (in PyTorch with training=TrainingMode.PRESERVE and do_constant_folding=False)"
      )
    }
    try add("loss", to: &module, try graph(training), result, moving)
    try add("loss_evaluation", to: &module, plain, result, [:])
    return module
  }

  private var patterns: [Regex<AnyRegexOutput>] {
    get throws(DLCError) {
      var list: [Regex<AnyRegexOutput>] = []
      for text in frozen {
        do { list.append(try Regex(text)) } catch {
          throw DLCError(.usage, "'\(text)' is no regular expression: \(error)")
        }
      }
      return list
    }
  }

  /// The states of an import, of which those that are trained are parameters.
  private func module(_ imported: Module, reached: Set<String>, _ model: ONNXModel)
    throws(DLCError) -> Module
  {
    let statistics = model.runningStatistics
    let patterns = try patterns
    var module = Module(imported.name)
    for dimension in imported.dimensions {
      module.dimension(dimension.name, default: dimension.size)
    }
    for state in imported.states {
      var state = state
      let isFrozen = patterns.contains { matches($0, state.name) }
      state.isParameter =
        state.isParameter && reached.contains(state.name) && !isFrozen
        && !statistics.contains(state.name)
      module.add(state)
    }
    guard module.states.contains(where: \.isParameter) else {
      throw DLCError(.usage, "no initialiser is left to train")
    }
    let names = imported.states.filter(\.isParameter).map(\.name)
    for (pattern, text) in zip(patterns, frozen)
    where !names.contains(where: { matches(pattern, $0) }) {
      throw DLCError(
        .usage, "--freeze '\(text)' matches none of the initialisers",
        remedy: "they are \(Spelling.list(names))")
    }
    return module
  }

  private func matches(_ pattern: Regex<AnyRegexOutput>, _ name: String) -> Bool {
    (try? pattern.wholeMatch(in: name)) != nil
  }

  /// Adds a function that gives the loss of a graph's output.
  /// - Parameter moving: states and the results of the graph that they move to.
  private func add(
    _ function: String, to module: inout Module, _ graph: Graph, _ name: String,
    _ moving: [String: String]
  ) throws(DLCError) {
    let states = Dictionary(uniqueKeysWithValues: module.states.map { ($0.name, $0) })
    var failure: DLCError?
    func declare(_ g: FunctionBuilder) {
      let arguments = graph.arguments.map { argument -> Value in
        guard argument.kind == .state, let state = states[argument.name] else {
          return g.input(argument.name, argument.type.dataType, argument.type.shape)
        }
        return state.isParameter
          ? g.parameter(state.name, state.type.shape, state.initializer, state.type.dataType)
          : g.state(state.name, state.type.dataType, state.type.shape, state.initializer)
      }
      let results = g.inline(graph, arguments).results
      guard let value = results[name] else { return }
      g.located(at: "\(loss.rawValue) of '\(name)'") {
        do throws(DLCError) { try add(g, value, name) } catch { failure = error }
      }
      for (state, result) in moving.sorted(by: { $0.key < $1.key }) {
        if let value = results[result] { g.update(state, value) }
      }
    }
    do throws(DLCError) { try module.function(function, declare) } catch { throw failure ?? error }
  }

  /// The loss of an output, and what else says how good it is.
  private func add(_ g: FunctionBuilder, _ output: Value, _ name: String) throws(DLCError) {
    switch loss {
    case .crossEntropy:
      let logits = try classesLast(g, output, name)
      let shape = Array(logits.shape.dropLast())
      let more = [Size](repeating: 1, count: max(0, (targetShape?.count ?? 0) - shape.count))
      let labels = g.reshape(g.input(target, .int64, shape + more), shape)
      g.output("loss", g.softmaxCrossEntropy(logits, labels))
      g.output("accuracy", g.accuracy(logits, labels))
    case .binaryCrossEntropy:
      let each = g.binaryCrossEntropy(logits: output, try numbers(g, output, name))
      g.output("loss", g.mean(each, axes: Array(each.shape.indices)))
    case .meanSquaredError:
      g.output("loss", g.meanSquaredError(output, try numbers(g, output, name)))
    }
  }

  /// A target of the output's shape; axes of one element behind may be left out.
  private func numbers(_ g: FunctionBuilder, _ output: Value, _ name: String) throws(DLCError)
    -> Value
  {
    let rank = targetShape?.count ?? output.rank
    guard rank >= 1, rank <= output.rank,
      output.shape.dropFirst(rank).allSatisfy({ $0.constant == 1 })
    else {
      throw DLCError(
        .binding,
        "'\(target)' has shape \(targetShape ?? []), output '\(name)' is \(output.type)",
        remedy: "this loss takes numbers of the output's shape")
    }
    return g.reshape(
      g.input(target, output.dataType, Array(output.shape.prefix(rank))), output.shape)
  }

  /// Logits with the axis of classes behind: [n, k] for one label for each row; where there is a label for every position,
  /// [n, positions..., k], from [n, k, positions...] too, where the labels' shape says so.
  private func classesLast(_ g: FunctionBuilder, _ output: Value, _ name: String) throws(DLCError)
    -> Value
  {
    let shape = output.shape
    let rest = Array(shape.dropFirst())
    // Axes of one element behind labels say nothing, but where positions are one.
    var targetShape = self.targetShape
    while let last = targetShape?.last, last == 1, targetShape!.count > 1,
      targetShape!.count >= output.rank
    { targetShape!.removeLast() }
    func fits(_ axes: [Size]) -> Bool {
      guard let targetShape, targetShape.count == axes.count + 1 else { return false }
      return zip(axes, targetShape.dropFirst()).allSatisfy {
        $0.constant == nil || $0.constant == $1
      }
    }
    if rest.isEmpty || targetShape ?? [0] == [] {
      throw DLCError(
        .binding, "output '\(name)' is \(output.type): classes take an axis beside that of rows")
    }
    if (targetShape?.count ?? 1) == 1 {
      // Axes of one element, as after a pooling that keeps axes, hold no positions.
      let wide = rest.filter { $0.constant != 1 }
      guard !wide.isEmpty else {
        throw DLCError(
          .binding, "output '\(name)' is \(output.type): cross-entropy takes two classes or more",
          remedy: "--loss binary-cross-entropy is for one number that says yes or no")
      }
      guard wide.count <= 1 else {
        throw DLCError(
          .binding, "output '\(name)' is \(output.type), '\(target)' has one label for each row",
          remedy:
            "labels are [n] for logits [n, k], [n, t] for [n, t, k], [n, h, w] for [n, k, h, w]")
      }
      return g.reshape(output, [shape[0], wide.first ?? 1])
    }
    if fits(Array(rest.dropLast())) { return output }
    if fits(Array(rest.dropFirst())) {
      return g.transpose(output, [0] + Array(2..<shape.count) + [1])
    }
    throw DLCError(
      .binding,
      "'\(target)' has shape \(targetShape ?? []), which fits output '\(name)', \(output.type), with classes in no axis",
      remedy: "labels are [n] for logits [n, k], [n, t] for [n, t, k], [n, h, w] for [n, k, h, w]")
  }
}

extension Graph {
  /// The names of states that a result depends on.
  fileprivate func needed(for result: String) -> Set<String> {
    var live = Set(results.filter { $0.name == result }.map(\.value))
    for node in nodes.reversed() where node.results.contains(where: live.contains) {
      live.formUnion(node.operands)
    }
    return Set(
      zip(argumentValues, arguments).filter { live.contains($0.0) && $0.1.kind == .state }.map(
        \.1.name))
  }
}

extension ONNXNode {
  private func says(_ attribute: String) -> Bool {
    if case .integer(let value)? = attributes[attribute] { value != 0 } else { false }
  }

  /// Whether a batch norm normalises by the batch.
  fileprivate var isInTraining: Bool {
    switch opsets["", default: 1] {
    case ..<7: !says("is_test")
    case ..<14: outputs.dropFirst().prefix(2).contains { !$0.isEmpty }
    default: says("training_mode")
    }
  }

  /// Whether it is a dropout that may be live: the third operand says so in operator sets from 12 on.
  fileprivate var isDropping: Bool {
    guard type == "Dropout", domain.isEmpty else { return false }
    return opsets["", default: 1] < 7 ? !says("is_test") : inputs.count > 2 && !inputs[2].isEmpty
  }

  /// The names of mean and variance, of a batch norm.
  fileprivate var runningStatistics: [String] {
    type == "BatchNormalization" && domain.isEmpty && inputs.count >= 5 ? Array(inputs[3...4]) : []
  }
}

extension ONNXModel {
  /// Initialisers that batch norms read as mean and variance.
  fileprivate var runningStatistics: Set<String> {
    Set(graph.nodes.flatMap(\.runningStatistics))
  }

  /// What goes into the node of a type that gives an output.
  fileprivate func operand(of type: String, giving output: String) -> String? {
    graph.nodes.first {
      $0.outputs.first == output && $0.domain.isEmpty && $0.type == type
    }?.inputs.first
  }

  /// Whether the file was exported to be trained: it drops out, or batch norms of it normalise by the batch.
  package var isForTraining: Bool {
    graph.nodes.contains {
      $0.isDropping || !$0.runningStatistics.isEmpty && $0.isInTraining
    }
  }

  /// The model with its values as they are where it drops some.
  fileprivate var withoutDropout: ONNXModel {
    var model = self
    for index in graph.nodes.indices where graph.nodes[index].isDropping {
      let kept = graph.nodes[index].inputs.prefix(2)
      model.graph.nodes[index].inputs = Array(kept)
      model.graph.nodes[index].attributes["is_test"] = .integer(1)
    }
    return model
  }

  /// The model with one more result.
  fileprivate func giving(_ name: String) -> ONNXModel {
    var model = self
    guard !graph.outputs.contains(where: { $0.name == name }) else { return model }
    model.graph.outputs.append(
      ONNXValueInfo(name: name, elementType: graph.outputs[0].elementType, shape: nil))
    return model
  }

  /// The model with batch norms that normalise by the batch or by stored statistics, whatever it says, where they have
  /// such, and the results that these move to.
  fileprivate func withBatchNorms(isTraining: Bool) -> (
    model: ONNXModel, moving: [String: String]
  ) {
    var (model, moving) = (self, [String: String]())
    for index in graph.nodes.indices {
      let names = graph.nodes[index].runningStatistics
      guard !names.isEmpty,
        names.allSatisfy({ graph.initializers[$0] != nil && moving[$0] == nil })
      else { continue }
      // The first says it in operator sets from 14 on, the second before 7, the outputs between.
      guard isTraining || graph.nodes[index].isInTraining else { continue }
      model.graph.nodes[index].attributes["training_mode"] = .integer(isTraining ? 1 : 0)
      model.graph.nodes[index].attributes["is_test"] = .integer(isTraining ? 0 : 1)
      guard isTraining else {
        let more = graph.nodes[index].outputs.dropFirst().filter { !$0.isEmpty }
        // Statistics that something reads must be computed.
        let isRead = more.contains { name in
          graph.nodes.contains { $0.reads.contains(name) }
            || graph.outputs.contains { $0.name == name }
        }
        if isRead {
          model.graph.nodes[index].attributes = graph.nodes[index].attributes
        } else {
          model.graph.nodes[index].outputs = [graph.nodes[index].outputs[0]]
        }
        continue
      }
      var outputs = graph.nodes[index].outputs
      outputs += [String](repeating: "", count: max(0, 3 - outputs.count))
      for (place, name) in names.enumerated() {
        if outputs[place + 1].isEmpty { outputs[place + 1] = "\(name)#next" }
        moving[name] = outputs[place + 1]
        guard !graph.outputs.contains(where: { $0.name == outputs[place + 1] }) else { continue }
        model.graph.outputs.append(
          ONNXValueInfo(
            name: outputs[place + 1], elementType: graph.initializers[name]!.elementType,
            shape: nil))
      }
      model.graph.nodes[index].outputs = outputs
    }
    return (model, moving)
  }
}
