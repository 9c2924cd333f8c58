import CProtobufSchema
import DLCGraph
import DLCTensor

extension ModuleFile {
  static func decode(_ m: Dlc__Module) throws(DLCError) -> (Module, String, [String]) {
    guard m.schema_version >= 1 else { throw DLCError(.format, "this is not a dlc model file") }
    guard m.schema_version <= schemaVersion else {
      throw DLCError(
        .unsupported,
        "the file has schema version \(m.schema_version), this dlc reads up to \(schemaVersion)",
        remedy: "it was made by '\(text(m.producer).prefix(64))': use that version or newer")
    }
    var module = Module(text(m.name))
    var dimensions: [(name: String, size: Int)] = []
    var names: Set<String> = []
    for dimension in each(m.n_dimensions, m.dimensions) {
      let name = text(dimension.name)
      guard names.insert(name).inserted else {
        throw DLCError(.format, "dimension '\(name.prefix(64))' is declared twice")
      }
      dimensions.append((name, Int(dimension.default_size)))
    }
    module.addDimensions(dimensions)
    var external: [String] = []
    for state in each(m.n_states, m.states) {
      let name = text(state.name)
      do throws(DLCError) {
        let initializer = try Initializer(
          name: text(state.initializer), arguments: each(state.n_arguments, state.arguments))
        var value: Tensor?
        if let stored = state.value { value = try tensor(stored.pointee) }
        if state.external != 0 { external.append(name) }
        module.add(
          State(
            name: name, type: try type(state.type), initializer: initializer,
            isParameter: state.parameter != 0, value: value))
      } catch { throw error.within("state '\(name.prefix(64))'") }
    }
    for function in each(m.n_functions, m.functions) {
      let name = text(function.name)
      guard let graphMessage = function.graph else {
        throw DLCError(.format, "function '\(name.prefix(64))' has no graph")
      }
      do throws(DLCError) { module.add(Function(name, try graph(graphMessage.pointee))) } catch {
        throw error.within("function '\(name.prefix(64))'")
      }
    }
    if let recipe = m.recipe {
      do throws(DLCError) { module.recipe = try Recipe(recipe.pointee) } catch {
        throw error.within("recipe")
      }
    }
    return (module, text(m.weights_file), external)
  }

  private static func dataType(_ name: String) throws(DLCError) -> DataType {
    guard let type = DataType(rawValue: name) else {
      throw DLCError(.format, "'\(name.prefix(32))' is not an element type")
    }
    return type
  }

  private static func dimensions(
    _ count: Int, _ list: UnsafeMutablePointer<UnsafeMutablePointer<Dlc__Dimension>?>?
  ) throws(DLCError) -> [Size] {
    var result: [Size] = []
    for dimension in each(count, list) {
      let expression = text(dimension.expression)
      result.append(
        expression.isEmpty ? Size(Int(dimension.size)) : try Size(parsing: expression))
    }
    return result
  }

  private static func type(_ message: UnsafeMutablePointer<Dlc__TensorType>?) throws(DLCError)
    -> TensorType
  {
    guard let message = message?.pointee else { throw DLCError(.format, "a type is missing") }
    let type = TensorType(
      try dataType(text(message.dtype)), try dimensions(message.n_shape, message.shape))
    try type.validate()
    return type
  }

  private static func tensor(_ message: Dlc__Tensor) throws(DLCError) -> Tensor {
    let type = try dataType(text(message.dtype))
    let shape = each(message.n_shape, message.shape).map { Int($0) }
    let full = TensorType(type, sizes: shape)
    try full.validate()
    guard full.byteCount == message.data.len else {
      throw DLCError(
        .format, "a tensor of \(full) has \(message.data.len) bytes, not \(full.byteCount)")
    }
    var tensor = try Tensor(reserving: type, shape, for: "a stored value")
    tensor.withUnsafeMutableBytes { target in
      if message.data.len > 0 {
        target.copyMemory(
          from: UnsafeRawBufferPointer(start: message.data.data, count: message.data.len))
      }
      if type == .bool { for i in target.indices where target[i] > 1 { target[i] = 1 } }
    }
    return tensor
  }

