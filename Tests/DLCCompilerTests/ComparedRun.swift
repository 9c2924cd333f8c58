import DLCCompiler
import DLCGraph
import DLCLowering
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// A module's first function, compiled and run, whose results were compared with the interpreter's.
struct ComparedRun {
  let build: Build
  let results: [String: Tensor]

  /// - Parameters:
  ///   - seed: Chooses the inputs, from -1 to 1.
  ///   - ulps: How far results may be off, in units of 1.
  init(_ module: Module, seed: UInt64 = 4, ulps: Double = 256) throws {
    let inputs = module.functions[0].inputs
    let arrays = Differential.arrays(inputs.map(\.type), range: -1...1, seed: seed)
    let given = Dictionary(uniqueKeysWithValues: zip(inputs.map(\.name), arrays))
    let want = try Interpreter().run(
      module, function: module.functions[0], inputs: given, states: [:], dimensions: [:]
    ).outputs
    build = try Objects.compiler().build(module, function: nil, dimensions: [:])
    let found = try build.executable.run(given)
    for ((name, a), (_, b)) in zip(found, want) {
      #expect(Differential.error(a, b, ulps: ulps, scale: 1) <= 1, "\(name)")
    }
    results = Dictionary(uniqueKeysWithValues: found.map { ($0.0, $0.1) })
  }

  /// The regions of the function's own graph and of those inside.
  var regions: [Region] {
    var list: [Region] = []
    build.plan.forEach { list.append($0.region) }
    return list
  }
}
