import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Derivative functions are graphs like any other: compiled code against the interpreter in double.
@Suite struct GradientCompilationTests {
  static func network() throws -> Module {
    var module = Module("network")
    module.dimension("n", default: 3)
    try module.function("loss") { g in
      let x = g.input("x", .float32, ["n", 4, 9, 8])
      let target = g.input("target", .float32, ["n", 5])
      let k1 = g.parameter("K1", [6, 2, 3, 3], .heNormal)
      let k2 = g.parameter("K2", [8, 6, 3, 2], .heNormal)
      let gamma = g.parameter("gamma", [16], .constant(1))
      let beta = g.parameter("beta", [16], .zeros)
      let w = g.parameter("W", [5, 16])
      let first = g.convolution(x, k1, strides: [1, 2], padding: [(1, 1), (0, 1)], groups: 2)
      let second = g.convolution(g.gelu(first), k2, strides: [2, 1], kernelDilation: [1, 2])
      let pooled = g.sum(g.reshape(g.tanh(second), ["n", 16, 4]), axes: [2]) * 0.25
      let logits = g.linear(g.layerNorm(pooled, gamma, beta), w)
      let error = g.softmax(logits) - target
      g.output("loss", g.mean(error * error, axes: [0, 1]))
    }
    return module
  }

  @Test(arguments: [1, 2]) func compiledGradientsEqualTheReference(_ order: Int) throws {
    var module = try Self.network()
    try Gradient.add(
      to: &module, function: "loss", of: "loss", by: nil, named: "g1", asScalar: order > 1)
    if order > 1 {
      try Gradient.add(
        to: &module, function: "g1", of: Gradient.scalarName, by: ["x", "W"], named: "g2",
        asScalar: false)
    }
    let function = module.function("g\(order)")!
    let sizes = try module.bind()
    let types = try function.inputs.map { try $0.type.substitute(sizes) }
    let arrays = Differential.arrays(types, range: -1...1, seed: 5)
    let inputs = Dictionary(uniqueKeysWithValues: zip(function.inputs.map(\.name), arrays))
    var states: [String: Tensor] = [:]
    for state in module.states {
      states[state.name] = state.initializer.value(state.type, name: state.name, seed: 2)
    }
    let (want, _) = try Interpreter(.float64).run(
      module, function: function, inputs: inputs, states: states, dimensions: sizes)
    let executable = try Compiler().compile(module, function: function.name)
    try executable.initializeState(seed: 2)
    let got = try executable.run(inputs, threads: 2)
    #expect(got.map(\.name) == want.map(\.name))
    for (a, b) in zip(got, want) {
      // Errors are those of float32 sums of the largest element's size.
      let size = b.value.doubles.map { abs($0) }.max() ?? 0
      let off = zip(a.value.doubles, b.value.doubles).map { abs($0 - $1) }.max() ?? 0
      #expect(size > 0 && off <= 1e-4 * size, "\(a.name): off by \(off) of \(size)")
    }
  }
}
