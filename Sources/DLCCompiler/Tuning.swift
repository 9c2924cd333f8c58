package import DLCGraph
import DLCKernel
import DLCLowering
import DLCProgram
package import DLCRuntime
package import DLCTensor

/// Measures schedules that the cost model finds close to each other, and takes the fastest of each problem. Results keep
/// their bits: no schedule changes the order of sums.
package struct Tuning {
  package let compiler: Compiler
  /// Seconds that measuring goes on for, besides compiling; each program is run some times, however long that takes.
  package var seconds = 4.0
  package var threads: Int?
  /// At most so many schedules of a problem are measured, the cheapest ones by the cost model.
  static let choices = 5
  /// Those that are dearer than so many times the cheapest are not.
  static let dearest = 1.7
  /// A schedule takes the place of the cost model's when it takes less than this part of its time.
  static let gain = 0.97

  package init(_ compiler: Compiler) { self.compiler = compiler }

  /// What tuning found.
  package struct Report: Sendable {
    /// Problems with more than one schedule to choose from, and those where another than the cost model's is taken.
    package var problems = 0
    package var changed = 0
    /// Whether what was the fastest step by step was so as a whole.
    package var isTaken = false
    /// Programs that were compiled and measured.
    package var programs = 0
    /// Milliseconds of a whole run, as the cost model has it and tuned.
    package var before = 0.0
    package var after = 0.0
  }

  /// The function compiled with the schedules that are the fastest on this machine.
  /// - Parameter arrays: its inputs.
  /// - Throws: as `Compiler.build`, and `.binding` for arrays that do not fit.
  package func build(
    _ module: Module, function: String?, dimensions: [String: Int],
    _ arrays: (Executable) throws(DLCError) -> [String: Tensor]
  ) throws(DLCError) -> (Build, Report) {
    let first = try compiler.build(module, function: function, dimensions: dimensions)
    let inputs = try arrays(first.executable)
    try first.executable.initializeState(seed: 0)
    let open = Self.open(first)
    var report = Report(problems: open.count)
    let rounds = open.map(\.schedules.count).max() ?? 1
    guard rounds > 1 else { return (first, report) }
    /// The function with the schedule of that rank for each problem, where it has so many.
    func variant(_ book: ScheduleBook) throws(DLCError) -> Build {
      var compiler = compiler
      compiler.options.schedules = book
      // What passes do was printed for the first program.
      compiler.options.printAfter = nil
      let build = try compiler.build(module, function: function, dimensions: dimensions)
      try build.executable.initializeState(seed: 0)
      return build
    }
    var times = [[Double]](repeating: [], count: open.count)
    let share = seconds / Double(rounds + 1)
    for rank in 0..<rounds {
      var book = compiler.options.schedules
      for problem in open where rank < problem.schedules.count {
        book.add(problem.schedules[rank], for: problem.problem)
      }
      let build = rank == 0 ? first : try variant(book)
      let found = try stepTimes(build, inputs, share)
      for (index, problem) in open.enumerated() where rank < problem.schedules.count {
        times[index].append(Self.time(of: problem.problem, build, found))
      }
      report.programs += 1
    }
    var book = compiler.options.schedules
    for (problem, times) in zip(open, times) {
      let best = times.indices.min { times[$0] < times[$1] }!
      guard times[best] < Self.gain * times[0] else { continue }
      book.add(problem.schedules[best], for: problem.problem)
      report.changed += 1
    }
    guard report.changed > 0 else { return (first, report) }
    let tuned = try variant(book)
    (report.before, report.after) = try compare(first, tuned, inputs, share)
    // What is faster step by step need not be so as a whole.
    report.isTaken = report.after < report.before
    return (report.isTaken ? tuned : first, report)
  }

  /// A problem, and the schedules that are worth measuring; the first is the one that was taken.
  private struct Open {
    var problem: Problem
    var schedules: [RegionSchedule]
  }

  private static func open(_ build: Build) -> [Open] {
    var seen: Set<Problem> = []
    var list: [Open] = []
    build.plan.forEach { part in
      guard part.problem != .control, seen.insert(part.problem).inserted else { return }
      let legal = part.problem.candidates(build.target).filter { $0.obstacle == nil }
      let limit = dearest * (legal.first?.cycles ?? 0)
      let others = legal.filter { $0.schedule != part.schedule && $0.cycles <= limit }
      if !others.isEmpty {
        list.append(
          Open(
            problem: part.problem,
            schedules: [part.schedule] + others.prefix(choices - 1).map(\.schedule)))
      }
    }
    return list
  }

  /// Seconds of each step: the least of some runs.
  private func stepTimes(_ build: Build, _ inputs: [String: Tensor], _ seconds: Double)
    throws(DLCError) -> [Double]
  {
    let start = ContinuousClock.now
    var least: [Double] = []
    var runs = 0
    repeat {
      let times = try build.executable.profile(inputs, threads: threads)
      // The first run touches the memory.
      if runs > 0 { least = least.isEmpty ? times : zip(least, times).map { min($0, $1) } }
      runs += 1
    } while runs < 4 || (ContinuousClock.now - start) / .seconds(1) < seconds
    return least
  }

  /// Seconds of the steps that run kernels of a problem; of steps whose kernels share a grid, its share of them.
  private static func time(of problem: Problem, _ build: Build, _ times: [Double]) -> Double {
    var mine: Set<String> = []
    build.plan.forEach { part in
      if part.problem == problem { mine.formUnion(part.lowered.calls.map(\.kernel.name)) }
    }
    var sum = 0.0
    for (step, seconds) in zip(build.program.steps, times) {
      guard let index = step.kernel?.index else { continue }
      let name = build.kernels[index].name
      let parts = build.sections[name] ?? [name]
      sum += seconds * Double(parts.count { mine.contains($0) }) / Double(max(parts.count, 1))
    }
    return sum
  }

  /// Milliseconds of whole runs of two programs, in turns: the least.
  private func compare(
    _ a: Build, _ b: Build, _ inputs: [String: Tensor], _ seconds: Double
  ) throws(DLCError) -> (Double, Double) {
    let clock = ContinuousClock()
    let start = clock.now
    var least = [Double.infinity, Double.infinity]
    var results = try a.executable.emptyResults()
    var runs = 0
    repeat {
      for (index, build) in [a, b].enumerated() {
        let begin = clock.now
        try build.executable.run(inputs, into: &results, threads: threads)
        if runs > 0 { least[index] = min(least[index], (clock.now - begin) / .milliseconds(1)) }
      }
      runs += 1
    } while runs < 4 || (clock.now - start) / .seconds(1) < seconds
    return (least[0], least[1])
  }
}
