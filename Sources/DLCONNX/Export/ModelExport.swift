import DLCCompiler
import DLCFormats
package import DLCGraph
import DLCPasses
package import DLCTensor

/// A function of a module as an ONNX model.
package struct ModelExport {
  package var opset = 21
  /// Sizes of named dimensions; the others stay open, but for those that no input has an axis of, which are bound to
  /// the module's own.
  package var sizes: [String: Int] = [:]
  /// Above so many bytes stored tensors go into a file beside the model.
  package var externalLimit = 1 << 30

  package init() {}

  /// The oldest operator set that models are written in, and the newest.
  package static let opsets = 17...21

  /// What to write: the model, and the file of its tensors where it has one.
  package struct Files {
    package var model: [UInt8]
    package var tensors: (name: String, parts: [(offset: Int, tensor: Tensor)])?

    package init(model: [UInt8], tensors: (name: String, parts: [(offset: Int, tensor: Tensor)])?) {
      self.model = model
      self.tensors = tensors
    }

    /// Writes the model, after the file of its tensors, which goes beside it.
    /// - Throws: `.file` when one cannot be written.
    package func write(to path: String) throws(DLCError) {
      if let tensors {
        let directory = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
        try OutputFile.write(Self.bytes(tensors.parts), to: directory + tensors.name)
      }
      try OutputFile.write(model, to: path)
    }

    /// Tensors at their places in one file.
    private static func bytes(_ parts: [(offset: Int, tensor: Tensor)]) -> [UInt8] {
      let end = parts.map { $0.offset + $0.tensor.byteCount }.max() ?? 0
      return [UInt8](unsafeUninitializedCapacity: end) { buffer, count in
        buffer.initialize(repeating: 0)
        for (offset, tensor) in parts {
          tensor.withUnsafeBytes {
            if !$0.isEmpty {
              (UnsafeMutableRawPointer(buffer.baseAddress!) + offset).copyMemory(
                from: $0.baseAddress!, byteCount: $0.count)
            }
          }
        }
        count = end
      }
    }
  }

  /// Inputs keep their names; a state is an input under its name and a result as `NAME_updated`, but for what
  /// is stored and not updated.
  /// - Parameter file: the path of the model's file, whose name that of the tensors follows.
  /// - Throws: `.unsupported` for what has no form in ONNX.
  package func encode(_ module: Module, function name: String?, file: String) throws(DLCError)
    -> Files
  {
    let function = try module.selectFunction(name)
    let graph = try graph(function, module)
    let stored = module.states.reduce(0) { $0 + ($1.value?.byteCount ?? 0) }
    let external =
      stored > externalLimit
      ? ModelWriter.ExternalTensors("\(file.split(separator: "/").last ?? "model").data") : nil
    let exported = try export(graph, module, function)
    let model = ModelWriter(external: external).encode(
      exported, opset: opset, producer: ModuleFile.producer)
    guard let external else { return Files(model: model, tensors: nil) }
    let parts = external.order.map { (external.places[$0.name]!.offset, $0.tensor) }
    return Files(model: model, tensors: (external.name, parts))
  }

  /// The graph with half floats carried in float32, as they are computed, and without what nothing uses.
  private func graph(_ function: Function, _ module: Module) throws(DLCError) -> Graph {
    var sizes = sizes
    // Weights that are stored have the sizes that they have.
    for state in module.states where function.stateNames.contains(state.name) {
      guard let value = state.value else { continue }
      for (size, number) in zip(state.type.shape, value.shape) {
        if let name = size.name, sizes[name] == nil { sizes[name] = number }
      }
    }
    let open = Set(function.graph.arguments.flatMap { $0.type.shape.compactMap(\.name) })
    for (name, size) in module.dimensions where !open.contains(name) && sizes[name] == nil {
      sizes[name] = size
    }
    let bound = try function.graph.mappingDimensions { (size) throws(DLCError) in
      size.replacing(sizes.mapValues { Size($0) })
    }
    let hasHalves = bound.types.contains { $0.dataType != $0.dataType.computeType }
    // A node without results that are used may have none at all, which no node of ONNX has.
    var manager = PassManager(
      (hasHalves ? [WidenHalfFloats()] : []) + [EliminateDeadCode()])
    return try manager.run(bound)
  }

  private func export(_ graph: Graph, _ module: Module, _ function: Function) throws(DLCError)
    -> ONNXGraph
  {
    let updated = Set(graph.updates.map(\.name))
    let resultNames = Set(graph.results.map(\.name))
    var reserved = Set(graph.arguments.map(\.name)).union(resultNames)
    reserved.formUnion(updated.map { "\($0)_updated" })
    let exporter = GraphExporter(opset: opset, reserved: reserved)
    var inputs: [ONNXValueInfo] = []
    var names: [String] = []
    for argument in graph.arguments {
      let state = argument.kind == .state ? module.state(argument.name) : nil
      if let value = state?.value, !updated.contains(argument.name) {
        // A result of that name keeps it.
        let name = resultNames.contains(argument.name) ? exporter.fresh() : argument.name
        exporter.store(value, as: name)
        names.append(name)
        continue
      }
      names.append(argument.name)
      inputs.append(GraphExporter.info(argument.name, argument.type))
      for (axis, size) in argument.type.shape.enumerated() {
        if let name = size.name, exporter.dimensions[name] == nil {
          exporter.dimensions[name] = (argument.name, axis)
        }
      }
    }
    let made = try exporter.add(graph, names)
    var outputs: [ONNXValueInfo] = []
    for (result, value) in zip(graph.results, made.results) {
      // A result that has an input's name is that input, or gets another.
      let isInput = inputs.contains { $0.name == result.name }
      let name = isInput ? "\(result.name)_result" : result.name
      exporter.alias(value, as: name)
      outputs.append(GraphExporter.info(name, graph.type(result.value)))
    }
    for (update, value) in zip(graph.updates, made.updates) {
      exporter.alias(value, as: "\(update.name)_updated")
      outputs.append(GraphExporter.info("\(update.name)_updated", graph.type(update.value)))
    }
    return ONNXGraph(
      name: function.name, nodes: exporter.preamble + exporter.lists[0], inputs: inputs,
      outputs: outputs, initializers: exporter.initializers)
  }
}
