import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCZoo
import Foundation
import Testing

@Suite struct RandomGraphTests {
  /// Compiled equals reference, bits do not depend on threads, text and file round trips hold, and no
  /// two buffers that are live together overlap. A failing graph is shrunk before it is reported.
  @Test(arguments: 0..<4) func compiledEqualsReference(_ part: Int) throws {
    for seed in part * 30..<(part + 1) * 30 {
      for nodes in [3, 8, 16] {
        guard let complaint = try Self.complaint(seed, nodes) else { continue }
        var smallest = (nodes, complaint)
        for fewer in 1..<nodes {
          if let c = try Self.complaint(seed, fewer) {
            smallest = (fewer, c)
            break
          }
        }
        var generator = GraphGenerator(seed: UInt64(seed))
        Issue.record(
          "seed \(seed), \(smallest.0) nodes: \(smallest.1)\n\(try generator.module(nodes: smallest.0).text)"
        )
        return
      }
    }
  }

  static func complaint(_ seed: Int, _ nodes: Int) throws -> String? {
    var generator = GraphGenerator(seed: UInt64(seed))
    let module = try generator.module(nodes: nodes)
    if try Module(parsing: module.text) != module { return "text does not round-trip" }
    let bytes = ModuleFile.encode(module)
    if try bytes.withUnsafeBytes({ try ModuleFile.decode($0, path: "m") }) != module {
      return "file does not round-trip"
    }
    let function = module.functions[0]
    let arrays = Differential.arrays(
      function.inputs.map(\.type), range: -1.5...1.5, seed: UInt64(seed))
    let inputs = Dictionary(uniqueKeysWithValues: zip(function.inputs.map(\.name), arrays))
    var states: [String: Tensor] = [:]
    for state in module.states {
      states[state.name] = state.initializer.value(state.type, name: state.name, seed: 1)
    }
    let (expected, _) = try Interpreter(.float64).run(
      module, function: function, inputs: inputs, states: states, dimensions: [:])
    let build: Build
    do { build = try Compiler().build(module, function: nil, dimensions: [:]) } catch {
      return "\(error)"
    }
    try build.executable.setState(
      states.filter { name, _ in build.executable.states.contains { $0.name == name } })
    let results = try build.executable.run(inputs, threads: 1)
    for threads in [2, 4] {
      let again = try build.executable.run(inputs, threads: threads)
      if !zip(results, again).allSatisfy({ $0.value == $1.value }) {
        return "\(threads) threads give other bits"
      }
    }
    for (got, want) in zip(results, expected) {
      // Rounding grows with depth; argmax may flip between neighbours only where the graph has one.
      let hasJump = function.graph.nodes.contains {
        ["argmax", "compare"].contains($0.operation.mnemonic)
      }
      let error = Differential.error(got.value, want.value, ulps: 64 * Double(nodes), scale: 1)
      if error > 1 && !(hasJump && error < 1e7) {
        return "\(got.name) is off by \(error) times the tolerance"
      }
    }
    return nil
  }
}

@Suite struct DigitsTests {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../Graphs").standardized.path

  @Test(arguments: ["digits_mlp", "digits_cnn"]) func equalsPyTorch(_ name: String) throws {
    let module = try Module(contentsOf: "\(Self.folder)/\(name).pb")
    let executable = try Compiler().compile(module)
    try executable.setState(
      Dictionary(
        uniqueKeysWithValues: Safetensors.read("\(Self.folder)/\(name)_weights.safetensors").map {
          ($0.name, $0.value)
        }))
    let data = Dictionary(
      uniqueKeysWithValues: try Npz.read("\(Self.folder)/digits_test.npz").map {
        ($0.name, $0.value)
      })
    let expected = try Npz.read("\(Self.folder)/\(name)_expected.npz")[0].value.doubles
    let one = try executable.run(["images": data["images"]!], threads: 1)
    for threads in [2, 4] {
      let more = try executable.run(["images": data["images"]!], threads: threads)
      #expect(zip(one, more).allSatisfy { $0.value == $1.value })
    }
    let size = expected.map { abs($0) }.max()!
    for (got, want) in zip(one[0].value.doubles, expected) {
      #expect(abs(got - want) <= 1e-5 * max(1, size / 4))
    }
    let predicted = one[1].value.integers
    for row in 0..<540 {
      let logits = expected[row * 10..<row * 10 + 10]
      #expect(Int(predicted[row]) == logits.firstIndex(of: logits.max()!)! - logits.startIndex)
    }
    let labels = data["labels"]!.integers
    #expect(zip(predicted, labels).filter { $0 == $1 }.count >= 495)
  }
}

