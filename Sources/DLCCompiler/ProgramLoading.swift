import CMachine
package import DLCFormats
public import DLCGraph
package import DLCProgram
public import DLCRuntime
public import DLCTensor

extension Build {
  /// Writes the program as a `.dlc`. Stored state goes in with what preparation makes of it; the model
  /// itself too, so that the program can be compiled again on another machine.
  package func write(to path: String, module: Module?) throws(DLCError) {
    let states = executable.state
    let isComplete = executable.missingState.isEmpty
    let prepared = isComplete ? try executable.preparedArea() : nil
    var bare = module
    if let module {
      // The program holds the values already.
      bare = module.withoutValues
    }
    let source = bare.map { ModuleFile.encode($0) } ?? []
    let area = prepared.map {
      UnsafeRawBufferPointer(
        rebasing: UnsafeRawBufferPointer($0.bytes).prefix(program.preparedBytes))
    }
    try ProgramFile.write(
      program, constants: constants, prepared: area, code: code, states: states, module: source,
      to: path)
  }
}

extension Build {
  /// Writes the program as a `.dlc` that is the first part of a model: it carries the model, from which the other parts
  /// are compiled when the first has run.
  package func write(part module: Module, of model: [UInt8], to path: String) throws(DLCError) {
    var program = program
    program.key = module.partKey
    try ProgramFile.write(
      program, constants: constants, prepared: nil, code: code, states: [:], module: model, to: path
    )
  }
}

extension Module {
  /// Tells the programs of parts of models apart.
  package var partKey: String {
    ProgramFile.Contents.partPrefix + Digest.hex(ModuleFile.encode(withoutValues))
  }

  /// The module with every stored value dropped.
  package var withoutValues: Module {
    var copy = Module(name)
    for dimension in dimensions { copy.dimension(dimension.name, default: dimension.size) }
    for var state in states {
      state.value = nil
      copy.add(state)
    }
    for function in functions { copy.add(function) }
    copy.recipe = recipe
    return copy
  }
}

extension Executable {
  /// Maps a compiled program. No compiler is loaded.
  /// - Throws: `.file` or `.format` when the file is missing or damaged, `.code` when this machine
  ///   lacks an instruction set that the code uses, `.binding` when the program calls functions of another
  ///   process.
  public convenience init(
    contentsOf path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      let contents = try ProgramFile.read(path)
      guard !contents.isPart else {
        throw DLCError(
          .unsupported, "the program is the first part of an ONNX model that runs in parts",
          at: path, remedy: "open it with ONNXSession, or use dlc run")
      }
      try self.init(contents)
    } catch {
      throw error.called(file, line)
    }
  }

  /// The program of the first part of a model, when it was compiled from this graph and runs on this machine.
  package convenience init?(part contents: ProgramFile.Contents, of module: Module) {
    guard contents.program.key == module.partKey else { return nil }
    do throws(DLCError) {
      try self.init(contents)
      try setState(module.storedValues(contents.program.states))
    } catch { return nil }
  }

  package convenience init(
    _ contents: ProgramFile.Contents, hostFunctions: [String: HostFunction] = [:]
  ) throws(DLCError) {
    let missing = Self.missingFeatures(contents.program)
    guard missing.isEmpty else {
      throw DLCError(
        .code,
        "the program needs \(missing.joined(separator: ", ")), which this machine does not have",
        at: contents.file.path, remedy: "compile the model on this machine, or with --target")
    }
    try self.init(
      contents.program, code: try CodeMemory(contents.code), constants: contents.constants,
      prepared: contents.prepared,
      states: contents.states, hostFunctions: hostFunctions)
  }

  package static func missingFeatures(_ program: Program) -> [String] {
    let here = Set(machineFeatures.split(separator: ",").map(String.init))
    var missing = program.features.filter { !here.contains($0) }
    #if arch(x86_64)
      if !program.triple.hasPrefix("x86_64") { missing.append(program.triple) }
    #else
      if !program.triple.hasPrefix("aarch64") { missing.append(program.triple) }
    #endif
    return missing
  }

  /// The instruction sets of this machine, found without LLVM.
  package static var machineFeatures: String {
    var buffer = [CChar](repeating: 0, count: 512)
    dlc_cpu_features(&buffer, buffer.count)
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Gives every state tensor without a value the one that its initialiser makes from the seed.
  public func initializeState(
    seed: UInt64, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      var values: [String: Tensor] = [:]
      let missing = Set(missingState)
      let types = states.filter { missing.contains($0.name) }
      try AvailableMemory.require(
        types.reduce(0) { $0 + $1.type.byteCount },
        for: "state; the largest values are "
          + types.sorted { $0.type.byteCount > $1.type.byteCount }.prefix(3)
          .map { "'\($0.name)' \($0.type)" }.joined(separator: ", "))
      for name in missing {
        let port = program.states.first { $0.name == name }!
        let initializer = try Initializer(
          name: port.initializer, arguments: port.initializerArguments)
        values[name] = initializer.value(
          TensorType(port.type, sizes: port.shape), name: name, seed: seed)
      }
      try setState(values)
    } catch {
      throw error.called(file, line)
    }
  }
}

extension Compiler {
  /// Loads the program of a function from the cache, or compiles it and puts it there.
  public func load(
    _ module: Module, function name: String?, dimensions: [String: Int], cache: CompileCache?,
    file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> (executable: Executable, isCached: Bool) {
    do throws(DLCError) {
      guard let cache else {
        return (try compile(module, function: name, dimensions: dimensions), false)
      }
      let function = try module.selectFunction(name)
      let sizes = try module.bind(explicit: dimensions)
      var bare = module.withoutValues
      bare.keep(function)
      let key = [
        "program 3", ModuleFile.producer, CompileCache.buildIdentity, Executable.machineFeatures,
        options.key, "cores \(availableProcessors)",
        sizes.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(
          separator: ","), Digest.hex(ModuleFile.encode(bare)),
      ].joined(separator: "\n")
      if let contents = cache.program(key), let executable = try? Executable(contents) {
        try executable.setState(module.storedValues(contents.program.states))
        return (executable, true)
      }
      var compiler = self
      compiler.options.objectStore = cache.objectStore
      let build = try compiler.build(module, function: name, dimensions: dimensions)
      var program = build.program
      program.key = key
      cache.save(key, "dlc") { (path) throws(DLCError) in
        try ProgramFile.write(
          program, constants: build.constants, prepared: nil, code: build.code, states: [:],
          module: [], to: path, isPrivate: true)
      }
      return (build.executable, false)
    } catch {
      throw error.called(file, line)
    }
  }
}

extension Module {
  /// Drops every function but one.
  fileprivate mutating func keep(_ function: Function) {
    var copy = Module(name)
    for dimension in dimensions { copy.dimension(dimension.name, default: dimension.size) }
    for state in states
    where function.graph.arguments.contains(where: { $0.name == state.name })
      || function.graph.updates.contains(where: { $0.name == state.name })
    {
      copy.add(state)
    }
    copy.add(function)
    self = copy
  }
}
