import CProtobufSchema
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

  /// The model with a function `loss` besides `forward`; its parameters are the floating-point initialisers of rank 1 or more
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
      let isFrozen = pattern.map { (try? $0.wholeMatch(in: state.name)) != nil } ?? false
      state.isParameter =
        state.isParameter && reached.contains(state.name) && !isFrozen
        && !statistics.contains(state.name)
      module.add(state)
    }
    guard module.states.contains(where: \.isParameter) else {
      throw DLCError(.usage, "no initialiser is left to train")
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
      g.output("loss", self.value(g, value))
    }
    return module
  }

  private func value(_ g: FunctionBuilder, _ output: Value) -> Value {
    switch loss {
    case .crossEntropy:
      let classes = output.shape.dropFirst().reduce(Size(1)) { $0 * $1 }
      return g.softmaxCrossEntropy(
        g.reshape(output, [output.shape[0], classes]), g.input(target, .int64, [output.shape[0]]))
    case .meanSquaredError:
      return g.meanSquaredError(output, g.input(target, output.dataType, output.shape))
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
    let message = try ProtobufMessage(
      file.bytes, onnx_model_descriptor(), as: Onnx__Model.self, kind: "an ONNX model", depth: 1000,
      path: file.path)
    defer { withExtendedLifetime(message) {} }
    guard let graph = message.value.graph else {
      throw DLCError(.format, "the model has no graph", at: file.path)
    }
    let arena = ProtobufArena()
    var restore: [() -> Void] = []
    defer { for undo in restore { undo() } }
    func replace(_ pointer: UnsafeMutablePointer<Onnx__Tensor>, _ value: Tensor, _ name: String)
      throws(DLCError)
    {
      guard pointer.pointee.data_location == 0 else {
        throw DLCError(
          .unsupported, "initialiser '\(name)' lies in another file", at: file.path,
          remedy: "write the weights as .safetensors")
      }
      let old = pointer.pointee
      // The message frees what it allocated itself: the fields are put back when it has been encoded.
      restore.append { pointer.pointee = old }
      pointer.pointee.raw_data = arena.binary(value)
      pointer.pointee.n_float_data = 0
      pointer.pointee.n_double_data = 0
      pointer.pointee.n_int32_data = 0
    }
    var left = values
    for index in 0..<graph.pointee.n_initializer {
      let pointer = graph.pointee.initializer[index]!
      let name = text(pointer.pointee.name)
      if let value = left.removeValue(forKey: name) { try replace(pointer, value, name) }
    }
    for index in 0..<graph.pointee.n_node where !left.isEmpty {
      // Exporters write weights as constants too.
      let node = graph.pointee.node[index]!
      guard text(node.pointee.op_type) == "Constant", node.pointee.n_output == 1 else { continue }
      let name = text(node.pointee.output[0])
      guard let value = left[name] else { continue }
      for position in 0..<node.pointee.n_attribute {
        guard let tensor = node.pointee.attribute[position]!.pointee.t else { continue }
        try replace(tensor, value, name)
        left[name] = nil
      }
    }
    guard left.isEmpty else {
      throw DLCError(
        .unsupported, "the model's file holds no \(Spelling.list(left.keys.sorted()))",
        at: file.path)
    }
    return message.encoded
  }
}
