import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Maxima, minima and clamps by constants: LLVM combines their comparisons with what makes their operands.
@Suite struct ExtremumTests {
  private static let numbers = [0, -0.0, 1, -1, 3, .infinity, -.infinity, .nan]

  @Test(arguments: [DataType.float32, .float64, .float16, .bfloat16])
  func constantsKeepTheirOrder(_ type: DataType) throws {
    var module = Module("m")
    try module.function("forward") { g in
      let x = g.input("x", type, [19])
      let made: [(String, Value)] = [
        ("x", x), ("abs", g.abs(x)), ("minus", -g.abs(x)), ("square", x * x),
        ("root", g.sqrt(g.abs(x))), ("flag", g.select(x > 0.0, x, g.constant(0, like: x))),
      ]
      for (name, value) in made {
        for (index, number) in Self.numbers.enumerated() {
          let c = g.constant(number, like: value)
          g.output("\(name)_max_\(index)", g.maximum(value, c))
          g.output("\(name)_min_\(index)", g.minimum(value, c))
          g.output("\(name)_xam_\(index)", g.maximum(c, value))
          g.output("\(name)_nim_\(index)", g.minimum(c, value))
        }
        g.output("\(name)_clamp", g.clamp(value, 0, 3))
        g.output("\(name)_below", g.clamp(value, -0.0, .infinity))
        g.output("\(name)_rsqrt", g.rsqrt(g.maximum(value, g.constant(-0.0, like: value))))
      }
    }
    let x = Tensor(
      type, [19],
      rounding: [
        1, -2, 0, -0.0, 5, -5, .nan, .infinity, -.infinity, 0.5, -0.5, 3, -3, 1e-3, -1e-3, 2, 7, -7,
        4,
      ])
    let want = try Interpreter().run(
      module, function: module.functions[0], inputs: ["x": x], states: [:], dimensions: [:]
    ).outputs
    let got = try Compiler().compile(module).run(["x": x])
    for ((name, a), (_, b)) in zip(got, want) {
      let error = Differential.error(a, b, ulps: 4, scale: 0)
      #expect(error <= 1, "\(name): \(a.doubles) instead of \(b.doubles)")
    }
  }

  /// Each alone in its kernel, where nothing else keeps the operand's own value alive.
  @Test(arguments: [DataType.float32, .float64])
  func absoluteValuesMeetZero(_ type: DataType) throws {
    let uses: [@Sendable (FunctionBuilder, Value, Value) -> Value] = [
      { g, a, zero in g.maximum(a, zero) }, { g, a, zero in g.minimum(a, zero) },
      { g, a, zero in g.maximum(-a, zero) }, { g, a, zero in g.minimum(-a, zero) },
      { g, a, _ in g.clamp(a, 0, 3) },
      { g, a, zero in g.rsqrt(g.maximum(a, zero)) },
    ]
    let x = Tensor(type, [4], rounding: [1, -2, 0, 5])
    for (number, use) in uses.enumerated() {
      for zero in [0, -0.0] {
        var module = Module("m")
        try module.function("forward") { g in
          let a = g.abs(g.input("x", type, [4]))
          g.output("y", use(g, a, g.constant(zero, like: a)))
        }
        let want = try Interpreter().run(
          module, function: module.functions[0], inputs: ["x": x], states: [:], dimensions: [:]
        ).outputs[0].value
        let got = try Compiler().compile(module).run(["x": x])[0].value
        let error = Differential.error(got, want, ulps: 4, scale: 0)
        #expect(error <= 1, "\(number), \(zero): \(got.doubles) instead of \(want.doubles)")
      }
    }
  }
}
