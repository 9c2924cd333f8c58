import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCProgram
import DLCRuntime
import DLCTensor

/// A function that is measured: which one, on what, and with how many threads.
struct MeasuredFunction: ParsableArguments {
  @OptionGroup var model: ModelOptions
  @OptionGroup var imports: ImportOptions
  @Option(help: "Arrays for the inputs (.npz); random ones without it.") var inputs: String?
  @OptionGroup var workers: WorkerOptions

  /// What is measured, and the time it took to have it.
  struct Subject {
    var executable: Executable
    /// As the model has it; nil when a program does not carry it.
    var function: Function?
    var arrays: [String: Tensor]
    /// In milliseconds.
    var compileTime = 0.0
    var loadTime = 0.0
  }

  enum Measured {
    case whole(Subject)
    /// An ONNX model that runs in parts.
    case parts(MeasuredParts)
  }

  /// The function ready to run: state without values is initialised, and inputs without arrays are random.
  func prepared() throws -> Measured {
    let start = ContinuousClock.now
    let loaded = try LoadedModel(model.model)
    switch loaded {
    case .onnx(let onnx):
      guard let (module, arrays) = try whole(onnx) else { return .parts(try parts(onnx, nil)) }
      let sizes = try model.sizes
      return .whole(
        try prepared(
          compiled(
            module, arrays,
            // The others are bound already.
            explicit: sizes.filter { size in module.dimensions.contains { $0.name == size.key } })))
    case .part(let onnx, let program): return .parts(try parts(onnx, program))
    case .program, .module:
      guard imports.values.isEmpty else {
        throw DLCError(.usage, "--value is for ONNX models", at: model.model)
      }
      return .whole(try prepared(subject(loaded, start)))
    }
  }

  private func prepared(_ subject: Subject) throws -> Subject {
    var subject = subject
    let executable = subject.executable
    try executable.requireMemory(
      threads: workers.threads,
      besides: executable.inputs.reduce(0) {
        $0 + (subject.arrays[$1.name] == nil ? $1.type.byteCount : 0)
      })
    try executable.initializeState(seed: 0)
    try Self.addRandom(executable.inputs, to: &subject.arrays)
    return subject
  }

  private func subject(_ loaded: LoadedModel, _ start: ContinuousClock.Instant) throws -> Subject {
    guard case .program(let contents) = loaded else {
      return try compiled(try loaded.module, [:], explicit: try model.sizes)
    }
    guard model.dimensions.isEmpty,
      (model.function ?? contents.program.function) == contents.program.function
    else {
      throw DLCError(
        .usage,
        "a compiled program is measured as it is: function '\(contents.program.function)', in its sizes",
        at: model.model, remedy: "leave out --function and --dim, or give the model's .pb")
    }
    let executable = try Executable(contents)
    let loadTime = milliseconds(ContinuousClock.now - start)
    let module = contents.module.isEmpty ? nil : try loaded.module
    return Subject(
      executable: executable, function: module?.function(contents.program.function),
      arrays: try given(contents.inputs), loadTime: loadTime)
  }

  private func compiled(
    _ module: Module, _ known: [String: Tensor], explicit: [String: Int]
  ) throws -> Subject {
    let clock = ContinuousClock()
    let function = try module.selectFunction(model.function)
    let arrays = known.isEmpty ? try given(function.inputs) : known
    let shapes = function.inputs.compactMap { input in
      arrays[input.name].map { (input.name, input.type, $0.shape) }
    }
    let sizes = try module.bind(explicit: explicit, arrays: shapes)
    if inputs == nil, let chosen = module.sizesByDefault(of: function, besides: explicit) {
      Console.note("sizes by default: \(chosen); --dim says others")
    }
    let compiling = clock.now
    var subject = Subject(
      executable: try Compiler().compile(module, function: function.name, dimensions: sizes),
      function: function, arrays: arrays)
    subject.compileTime = milliseconds(clock.now - compiling)
    if let cache = CompileCache.standard {
      _ = try Compiler().load(module, function: function.name, dimensions: sizes, cache: cache)
      let loading = clock.now
      _ = try Compiler().load(module, function: function.name, dimensions: sizes, cache: cache)
      subject.loadTime = milliseconds(clock.now - loading)
    }
    return subject
  }

