import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
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

  func validate() throws {
    if warmup < 0 { throw ValidationError("--warmup cannot be negative") }
    if let runs, runs < 1 { throw ValidationError("--runs must be positive") }
  }

  func run() throws {
    let clock = ContinuousClock()
    let executable: Executable
    var arrays: [String: Tensor] = [:]
    var (compileTime, loadTime) = (0.0, 0.0)
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
      executable = try Executable(contents)
      loadTime = milliseconds(clock.now - start)
      arrays = try given(contents.inputs)
    case .module(let module):
      let function = try module.selectFunction(model.function)
      arrays = try given(function.inputs)
      let shapes = function.inputs.compactMap { input in
        arrays[input.name].map { (input.name, input.type, $0.shape) }
      }
      let sizes = try module.bind(explicit: try model.sizes, arrays: shapes)
      let compiling = clock.now
      executable = try Compiler().compile(module, function: function.name, dimensions: sizes)
      compileTime = milliseconds(clock.now - compiling)
      if let cache = CompileCache.standard {
        _ = try Compiler().load(module, function: function.name, dimensions: sizes, cache: cache)
        let loading = clock.now
        _ = try Compiler().load(module, function: function.name, dimensions: sizes, cache: cache)
        loadTime = milliseconds(clock.now - loading)
      }
    }
    try executable.requireMemory(
      threads: workers.threads,
      besides: executable.inputs.reduce(0) {
        $0 + (arrays[$1.name] == nil ? $1.type.byteCount : 0)
      })
    try executable.initializeState(seed: 0)
    var inputs: [String: Tensor] = [:]
    for (number, port) in executable.inputs.enumerated() {
      inputs[port.name] = try arrays[port.name] ?? Self.random(port, UInt64(number))
    }
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
    times.sort()
    let median = times[times.count / 2]
    let p95 = times[min(times.count - 1, times.count * 95 / 100)]
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let program = executable.program
    if json {
      try Console.result(
        "{\"median_ms\":\(fixed(median, 6)),\"min_ms\":\(fixed(times[0], 6)),\"p95_ms\":\(fixed(p95, 6)),\"runs\":\(times.count),\"compile_ms\":\(fixed(compileTime, 3)),\"load_ms\":\(fixed(loadTime, 3)),\"peak_rss_bytes\":\(usage.ru_maxrss * 1024),\"arena_bytes\":\(program.arenaBytes),\"flops\":\(program.flops),\"bytes_moved\":\(program.bytesMoved)}"
      )
    } else {
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
          ["compile", "\(fixed(compileTime, 1)) ms, load \(fixed(loadTime, 2)) ms"],
          [
            "memory", "arena \(size(program.arenaBytes)), peak RSS \(size(usage.ru_maxrss * 1024))",
          ],
        ]))
    }
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
