import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import DLCReference
import DLCRuntime
import DLCTensor
import Foundation

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Runs a function on arrays.")

  @OptionGroup var model: ModelOptions
  @Option(help: "Arrays for the inputs, by name (.npz).") var inputs: String?
  @Option(help: "Values for the state, by name (.safetensors).") var params: String?
  @Option(help: "Where the results go (.npz); without it they are summarised.") var outputs: String?
  @Option(help: "Where the state after the run goes (.safetensors).") var state: String?
  @Option(help: "Worker threads; results do not depend on it.") var threads: Int?
  @Option(help: "The seed of initialisers.") var seed: UInt64 = 0
  @Flag(help: "Use the naive interpreter.") var reference = false

  func validate() throws {
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads must be between 1 and 1024")
    }
  }

  func run() throws {
    let arrays = try self.inputs.map { (path) throws(DLCError) in try Npz.read(path) } ?? []
    let values = try params.map { (path) throws(DLCError) in try Safetensors.read(path) } ?? []
    let loaded = try LoadedModel(model.model)
    let results: [(name: String, value: Tensor)]
    let after: [(name: String, value: Tensor)]
    if case .program(let contents) = loaded, !reference, try canRun(contents, arrays) {
      let executable = try Executable(contents)
      try set(values, on: executable)
      (results, after) = try execute(executable, arrays)
    } else {
      var module = try loaded.module
      let function = try module.selectFunction(model.function)
      for (name, value) in values { try module.setValue(value, of: name) }
      let sizes = try bind(module, function, arrays, values)
      if reference {
        (results, after) = try interpret(module, function, sizes, arrays)
      } else {
        let (executable, _) = try Compiler().load(
          module, function: function.name, dimensions: sizes, cache: .standard)
        (results, after) = try execute(executable, arrays)
      }
    }
    if let state { try Safetensors.write(after, to: state) }
    if let outputs {
      for (name, value) in results where value.dataType == .bfloat16 {
        let text = "dlc: '\(name)' is bfloat16, which NumPy has not: it is written as float32\n"
        FileHandle.standardError.write(Data(text.utf8))
      }
      try Npz.write(results, to: outputs)
    } else {
      print(summary(results))
    }
  }

  /// A program runs as it is when it was compiled for these sizes and this machine.
  private func canRun(_ contents: ProgramFile.Contents, _ arrays: [(name: String, value: Tensor)])
    throws -> Bool
  {
    if contents.module.isEmpty { return true }
    if !Executable.missingFeatures(contents.program).isEmpty { return false }
    if let name = model.function, name != contents.program.function { return false }
    if !model.dimensions.isEmpty { return false }
    for port in contents.program.inputs {
      guard let array = arrays.first(where: { $0.name == port.name }) else { return true }
      if array.value.shape != contents.program[port.buffer].shape { return false }
    }
    return true
  }

  private func set(_ values: [(name: String, value: Tensor)], on executable: Executable)
    throws(DLCError)
  {
    let known = Set(executable.states.map(\.name))
    let used = values.filter { known.contains($0.name) }
    try executable.setState(
      Dictionary(used.map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a }))
  }

  private func bind(
    _ module: Module, _ function: Function, _ arrays: [(name: String, value: Tensor)],
    _ values: [(name: String, value: Tensor)]
  ) throws -> [String: Int] {
    let declared = Dictionary(
      function.inputs.map { ($0.name, $0.type) }, uniquingKeysWith: { a, _ in a })
    var shapes: [(name: String, declared: TensorType, shape: [Int])] = []
    for (name, value) in arrays {
      guard let type = declared[name] else {
        throw DLCError(
          .binding, "function '\(function.name)' has no input '\(name)'",
          remedy: "its inputs are \(function.inputs.map(\.name).joined(separator: ", "))")
      }
      shapes.append((name, type, value.shape))
    }
    for state in module.states {
      if let value = values.first(where: { $0.name == state.name })?.value ?? state.value {
        shapes.append((state.name, state.type, value.shape))
      }
    }
    return try module.bind(explicit: try model.sizes, arrays: shapes)
  }

  private func execute(_ executable: Executable, _ arrays: [(name: String, value: Tensor)])
    throws(DLCError)
    -> (results: [(name: String, value: Tensor)], state: [(name: String, value: Tensor)])
  {
    try executable.initializeState(seed: seed)
    let inputs = Dictionary(arrays.map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    let results = try executable.run(inputs, threads: threads)
    return (results, executable.state.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
  }

  private func interpret(
    _ module: Module, _ function: Function, _ sizes: [String: Int],
    _ arrays: [(name: String, value: Tensor)]
  ) throws(DLCError) -> (
    results: [(name: String, value: Tensor)], state: [(name: String, value: Tensor)]
  ) {
    try function.graph.bound(to: sizes).requireMemory(physicalMemory)
    var states: [String: Tensor] = [:]
    for state in module.states where function.stateNames.contains(state.name) {
      let type = TensorType(
        state.type.dataType,
        try state.type.shape.mapThrowing { (d) throws(DLCError) in Dimension(try d.evaluate(sizes))
        })
      states[state.name] =
        state.value ?? state.initializer.value(type, name: state.name, seed: seed)
    }
    let (results, updates) = try Interpreter().run(
      module, function: function,
      inputs: Dictionary(arrays.map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a }),
      states: states, dimensions: sizes)
    states.merge(updates, uniquingKeysWith: { $1 })
    return (results, states.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
  }

  private func summary(_ results: [(name: String, value: Tensor)]) -> String {
    var rows = [["output", "type", "min", "mean", "max", "first values"]]
    for (name, value) in results {
      let numbers = value.doubles
      let mean = numbers.isEmpty ? Double.nan : numbers.reduce(0, +) / Double(numbers.count)
      func short(_ x: Double?) -> String {
        x.map { value.dataType.isFloat ? fixed($0, 6) : fixed($0, 0) } ?? "-"
      }
      rows.append([
        name, "\(value.type)", short(numbers.min()), numbers.isEmpty ? "-" : fixed(mean, 6),
        short(numbers.max()),
        numbers.prefix(5).map { short($0) }.joined(separator: " "),
      ])
    }
    return table(rows)
  }
}

extension Array {
  func mapThrowing<T>(_ body: (Element) throws(DLCError) -> T) throws(DLCError) -> [T] {
    var result: [T] = []
    for element in self { result.append(try body(element)) }
    return result
  }
}
