import DLCCompiler
import DLCGraph
import DLCProgram
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCTraining
import Testing

/// Memory of training steps: limits, state in place, few kernels for all updates.
@Suite struct MemoryTests {
  /// Twelve layers whose activations the backward pass needs.
  static func deep() throws -> Module {
    var module = Module("deep")
    module.dimension("n", default: 256)
    try module.function("loss") { g in
      let l = Layers(g)
      var h = g.input("x", .float32, ["n", 64])
      for layer in 0..<12 { h = g.gelu(l.linear("\(layer)", h, 64)) + h }
      g.output("loss", g.mean(h * h, axes: [0, 1]))
    }
    return module
  }

  static func build(_ limit: Int) throws -> Build {
    let step = try TrainingStep(
      try deep(), phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: 1e-3))])
    var options = CompilerOptions()
    options.memoryLimit = limit
    return try Compiler(options).build(
      try step.stepFunction(), function: "train_step", dimensions: [:])
  }

  @Test func aLimitIsKeptByComputingAgain() throws {
    let free = try Self.build(Int.max)
    let limit = free.program.arenaBytes * 2 / 3
    let tight = try Self.build(limit)
    #expect(tight.program.arenaBytes <= limit)
    #expect(tight.program.flops > free.program.flops)
    let x = Differential.arrays([TensorType(.float32, [256, 64])], range: -1...1, seed: 3)[0]
    for build in [free, tight] { try build.executable.initializeState(seed: 2) }
    for _ in 0..<3 {
      let a = try free.executable.run(["x": x])
      let b = try tight.executable.run(["x": x])
      #expect(a[0].value == b[0].value)
    }
    #expect(free.executable.state == tight.executable.state)
  }

  @Test func aLimitThatCannotBeKeptIsRefused() throws {
    let error = #expect(throws: DLCError.self) { try Self.build(20_000) }
    #expect(error!.code == .memory && "\(error!)".contains("float32[256, "))
  }

  @Test func updatesAreFewAndInPlace() throws {
    let program = try Self.build(Int.max).program
    let next = program.buffers.filter { if case .nextState = $0.place { true } else { false } }
    // Only the step counter, which other steps read after it is written, has a second buffer.
    #expect(next.count <= 1 && program.states.count == 24 * 3 + 1)
    // Matrices are updated in the epilogues of the products that make their gradients, and biases
    // together.
    let merged = program.steps.filter { $0.name.contains("merged") }
    #expect(merged.count <= 2)
    let maps = program.steps.filter { step in
      step.name.contains("_map_")
        && step.buffers.contains { if case .state = program[$0].place { true } else { false } }
    }
    #expect(maps.count <= 1)
  }

  /// A state that something reads after the step that updates it keeps its old value for that.
  @Test func laterReadersSeeTheOldState() throws {
    var module = Module("later")
    try module.function("f") { g in
      let s = g.state("s", .float32, [8, 8], .constant(1))
      g.update("s", s * 0.5 + g.input("x", .float32, [8, 8]))
      g.output("y", g.matmul(s, s))
    }
    let executable = try Compiler().compile(module)
    try executable.initializeState(seed: 0)
    for want in [8.0, 2.0, 0.5] {
      let y = try executable.run(["x": Tensor(zeros: .float32, [8, 8])])[0].value
      #expect(y.doubles.allSatisfy { $0 == want })
    }
  }
}
