public import DLCCompiler
package import DLCFormats
import DLCGraph
import DLCReference
public import DLCRuntime
public import DLCTensor

/// Runs an ONNX model on arrays: the graph is imported for the sizes of the arrays, compiled, and kept. Where shapes
/// depend on data it is cut: one part runs, and the next is imported for what that gave.
public final class ONNXSession {
  package let model: ONNXModel
  private let compiler: Compiler
  private let cache: CompileCache?
  private let main: NodeList
  private let isReference: Bool
  /// The program of the first part, compiled ahead.
  private let ahead: ProgramFile.Contents?
  private var stages = StageCache()
  /// The programs of a run that is recorded.
  fileprivate var record: [Part]?
  /// How many parts were compiled so far; those that a cache on disk had count too.
  public private(set) var compilationCount = 0

  /// - Throws: `.graph` when the model does not fit together.
  /// - Parameters:
  ///   - isReference: whether the naive interpreter runs the parts.
  ///   - ahead: the program of the first part, where it was compiled ahead.
  package init(
    _ model: ONNXModel, compiler: Compiler = Compiler(), cache: CompileCache? = .standard,
    isReference: Bool = false, ahead: ProgramFile.Contents? = nil
  ) throws(DLCError) {
    self.isReference = isReference
    self.ahead = ahead
    self.model = model
    self.compiler = compiler
    self.cache = cache
    main = try NodeList(model.graph, of: model, outside: [])
  }

  /// Opens a model, or the program of a model that runs in parts, which carries it.
  /// - Throws: `.file`, `.format` or `.graph` when the file is missing, damaged or does not fit together.
  public convenience init(
    contentsOf path: String, cache: CompileCache? = .standard, file: StaticString = #fileID,
    line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      let file = try MappedFile(path)
      if ProgramFile.isProgram(file.bytes) {
        let contents = try ProgramFile.read(file)
        guard let model = try ONNXModel(carriedBy: contents) else {
          throw DLCError(
            .unsupported, "the program carries no ONNX model", at: path,
            remedy: "open it with Executable")
        }
        try self.init(model, cache: cache, ahead: contents)
      } else {
        try self.init(try ONNXModel(file), cache: cache)
      }
    } catch { throw error.called(file, line) }
  }

  /// The results for arrays by the names of inputs, in the model's order.
  /// - Parameter seed: what random operators without a seed of their own draw under.
  /// - Throws: `.binding` for arrays that do not fit, `.unsupported` for operators that are not imported.
  public func run(
    _ inputs: [String: Tensor], threads: Int? = nil, seed: UInt64 = 0,
    file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> [(name: String, value: Tensor)] {
    do throws(DLCError) {
      return try run(inputs, sizes: [:], threads: threads, seed: seed)
    } catch {
      throw error.called(file, line)
    }
  }

  /// A program that a run goes through.
  package struct Part {
    package let executable: Executable
    /// The arrays of its first run.
    package let inputs: [String: Tensor]
    /// How often it runs.
    package fileprivate(set) var count = 1
  }

  /// The programs that a run goes through, in order.
  /// - Throws: as `run`.
  package func parts(
    _ inputs: [String: Tensor], sizes: [String: Int], threads: Int?, seed: UInt64
  ) throws(DLCError) -> [Part] {
    record = []
    defer { record = nil }
    _ = try run(inputs, sizes: sizes, threads: threads, seed: seed)
    return record ?? []
  }

  fileprivate func note(_ executable: Executable, _ inputs: [String: Tensor]) {
    if let index = record?.firstIndex(where: { $0.executable === executable }) {
      record?[index].count += 1
    } else {
      record?.append(Part(executable: executable, inputs: inputs))
    }
  }

  /// - Parameter sizes: what dimensions are said to be, which the arrays must agree with.
  package func run(
    _ inputs: [String: Tensor], sizes: [String: Int], threads: Int?, seed: UInt64
  ) throws(DLCError) -> [(name: String, value: Tensor)] {
    do throws(DLCError) {
      let given = try model.checked(inputs, sizes)
      var list = main
      for name in given.keys { list.initializers[name] = nil }
      let run = SessionRun(session: self, threads: threads, seed: seed)
      let wanted = model.graph.outputs.map(\.name)
      let results = try run.execute(list, given, wanted: wanted)
      return wanted.map { ($0, results[$0]!) }
    } catch {
      var error = error
      if error.remedy.isEmpty, error.code == .graph || error.code == .type {
        error.remedy = model.fixedSizes(inputs)
      }
      throw error.code == .binding || error.location.contains(model.path)
        ? error : error.within(model.path)
    }
  }

  /// The executable of a stage, compiled when there is none for these types and values.
  fileprivate func stage(
    _ list: NodeList, _ env: [String: Tensor], statics: Set<String>, wanted: [String]
  ) throws(DLCError) -> CompiledStage {
    let names = env.keys.filter { list.reads.contains($0) || wanted.contains($0) }.sorted()
    let shape = StageCache.Shape(
      place: list.place, wanted: wanted, types: names.map { "\($0): \(env[$0]!.type)" },
      statics: statics.sorted())
    if let known = stages.find(shape, env) { return known }
    let builder = StageBuilder(model: model, candidates: env)
    let stage = try builder.build(
      list, types: names.map { ($0, env[$0]!.type) }, statics: statics, wanted: wanted)
    var executable: Executable?
    if let module = stage.module, !isReference {
      executable = ahead.flatMap { Executable(part: $0, of: module) }
      if executable == nil {
        compilationCount += 1
        executable = try compiler.load(module, function: "forward", dimensions: [:], cache: cache)
          .executable
      }
    }
    let compiled = CompiledStage(stage: stage, executable: executable, isReference: isReference)
    stages.insert(compiled, shape, env)
    return compiled
  }
}

