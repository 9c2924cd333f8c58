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

  /// What is reported besides the times of runs.
  private struct Figures {
    var compileTime: Double
    var loadTime: Double
    var arenaBytes: Int
    var flops: Int
    var bytesMoved: Int
    /// Programs that a run goes through.
    var parts = 1
  }

  func run() throws {
    switch try function.prepared() {
    case .whole(let subject):
      let (executable, threads) = (subject.executable, function.workers.threads)
      var results = try executable.emptyResults()
      let program = executable.program
      try measure(
        Figures(
          compileTime: subject.compileTime, loadTime: subject.loadTime,
          arenaBytes: program.arenaBytes, flops: program.flops, bytesMoved: program.bytesMoved)
      ) { () throws(DLCError) in
        try executable.run(subject.arrays, into: &results, threads: threads)
      }
    case .parts(let subject):
      try measure(
        Figures(
          compileTime: subject.compileTime, loadTime: subject.loadTime,
          arenaBytes: subject.arenaBytes, flops: subject.flops, bytesMoved: subject.bytesMoved,
          parts: subject.parts.count)
      ) { () throws(DLCError) in try subject.run() }
    }
  }

  private func measure(_ figures: Figures, _ run: () throws(DLCError) -> Void) throws {
    let times = try times(run)
    try report(figures, times, idle: idle ? try idleShare(run) : nil)
  }

  /// CPU seconds of this process, those of the system for it included.
  private func processorTime() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  /// The share of one core that is used in a second between two runs.
  private func idleShare(_ run: () throws(DLCError) -> Void) throws(DLCError) -> Double {
    try run()
    let (start, before) = (ContinuousClock.now, processorTime())
    sleep(1)
    let used = processorTime() - before
    let passed = milliseconds(ContinuousClock.now - start) / 1e3
    try run()
    return used / passed
  }

  /// The milliseconds of each run, sorted.
  private func times(_ run: () throws(DLCError) -> Void) throws(DLCError) -> [Double] {
    let clock = ContinuousClock()
    for _ in 0..<warmup { try run() }
    var times: [Double] = []
    let begin = clock.now
    while runs.map({ times.count < $0 })
      ?? (times.count < 20 || milliseconds(clock.now - begin) < 500)
    {
      let before = clock.now
      try run()
      times.append(milliseconds(clock.now - before))
      if runs == nil, times.count >= 5, milliseconds(clock.now - begin) > 10_000 { break }
    }
    return times.sorted()
  }

  private func report(_ figures: Figures, _ times: [Double], idle: Double?) throws {
    let median = times[times.count / 2]
    let p95 = times[min(times.count - 1, times.count * 95 / 100)]
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    if json {
      let parts = figures.parts == 1 ? [] : [("parts", JSON.integer(figures.parts))]
      let share = idle.map { [("idle_cpu", JSON.rounded($0, digits: 6))] } ?? []
      let result = JSON.object(
        [
          ("median_ms", .rounded(median, digits: 6)), ("min_ms", .rounded(times[0], digits: 6)),
          ("p95_ms", .rounded(p95, digits: 6)), ("runs", .integer(times.count)),
          ("compile_ms", .rounded(figures.compileTime, digits: 3)),
          ("load_ms", .rounded(figures.loadTime, digits: 3)),
          ("peak_rss_bytes", .integer(usage.ru_maxrss * 1024)),
          ("arena_bytes", .integer(figures.arenaBytes)), ("flops", .integer(figures.flops)),
          ("bytes_moved", .integer(figures.bytesMoved)),
        ] + parts + share)
      try Console.result("\(result)")
      return
    }
    let parts =
      figures.parts == 1
      ? [] : [["parts", "\(counted(figures.parts, "program")), where shapes depend on the data"]]
    let share = idle.map { [["idle", "\(fixed(100 * $0, 2)) % of a core between two runs"]] } ?? []
    try Console.result(
      table(
        [
          [
            "median",
            "\(fixed(median, 4)) ms (min \(fixed(times[0], 4)), 95 % \(fixed(p95, 4)), \(counted(times.count, "run")))",
          ],
          [
            "speed",
            "\(fixed(Double(figures.flops) / median / 1e6, 2)) GFLOP/s, \(fixed(Double(figures.bytesMoved) / median / 1e6, 2)) GB/s",
          ],
          [
            "compile",
            "\(fixed(figures.compileTime, 1)) ms, load \(fixed(figures.loadTime, 2)) ms",
          ],
        ]
          + parts
          + [
            [
              "memory",
              "arena \(size(figures.arenaBytes)), peak RSS \(size(usage.ru_maxrss * 1024))",
            ]
          ] + share))
  }

}
