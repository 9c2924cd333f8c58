package import DLCFormats
package import DLCGraph
package import DLCTensor
import DLCTraining

/// A loss on an ONNX model's output, so that its initialisers can be trained.
package struct FineTuning {
  package enum Loss: String, CaseIterable, Sendable {
    case crossEntropy = "cross-entropy"
    case meanSquaredError = "mean-squared-error"
  }

  package var loss: Loss
  /// The output that the loss is of; nil for the only one.
  package var output: String?
  /// The input that holds what the output should be.
  package var target = "target"
  /// Names of initialisers that stay as they are: those that a regular expression matches as a whole.
  package var frozen: String?
  /// Whether running statistics of batch norms are trained as well.
  package var updatesStatistics = false

  package init(_ loss: Loss) { self.loss = loss }

  /// The model with a function `loss` besides `forward`, which gives the `accuracy` of classes too; its parameters are the floating-point initialisers of rank 1 or more
  /// that the output depends on.
  /// - Parameter target: type and shape of the target's rows.
  /// - Throws: `.unsupported` when the model is no single graph.
  package func module(_ model: ONNXModel, sizes: [String: Int] = [:]) throws(DLCError) -> Module {
    let imported = try model.module(ONNXModel.Bindings(sizes: sizes))
    let forward = imported.functions[0].graph
    let names = forward.results.map(\.name)
    guard let name = output ?? (names.count == 1 ? names[0] : nil), names.contains(name) else {
      throw DLCError(
        .usage, output.map { "the model has no output '\($0)'" } ?? "the model has several outputs",
        remedy: "--output names one of \(Spelling.list(names))")
    }
    let reached = forward.needed(for: name)
    let statistics = updatesStatistics ? [] : model.runningStatistics
    let pattern = try frozen.map { text throws(DLCError) -> Regex<AnyRegexOutput> in
      do { return try Regex(text) } catch {
        throw DLCError(.usage, "'\(text)' is no regular expression: \(error)")
      }
    }
    var module = Module(imported.name)
    for dimension in imported.dimensions {
      module.dimension(dimension.name, default: dimension.size)
    }
    for state in imported.states {
      var state = state
      let isFrozen = pattern.map { matches($0, state) } ?? false
      state.isParameter =
        state.isParameter && reached.contains(state.name) && !isFrozen
        && !statistics.contains(state.name)
      module.add(state)
    }
    guard module.states.contains(where: \.isParameter) else {
      throw DLCError(.usage, "no initialiser is left to train")
    }
    if let pattern, !imported.states.contains(where: { $0.isParameter && matches(pattern, $0) }) {
      throw DLCError(
        .usage, "--freeze matches none of the initialisers",
        remedy: "they are \(Spelling.list(imported.states.filter(\.isParameter).map(\.name)))")
    }
    module.add(Function("forward", forward))
    let states = Dictionary(uniqueKeysWithValues: module.states.map { ($0.name, $0) })
    try module.function("loss") { g in
      let arguments = forward.arguments.map { argument -> Value in
        guard argument.kind == .state, let state = states[argument.name] else {
          return g.input(argument.name, argument.type.dataType, argument.type.shape)
        }
        return state.isParameter
          ? g.parameter(state.name, state.type.shape, state.initializer, state.type.dataType)
          : g.state(state.name, state.type.dataType, state.type.shape, state.initializer)
      }
      guard let value = g.inline(forward, arguments).results[name] else { return }
      add(g, value)
    }
    return module
  }

  private func matches(_ pattern: Regex<AnyRegexOutput>, _ state: State) -> Bool {
    (try? pattern.wholeMatch(in: state.name)) != nil
  }

  /// The loss of an output, and what else says how good it is.
  private func add(_ g: FunctionBuilder, _ output: Value) {
    switch loss {
    case .crossEntropy:
      let classes = output.shape.dropFirst().reduce(Size(1)) { $0 * $1 }
      let logits = g.reshape(output, [output.shape[0], classes])
      let labels = g.input(target, .int64, [output.shape[0]])
      g.output("loss", g.softmaxCrossEntropy(logits, labels))
      g.output("accuracy", g.accuracy(logits, labels))
    case .meanSquaredError:
      g.output(
        "loss", g.meanSquaredError(output, g.input(target, output.dataType, output.shape)))
    }
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

extension ONNXModel {
  /// Initialisers that batch norms read as mean and variance.
  fileprivate var runningStatistics: Set<String> {
    Set(
      graph.nodes.filter { $0.type == "BatchNormalization" && $0.inputs.count >= 5 }
        .flatMap { $0.inputs[3...4] })
  }

  /// The bytes of a model file with other values for initialisers, and nothing else changed.
  /// - Throws: `.unsupported` for initialisers that lie in another file.
  package static func rewritten(_ file: MappedFile, with values: [String: Tensor]) throws(DLCError)
    -> [UInt8]
  {
    var left = values
    var failure: DLCError?
    func tensor(_ bytes: UnsafeRawBufferPointer, _ name: String) -> [UInt8]? {
      guard let value = left.removeValue(forKey: name) else { return nil }
      guard ProtobufWire.field(13, of: bytes) == nil else {
        failure = DLCError(
          .unsupported, "initialiser '\(name)' lies in another file", at: file.path,
          remedy: "write the weights as .safetensors")
        return nil
      }
      let data = value.withUnsafeBytes { Array($0) }
      return ProtobufWire.withoutData(bytes).map { $0 + ProtobufWire.field(9, data) }
    }
    func string(_ bytes: UnsafeRawBufferPointer?) -> String {
      bytes.map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
    func constant(_ node: UnsafeRawBufferPointer) -> [UInt8]? {
      // Exporters write weights as constants too.
      let name = string(ProtobufWire.field(2, of: node))
      guard left[name] != nil, string(ProtobufWire.field(4, of: node)) == "Constant" else {
        return nil
      }
      return ProtobufWire.replacing(5, in: node) { attribute in
        ProtobufWire.replacing(5, in: attribute) { tensor($0, name) }
      }
    }
    let made = ProtobufWire.replacing(7, in: file.bytes) { graph in
      ProtobufWire.replacing(5, in: graph) {
        tensor($0, string(ProtobufWire.field(8, of: $0)))
      }.flatMap { graph in
        graph.withUnsafeBytes { ProtobufWire.replacing(1, in: $0, constant) }
      }
    }
    if let failure { throw failure }
    guard let made else { throw DLCError(.format, "the model is damaged", at: file.path) }
    guard left.isEmpty else {
      throw DLCError(
        .unsupported, "the model's file holds no \(Spelling.list(left.keys.sorted()))",
        at: file.path)
    }
    return made
  }
}

extension ProtobufWire {
  /// A tensor of ONNX without the fields that hold its elements.
  fileprivate static func withoutData(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
    dropping([4, 5, 7, 9, 10, 11], of: bytes)
  }
}