/// A stage with its program; none when nothing is computed before the cut.
private struct CompiledStage {
  var stage: Stage
  var executable: Executable?
  var isReference: Bool

  func run(_ arrays: [String: Tensor], threads: Int?) throws(DLCError) -> [(
    name: String, value: Tensor
  )] {
    if let executable { return try executable.run(arrays, threads: threads) }
    guard isReference, let module = stage.module, let function = module.functions.first else {
      return []
    }
    var states: [String: Tensor] = [:]
    for state in module.states { states[state.name] = state.value }
    return try Interpreter().run(
      module, function: function, inputs: arrays, states: states, dimensions: [:]
    ).outputs
  }
}

/// The parts that were used last, by shapes and by the values of what is bound by value.
private struct StageCache {
  struct Shape: Equatable {
    var place: [String]
    var wanted: [String]
    var types: [String]
    var statics: [String]
  }

  private struct Entry {
    var shape: Shape
    var values: [String: Tensor]
    var stage: CompiledStage
    var used: Int
  }

  private var entries: [Entry] = []
  private var clock = 0
  /// So many are kept.
  static let limit = 16

  mutating func find(_ shape: Shape, _ env: [String: Tensor]) -> CompiledStage? {
    guard
      let index = entries.firstIndex(where: { entry in
        entry.shape == shape && entry.values.allSatisfy { env[$0.key] == $0.value }
      })
    else { return nil }
    clock += 1
    entries[index].used = clock
    return entries[index].stage
  }

  mutating func insert(_ stage: CompiledStage, _ shape: Shape, _ env: [String: Tensor]) {
    if entries.count == Self.limit {
      entries.remove(at: entries.indices.min { entries[$0].used < entries[$1].used }!)
    }
    clock += 1
    let values = env.filter { stage.stage.boundByValue.contains($0.key) }
    entries.append(Entry(shape: shape, values: values, stage: stage, used: clock))
  }
}

/// One run: stage after stage.
private struct SessionRun {
  let session: ONNXSession
  let threads: Int?
  let seed: UInt64

  func execute(_ list: NodeList, _ given: [String: Tensor], wanted: [String]) throws(DLCError)
    -> [String: Tensor]
  {
    var list = list
    var env = given
    var statics: Set<String> = []
    while true {
      let compiled = try session.stage(list, env, statics: statics, wanted: wanted)
      let stage = compiled.stage
      var progress = try run(compiled, &env)
      guard !stage.later.nodes.isEmpty else { break }
      list = stage.later
      if let index = list.nodes.firstIndex(where: { node in
        node.outputs.contains(where: stage.hosted.contains)
          && node.reads.allSatisfy { env[$0] != nil || list.initializers[$0] != nil }
      }) {
        var rest = list.nodes
        try host(rest.remove(at: index), list.initializers, &env)
        progress = true
        list = NodeList(nodes: rest, initializers: list.initializers)
      }
      let known = statics.union(stage.needed.filter { env[$0] != nil })
      guard progress || known != statics else {
        throw DLCError(.unsupported, stage.reason)
      }
      // What is bound by value is that for the node that needs it; later ones ask anew.
      statics = known.filter { name in list.nodes.contains { $0.inputs.contains(name) } }
    }
    var results: [String: Tensor] = [:]
    for name in wanted {
      guard let value = env[name] else {
        throw DLCError(.execution, "result '\(name)' was not computed")
      }
      results[name] = value
    }
    return results
  }

