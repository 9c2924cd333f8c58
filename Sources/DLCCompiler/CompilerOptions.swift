package import DLCCodegen
package import DLCGraph
package import DLCKernel
package import DLCLowering
import DLCPasses
import DLCProgram
import DLCRuntime
package import DLCTensor

/// How a function is compiled.
public struct CompilerOptions: Sendable {
  /// "native", a level of the psABI such as "x86-64-v3", or the name of a CPU that dlc knows the level of.
  public var target = "native"
  /// Threads that compile kernels.
  public var threads = 2
  /// Passes that are left out, by name.
  public var disabledPasses: Set<String> = []
  /// The last pass to run, by name.
  package var stopAfter: String?
  /// A pass name or "all": the graph is printed after it.
  package var printAfter: String?
  /// The most bytes that the arena of a run may take; a program that needs more is refused.
  public var memoryLimit = Int.max
  /// At most so many optional rewrites, to find the one that does harm.
  package var rewriteLimit = Int.max
  /// Check graphs after passes and kernels after lowering.
  package var verifies = true
  /// Receives what `printAfter` prints.
  package var print: @Sendable (String) -> Void = { _ in }
  package var objectStore = ObjectStore.none
  /// Schedules that stand in the place of what the cost model chooses.
  package var schedules = ScheduleBook()

  /// All passes, for this machine, with two threads.
  public init() {}

  /// What of the options decides which program comes out.
  var key: String {
    [
      target, "passes \(StandardPasses.all.map(\.name).joined(separator: ","))",
      "without \(disabledPasses.sorted().joined(separator: ","))", "to \(stopAfter ?? "the last")",
      "rewrites \(rewriteLimit)", "arena \(memoryLimit)",
      schedules.schedules.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.text)" }.joined(
        separator: "\n"),
    ].joined(separator: "\n")
  }

  var passManager: PassManager {
    var manager = PassManager(StandardPasses.all)
    manager.disabled = disabledPasses
    manager.printAfter = printAfter
    manager.stopAfter = stopAfter
    manager.rewriteLimit = rewriteLimit
    manager.verifies = verifies
    manager.print = print
    return manager
  }

  /// - Throws: `.usage` for a pass that there is none of, or a number out of range.
  func check() throws(DLCError) {
    let names = StandardPasses.all.map(\.name)
    let asked =
      disabledPasses.sorted()
      + [stopAfter, printAfter == "all" ? nil : printAfter].compactMap(\.self)
    for name in asked where !names.contains(name) {
      throw DLCError(
        .usage, "there is no pass '\(name)'", remedy: Spelling.remedy(for: name, among: names))
    }
    for (what, number, least) in [
      ("threads", threads, 1), ("memory limit", memoryLimit, 0), ("rewrite limit", rewriteLimit, 0),
    ] where number < least {
      throw DLCError(
        .usage, "the \(what) of a compilation must be at least \(least), not \(number)")
    }
  }

  package func resolvedTarget() throws(DLCError) -> Target {
    let library = try LLVMLibrary()
    let host = library.host
    if target == "native" || target == host.cpu { return host }
    guard let level = CompilerOptions.levels[target], host.architecture == .x86_64 else {
      throw DLCError(
        .usage, "'\(target)' is not a target of this machine",
        remedy:
          "use native\(host.architecture == .x86_64 ? ", " + CompilerOptions.levels.keys.sorted().joined(separator: ", ") : "")"
      )
    }
    return Target(
      triple: host.triple, cpu: target, featureText: CompilerOptions.features(level),
      cores: host.cores)
  }

  /// The level of the psABI's for x86-64 that each CPU has, of those that dlc knows.
  private static let levels = [
    "x86-64-v2": 2, "x86-64-v3": 3, "x86-64-v4": 4, "haswell": 3, "broadwell": 3, "skylake": 3,
    "znver1": 3, "znver2": 3, "znver3": 3, "znver4": 4, "znver5": 4, "skylake-avx512": 4,
    "cascadelake": 4, "icelake-server": 4, "sapphirerapids": 4, "emeraldrapids": 4,
    "graniterapids": 4,
  ]

  /// What dlc makes use of in a level.
  private static func features(_ level: Int) -> String {
    let added = [
      2: "+sse4.1,+sse4.2", 3: "+avx,+avx2,+fma,+f16c,+bmi,+bmi2",
      4: "+avx512f,+avx512bw,+avx512dq,+avx512vl",
    ]
    return (2...level).map { added[$0]! }.joined(separator: ",")
  }
}

