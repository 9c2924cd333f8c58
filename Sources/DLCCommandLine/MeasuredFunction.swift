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

  /// The function ready to run: state without values is initialised, and inputs without arrays are random.
  func prepared() throws -> Subject {
    var subject = try subject()
    let executable = subject.executable
    try executable.requireMemory(
      threads: workers.threads,
      besides: executable.inputs.reduce(0) {
        $0 + (subject.arrays[$1.name] == nil ? $1.type.byteCount : 0)
      })
    try executable.initializeState(seed: 0)
    for (number, port) in executable.inputs.enumerated() where subject.arrays[port.name] == nil {
      subject.arrays[port.name] = try Self.random(port, UInt64(number))
    }
    return subject
  }

  private func subject() throws -> Subject {
    let clock = ContinuousClock()
    let start = clock.now
    let loaded = try LoadedModel(model.model)
    switch loaded {
    case .program(let contents):
      guard model.dimensions.isEmpty,
        (model.function ?? contents.program.function) == contents.program.function
      else {
        throw DLCError(
          .usage,
          "a compiled program is measured as it is: function '\(contents.program.function)', in its sizes",
          at: model.model, remedy: "leave out --function and --dim, or give the model's .pb")
      }
      let executable = try Executable(contents)
      let loadTime = milliseconds(clock.now - start)
      let module = contents.module.isEmpty ? nil : try loaded.module
      return Subject(
        executable: executable, function: module?.function(contents.program.function),
        arrays: try given(contents.inputs), loadTime: loadTime)
    default:
      var arrays: [String: Tensor] = [:]
      let module = try self.module(loaded, &arrays)
      let function = try module.selectFunction(model.function)
      if arrays.isEmpty { arrays = try given(function.inputs) }
      let shapes = function.inputs.compactMap { input in
        arrays[input.name].map { (input.name, input.type, $0.shape) }
      }
      let sizes = try module.bind(explicit: try model.sizes, arrays: shapes)
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
  }

  /// The graph; an ONNX model is imported for the shapes of the arrays.
  private func module(_ loaded: LoadedModel, _ arrays: inout [String: Tensor]) throws -> Module {
    guard case .onnx(let model) = loaded, inputs != nil else { return try loaded.module }
    arrays = try given(model.inputTypes.filter { !$0.isOptional }.map { ($0.name, $0.type) })
    return try model.module(ONNXModel.Bindings(shapes: arrays.mapValues(\.shape)))
  }

  private func given(_ inputs: [(name: String, type: TensorType)]) throws(DLCError) -> [String:
    Tensor]
  {
    guard let path = self.inputs else { return [:] }
    let arrays = try InputArrays(path, for: inputs, optional: Set(inputs.map(\.name)))
    arrays.notes.forEach(Console.note)
    return arrays.values
  }

  static func random(_ port: (name: String, type: TensorType), _ number: UInt64)
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
