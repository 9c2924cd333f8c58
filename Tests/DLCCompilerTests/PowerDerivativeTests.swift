import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import Testing

/// Derivatives of powers, of every order, where logarithms and negative powers are not finite.
@Suite struct PowerDerivativeTests {
  static let bases: [Double] = [0, -2, 1.5, -0.0, 0, 3]

  /// n (n - 1) ... of k factors times x^(n - k).
  static func derivative(_ x: Double, _ n: Int, _ k: Int) -> Double {
    let factor = (0..<k).reduce(1.0) { $0 * Double(n - $1) }
    return factor == 0 ? 0 : factor * (0..<(n - k)).reduce(1.0) { power, _ in power * x }
  }

  @Test(arguments: [DataType.float64, .float32, .float16], 0..<5)
  func everyOrderAtEveryBase(_ type: DataType, _ n: Int) throws {
    let bases = Self.bases
    var module = Module("power")
    try module.function("forward") { g in
      let x = g.input("x", type, [6])
      let b = g.input("b", type, [6])
      let exponents: [(String, Value)] = [
        ("constant", g.constant(Double(n), like: x)), ("input", b), ("computed", b * 2 - b),
        ("rounded", g.unary(.floor, b + 0.25)),
      ]
      for (name, exponent) in exponents {
        var y = g.power(x, exponent)
        for order in 1...4 {
          y = g.gradient(of: g.sum(y, axes: [0]), by: [x])[0]
          g.output("\(name) \(order)", y)
        }
      }
    }
    let inputs = [
      "x": Tensor(type, [6], rounding: bases),
      "b": Tensor(type, [6], rounding: bases.map { _ in Double(n) }),
    ]
    let compiled = try Compiler().compile(module).run(inputs)
    let (reference, _) = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:])
    for list in [compiled, reference] {
      for (name, value) in list {
        let order = Int(name.split(separator: " ")[1])!
        for (got, x) in zip(value.doubles, bases) {
          let want = Self.derivative(x, n, order)
          #expect(
            abs(got - want) <= 1e-5 * max(1, abs(want)), "\(type) \(x)^\(n) \(name): \(got), not \(want)")
        }
      }
    }
  }

  /// By the exponent, and mixed: d/db x^b = x^b ln x, 0 at base 0; d/dx d/db x^b at b = 0 is 1/x.
  @Test func exponentsHaveDerivatives() throws {
    var module = Module("power")
    try module.function("forward") { g in
      let x = g.input("x", .float64, [4])
      let b = g.input("b", .float64, [4])
      func by(_ y: Value, _ v: Value) -> Value { g.gradient(of: g.sum(y, axes: [0]), by: [v])[0] }
      let y = g.power(x, b)
      g.output("b", by(y, b))
      g.output("bb", by(by(y, b), b))
      g.output("xb", by(by(y, x), b))
      g.output("bx", by(by(y, b), x))
    }
    let (x, b) = ([2.0, 3, 0.5, 0], [0.0, 2, -1, 2])
    let inputs = ["x": Tensor([4], x), "b": Tensor([4], b)]
    let want: [String: [Double]] = [
      "b": [log(2), 9 * log(3), 2 * log(0.5), 0],
      "bb": [log(2) * log(2), 9 * log(3) * log(3), 2 * log(0.5) * log(0.5), 0],
      "xb": [0.5, 6 * log(3) + 3, -4 * log(0.5) + 4, 0],
      "bx": [0.5, 6 * log(3) + 3, -4 * log(0.5) + 4, 0],
    ]
    let compiled = try Compiler().compile(module).run(inputs)
    let (reference, _) = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:])
    for list in [compiled, reference] {
      for (name, value) in list {
        for (index, (got, right)) in zip(value.doubles, want[name]!).enumerated() {
          #expect(abs(got - right) <= 1e-9, "\(name) at \(x[index])^\(b[index]): \(got)")
        }
      }
    }
  }

  private func log(_ x: Double) -> Double {
    // Of 2, 3 and 1/2, without the C library that both sides use.
    x == 2 ? 0.693147180559945309 : x == 3 ? 1.09861228866810969 : -0.693147180559945309
  }
}