extension Module {
  /// The named function, or the only one there is.
  package func selectFunction(_ name: String?) throws(DLCError) -> Function {
    if let name {
      guard let function = function(name) else {
        throw DLCError(
          .graph, "module '\(self.name)' has no function '\(name)'",
          remedy: Spelling.remedy(for: name, among: functions.map(\.name)))
      }
      return function
    }
    if let function = functions.count == 1 ? functions[0] : function("forward") { return function }
    let known = functions.map(\.name).joined(separator: ", ")
    throw DLCError(
      .usage, "module '\(self.name)' has \(known.isEmpty ? "no function" : "several functions")",
      remedy: known.isEmpty ? "" : "choose one of \(known)")
  }

  /// The states that a graph reads or updates, as the program lists them.
  func ports(of graph: Graph, _ sizes: [String: Int]) throws(DLCError) -> [StatePort] {
    var names = Set(graph.arguments.filter { $0.kind == .state }.map(\.name))
    names.formUnion(graph.updates.map(\.name))
    var ports: [StatePort] = []
    for state in states where names.contains(state.name) {
      let type = try state.type.substitute(sizes)
      let (initializer, arguments) = state.initializer.encoded
      ports.append(
        StatePort(
          name: state.name, type: type.dataType, shape: type.sizes, isUpdated: false,
          initializer: initializer,
          initializerArguments: arguments, isParameter: state.isParameter))
    }
    return ports
  }

  /// The values that the module stores, where they have the bound type.
  func storedValues(_ ports: [StatePort]) throws(DLCError) -> [String: Tensor] {
    var values: [String: Tensor] = [:]
    let stored = Dictionary(states.map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    for port in ports {
      guard let value = stored[port.name] ?? nil else { continue }
      guard value.dataType == port.type, value.shape == port.shape else {
        throw DLCError(
          .binding,
          "the stored value of '\(port.name)' is \(value.type), the sizes bound now ask for \(port.shape)"
        )
      }
      values[port.name] = value
    }
    return values
  }
}

extension Program {
  /// Fills in what the program is called, what it needs, and where its kernels are.
  mutating func describe(
    _ module: Module, _ function: Function, _ target: Target, _ code: CodeImage
  ) {
    describe(module, function, target)
    symbols = code.symbols.map { CodeSymbol($0.key, $0.value) }
      .sorted { $0.range.lowerBound < $1.range.lowerBound }
    for index in kernels.indices {
      kernels[index].offset = code.symbols[kernels[index].name]!.lowerBound
    }
  }

  /// The same without machine code.
  mutating func describe(_ module: Module, _ function: Function, _ target: Target) {
    name = module.name
    self.function = function.name
    triple = target.triple
    cpu = target.cpu
    features = target.neededFeatures
  }
}

extension Target {
  /// Instruction sets that the code may use, in the spelling that the runtime checks.
  var neededFeatures: [String] {
    Feature.allCases.filter { $0.isChecked && features.contains($0) }.map(\.rawValue)
  }
}

extension AssembledProgram {
  func executable(_ code: CodeImage, states: [String: Tensor]) throws(DLCError) -> Executable {
    let memory = try code.bytes.withUnsafeBytesTyped { (bytes) throws(DLCError) in
      try CodeMemory(bytes)
    }
    let storage = TensorStorage(byteCount: constants.count)
    constants.withUnsafeBytes { storage.bytes.copyMemory(from: $0) }
    return try Executable(program, code: memory, constants: storage, prepared: nil, states: states)
  }
}
