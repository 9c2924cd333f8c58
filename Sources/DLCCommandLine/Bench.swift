import ArgumentParser
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

  @OptionGroup var function: MeasuredFunction
  @Option(help: "Runs before the measurement.") var warmup = 3
  @Option(help: "Measured runs; by default as many as take half a second, at least 20.") var runs:
    Int?
  @Flag(help: "One JSON object.") var json = false

  func validate() throws {
    if warmup < 0 { throw ValidationError("--warmup cannot be negative") }
    if let runs, runs < 1 { throw ValidationError("--runs must be positive") }
  }

  func run() throws {
    let subject = try function.prepared()
    try report(subject, try times(subject.executable, subject.arrays))
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
    for _ in 0..<warmup {
      try executable.run(inputs, into: &results, threads: function.workers.threads)
    }
    var times: [Double] = []
    let begin = clock.now
    while runs.map({ times.count < $0 })
      ?? (times.count < 20 || milliseconds(clock.now - begin) < 500)
    {
      let before = clock.now
      try executable.run(inputs, into: &results, threads: function.workers.threads)
      times.append(milliseconds(clock.now - before))
      if runs == nil, times.count >= 5, milliseconds(clock.now - begin) > 10_000 { break }
    }
    return times.sorted()
  }

  private func report(_ subject: MeasuredFunction.Subject, _ times: [Double]) throws {
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
          "\(fixed(median, 4)) ms (min \(fixed(times[0], 4)), 95 % \(fixed(p95, 4)), \(counted(times.count, "run")))",
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

}
