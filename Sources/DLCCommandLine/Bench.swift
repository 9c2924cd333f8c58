import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCProgram
import DLCRuntime
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Measures the time of a function.")

  @OptionGroup var model: ModelOptions
  @Option(help: "Arrays for the inputs (.npz); random ones without it.") var inputs: String?
  @OptionGroup var workers: WorkerOptions
  @Option(help: "Runs before the measurement.") var warmup = 3
  @Option(help: "Measured runs; by default as many as take half a second, at least 20.") var runs:
    Int?
  @Flag(help: "One JSON object.") var json = false
  @Flag(help: "Show where the time goes: by the scopes of the model, the longest first.")
  var profile = false
  @Option(
    help: "Write what each worker did in one run, tile by tile, as a trace for Perfetto (.json).")
  var trace: String?

  func validate() throws {
    if warmup < 0 { throw ValidationError("--warmup cannot be negative") }
    if let runs, runs < 1 { throw ValidationError("--runs must be positive") }
    if profile && json { throw ValidationError("--profile and --json exclude each other") }
  }

  /// What is measured, and the time it took to have it.
  private struct Subject {
    var executable: Executable
    var arrays: [String: Tensor]
    /// In milliseconds.
    var compileTime = 0.0
    var loadTime = 0.0
  }

  func run() throws {
    let subject = try subject()
    let executable = subject.executable
    try executable.requireMemory(
      threads: workers.threads,
      besides: executable.inputs.reduce(0) {
        $0 + (subject.arrays[$1.name] == nil ? $1.type.byteCount : 0)
      })
    try executable.initializeState(seed: 0)
    var inputs: [String: Tensor] = [:]
    for (number, port) in executable.inputs.enumerated() {
      inputs[port.name] = try subject.arrays[port.name] ?? Self.random(port, UInt64(number))
    }
    let times = try times(executable, inputs)
    if let trace {
      try write(trace: trace, try executable.trace(inputs, threads: workers.threads), executable)
    }
    if profile {
      let times = try executable.profile(inputs, threads: workers.threads)
      try Console.result(
        StepProfile.table(executable.program, times, title: "of") { $0.title } + "\n")
    }
    try report(subject, times)
  }

  private func subject() throws -> Subject {
    let clock = ContinuousClock()
    let start = clock.now
    switch try LoadedModel(model.model) {
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
      return Subject(
        executable: executable, arrays: try given(contents.inputs), loadTime: loadTime)
    case let loaded:
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
        arrays: arrays)
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

  /// The milliseconds of each run, sorted.
  private func times(_ executable: Executable, _ inputs: [String: Tensor]) throws(DLCError)
    -> [Double]
  {
    let clock = ContinuousClock()
    var results: [Tensor] = []
    for port in executable.outputs {
      results.append(
        try Tensor(
          reserving: port.type.dataType, port.type.sizes, for: "the result '\(port.name)'"))
    }
    for _ in 0..<warmup { try executable.run(inputs, into: &results, threads: workers.threads) }
    var times: [Double] = []
    let begin = clock.now
    while runs.map({ times.count < $0 })
      ?? (times.count < 20 || milliseconds(clock.now - begin) < 500)
    {
      let before = clock.now
      try executable.run(inputs, into: &results, threads: workers.threads)
      times.append(milliseconds(clock.now - before))
      if runs == nil, times.count >= 5, milliseconds(clock.now - begin) > 10_000 { break }
    }
    return times.sorted()
  }

  private func report(_ subject: Subject, _ times: [Double]) throws {
    let median = times[times.count / 2]
    let p95 = times[min(times.count - 1, times.count * 95 / 100)]
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let program = subject.executable.program
    if json {
      let result = JSON.object([
        ("median_ms", .rounded(median, digits: 6)), ("min_ms", .rounded(times[0], digits: 6)),
        ("p95_ms", .rounded(p95, digits: 6)), ("runs", .integer(times.count)),
        ("compile_ms", .rounded(subject.compileTime, digits: 3)),
        ("load_ms", .rounded(subject.loadTime, digits: 3)),
        ("peak_rss_bytes", .integer(usage.ru_maxrss * 1024)),
        ("arena_bytes", .integer(program.arenaBytes)), ("flops", .integer(program.flops)),
        ("bytes_moved", .integer(program.bytesMoved)),
      ])
      try Console.result("\(result)")
      return
    }
    try Console.result(
      table([
        [
          "median",
          "\(fixed(median, 4)) ms (min \(fixed(times[0], 4)), 95 % \(fixed(p95, 4)), \(times.count) runs)",
        ],
        [
          "speed",
          "\(fixed(Double(program.flops) / median / 1e6, 2)) GFLOP/s, \(fixed(Double(program.bytesMoved) / median / 1e6, 2)) GB/s",
        ],
        [
          "compile",
          "\(fixed(subject.compileTime, 1)) ms, load \(fixed(subject.loadTime, 2)) ms",
        ],
        [
          "memory", "arena \(size(program.arenaBytes)), peak RSS \(size(usage.ru_maxrss * 1024))",
        ],
      ]))
  }

  /// The graph; an ONNX model is imported for the shapes of the arrays.
  private func module(_ loaded: LoadedModel, _ arrays: inout [String: Tensor]) throws -> Module {
    guard case .onnx(let model) = loaded, inputs != nil else { return try loaded.module }
    arrays = try given(model.inputTypes.filter { !$0.isOptional }.map { ($0.name, $0.type) })
    return try model.module(ONNXModel.Bindings(shapes: arrays.mapValues(\.shape)))
  }

  /// Writes events in Chrome's format: a row for each worker, a bar for each tile.
  private func write(trace path: String, _ events: [TileEvent], _ executable: Executable) throws {
    let first = events.first?.start ?? 0
    func microseconds(_ time: UInt64) -> JSON { .number(Double(time - first) / 1e3) }
    let list = events.map { event -> JSON in
      let step = executable.program.steps[event.step]
      return .object([
        ("name", .text(step.title)), ("ph", .text("X")),
        ("pid", .integer(1)), ("tid", .integer(event.worker)), ("ts", microseconds(event.start)),
        ("dur", .number(Double(event.end - event.start) / 1e3)),
        (
          "args",
          .object([
            ("step", .integer(event.step)), ("tile", .integer(event.tile)),
            ("kind", .text(step.kind.name)), ("name", .text(step.name)),
          ])
        ),
      ])
    }
    try OutputFile.write(Array("\(JSON.object([("traceEvents", .list(list))]))".utf8), to: path)
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