  /// - Parameter depth: how many graphs this one is in.
  private static func graph(_ message: Dlc__Graph, _ depth: Int = 0) throws(DLCError) -> Graph {
    guard depth < 16 else { throw DLCError(.format, "graphs are nested too deep") }
    var graph = Graph()
    for argument in each(message.n_arguments, message.arguments) {
      _ = graph.addArgument(
        Argument(
          argument.captured != 0 ? .captured : argument.state != 0 ? .state : .input,
          text(argument.name), try type(argument.type)))
    }
    for (index, node) in each(message.n_nodes, message.nodes).enumerated() {
      do throws(DLCError) {
        guard node.version <= 1 else {
          throw DLCError(
            .unsupported,
            "operator '\(text(node.mnemonic).prefix(64))' has version \(node.version), which is newer than this dlc"
          )
        }
        var regions: [Graph] = []
        for region in each(node.n_regions, node.regions) {
          regions.append(try Self.graph(region, depth + 1))
        }
        var attributes: [Attribute] = []
        for attribute in each(node.n_attributes, node.attributes) {
          attributes.append(try decode(attribute))
        }
        let operation = try Operation(
          mnemonic: text(node.mnemonic), attributes: attributes, regions: regions)
        let results = try graph.append(
          operation, each(node.n_operands, node.operands).map { ValueID(Int($0)) },
          name: text(node.name), location: text(node.location))
        var declared: [TensorType] = []
        for result in each(node.n_results, node.results) {
          var copy = result
          declared.append(
            try withUnsafeMutablePointer(to: &copy) { (pointer) throws(DLCError) in
              try type(pointer)
            })
        }
        guard declared == results.map({ graph.type($0) }) else {
          throw DLCError(
            .format,
            "the file says \(declared), the type rule gives \(results.map { graph.type($0) })")
        }
      } catch { throw error.within("node \(index)") }
    }
    graph.results = each(message.n_results, message.results).map {
      NamedValue(text($0.name), ValueID(Int($0.value)))
    }
    graph.updates = each(message.n_updates, message.updates).map {
      NamedValue(text($0.name), ValueID(Int($0.value)))
    }
    for entry in graph.results + graph.updates where entry.value.index >= graph.types.count {
      throw DLCError(
        .format, "'\(entry.name.prefix(64))' is %\(entry.value.index), which is not defined")
    }
    return graph
  }

  private static func decode(_ message: Dlc__Attribute) throws(DLCError) -> Attribute {
    let value: Attribute.Value
    switch message.value_case {
    case DLC__ATTRIBUTE__VALUE_INTEGER: value = .integer(Int(message.integer))
    case DLC__ATTRIBUTE__VALUE_REAL: value = .real(message.real)
    case DLC__ATTRIBUTE__VALUE_TEXT: value = .text(text(message.text))
    case DLC__ATTRIBUTE__VALUE_FLAG: value = .flag(message.flag != 0)
    case DLC__ATTRIBUTE__VALUE_DTYPE: value = .type(try dataType(text(message.dtype)))
    case DLC__ATTRIBUTE__VALUE_INTEGERS:
      let list = message.integers.pointee
      value = .integers(each(list.n_values, list.values).map { Int($0) })
    case DLC__ATTRIBUTE__VALUE_DIMENSIONS:
      let list = message.dimensions.pointee
      value = .dimensions(try dimensions(list.n_values, list.values))
    case DLC__ATTRIBUTE__VALUE_TENSOR: value = .tensor(try tensor(message.tensor.pointee))
    default: throw DLCError(.format, "attribute '\(text(message.name).prefix(64))' has no value")
    }
    return Attribute(text(message.name), value)
  }
}
