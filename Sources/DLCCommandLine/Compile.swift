import ArgumentParser
import DLCCodegen
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCKernel
import DLCLowering
import DLCONNX
import DLCPasses
import DLCProgram
import DLCRuntime
import DLCTensor
import DLCTraining
import Synchronization

struct Compile: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Compiles a function ahead of time.")

  enum Stage: String, ExpressibleByArgument, CaseIterable {
    case program, graph, passes, regions, schedule, nests, kernels, memory, llvm, asm, object
  }

  @OptionGroup var model: ModelOptions
  @OptionGroup var imports: ImportOptions
  @Option(name: .shortAndLong, help: "The program file; MODEL with .dlc for .pb by default.")
  var output: String?
  @Option(
    help: "Weights to put into the program (.safetensors): it then needs nothing else to run.")
  var params: String?
  @Option(help: "native, x86-64-v2 to -v4, or a CPU name such as znver3.") var target = "native"
  @Option(help: "The most memory that the arena of a run may take, as 64MiB.") var memoryLimit:
    ByteCount?
  @Option(help: "Print a stage instead of writing a program.") var emit: Stage?
  @Option(help: "Schedules to take: what --emit schedule printed, or a program (.dlc).")
  var schedule: String?
  @Flag(
    help:
      "Measure for some seconds which schedules are the fastest here, and compile with those; the program keeps them."
  )
  var tune = false
  @Option(help: "Arrays to tune with, by the names of inputs (.npz); random ones without it.")
  var inputs: String?
  @OptionGroup(title: "What --tune measures with") var workers: WorkerOptions
  @Option(help: "Print the graph after a pass, or after all.") var printAfter: String?
  @Option(help: "The last pass to run.") var stopAfter: String?
  @Option(name: .customLong("disable"), help: "Leave a pass out; may be repeated.") var disabled:
    [String] = []
  @Option(help: "At most so many optional rewrites.") var rewriteLimit: Int?
  @Flag(help: "The summary as JSON.") var json = false
  @Flag(help: "Compile everything anew, without the cache of compiled kernels.") var noCache = false

  func validate() throws {
    for name in disabled + [printAfter, stopAfter].compactMap({ $0 })
    where name != "all" && StandardPasses.named(name) == nil {
      let known = StandardPasses.all.map(\.name)
      let unique = known.enumerated().filter { known.firstIndex(of: $0.element) == $0.offset }.map(
        \.element)
      let near = Spelling.nearest(to: name, in: unique).map { "did you mean '\($0)'? " } ?? ""
      throw ValidationError(
        "there is no pass '\(name)'; \(near)the passes are \(unique.joined(separator: ", "))")
    }
    if !tune, inputs != nil || workers.threads != nil {
      throw ValidationError("--inputs and --threads are for --tune")
    }
    if tune, target != "native" || schedule != nil {
      throw ValidationError("--tune measures on this machine: leave out --target and --schedule")
    }
    if let rewriteLimit, rewriteLimit < 0 {
      throw ValidationError("--rewrite-limit cannot be negative")
    }
  }

  func run() throws {
    let start = ContinuousClock.now
    var (module, sizes, cut) = try loaded()
    if let params { try module.setValues(from: params).forEach(Console.note) }
    var options = CompilerOptions()
    options.target = target
    options.printAfter = printAfter
    options.memoryLimit = memoryLimit?.bytes ?? Int.max
    options.stopAfter = stopAfter
    options.disabledPasses = Set(disabled)
    options.rewriteLimit = rewriteLimit ?? Int.max
    if let schedule { options.schedules = try Self.book(schedule) }
    // A pass cannot fail for want of somewhere to print: what went wrong is thrown after it.
    let failure = Mutex<DLCError?>(nil)
    options.print = { text in
      do throws(DLCError) { try Console.result(text) } catch {
        failure.withLock { $0 = $0 ?? error }
      }
    }
    if !noCache, let cache = CompileCache.standard { options.objectStore = cache.objectStore }
    let build: Build
    if tune {
      build = try tuned(Compiler(options), module, sizes)
    } else {
      build = try Compiler(options).build(
        module, function: model.function, dimensions: sizes)
    }
    if let error = failure.withLock({ $0 }) { throw error }
    for reason in options.schedules.ignored(by: build.plan, build.target) {
      Console.note("a schedule is not taken: \(reason)")
    }
    if let emit {
      try self.emit(emit, build)
      return
    }
    let path =
      output ?? (stem(model.model) + ".dlc")
    try OutputFile.requireDistinct(
      [("-o", path)], inputs: [("the model", model.model), ("--params", params)])
    if cut != nil {
      let model = try MappedFile(model.model)
      // Its data may lie in other files, which must then be where the program goes.
      _ = try ONNXModel(model.bytes, path: path)
      try build.write(part: module, of: Array(model.bytes), to: path)
    } else {
      try build.write(to: path, module: module)
    }
    if path == "-" { return }
    let chosen = module.sizesByDefault(
      of: try module.selectFunction(model.function), besides: sizes)
    try summarize(build, path, cut, chosen, milliseconds(ContinuousClock.now - start))
  }

  /// Compiles with the schedules that are the fastest on this machine, and says what that gave.
  private func tuned(_ compiler: Compiler, _ module: Module, _ sizes: [String: Int]) throws
    -> Build
  {
    var tuning = Tuning(compiler)
    tuning.threads = workers.threads
    let (build, report) = try tuning.build(
      module, function: model.function, dimensions: sizes
    ) { (executable) throws(DLCError) in
      var arrays = try MeasuredFunction.given(executable.inputs, by: inputs)
      try MeasuredFunction.addRandom(executable.inputs, to: &arrays)
      return arrays
    }
    let head =
      "tuned: \(counted(report.programs, "program")) measured, other schedules for \(report.changed) of \(counted(report.problems, "problem"))"
    let times =
      "a run takes \(fixed(report.after, 3)) ms with them, \(fixed(report.before, 3)) without"
    Console.note(
      report.changed == 0
        ? head : "\(head); \(times)\(report.isTaken ? "" : ", so they are not taken")")
    return build
  }

  /// The graph and the sizes that it is compiled for: those of an ONNX model are bound when it is imported.
  private func loaded() throws -> (Module, sizes: [String: Int], cut: String?) {
    let sizes = try model.sizes
    let loaded = try LoadedModel(model.model)
    guard case .onnx(let onnx) = loaded else {
      return (try loaded.module.withoutCurrent, sizes, nil)
    }
    let bindings = ONNXModel.Bindings(sizes: sizes, values: try imports.tensors(for: onnx))
    let (module, cut) = try onnx.compilable(bindings)
    guard cut == nil || params == nil else {
      throw DLCError(.usage, "--params is not for a model that runs in parts")
    }
    return (module, [:], cut)
  }

  private static func book(_ path: String) throws(DLCError) -> ScheduleBook {
    if path.hasSuffix(".dlc") {
      return try ScheduleBook(text: try ProgramFile.read(path).program.schedules, at: path)
    }
    let file = try MappedFile(path)
    let text = withExtendedLifetime(file) { String(decoding: file.bytes, as: UTF8.self) }
    let book = try ScheduleBook(text: text, at: path)
    guard !book.isEmpty else {
      throw DLCError(
        .format, "there is no schedule in it", at: path,
        remedy: "the file is one that dlc compile --emit schedule prints")
    }
    return book
  }

  /// - Parameter chosen: sizes that nobody said.
  private func summarize(
    _ build: Build, _ path: String, _ cut: String?, _ chosen: String?, _ total: Double
  ) throws {
    let program = build.program
    let fused = build.plan.fusedNodes
    let rewrites = build.passReports.reduce(0) { $0 + $1.fired.values.reduce(0, +) }
    if json {
      let stages = build.stages.map { ($0.name, JSON.rounded($0.milliseconds, digits: 3)) }
      let part = cut.map { [("cut", JSON.text($0))] } ?? []
      let result = JSON.object(
        [
          ("program", .text(path)), ("function", .text(program.function)),
          ("nodes_before", .integer(build.boundGraph.nodes.count)),
          ("nodes_after", .integer(build.graph.nodes.count)),
          ("kernels", .integer(build.kernels.count)), ("steps", .integer(program.steps.count)),
          ("fused_nodes", .integer(fused)), ("arena_bytes", .integer(program.arenaBytes)),
          ("arena_lower_bound", .integer(program.arenaLowerBound)),
          ("code_bytes", .integer(build.code.count)), ("compile_ms", .rounded(total, digits: 3)),
          ("stages_ms", .object(stages)), ("passes", .list(build.passReports.map(Self.json))),
        ] + part)
      try Console.result("\(result)")
      return
    }
    try Console.result(
      "\(program.name) · \(program.function) for \(build.target.cpu) (\(build.target.isa))"
        + (cut == nil ? "" : " · the first part of the model")
    )
    try Console.result(
      table(
        (chosen.map { [["  sizes", "\($0) by default; --dim says others"]] } ?? []) + [
          [
            "  nodes",
            "\(build.boundGraph.nodes.count) before passes, \(build.graph.nodes.count) after \(counted(rewrites, "rewrite"))",
          ],
          [
            "  kernels",
            "\(build.kernels.count) in \(counted(program.steps.count, "step")), \(program.preparation.count) more run once; \(counted(fused, "node")) fused",
          ],
          ["  arena", program.arenaText],
          [
            "  constants",
            "\(size(build.constants.count)), prepared \(size(program.preparedBytes))",
          ],
          ["  code", size(build.code.count)],
          [
            "  work",
            "\(fixed(Double(program.flops) / 1e6, 2)) MFLOP, \(size(program.bytesMoved)) moved",
          ],
          [
            "  time",
            "\(fixed(total, 1)) ms: "
              + build.stages.map { "\($0.name) \(fixed($0.milliseconds, 1))" }.joined(
                separator: ", "),
          ],
          ["  written", path],
        ]
          + (cut.map { [["  cut", "where \($0); dlc run compiles what follows"]] } ?? [])))
  }

  private static func json(_ report: PassManager.Report) -> JSON {
    let fired = report.fired.sorted { $0.key < $1.key }.map { ($0.key, JSON.integer($0.value)) }
    return .object([
      ("pass", .text(report.pass)), ("ms", .rounded(report.milliseconds, digits: 3)),
      ("nodes", .integer(report.nodes)), ("fired", .object(fired)),
    ])
  }

  /// Each pass in order, with the nodes that it leaves and the rules that fired, most often first.
  private static func passes(_ reports: [PassManager.Report]) -> String {
    table(
      [["pass", "ms", "nodes", "rules that fired"]]
        + reports.map { report in
          let fired = report.fired.sorted { (-$0.value, $0.key) < (-$1.value, $1.key) }
          return [
            report.pass, fixed(report.milliseconds, 2), "\(report.nodes)",
            fired.map { "\($0.key) \($0.value)" }.joined(separator: ", "),
          ]
        })
  }

  /// What each kernel does, and why it does it so.
  private static func kernels(_ build: Build) -> [String] {
    let explanation = KernelExplanation(build.plan, build.target)
    return build.kernels.enumerated().map { number, kernel in
      let steps = build.program.steps.count { $0.kernel?.index == number }
      let preparing = build.program.preparation.count { $0.kernel?.index == number }
      let uses = [
        steps > 0 ? counted(steps, "step") : nil,
        preparing > 0 ? "\(counted(preparing, "step")) before all runs" : nil,
      ].compactMap(\.self).joined(separator: ", ")
      let head =
        "kernel \(kernel.name)\n  \(counted(kernel.tileCount, "tile")), \(kernel.flops) FLOP, \(size(kernel.bytesMoved)) moved, scratch \(size(kernel.localOffsets.total)); \(uses)\(kernel.finishesProducts ? "; finished while sums are in registers" : "")"
      let lines = explanation.lines(of: kernel, sections: build.sections[kernel.name] ?? [])
      return ([head] + lines.map { "  " + $0 }).joined(separator: "\n") + "\n"
    }
  }

  private func emit(_ stage: Stage, _ build: Build) throws {
    let program = build.program
    switch stage {
    case .graph: try Console.result(build.graph.text(), terminator: "")
    case .passes: try Console.result(Self.passes(build.passReports))
    case .regions: try Console.result(build.plan.text(), terminator: "")
    case .schedule:
      try Console.result(
        build.plan.schedules(build.target, alternatives: true), terminator: "")
    case .nests: for kernel in build.kernels { try Console.result(kernel.text) }
    case .kernels: for text in Self.kernels(build) { try Console.result(text) }
    case .program, .memory:
      if stage == .memory {
        try Console.result(
          "arena peak \(program.arenaBytes) bytes, lower bound \(program.arenaLowerBound)\(program.arenaRatio.map { " (\($0))" } ?? "")"
        )
        try Console.result(
          "prepared \(program.preparedBytes) bytes, constants \(build.constants.count), scratch \(program.scratchBytes) per worker"
        )
      }
      for (index, slot) in program.buffers.enumerated() {
        if stage == .memory, case .arena(let offset) = slot.place {
          let users = program.steps.indices.filter {
            program.steps[$0].buffers.contains(BufferID(index))
          }
          try Console.result(
            "b\(index) \(slot.byteCount) bytes at \(offset), steps \(users.first ?? 0)...\(users.last ?? 0)\(slot.origin.isEmpty ? "" : ", \(slot.origin)")"
          )
        } else if stage == .program {
          try Console.result(
            "b\(index) = \(slot.place.text) : \(TensorType(slot.type, sizes: slot.shape))")
        }
      }
      if stage == .program {
        for (index, step) in program.preparation.enumerated() {
          try Console.result("prepare \(index) \(step.text)")
        }
        for line in program.lines(program.instructions, "") { try Console.result(line) }
      }
    case .llvm, .asm, .object:
      let generator = CodeGenerator(build.target)
      let modules = generator.modules(build.kernels)
      let kind: EmissionKind = stage == .llvm ? .optimizedIR : stage == .asm ? .assembly : .object
      for (module, bytes) in zip(modules, try generator.compile(modules, kind, threads: 2)) {
        if stage == .object {
          let path = (output ?? ".") + "/\(module.name).o"
          try OutputFile.write(bytes, to: path)
          try Console.result(path)
        } else {
          try Console.result("; \(module.name)\n" + String(decoding: bytes, as: UTF8.self))
        }
      }
    }
  }
}
