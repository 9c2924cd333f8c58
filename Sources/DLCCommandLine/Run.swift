import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCProgram
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTraining

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs a function on arrays.",
    discussion: """
      Arrays are converted to the inputs' types where they hold the numbers, floating-point ones rounded to \
      nearest; for an ONNX model integers stay integers, and floating-point numbers such numbers. With --params every parameter needs a value, but for --init; without it parameters that the \
      model stores no values for are initialised, and it says so.
      """)

  @OptionGroup var model: ModelOptions
  @Option(help: "Arrays for the inputs, by name (.npz).") var inputs: String?
  @Option(help: "Values for the state, by name (.safetensors).") var params: String?
  @Option(
    name: .customLong("init"),
    help: "Run untrained: parameters without a value are initialised with this seed.")
  var untrained: UInt64?
  @Option(
    help: "Where the results go (.npz, - for standard output); without it they are summarised.")
  var outputs: String?
  @Option(help: "Where the state after the run goes (.safetensors).") var state: String?
  @OptionGroup var workers: WorkerOptions
  @Option(help: "The seed of initialisers, and of an input 'seed' that no array gives.") var seed:
    UInt64?
  @Flag(help: "Use the naive interpreter.") var reference = false
  @Flag(help: "The summary as JSON.") var json = false

  func validate() throws {
    if outputs == "-" && (state == "-" || json) {
      throw ValidationError("only one thing can go to standard output")
    }
  }

  /// Where results go must not be where they come from, but for a state that is carried on.
  private func requireDistinctFiles() throws {
    let read = [("the model", model.model), ("--inputs", inputs)]
    try OutputFile.requireDistinct(
      [("--outputs", outputs), ("--state", state)], inputs: read)
    try OutputFile.requireDistinct([("--outputs", outputs)], inputs: [("--params", params)])
    for path in [outputs, state].compactMap(\.self) { try OutputFile.requirePlace(path) }
  }

  private typealias Results = (
    outputs: [(name: String, value: Tensor)], state: [(name: String, value: Tensor)]
  )

  func run() throws {
    try requireDistinctFiles()
    let results: Results
    switch try LoadedModel(model.model) {
    case .program(let contents) where !reference && contents.module.isEmpty:
      results = try run(contents, try read(for: contents.inputs, nil), nil)
    case .program(let contents) where !reference:
      let module = try LoadedModel.program(contents).module
      let arrays = try read(for: contents.inputs, module.recipe)
      do {
        results =
          canRun(contents, arrays)
          ? try run(contents, arrays, module)
          : try run(module, function: contents.program.function, arrays: arrays)
      } catch let error as DLCError
        where error.remedy.isEmpty && error.message.contains("does not fit")
      {
        var error = error
        let list = contents.inputs.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
        error.remedy =
          "the program is of \(list): for other sizes compile the model with --dim, or run the model itself"
        throw error
      }
    case .onnx(let onnx): results = (try run(onnx, ahead: nil), [])
    case .part(let onnx, let program): results = (try run(onnx, ahead: program), [])
    case let loaded: results = try run(try loaded.module, arrays: nil)
    }
    if let state { try Safetensors.write(results.state, to: state) }
    if let outputs {
      for (name, value) in results.outputs where value.dataType == .bfloat16 {
        Console.note("'\(name)' is bfloat16, which NumPy has not: it is written as float32")
      }
      try Npz.write(results.outputs, to: outputs)
      if json { try Console.result("\(JSON.object([("outputs", .text(outputs))]))") }
      return
    }
    let summaries = results.outputs.map { Summary($0.name, $0.value) }
    try Console.result(
      json
        ? "\(JSON.object([("outputs", .list(summaries.map(\.json)))]))" : Summary.table(summaries)
    )
  }

  /// Runs an ONNX model, in parts where shapes depend on data.
  private func run(_ onnx: ONNXModel, ahead: ProgramFile.Contents?) throws -> [(
    name: String, value: Tensor
  )] {
    for (name, isGiven) in [
      ("--function", model.function != nil), ("--params", params != nil), ("--state", state != nil),
    ] where isGiven {
      throw DLCError(.usage, "\(name) is not for an ONNX model", remedy: "import it first")
    }
    var given = InputArrays()
    if let path = inputs {
      // Integers for floating-point inputs are more often a mistake than meant.
      given = try InputArrays(
        path, for: onnx.inputTypes.map { ($0.name, $0.type) },
        optional: Set(onnx.inputTypes.filter(\.isOptional).map(\.name)), keepsKind: true)
    }
    let sizes = try model.sizes
    try onnx.requireDimensions(sizes.keys)
    let session = try ONNXSession(onnx, isReference: reference, ahead: ahead)
    let results = try DLCError.naming(inputs) { () throws(DLCError) in
      try session.run(given.values, sizes: sizes, threads: workers.threads, seed: seed ?? 0)
    }
    given.notes.forEach(Console.note)
    return results
  }

  private func read(for inputs: [(name: String, type: TensorType)], _ recipe: Recipe?)
    throws(DLCError) -> [String: Tensor]
  {
    let defaults = recipe?.defaults(for: inputs) ?? [:]
    // Where a recipe says that there is a seed, it is 0 unless one is given, as that of initialisers is.
    let isSeeded = recipe?.meanings[TrainingStep.seedName] == .seed
    var values = Recipe.seeds(for: inputs, seed: seed ?? (isSeeded ? 0 : nil))
    if let path = self.inputs {
      let arrays = try InputArrays(
        path, for: inputs, optional: Set(values.keys).union(defaults.keys))
      arrays.notes.forEach(Console.note)
      values.merge(arrays.values, uniquingKeysWith: { $1 })
    }
    return values.merging(defaults, uniquingKeysWith: { given, _ in given })
  }

  /// A program runs as it is when it was compiled for these sizes and this machine.
  private func canRun(_ contents: ProgramFile.Contents, _ arrays: [String: Tensor]) -> Bool {
    Executable.missingFeatures(contents.program).isEmpty && model.dimensions.isEmpty
      && (model.function ?? contents.program.function) == contents.program.function
      && contents.program.inputs.allSatisfy { port in
        arrays[port.name].map { $0.shape == contents.program[port.buffer].shape } ?? true
      }
  }

  private func run(
    _ contents: ProgramFile.Contents, _ arrays: [String: Tensor], _ module: Module?
  ) throws -> Results {
    let executable = try Executable(contents)
    if let params {
      // Which other state the model has, the graph says, where the program carries it.
      let states =
        module?.states.map { ($0.name, $0.type.dataType) }
        ?? executable.states.map { ($0.name, $0.type.dataType) }
      let values = try StateValues(params, for: states, of: "the program")
      values.notes.forEach(Console.note)
      let known = Set(executable.states.map(\.name))
      try executable.setState(values.values.filter { known.contains($0.key) })
    }
    return try execute(executable, arrays)
  }

  private func run(
    _ loaded: Module, function compiled: String? = nil, arrays given: [String: Tensor]?
  ) throws -> Results {
    var module = loaded
    let function = try module.selectFunction(model.function ?? compiled)
    if let params {
      for text in try module.setValues(from: params) { Console.note(text) }
    }
    let arrays = try given ?? read(for: function.inputs, module.recipe)
    let sizes = try bind(module, function, arrays)
    if reference { return try interpret(module, function, sizes, arrays) }
    let (executable, _) = try Compiler().load(
      module, function: function.name, dimensions: sizes, cache: .standard)
    return try execute(executable, arrays)
  }

  private func bind(_ module: Module, _ function: Function, _ arrays: [String: Tensor]) throws
    -> [String: Int]
  {
    var shapes: [(name: String, declared: TensorType, shape: [Int])] = []
    for (name, type) in function.inputs {
      if let value = arrays[name] { shapes.append((name, type, value.shape)) }
    }
    for state in module.states {
      if let value = state.value { shapes.append((state.name, state.type, value.shape)) }
    }
    let explicit = try model.sizes
    return try DLCError.naming(inputs) { () throws(DLCError) in
      try module.bind(explicit: explicit, arrays: shapes)
    }
  }

  /// Says of parameters without values that they are initialised, where that is meant.
  /// - Throws: `.binding`, naming them, where it is not.
  private func admit(_ missing: [String]) throws(DLCError) {
    guard !missing.isEmpty, untrained == nil else { return }
    let names = Spelling.list(missing)
    if let params {
      throw DLCError(
        .binding, "there are no values for the parameters \(names)", at: params,
        remedy: "--init SEED initialises them")
    }
    Console.note("untrained: the parameters \(names) are initialised with seed \(seed ?? 0)")
  }

  private func execute(_ executable: Executable, _ arrays: [String: Tensor]) throws(DLCError)
    -> Results
  {
    let missing = Set(executable.missingState)
    try admit(
      executable.program.states.filter { $0.isParameter && missing.contains($0.name) }.map(\.name))
    try executable.requireMemory(threads: workers.threads, besides: 0)
    try executable.initializeState(seed: untrained ?? seed ?? 0)
    let results = try executable.run(arrays, threads: workers.threads)
    return (results, executable.state.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
  }

  private func interpret(
    _ module: Module, _ function: Function, _ sizes: [String: Int], _ arrays: [String: Tensor]
  ) throws(DLCError) -> Results {
    try function.graph.bound(to: sizes).requireMemoryForAll()
    let used = module.states.filter { function.stateNames.contains($0.name) }
    try admit(used.filter { $0.isParameter && $0.value == nil }.map(\.name))
    var states: [String: Tensor] = [:]
    for state in used where state.value == nil {
      let type = TensorType(
        state.type.dataType,
        try state.type.shape.mapThrowing { (d) throws(DLCError) in Size(try d.evaluate(sizes))
        })
      states[state.name] = state.initializer.value(
        type, name: state.name, seed: untrained ?? seed ?? 0)
    }
    for state in used { if let value = state.value { states[state.name] = value } }
    let (results, updates) = try Interpreter().run(
      module, function: function, inputs: arrays, states: states, dimensions: sizes)
    states.merge(updates, uniquingKeysWith: { $1 })
    return (results, states.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
  }
}

extension ProgramFile.Contents {
  /// Name and type of each input.
  var inputs: [(name: String, type: TensorType)] {
    program.inputs.map {
      ($0.name, TensorType(program[$0.buffer].type, sizes: program[$0.buffer].shape))
    }
  }
}

extension Array {
  func mapThrowing<T>(_ body: (Element) throws(DLCError) -> T) throws(DLCError) -> [T] {
    var result: [T] = []
    for element in self { result.append(try body(element)) }
    return result
  }
}
