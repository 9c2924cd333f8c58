import CProtobufSchema
public import DLCGraph
public import DLCTensor

/// Model files: a protobuf message, with large weights in a safetensors file beside it.
public enum ModuleFile {
  /// The schema that this dlc writes, and the newest that it reads.
  package static let schemaVersion: UInt32 = 1
  package static let producer = "dlc 0.1.0"
  /// Values up to this size stand in the model file itself.
  private static let inlineLimit = 16 << 10

  // MARK: Writing

  /// Saves a module; large values go to a file beside it. The two change together: the values are
  /// written under a name that the old model file does not use, then the model file takes its place,
  /// and the values of the old one go. A crash in between leaves the old pair or the new one.
  ///
  /// The file of values is `NAME.safetensors`, or `NAME.DIGEST.safetensors` where that name is taken by
  /// other values. What cannot have a file beside it (`-`, a device, a pipe) holds all values itself.
  public static func write(
    _ module: Module, to path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try module.verifyRecipe()
      guard let target = try OutputFile.replaceable(path) else {
        try OutputFile.write(encode(module), to: path)
        return
      }
      let large = module.states.filter { ($0.value?.byteCount ?? 0) > inlineLimit }
        .map { (name: $0.name, value: $0.value!) }
      let (directory, file) = split(target)
      let stem = file.hasSuffix(".pb") ? String(file.dropLast(3)) : file
      let old = weightsName(of: target)
      var weights = ""
      if !large.isEmpty {
        let digest = Digest()
        Safetensors.encode(large) { digest.update($0) }
        let name = digest.hex
        weights = stem + ".safetensors"
        if let present = try? MappedFile(directory + weights), Digest.hex(present.bytes) != name {
          weights = "\(stem).\(name.prefix(16)).safetensors"
        }
        try Safetensors.write(large, to: directory + weights)
      }
      try OutputFile.write(encode(module, weights: weights), to: target)
      if let old, old != weights, old.hasPrefix(stem + "."), old.hasSuffix(".safetensors") {
        try OutputFile.remove(directory + old)
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// Saves a module with all its values in one file.
  /// - Throws: `.unsupported` when it is too large for one protobuf message (2 GiB).
  public static func writeWhole(
    _ module: Module, to path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try module.verifyRecipe()
      let bytes = module.states.reduce(0) { $0 + ($1.value?.byteCount ?? 0) }
      guard bytes < 2_000_000_000 else {
        throw DLCError(
          .unsupported, "\(bytes) bytes of values are too many for one file", at: path,
          remedy: "save the model with a file of values beside it")
      }
      let old = try OutputFile.replaceable(path) == nil ? nil : weightsName(of: path)
      try OutputFile.write(encode(module), to: path)
      let (directory, file) = split(path)
      let stem = file.hasSuffix(".pb") ? String(file.dropLast(3)) : file
      if let old, old.hasPrefix(stem + "."), old.hasSuffix(".safetensors") {
        try OutputFile.remove(directory + old)
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// A path as a directory, with its slash, and a name.
  private static func split(_ path: String) -> (directory: String, file: String) {
    let start = path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex
    return (String(path[..<start]), String(path[start...]))
  }

  /// The file of values that a model file names, if there is such a file.
  private static func weightsName(of path: String) -> String? {
    guard let file = try? MappedFile(path) else { return nil }
    let name = try? ProtobufDecoding.decode(
      file.bytes, dlc_module_descriptor(), as: Dlc__Module.self, path: path
    ) { (message) throws(DLCError) in text(message.weights_file) }
    return name.flatMap { isPlain($0) ? $0 : nil }
  }

  /// Whether a name means a file in the same directory.
  private static func isPlain(_ name: String) -> Bool {
    !name.isEmpty && !name.contains("/") && name != ".." && name != "." && !name.contains("\0")
  }

  /// The bytes of the model file; values above the limit are left to `weights` when it is not empty.
  package static func encode(_ module: Module, weights: String = "") -> [UInt8] {
    let arena = ProtobufArena()
    let message = arena.message(dlc__module__init) { m in
      m.schema_version = schemaVersion
      m.producer = arena.string(producer)
      m.name = arena.string(module.name)
      let dimensions = module.dimensions.map { dimension in
        arena.message(dlc__named_dimension__init) {
          $0.name = arena.string(dimension.name)
          $0.default_size = Int64(dimension.size)
        }
      }
      (m.n_dimensions, m.dimensions) = (dimensions.count, arena.messages(dimensions))
      let states = module.states.map {
        encode($0, arena, isExternal: !weights.isEmpty && ($0.value?.byteCount ?? 0) > inlineLimit)
      }
      (m.n_states, m.states) = (states.count, arena.messages(states))
      let functions = module.functions.map { function in
        arena.message(dlc__function__init) {
          $0.name = arena.string(function.name)
          $0.graph = encode(function.graph, arena)
        }
      }
      (m.n_functions, m.functions) = (functions.count, arena.messages(functions))
      m.weights_file = arena.string(weights)
      if let recipe = module.recipe { m.recipe = recipe.encode(arena) }
    }
    return message.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) {
      ProtobufArena.encode($0)
    }
  }

  private static func encode(_ state: State, _ arena: ProtobufArena, isExternal: Bool)
    -> UnsafeMutablePointer<Dlc__State>
  {
    arena.message(dlc__state__init) { s in
      s.name = arena.string(state.name)
      s.type = encode(state.type, arena)
      let (name, arguments) = state.initializer.encoded
      s.initializer = arena.string(name)
      (s.n_arguments, s.arguments) = (arguments.count, arena.list(arguments))
      s.parameter = state.isParameter ? 1 : 0
      s.external = isExternal ? 1 : 0
      if let value = state.value, !isExternal { s.value = encode(value, arena) }
    }
  }

  private static func encode(_ type: TensorType, _ arena: ProtobufArena) -> UnsafeMutablePointer<
    Dlc__TensorType
  > {
    arena.message(dlc__tensor_type__init) { t in
      t.dtype = arena.string(type.dataType.rawValue)
      (t.n_shape, t.shape) = (type.rank, arena.messages(encode(type.shape, arena)))
    }
  }

  private static func encode(_ shape: [Size], _ arena: ProtobufArena) -> [UnsafeMutablePointer<
    Dlc__Dimension
  >] {
    shape.map { dimension in
      arena.message(dlc__dimension__init) {
        if let size = dimension.constant {
          $0.size = Int64(size)
        } else {
          $0.expression = arena.string(dimension.description)
        }
      }
    }
  }

  private static func encode(_ tensor: Tensor, _ arena: ProtobufArena) -> UnsafeMutablePointer<
    Dlc__Tensor
  > {
    arena.message(dlc__tensor__init) {
      $0.dtype = arena.string(tensor.dataType.rawValue)
      ($0.n_shape, $0.shape) = (tensor.shape.count, arena.list(tensor.shape.map { Int64($0) }))
      $0.data = arena.binary(tensor)
    }
  }

  private static func encode(_ graph: Graph, _ arena: ProtobufArena) -> UnsafeMutablePointer<
    Dlc__Graph
  > {
    arena.message(dlc__graph__init) { g in
      let arguments = graph.arguments.map { argument in
        arena.message(dlc__argument__init) {
          $0.state = argument.kind == .state ? 1 : 0
          $0.captured = argument.kind == .captured ? 1 : 0
          $0.name = arena.string(argument.name)
          $0.type = encode(argument.type, arena)
        }
      }
      (g.n_arguments, g.arguments) = (arguments.count, arena.messages(arguments))
      let nodes = graph.nodes.map { encode($0, graph, arena) }
      (g.n_nodes, g.nodes) = (nodes.count, arena.messages(nodes))
      func named(_ list: [NamedValue]) -> [UnsafeMutablePointer<Dlc__NamedValue>] {
        list.map { entry in
          arena.message(dlc__named_value__init) {
            $0.name = arena.string(entry.name)
            $0.value = UInt32(entry.value.index)
          }
        }
      }
      (g.n_results, g.results) = (graph.results.count, arena.messages(named(graph.results)))
      (g.n_updates, g.updates) = (graph.updates.count, arena.messages(named(graph.updates)))
    }
  }

  private static func encode(_ node: Node, _ graph: Graph, _ arena: ProtobufArena)
    -> UnsafeMutablePointer<Dlc__Node>
  {
    arena.message(dlc__node__init) { n in
      n.mnemonic = arena.string(node.operation.mnemonic)
      n.version = 1
      (n.n_operands, n.operands) = (
        node.operands.count, arena.list(node.operands.map { UInt32($0.index) })
      )
      let attributes = node.operation.attributes.map { attribute in
        arena.message(dlc__attribute__init) { a in
          a.name = arena.string(attribute.name)
          switch attribute.value {
          case .integer(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_INTEGER
            a.integer = Int64(v)
          case .real(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_REAL
            a.real = v
          case .text(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_TEXT
            a.text = arena.string(v)
          case .flag(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_FLAG
            a.flag = v ? 1 : 0
          case .type(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_DTYPE
            a.dtype = arena.string(v.rawValue)
          case .integers(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_INTEGERS
            a.integers = arena.message(dlc__integers__init) {
              ($0.n_values, $0.values) = (v.count, arena.list(v.map { Int64($0) }))
            }
          case .dimensions(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_DIMENSIONS
            a.dimensions = arena.message(dlc__dimensions__init) {
              ($0.n_values, $0.values) = (v.count, arena.messages(encode(v, arena)))
            }
          case .tensor(let v):
            a.value_case = DLC__ATTRIBUTE__VALUE_TENSOR
            a.tensor = encode(v, arena)
          }
        }
      }
      (n.n_attributes, n.attributes) = (attributes.count, arena.messages(attributes))
      let results = node.results.map { encode(graph.type($0), arena) }
      (n.n_results, n.results) = (results.count, arena.messages(results))
      let regions = node.operation.regions.map { encode($0, arena) }
      (n.n_regions, n.regions) = (regions.count, arena.messages(regions))
      n.name = arena.string(node.name)
      n.location = arena.string(node.location)
    }
  }

  // MARK: Reading

  /// Reads and verifies a model file and the weights that it names.
  /// - Throws: `.file`, `.format`, `.unsupported` or `.graph`, with what is wrong and where.
  public static func read(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> Module {
    do throws(DLCError) {
      let file = try MappedFile(path)
      return try decode(file.bytes, path: path)
    } catch {
      throw error.called(file, line)
    }
  }

  package static func decode(_ bytes: UnsafeRawBufferPointer, path: String) throws(DLCError)
    -> Module
  {
    try checkDepth(bytes, path)
    let (decoded, weights, external) = try ProtobufDecoding.decode(
      bytes, dlc_module_descriptor(), as: Dlc__Module.self, path: path
    ) { (message) throws(DLCError) in
      do throws(DLCError) {
        return try decode(message)
      } catch { throw error.within(path) }
    }
    var result = decoded
    if !external.isEmpty {
      guard isPlain(weights) else {
        throw DLCError(
          .format, "the weights file '\(weights.prefix(64))' is not a plain file name", at: path)
      }
      // Beside the path, or beside what a link leads to.
      var sibling = split(path).directory + weights
      if !MappedFile.exists(sibling) {
        sibling = split(try OutputFile.followLinks(path)).directory + weights
      }
      let values = Dictionary(
        try Safetensors.read(sibling).map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
      for name in external {
        guard let value = values[name] else {
          throw DLCError(.format, "'\(weights)' holds no value for '\(name)'", at: path)
        }
        do throws(DLCError) { try result.setValue(value, of: name) } catch {
          throw error.within(sibling)
        }
      }
    }
    do throws(DLCError) {
      try result.verify()
      try result.verifyRecipe()
    } catch {
      throw error.within(path)
    }
    return result
  }

  /// The wire format may nest graphs in graphs; a reader that recurses must not be led too deep.
  private static func checkDepth(_ bytes: UnsafeRawBufferPointer, _ path: String) throws(DLCError) {
    let scanner = WireScanner(bytes: bytes, path: path)
    // Module: functions 6; Function: graph 2; Graph: nodes 2; Node: regions 8.
    try scanner.forEach(0..<bytes.count, field: 6) { (function) throws(DLCError) in
      try scanner.forEach(function, field: 2) { (graph) throws(DLCError) in
        try scanGraph(scanner, graph, 0)
      }
    }
  }

  private static func scanGraph(_ scanner: WireScanner, _ graph: Range<Int>, _ depth: Int)
    throws(DLCError)
  {
    guard depth < 16 else {
      throw DLCError(.format, "graphs are nested too deep", at: scanner.path)
    }
    try scanner.forEach(graph, field: 2) { (node) throws(DLCError) in
      try scanner.forEach(node, field: 8) { (inner) throws(DLCError) in
        try scanGraph(scanner, inner, depth + 1)
      }
    }
  }

  private static func decode(_ m: Dlc__Module) throws(DLCError) -> (Module, String, [String]) {
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

  private static func graph(_ message: Dlc__Graph) throws(DLCError) -> Graph {
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
        // `checkDepth` has bounded the nesting.
        var regions: [Graph] = []
        for region in each(node.n_regions, node.regions) {
          regions.append(try Self.graph(region))
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

extension Module {
  /// Saves the module as a model file, with large values in a safetensors file beside it (see `ModuleFile.write`).
  ///
  /// ```swift
  /// try module.save("model.pb")
  /// let same = try Module(contentsOf: "model.pb")
  /// ```
  public func save(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try ModuleFile.write(self, to: path)
    } catch {
      throw error.called(file, line)
    }
  }

  /// Reads and verifies a model file.
  public init(
    contentsOf path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      self = try ModuleFile.read(path)
    } catch {
      throw error.called(file, line)
    }
  }
}

/// Walks length-delimited fields of the protobuf wire format without allocating.
private struct WireScanner {
  let bytes: UnsafeRawBufferPointer
  let path: String

  private func varint(_ position: inout Int, _ end: Int) throws(DLCError) -> UInt64 {
    var (value, shift) = (UInt64(0), UInt64(0))
    while position < end, shift < 64 {
      let byte = bytes[position]
      position += 1
      value |= UInt64(byte & 127) << shift
      if byte < 128 { return value }
      shift += 7
    }
    throw DLCError(.format, "the file is truncated or damaged", at: path)
  }

  /// Calls `body` with the extent of every message in `range` that has the field number.
  func forEach(_ range: Range<Int>, field: UInt64, _ body: (Range<Int>) throws(DLCError) -> Void)
    throws(DLCError)
  {
    var position = range.lowerBound
    while position < range.upperBound {
      let key = try varint(&position, range.upperBound)
      switch key & 7 {
      case 0: _ = try varint(&position, range.upperBound)
      case 1: position += 8
      case 5: position += 4
      case 2:
        let length = try varint(&position, range.upperBound)
        guard length <= UInt64(range.upperBound - position) else {
          throw DLCError(.format, "the file is truncated or damaged", at: path)
        }
        let end = position + Int(length)
        if key >> 3 == field { try body(position..<end) }
        position = end
      default: throw DLCError(.format, "the file is damaged or is not a dlc file", at: path)
      }
    }
  }
}