@Suite struct ProgramTests {
  static func temporary() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent("dlc-\(UUID().uuidString)").path
  }

  static func counter() throws -> Module {
    var module = Module("counter")
    try module.function("step") { g in
      let x = g.input("x", .float32, [5])
      let total = g.state("total", .float32, [5])
      let w = g.parameter("w", [5], .constant(2))
      let next = total + x * w
      g.output("y", next)
      g.update("total", next)
    }
    return module
  }

  @Test func stateIsUpdatedAndKept() throws {
    let executable = try Compiler().compile(try Self.counter())
    let missing = #expect(throws: DLCError.self) {
      try executable.run(["x": Tensor([5], [1, 2, 3, 4, 5] as [Float])])
    }
    #expect(missing?.code == .binding)
    try executable.initializeState(seed: 0)
    for round in 1...3 {
      let results = try executable.run(["x": Tensor([5], [1, 2, 3, 4, 5] as [Float])])
      #expect(results[0].value.doubles == [2, 4, 6, 8, 10].map { $0 * Double(round) })
    }
    #expect(throws: DLCError.self) {
      try executable.run(["x": Tensor([4], [1, 2, 3, 4] as [Float])])
    }
    #expect(executable.state["total"]!.doubles == [6, 12, 18, 24, 30])
  }

  @Test func programsRunFromTheirFile() throws {
    let path = Self.temporary() + ".dlc"
    defer { try? FileManager.default.removeItem(atPath: path) }
    var module = try Zoo.model("digits_mlp")!.module()
    for (name, value) in try Safetensors.read(
      "\(DigitsTests.folder)/digits_mlp_weights.safetensors")
    { try module.setValue(value, of: name) }
    let build = try Compiler().build(module, function: nil, dimensions: ["n": 9])
    try build.write(to: path, module: module)
    let images = Initializer.uniform(0, 1).value(
      TensorType(.float32, [9, 1, 8, 8]), name: "i", seed: 3)
    let loaded = try Executable(contentsOf: path)
    #expect(loaded.missingState.isEmpty)
    let (a, b) = (try loaded.run(["images": images]), try build.executable.run(["images": images]))
    #expect(zip(a, b).allSatisfy { $0.value == $1.value })
  }

  @Test func cacheIsUsedAndSafeUnderConcurrency() async throws {
    let cache = CompileCache(directory: Self.temporary())
    defer { try? FileManager.default.removeItem(atPath: cache.directory) }
    let module = try Zoo.model("softmax")!.module()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<6 {
        group.addTask {
          _ = try Compiler().load(
            module, function: nil, dimensions: ["N": 8, "D": 33], cache: cache)
        }
      }
      try await group.waitForAll()
    }
    let (executable, isCached) = try Compiler().load(
      module, function: nil, dimensions: ["N": 8, "D": 33], cache: cache)
    #expect(isCached)
    let x = Initializer.normal(mean: 0, deviation: 3).value(
      TensorType(.float32, [8, 33]), name: "x", seed: 1)
    let sums = try executable.run(["x": x])[0].value.doubles
    for row in 0..<8 { #expect(abs(sums[row * 33..<row * 33 + 33].reduce(0, +) - 1) < 1e-6) }
    #expect(cache.usage.count >= 2)
    // A damaged entry is compiled again.
    for file in try FileManager.default.contentsOfDirectory(atPath: cache.directory) {
      let url = URL(fileURLWithPath: "\(cache.directory)/\(file)")
      var data = try Data(contentsOf: url)
      data[data.count / 2] ^= 255
      data[60] ^= 255
      try data.write(to: url)
    }
    #expect(
      try !Compiler().load(module, function: nil, dimensions: ["N": 8, "D": 33], cache: cache)
        .isCached)
    #expect(cache.clear() > 0 && cache.usage.count == 0)
  }

  @Test func sizesBeyondMemoryAreRefused() throws {
    let module = try Zoo.model("softmax")!.module()
    let error = #expect(throws: DLCError.self) {
      try Compiler().compile(module, dimensions: ["N": 1 << 28, "D": 1 << 11])
    }
    #expect(error?.code == .memory)
  }

  /// Models that were damaged but are still sound must compile and run, or be refused, like any other.
  @Test func damagedModelsThatStillLoadCompile() throws {
    let originals = try ["digits_cnn", "layer_norm", "attention", "digits_mlp"].map {
      name -> [UInt8] in
      var module = try Zoo.model(name)!.module()
      for (dimension, size) in [("n", 2), ("N", 3), ("D", 5), ("T", 4), ("H", 2), ("B", 1)]
      where module.dimensions.contains(where: { $0.name == dimension }) {
        module.dimension(dimension, default: size)
      }
      return ModuleFile.encode(module)
    }
    var (state, loaded) = (UInt64(11), 0)
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    for round in 0..<3000 {
      var bytes = originals[round % originals.count]
      for _ in 0...random(2) { bytes[random(bytes.count)] = UInt8(random(256)) }
      guard let module = try? bytes.withUnsafeBytes({ try ModuleFile.decode($0, path: "m") }),
        module.functions.count == 1
      else { continue }
      guard let graph = try? module.functions[0].graph.bound(to: module.bind()),
        graph.types.allSatisfy({ $0.elementCount < 1 << 16 })
      else { continue }
      loaded += 1
      if loaded > 150 { break }
      if let complaint = Self.runAnyhow(module) { Issue.record("\(complaint)\n\(module.text)") }
    }
    #expect(loaded > 40, "\(loaded)")
  }

  /// Compiles and runs on zeros; what went wrong inside dlc itself, if anything.
  static func runAnyhow(_ module: Module) -> String? {
    do throws(DLCError) {
      let executable = try Compiler().compile(module)
      try executable.initializeState(seed: 1)
      var inputs: [String: Tensor] = [:]
      for port in executable.inputs {
        inputs[port.name] = Tensor(zeros: port.type.dataType, port.type.sizes)
      }
      _ = try executable.run(inputs, threads: 1)
      return nil
    } catch {
      return error.code == .code ? "\(error)" : nil
    }
  }

  @Test func weightsArePackedBeforeRuns() throws {
    let build = try Compiler().build(
      try Zoo.model("digits_mlp")!.module(), function: nil, dimensions: [:])
    #expect(build.program.preparation.count == 2)
    #expect(Double(build.program.arenaBytes) <= 1.2 * Double(max(build.program.arenaLowerBound, 1)))
  }

  @Test func dyingInputsGiveTheirBytesToOutputs() throws {
    var module = Module("m")
    try module.function("forward") { g in
      let x = g.input("x", .float32, [256, 64])
      // `a` is read by the windows and, for the last time, where `b` is made.
      let a = g.tanh(x)
      let peaks = g.maxPool(a, window: [2, 2])
      let b = a * g.broadcast(g.sum(peaks, axes: [0, 1]) * 0.001, to: a.shape)
      g.output("y", g.dotGeneral(b, b, lhsContracting: [0], rhsContracting: [0]))
    }
    let build = try Compiler().build(module, function: nil, dimensions: [:])
    let whole = 256 * 64 * 4
    let large = build.program.buffers.filter {
      if case .arena = $0.place { $0.byteCount == whole } else { false }
    }
    #expect(large.count >= 2 && build.program.arenaBytes < 2 * whole, "\(build.program.arenaBytes)")
    let arrays = Differential.arrays([TensorType(.float32, [256, 64])], range: -1...1, seed: 1)
    let (want, _) = try Interpreter(.float64).run(
      module, function: module.functions[0], inputs: ["x": arrays[0]], states: [:], dimensions: [:])
    let got = try build.executable.run(["x": arrays[0]], threads: 2)
    #expect(Differential.error(got[0].value, want[0].value, ulps: 4096, scale: 16) <= 1)
  }

  @Test func scalesFoldIntoWeights() throws {
    var module = Module("bn")
    try module.function("forward") { g in
      let x = g.input("x", .float32, [2, 3, 8, 8])
      let k = g.parameter("K", [6, 3, 3, 3], .heNormal)
      let channel = { (name: String, start: Initializer) in g.parameter(name, [6], start) }
      let (mean, variance) = (
        channel("mean", .uniform(-1, 1)), channel("variance", .uniform(0.5, 2))
      )
      let (gamma, beta) = (channel("gamma", .uniform(0.5, 2)), channel("beta", .uniform(-1, 1)))
      let y = g.convolution(x, k)
      func spread(_ v: Value) -> Value { g.broadcast(v, to: y.shape, axes: [1]) }
      let scaled = (y - spread(mean)) * spread(g.rsqrt(variance + 1e-5) * gamma) + spread(beta)
      g.output("y", g.relu(scaled))
    }
    let build = try Compiler().build(module, function: nil, dimensions: [:])
    #expect(build.program.steps.count == 1, "\(build.program.steps.map(\.name))")
    try build.executable.initializeState(seed: 4)
    let x = Initializer.normal(mean: 0, deviation: 1).value(
      TensorType(.float32, [2, 3, 8, 8]), name: "x", seed: 1)
    let states = Dictionary(
      uniqueKeysWithValues: module.states.map {
        ($0.name, $0.initializer.value($0.type, name: $0.name, seed: 4))
      })
    let (want, _) = try Interpreter(.float64).run(
      module, function: module.functions[0], inputs: ["x": x], states: states, dimensions: [:])
    let got = try build.executable.run(["x": x])
    #expect(Differential.error(got[0].value, want[0].value, ulps: 64, scale: 2) <= 1)
  }

  @Test func nothingIsAllocatedAfterTheFirstRun() throws {
    let executable = try Compiler().compile(
      try Zoo.model("softmax")!.module(), dimensions: ["N": 64, "D": 64])
    let inputs = ["x": Tensor(zeros: .float32, [64, 64])]
    var results = [Tensor(zeros: .float32, [64, 64])]
    try executable.run(inputs, into: &results, threads: 2)
    func resident() -> Int {
      let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
      return Int(text.split(separator: " ").dropFirst().first ?? "0") ?? 0
    }
    for _ in 0..<100 { try executable.run(inputs, into: &results, threads: 2) }
    // What each run kept would show in every window; what other tests allocate meanwhile does not.
    var least = Int.max
    for _ in 0..<8 where least >= 32 {
      let start = resident()
      for _ in 0..<4000 { try executable.run(inputs, into: &results, threads: 2) }
      least = min(least, resident() - start)
    }
    #expect(least < 32, "resident pages grew by \(least) in each window")
  }
}
