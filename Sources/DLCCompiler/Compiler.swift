import DLCCodegen
public import DLCGraph
package import DLCKernel
package import DLCLowering
package import DLCPasses
package import DLCProgram
public import DLCRuntime
public import DLCTensor

/// From a function of a module to an executable: the whole pipeline, in order.
///
/// ```swift
/// let executable = try Compiler().compile(module, function: "forward", dimensions: ["n": 2])
/// try executable.initializeState(seed: 1)
/// let results = try executable.run(["x": Tensor(zeros: .float32, [2, 4])])
/// ```
public struct Compiler: Sendable {
  /// How it compiles.
  public var options = CompilerOptions()

  /// A compiler for this machine.
  public init() {}
  /// A compiler with options.
  public init(_ options: CompilerOptions) { self.options = options }

  /// Compiles a function for fixed sizes.
  /// - Parameters:
  ///   - name: the function; nil: the module's first.
  ///   - dimensions: sizes of named dimensions; the module's defaults stand for the others.
  /// - Throws: `.graph`, `.type` or `.dimension` for what is wrong with the model, `.code` when no
  ///   code can be made (libLLVM is missing).
  public func compile(
    _ module: Module, function name: String? = nil, dimensions: [String: Int] = [:],
    file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError)
    -> Executable
  {
    do throws(DLCError) {
      return try build(module, function: name, dimensions: dimensions).executable
    } catch {
      throw error.called(file, line)
    }
  }

  /// Compiles and keeps what the command line reports about it.
  package func build(_ module: Module, function name: String?, dimensions: [String: Int])
    throws(DLCError) -> Build
  {
    var log = StageLog()
    let front = try planned(module, name, dimensions, &log)
    var assembled = front.plan.assembled
    try verify(assembled.kernels)
    try assembled.program.requireArena(
      options.memoryLimit, at: "module \(module.name), function \(front.function.name)")
    let generator = CodeGenerator(front.target, store: options.objectStore)
    let code = try log.time("code") { () throws(DLCError) in
      try generator.generate(assembled.kernels, threads: options.threads)
    }
    assembled.program.describe(module, front.function, front.target, code)
    assembled.program.schedules = front.plan.tree.schedules(front.target, alternatives: false)
    let states = assembled.program.states
    let executable = try log.time("load") { () throws(DLCError) in
      try assembled.executable(code, states: module.storedValues(states))
    }
    return Build(
      executable: executable, target: front.target, boundGraph: front.bound, graph: front.graph,
      plan: front.plan.tree, kernels: assembled.kernels, sections: assembled.sections,
      program: assembled.program,
      constants: assembled.constants,
      code: code.bytes, passReports: front.reports, stages: log.stages)
  }

  /// The program of a function without its machine code: the steps, and where each buffer lies.
  package func outline(_ module: Module, function name: String?, dimensions: [String: Int])
    throws(DLCError) -> Program
  {
    var log = StageLog()
    let front = try planned(module, name, dimensions, &log)
    var program = front.plan.assembled.program
    program.describe(module, front.function, front.target)
    return program
  }

  /// What comes before machine code.
  private struct Front {
    var function: Function
    var target: Target
    var bound: Graph
    var graph: Graph
    var plan: Plan
    var reports: [PassManager.Report]
  }

  private func planned(
    _ module: Module, _ name: String?, _ dimensions: [String: Int], _ log: inout StageLog
  ) throws(DLCError) -> Front {
    let function = try module.selectFunction(name)
    let sizes = try module.bind(explicit: dimensions)
    try options.check()
    let target = try log.time("target") { () throws(DLCError) in try options.resolvedTarget() }
    let bound = try log.time("bind") { () throws(DLCError) in try function.graph.bound(to: sizes) }
    try bound.requireMemoryForEach()
    let (graph, improving) = try log.time("passes") { () throws(DLCError) in
      try run(options.passManager, bound)
    }
    let (legal, legalizing) = try log.time("legalise") { () throws(DLCError) in
      try run(PassManager(StandardPasses.legalizing), graph)
    }
    let states = try module.ports(of: legal, sizes)
    let plan = try log.time("plan") { () throws(DLCError) in
      try Rematerialization(limit: options.memoryLimit).fit(legal) {
        Plan($0, states, target, options.schedules)
      }
    }
    return Front(
      function: function, target: target, bound: bound, graph: graph, plan: plan,
      reports: improving + legalizing)
  }

  private func run(_ manager: PassManager, _ graph: Graph) throws(DLCError) -> (
    Graph, [PassManager.Report]
  ) {
    var manager = manager
    let result = try manager.run(graph)
    return (result, manager.reports)
  }

  /// Kernels are checked after lowering: every index stays inside its memory.
  private func verify(_ kernels: [Kernel]) throws(DLCError) {
    guard options.verifies else { return }
    for kernel in kernels {
      if let violation = kernel.violations().first {
        throw DLCError(.code, "the lowered kernel is not sound: \(violation)", at: kernel.name)
      }
    }
  }
}

extension Program {
  /// Throws when the arena is larger than the limit, naming the largest values in it.
  func requireArena(_ limit: Int, at place: String) throws(DLCError) {
    guard arenaBytes > limit else { return }
    let largest = buffers.filter { if case .arena = $0.place { true } else { false } }
      .sorted { $0.byteCount > $1.byteCount }.prefix(3)
      .map { "\(TensorType($0.type, sizes: $0.shape)) (\($0.byteCount) bytes)" }
    throw DLCError(
      .memory,
      "the arena needs \(arenaBytes) bytes, \(arenaLowerBound) of them live together, and the limit is \(limit)",
      at: place,
      remedy:
        "the largest values are \(largest.joined(separator: ", ")): bind smaller sizes or raise the limit"
    )
  }
}

/// A graph partitioned, lowered and assembled: everything but machine code.
struct Plan {
  var tree: GraphPlan
  var assembled: AssembledProgram

  init(_ graph: Graph, _ states: [StatePort], _ target: Target, _ book: ScheduleBook) {
    tree = GraphPlan(graph, target, book)
    assembled = ProgramAssembly.assemble(tree, states: states, target)
  }
}

/// What a compilation made, stage by stage.
package struct Build: Sendable {
  package var executable: Executable
  package var target: Target
  package var boundGraph: Graph
  package var graph: Graph
  /// The legal form of the graph in regions, with the graphs inside of it.
  package var plan: GraphPlan
  package var kernels: [Kernel]
  /// Of each kernel that was merged from others their names.
  package var sections: [String: [String]]
  package var program: Program
  package var constants: [UInt8]
  package var code: [UInt8]
  package var passReports: [PassManager.Report]
  package var stages: [(name: String, milliseconds: Double)]
}

/// The time that each stage takes.
struct StageLog {
  private(set) var stages: [(name: String, milliseconds: Double)] = []

  mutating func time<R>(_ name: String, _ body: () throws(DLCError) -> R) throws(DLCError) -> R {
    let start = ContinuousClock.now
    let result = try body()
    record(name, start)
    return result
  }

  mutating func time<R>(_ name: String, _ body: () -> R) -> R {
    let start = ContinuousClock.now
    let result = body()
    record(name, start)
    return result
  }

  private mutating func record(_ name: String, _ start: ContinuousClock.Instant) {
    let parts = (ContinuousClock.now - start).components
    stages.append((name, Double(parts.seconds) * 1e3 + Double(parts.attoseconds) * 1e-15))
  }
}
