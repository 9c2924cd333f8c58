import DLCCompiler
import DLCFormats
package import DLCGraph
import DLCReference
import DLCRuntime
package import DLCTensor

/// Compares random programs with control flow against the interpreter.
package enum ProgramFuzzer {
  package struct Failure: Sendable {
    package var seed: UInt64
    package var type: DataType
    package var complaint: String
    /// The smallest program found that still fails, and the numbers that make it.
    package var numbers: [Int]
    package var text: String
  }

  package enum Outcome {
    case agrees
    /// The two precisions of the interpreter already differ: nothing can be said.
    case unstable
    case fails(String)
  }

  /// The float type that a seed's program has.
  package static func type(_ seed: UInt64) -> DataType { seed % 3 == 0 ? .float32 : .float64 }

  /// Tries one seed.
  package static func run(seed: UInt64, _ type: DataType) -> (outcome: Outcome, failure: Failure?) {
    var generator = NestedProgramGenerator(Choices(seed: seed), type)
    let outcome: Outcome
    do { outcome = check(try generator.module(), seed) } catch {
      outcome = .fails("the program cannot be built: \(error)")
    }
    guard case .fails(let complaint) = outcome else { return (outcome, nil) }
    let smallest = Choices.shrunk(generator.numbers, attempts: 150) { numbers in
      var generator = NestedProgramGenerator(Choices(numbers), type)
      guard let module = try? generator.module() else { return false }
      if case .fails = check(module, seed) { return true }
      return false
    }
    var last = NestedProgramGenerator(Choices(smallest), type)
    let text = (try? last.module().text) ?? ""
    return (
      outcome,
      Failure(seed: seed, type: type, complaint: complaint, numbers: smallest, text: text)
    )
  }

  /// Whether the compiled program gives what the interpreter gives, with the same bits for any number
  /// of threads, and files and text hold the whole of it.
  package static func check(_ module: Module, _ seed: UInt64) -> Outcome {
    do throws(DLCError) { return try compare(module, seed) } catch { return .fails("\(error)") }
  }

  private static func compare(_ module: Module, _ seed: UInt64) throws(DLCError) -> Outcome {
    if try Module(parsing: module.text) != module { return .fails("text does not round-trip") }
    let file = ModuleFile.encode(module)
    let decoded = try file.withUnsafeBytesTyped { (bytes) throws(DLCError) in
      try ModuleFile.decode(bytes, path: "random")
    }
    if decoded != module { return .fails("the file does not round-trip") }
    let function = module.functions[0]
    let arrays = Differential.arrays(function.inputs.map(\.type), range: -1.2...1.2, seed: seed)
    let inputs = Dictionary(uniqueKeysWithValues: zip(function.inputs.map(\.name), arrays))
    var states: [String: Tensor] = [:]
    for state in module.states {
      states[state.name] = state.initializer.value(state.type, name: state.name, seed: seed)
    }
    func interpreted(_ precision: Interpreter.Precision) throws(DLCError) -> [Tensor] {
      try Interpreter(precision).run(
        module, function: function, inputs: inputs, states: states, dimensions: [:]
      ).outputs.map(\.value)
    }
    let want = try interpreted(.float64)
    let isDouble = function.inputs[0].type.dataType == .float64
    var slack = 1e-9
    if !isDouble {
      // How far rounding to 24 bits can lead: values near a branch may go another way.
      let rounded = try interpreted(.declared)
      let worst = zip(rounded, want).map { distance($0, $1) }.max() ?? 0
      guard worst < 1e-3 else { return .unstable }
      slack = 1e-4 + 64 * worst
    }
    let build = try Compiler().build(module, function: nil, dimensions: [:])
    let names = Set(build.executable.states.map(\.name))
    try build.executable.setState(states.filter { names.contains($0.key) })
    let results = try build.executable.run(inputs, threads: 1)
    for (index, (got, expected)) in zip(results, want).enumerated() {
      let error = distance(got.value, expected)
      if !(error <= slack) {
        return .fails("output \(function.outputs[index].name) is off by \(error), \(slack) allowed")
      }
    }
    for threads in [2, 4] {
      let again = try build.executable.run(inputs, threads: threads)
      if !zip(results, again).allSatisfy({ $0.value == $1.value }) {
        return .fails("\(threads) threads give other bits")
      }
    }
    return .agrees
  }

  /// The largest difference relative to the size of the values, at least 1.
  private static func distance(_ a: Tensor, _ b: Tensor) -> Double {
    guard a.shape == b.shape else { return .infinity }
    var worst = 0.0
    for (x, y) in zip(a.doubles, b.doubles) {
      if x == y || x.isNaN && y.isNaN { continue }
      let error = abs(x - y) / max(1, abs(y))
      if error.isNaN { return .infinity }
      worst = max(worst, error)
    }
    return worst
  }
}
