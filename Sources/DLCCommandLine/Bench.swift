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
  @Flag(help: "Also measure the CPU time of a second between two runs, in which nothing is to do.")
  var idle = false
  @Flag(help: "One JSON object.") var json = false

  func validate() throws {
    if warmup < 0 { throw ValidationError("--warmup cannot be negative") }
    if let runs, runs < 1 { throw ValidationError("--runs must be positive") }
  }

  func run() throws {
    let subject = try function.prepared()
    let times = try times(subject.executable, subject.arrays)
    try report(subject, times, idle: idle ? try idleShare(subject) : nil)
  }

  /// CPU seconds of this process, those of the system for it included.
  private func processorTime() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  /// The share of one core that is used in a second between two runs.
  private func idleShare(_ subject: MeasuredFunction.Subject) throws(DLCError) -> Double {
    let threads = function.workers.threads
    _ = try subject.executable.run(subject.arrays, threads: threads)
    let (start, before) = (ContinuousClock.now, processorTime())
    sleep(1)
    let used = processorTime() - before
    let passed = milliseconds(ContinuousClock.now - start) / 1e3
    _ = try subject.executable.run(subject.arrays, threads: threads)
    return used / passed
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

  private func report(
    _ subject: MeasuredFunction.Subject, _ times: [Double], idle: Double?
  ) throws {
    let median = times[times.count / 2]
    let p95 = times[min(times.count - 1, times.count * 95 / 100)]
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let program = subject.executable.program
    if json {
      let share = idle.map { [("idle_cpu", JSON.rounded($0, digits: 6))] } ?? []
      let result = JSON.object(
        [
          ("median_ms", .rounded(median, digits: 6)), ("min_ms", .rounded(times[0], digits: 6)),
          ("p95_ms", .rounded(p95, digits: 6)), ("runs", .integer(times.count)),
          ("compile_ms", .rounded(subject.compileTime, digits: 3)),
          ("load_ms", .rounded(subject.loadTime, digits: 3)),
          ("peak_rss_bytes", .integer(usage.ru_maxrss * 1024)),
          ("arena_bytes", .integer(program.arenaBytes)), ("flops", .integer(program.flops)),
          ("bytes_moved", .integer(program.bytesMoved)),
        ] + share)
      try Console.result("\(result)")
      return
    }
    try Console.result(
      table(
        [
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
        ] + (idle.map { [["idle", "\(fixed(100 * $0, 2)) % of a core between two runs"]] } ?? [])))
  }

}
