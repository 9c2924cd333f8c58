import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCONNX
import DLCProgram
import DLCRuntime
import DLCTensor

struct Profile: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows where the time of a function goes.",
    discussion: """
      The steps of a run, one after the other, by kernel or by what of the model they compute; of each the median \
      of the runs. The share of the peak is that of the arithmetic or of the memory's bandwidth, whichever is larger; both \
      are measured once for a machine, and kept.
      """)

  @OptionGroup var function: MeasuredFunction
  @Option(help: "Measured runs.") var runs = 5
  @Flag(help: "By the model's nodes and scopes, in place of kernels.") var nodes = false
  @Option(help: "So many rows, the longest first; 0 for all.") var top = 30
  @Option(
    help: "Write what each worker did in one run, tile by tile, as a trace for Perfetto (.json).")
  var trace: String?
  @Option(help: "Write a page with the graph, the kernels by time and the memory plan (.html).")
  var html: String?
  @Flag(help: "As JSON.") var json = false

  func validate() throws {
    if runs < 1 { throw ValidationError("--runs must be positive") }
    if top < 0 { throw ValidationError("--top cannot be negative") }
  }

  func run() throws {
    try OutputFile.requireDistinct(
      [("--trace", trace), ("--html", html)],
      inputs: [("the model", function.model.model), ("--inputs", function.inputs)])
    for path in [trace, html].compactMap(\.self) { try OutputFile.requirePlace(path) }
    switch try function.prepared() {
    case .whole(let subject): try report(subject)
    case .parts(let subject): try report(subject)
    }
  }

  private func report(_ subject: MeasuredFunction.Subject) throws {
    let (executable, threads) = (subject.executable, function.workers.threads)
    let peak = try MachinePeak.known(threads: threads)
    var results = try executable.emptyResults()
    let run = try wholeRun { () throws(DLCError) in
      try executable.run(subject.arrays, into: &results, threads: threads)
    }
    let times = try times(executable, subject.arrays)
    if let trace {
      try write(trace: trace, try executable.trace(subject.arrays, threads: threads), executable)
      Console.note(
        "\(trace): a trace of one run; open it at https://ui.perfetto.dev (nothing is uploaded)")
    }
    if let html {
      let page = Page(
        subject.function, executable.program,
        Page.Measurement(times: times, run: run, peak: peak))
      try OutputFile.write(Array(page.html.utf8), to: html)
      Console.note("\(html): a page for the browser, which loads nothing else")
    }
    let profile = StepProfile(executable.program, times) { nodes ? $0.title : $0.label }
    if json {
      try Console.result("\(profile.json(peak, run: run))")
    } else {
      try Console.result(profile.table(nodes ? "of" : "kernel", peak, top: top))
      try summarize(run: run, steps: profile.seconds, of: "its steps", peak)
    }
  }

  /// The programs of a model that runs in parts, one after the other.
  private func report(_ subject: MeasuredParts) throws {
    if let option = trace != nil ? "--trace" : html != nil ? "--html" : nil {
      throw DLCError(
        .usage, "\(option) is of one program, and the model runs in parts",
        at: function.model.model,
        remedy: "leave it out; dlc show --format html makes a page of the first part"
      )
    }
    let peak = try MachinePeak.known(threads: subject.threads)
    let run = try wholeRun { () throws(DLCError) in try subject.run() }
    var steps = 0.0
    var lists: [JSON] = []
    for (number, part) in subject.parts.enumerated() {
      let (executable, count) = (part.executable, part.count)
      let times = try times(executable, part.inputs)
      let profile = StepProfile(executable.program, times) { nodes ? $0.title : $0.label }
      steps += profile.seconds * Double(count)
      if json {
        let run = try wholeRun { () throws(DLCError) in
          _ = try executable.run(part.inputs, threads: subject.threads)
        }
        lists.append(
          .object([("runs", .integer(count)), ("profile", profile.json(peak, run: run))]))
      } else {
        try Console.result(
          "part \(number + 1) of \(subject.parts.count)"
            + (count == 1 ? "" : ", run \(counted(count, "time"))"))
        try Console.result(profile.table(nodes ? "of" : "kernel", peak, top: top))
      }
    }
    if json {
      try Console.result(
        "\(JSON.object([("run_ms", .rounded(run * 1e3, digits: 6)), ("parts", .list(lists))]))")
    } else {
      try summarize(run: run, steps: steps, of: "the steps of its parts", peak)
    }
  }

  /// What a run takes beside its steps, both in seconds, and what shares are of.
  private func summarize(run: Double, steps: Double, of title: String, _ peak: MachinePeak) throws {
    try Console.result(
      "a run takes \(fixed(run * 1e3, 3)) ms; \(title), one by one, \(fixed(steps * 1e3, 3)) ms (\(fixed(100 * steps / run, 0)) %)"
    )
    try Console.result(
      "peak: \(fixed(peak.flops / 1e9, 1)) GFLOP/s, \(fixed(peak.bytes / 1e9, 1)) GB/s with \(counted(peak.threads, "thread"))"
    )
  }

  /// The median of the seconds of each step.
  private func times(_ executable: Executable, _ arrays: [String: Tensor]) throws(DLCError)
    -> [Double]
  {
    var samples: [[Double]] = []
    for _ in 0..<runs {
      samples.append(try executable.profile(arrays, threads: function.workers.threads))
    }
    return executable.program.steps.indices.map { step in
      samples.map { $0[step] }.sorted()[runs / 2]
    }
  }

  /// Seconds that a run takes whose steps are not timed: the median.
  private func wholeRun(_ run: () throws(DLCError) -> Void) throws(DLCError) -> Double {
    let clock = ContinuousClock()
    var times: [Double] = []
    // The first run touches the memory.
    for _ in 0...runs {
      let start = clock.now
      try run()
      times.append(milliseconds(clock.now - start) / 1e3)
    }
    return times.dropFirst().sorted()[runs / 2]
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

}
