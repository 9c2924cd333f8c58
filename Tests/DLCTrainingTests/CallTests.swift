import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTraining
import Testing

/// Functions of a module that are made of others.
@Suite struct CallTests {
  /// decode(z) = tanh(W z + b) with dropout and batch norm where it is trained, and functions around it.
  static func module() throws -> Module {
    var module = Module("m")
    module.dimension("n", default: 4)
    module.dimension("k", default: 2)
    try module.function("decode") { g in
      g.output("y", g.tanh(Layers(g).linear("decoder", g.input("z", .float32, ["n", 3]), 5)))
    }
    return module
  }

  static func values(_ shape: [Int]) -> Tensor {
    var elements: [Float] = []
    for index in 0..<shape.reduce(1, *) { elements.append(Float(index * 7 % 11) / 11 - 0.4) }
    return Tensor(shape, elements)
  }

  static func run(_ module: Module, _ name: String, _ inputs: [String: Tensor]) throws -> [Tensor] {
    let executable = try Compiler().compile(module, function: name)
    try executable.initializeState(seed: 3)
    return try executable.run(inputs).map(\.value)
  }

  @Test func callsComputeWhatTheFunctionComputes() throws {
    var module = try Self.module()
    try module.function("twice") { g in
      let z = g.input("z", .float32, ["k", 3])
      // Another batch than the function's own, and one from a loop.
      let (_, stacked) = g.scan(carried: [], inputs: [g.input("zs", .float32, [2, "k", 3])]) {
        g, _, parts in
        ([], [g.call("decode", parts[0])])
      }
      g.output("y", g.call("decode", z))
      g.output("ys", stacked[0])
      g.output(
        "gradient",
        g.gradient(of: g.sum(g.call("decode", ["z": z])["y"], axes: [0, 1]), by: [z])[0])
    }
    try module.function("written") { g in
      let z = g.input("z", .float32, ["k", 3])
      let y = g.tanh(Layers(g).linear("decoder", z, 5))
      g.output("y", y)
      g.output("gradient", g.gradient(of: g.sum(y, axes: [0, 1]), by: [z])[0])
    }
    #expect(module.states.map(\.name) == ["decoder.w", "decoder.b"])
    let (z, zs) = (Self.values([2, 3]), Self.values([2, 2, 3]))
    let called = try Self.run(module, "twice", ["z": z, "zs": zs])
    let written = try Self.run(module, "written", ["z": z])
    #expect(called[0].doubles == written[0].doubles)
    #expect(called[2].doubles == written[1].doubles)
    #expect(called[1].shape == [2, 2, 5])
    #expect(Array(called[1].doubles[0..<10]) == called[0].doubles)
  }

  /// A phase calls a phase: in training it drops out and updates the statistics, measuring does neither.
  @Test func phasesCallTheFunctionThatMeasures() throws {
    var module = Module("m")
    module.dimension("n", default: 4)
    try module.phase("features") { g in
      g.output("y", Layers(g).batchNorm("norm", g.input("x", .float32, ["n", 3])))
    }
    try module.phase("loss") { g in
      g.output("loss", g.mean(g.call("features", g.input("x", .float32, ["n", 3])), axes: [0, 1]))
    }
    #expect(module.function("loss")!.graph.updates.map(\.name) == ["norm.mean", "norm.var"])
    #expect(module.function("loss_evaluation")!.graph.updates.isEmpty)
    #expect(
      module.function("loss_evaluation")!.stateNames.sorted() == [
        "norm.b", "norm.mean", "norm.var", "norm.w",
      ])
  }

  @Test(arguments: [
    ("decod", "there is no function 'decod' to call before this one"),
    ("input", "has no input 'x'"), ("missing", "input 'z' of function 'decode' is missing"),
    ("type", "is float32[n, 3], the value is float32[n, 4]"),
    ("count", "has 1 input (z float32[n, 3]), 2 are given"),
    ("output", "function 'decode' has no output 'loss'"),
    ("several", "function 'two' has 2 outputs"),
    ("loop", "state 'count' is updated inside a loop"),
    ("itself", "there is no function 'f' to call"),
  ]) func mistakesAreNamed(_ name: String, _ message: String) throws {
    var module = try Self.module()
    try module.function("two") { g in
      let z = g.input("z", .float32, ["n", 3])
      g.output("a", z)
      g.output("b", z + z)
    }
    try module.function("counting") { g in
      let count = g.state("count")
      g.update("count", count + 1)
      g.output("y", count)
    }
    let first = #line
    let error = try #require(throws: DLCError.self) {
      try module.function("f") { g in
        let (z, wide) = (g.input("z", .float32, ["n", 3]), g.input("w", .float32, ["n", 4]))
        switch name {
        case "decod": g.output("y", g.call("decod", z))
        case "input": g.output("y", g.call("decode", ["z": z, "x": z])["y"])
        case "missing": g.output("y", g.call("decode", [:])["y"])
        case "type": g.output("y", g.call("decode", wide))
        case "count": g.output("y", g.call("decode", z, z))
        case "output": g.output("y", g.call("decode", ["z": z])["loss"])
        case "several": g.output("y", g.call("two", z))
        case "itself": g.output("y", g.call("f", z))
        default:
          let (_, stacked) = g.scan(carried: [], inputs: [z]) { g, _, _ in
            ([], [g.call("counting")])
          }
          g.output("y", stacked[0])
        }
      }
    }
    #expect("\(error)".contains(message), "\(error)")
    let lines = (first...#line).map { "CallTests.swift:\($0)" }
    #expect(error.others.isEmpty && lines.contains { "\(error)".contains($0) }, "\(error)")
  }
}