  /// Runs a stage and adds what it gives; returns whether that is anything.
  private func run(_ compiled: CompiledStage, _ env: inout [String: Tensor]) throws(DLCError)
    -> Bool
  {
    guard compiled.stage.module != nil else { return false }
    var arrays: [String: Tensor] = [:]
    for name in compiled.stage.inputs { arrays[name] = env[name] }
    if let name = compiled.stage.seedInput {
      arrays[name] = Tensor(.int64, [], truncating: [Int64(bitPattern: seed)])
    }
    if let executable = compiled.executable { session.note(executable, arrays) }
    let results = try compiled.run(arrays, threads: threads)
    for (name, value) in results { env[name] = value }
    if let ranges = env.removeValue(forKey: Stage.checksName)?.integers {
      for (index, check) in compiled.stage.checks.enumerated() {
        try check.require(ranges[2 * index], ranges[2 * index + 1])
      }
    }
    for (name, bound) in compiled.stage.bounds {
      guard let value = env[name], let count = env.removeValue(forKey: bound.count)?.integers.first
      else { continue }
      env[name] = try value.prefix(Int(count), axis: bound.axis)
    }
    return results.contains { $0.name != Stage.checksName }
  }

  /// Runs a loop whose body is no graph of fixed shapes, one iteration after the other.
  private func host(
    _ node: ONNXNode, _ initializers: [String: ONNXTensor], _ env: inout [String: Tensor]
  ) throws(DLCError) {
    guard node.type == "Loop", case .graph(let body)? = node.attributes["body"] else {
      throw DLCError(.unsupported, "\(node.title) cannot be run in parts")
    }
    let scope = env
    func value(_ index: Int) -> Tensor? {
      guard index < node.inputs.count, !node.inputs[index].isEmpty else { return nil }
      return scope[node.inputs[index]] ?? initializers[node.inputs[index]]?.value
    }
    let limit = value(0).map { $0.integers.first ?? 0 } ?? Int64.max
    var condition = value(1).map { $0.integers.first != 0 } ?? true
    var carried: [Tensor] = []
    for index in node.inputs.indices.dropFirst(2) {
      guard let tensor = value(index) else {
        throw DLCError(.execution, "'\(node.inputs[index])' was not computed", at: node.title)
      }
      carried.append(tensor)
    }
    var list = try NodeList(body, of: session.model, outside: body.freeNames)
    for name in body.freeNames where list.initializers[name] == nil {
      list.initializers[name] = initializers[name]
    }
    var stacks = [[Tensor]](repeating: [], count: body.outputs.count - carried.count - 1)
    let wanted = body.outputs.map(\.name)
    var step: Int64 = 0
    while condition, step < limit {
      var inner = env.filter { body.freeNames.contains($0.key) }
      inner[body.inputs[0].name] = Tensor(.int64, [], truncating: [step])
      inner[body.inputs[1].name] = Tensor(.bool, [], truncating: [1])
      for (input, tensor) in zip(body.inputs.dropFirst(2), carried) { inner[input.name] = tensor }
      let results = try execute(list, inner, wanted: wanted)
      condition = results[wanted[0]]!.integers.first != 0
      carried = wanted[1..<1 + carried.count].map { results[$0]! }
      for (index, name) in wanted[(carried.count + 1)...].enumerated() {
        stacks[index].append(results[name]!)
      }
      step += 1
    }
    for (index, name) in node.outputs.enumerated() where !name.isEmpty {
      if index < carried.count {
        env[name] = carried[index]
      } else {
        let info = body.outputs[index + 1]
        env[name] = try Tensor(stacking: stacks[index - carried.count], otherwise: info)
      }
    }
  }
}

extension Tensor {
  /// The first `count` elements along an axis.
  fileprivate func prefix(_ count: Int, axis: Int) throws(DLCError) -> Tensor {
    guard count < shape[axis] else { return self }
    var size = shape
    size[axis] = max(count, 0)
    let result = try Tensor(reserving: dataType, size, for: "a result")
    let outer = shape[..<axis].reduce(1, *)
    let inner = shape[(axis + 1)...].reduce(dataType.byteCount, *)
    for row in 0..<outer where size[axis] > 0 {
      let source = storage.bytes[
        row * shape[axis] * inner..<(row * shape[axis] + size[axis]) * inner]
      UnsafeMutableRawBufferPointer(
        rebasing: result.storage.bytes[row * size[axis] * inner..<(row + 1) * size[axis] * inner]
      ).copyMemory(from: UnsafeRawBufferPointer(rebasing: source))
    }
    return result
  }

  /// Tensors of one shape along a new first axis.
  fileprivate init(stacking list: [Tensor], otherwise info: ONNXValueInfo) throws(DLCError) {
    guard let first = list.first else {
      let shape = (info.shape ?? []).map { if case .size(let n) = $0 { n } else { 0 } }
      self.init(zeros: info.elementType.dataType ?? .float32, [0] + shape)
      return
    }
    guard list.allSatisfy({ $0.type == first.type }) else {
      throw DLCError(.execution, "what iterations stack as '\(info.name)' is of different shapes")
    }
    try self.init(reserving: first.dataType, [list.count] + first.shape, for: "a result")
    for (index, tensor) in list.enumerated() {
      UnsafeMutableRawBufferPointer(
        rebasing: storage.bytes[index * first.byteCount..<(index + 1) * first.byteCount]
      ).copyMemory(from: UnsafeRawBufferPointer(tensor.storage.bytes))
    }
  }
}