  // MARK: ONNX models

  /// An ONNX model as one graph, for the shapes of the arrays; nil when it runs in parts, and there are arrays to run it on.
  private func whole(_ onnx: ONNXModel) throws -> (module: Module, arrays: [String: Tensor])? {
    let values = try imports.tensors(for: onnx)
    let sizes = try model.sizes
    guard inputs != nil else {
      let outline = try onnx.outline(ONNXModel.Bindings(sizes: sizes, values: values))
      guard let cut = outline.cut else { return outline.module.map { ($0, [:]) } }
      throw DLCError(
        .unsupported, "the model is no single graph: \(cut)", at: model.model,
        remedy: "--inputs gives arrays to run it on, part by part"
          + ONNXModel.hint(outline.deciding))
    }
    let arrays = try given(
      onnx.inputTypes.filter { !$0.isOptional && values[$0.name] == nil }.map {
        ($0.name, $0.type)
      })
    _ = try DLCError.naming(inputs) { () throws(DLCError) in
      try onnx.checked(arrays, sizes, isPartial: true)
    }
    let bindings = ONNXModel.Bindings(
      sizes: sizes, values: values, shapes: arrays.mapValues(\.shape))
    do throws(DLCError) {
      let outline = try onnx.outline(bindings)
      return outline.cut == nil ? outline.module.map { ($0, arrays) } : nil
    } catch {
      // A session binds by value what must be known.
      guard error.code == .unsupported || error.code == .dimension else { throw error }
      return nil
    }
  }

  /// An ONNX model that runs in parts, whose shapes the arrays decide.
  private func parts(_ onnx: ONNXModel, _ ahead: ProgramFile.Contents?) throws -> MeasuredParts {
    guard let inputs else {
      throw DLCError(
        .unsupported, "the model runs in parts, whose sizes depend on the arrays", at: model.model,
        remedy: "--inputs gives arrays to run it on")
    }
    let given = try InputArrays(
      inputs, for: onnx.inputTypes.map { ($0.name, $0.type) },
      optional: Set(onnx.inputTypes.filter(\.isOptional).map(\.name))
        .union(imports.values.map(\.name)))
    let arrays = given.values.merging(try imports.tensors(for: onnx)) { _, said in said }
    let sizes = try model.sizes
    return try DLCError.naming(inputs) { () throws(DLCError) in
      try MeasuredParts(onnx, arrays, sizes: sizes, threads: workers.threads, ahead: ahead)
    }
  }

  private func given(_ inputs: [(name: String, type: TensorType)]) throws(DLCError) -> [String:
    Tensor]
  {
    try Self.given(inputs, by: self.inputs)
  }

  /// The arrays of a file for some inputs; none without a file.
  static func given(_ inputs: [(name: String, type: TensorType)], by path: String?)
    throws(DLCError) -> [String: Tensor]
  {
    guard let path else { return [:] }
    let arrays = try InputArrays(path, for: inputs, optional: Set(inputs.map(\.name)))
    arrays.notes.forEach(Console.note)
    return arrays.values
  }

  /// Adds random arrays for the inputs that have none.
  static func addRandom(
    _ inputs: [(name: String, type: TensorType)], to arrays: inout [String: Tensor]
  ) throws(DLCError) {
    for (number, port) in inputs.enumerated() where arrays[port.name] == nil {
      arrays[port.name] = try random(port, UInt64(number))
    }
  }

  private static func random(_ port: (name: String, type: TensorType), _ number: UInt64)
    throws(DLCError) -> Tensor
  {
    try AvailableMemory.require(
      port.type.byteCount, for: "the input '\(port.name)', \(port.type)")
    if port.type.dataType.isFloat {
      return Initializer.uniform(-1, 1).value(port.type, name: "input \(number)", seed: number)
    }
    return Tensor(zeros: port.type.dataType, port.type.sizes)
  }
}
