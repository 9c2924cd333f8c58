import DLCAutodiff
import DLCGraph
import DLCReference
import DLCTensor
import Testing

/// Derivatives of functions with matrices, loops and indices, against central differences.
@Suite struct ProgramGradientTests {
  /// d/dx of the scalar `build` gives, along a direction, by pullback, by pushforward and by differences.
  static func check(
    _ shape: [Size], range: ClosedRange<Double> = -1...1, tolerance: Double = 1e-6,
    _ build: (FunctionBuilder, Value) -> Value
  ) throws {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.input("x", .float64, shape)
      let v = g.input("v", .float64, shape)
      let y = build(g, x)
      let d = g.gradient(of: y, by: [x])[0]
      g.output("y", y)
      g.output("pulled", g.sum(d * v, axes: Array(shape.indices)))
      g.output("pushed", g.jvp(of: [y], along: [(x, v)])[0])
      let h = g.gradient(of: g.sum(d * v, axes: Array(shape.indices)), by: [x])[0]
      g.output("curvature", g.sum(h * v, axes: Array(shape.indices)))
    }
    let type = TensorType(.float64, shape)
    let x = GradientTests.array(type, range, seed: 3).tensor
    let v = GradientTests.array(type, -1...1, seed: 4).tensor
    func run(_ shift: Double) throws -> [String: Double] {
      let moved = Tensor(
        .float64, x.shape, rounding: zip(x.doubles, v.doubles).map { $0 + shift * $1 })
      let (outputs, _) = try Interpreter(.float64).run(
        module, function: module.functions[0], inputs: ["x": moved, "v": v], states: [:],
        dimensions: [:])
      return Dictionary(uniqueKeysWithValues: outputs.map { ($0.name, $0.value.doubles[0]) })
    }
    let (here, up, down) = (try run(0), try run(1e-5), try run(-1e-5))
    let slope = (up["y"]! - down["y"]!) / 2e-5
    let bend = (up["pulled"]! - down["pulled"]!) / 2e-5
    #expect(abs(here["pulled"]! - slope) <= tolerance * max(1, abs(slope)))
    #expect(abs(here["pushed"]! - slope) <= tolerance * max(1, abs(slope)))
    #expect(abs(here["curvature"]! - bend) <= 10 * tolerance * max(1, abs(bend)))
  }

  static func positive(_ g: FunctionBuilder, _ x: Value) -> Value {
    let n = x.shape[x.rank - 1]
    let identity = g.diagonalMatrix(g.constant(1, like: x))
    return g.matmul(x, g.transpose(x, [0, 2, 1])) + identity * Double(n.constant!)
  }

  @Test func choleskyLogDeterminant() throws {
    try Self.check([2, 4, 4]) { g, x in
      let l = g.cholesky(Self.positive(g, x))
      return g.sum(g.log(g.diagonal(l)), axes: [0, 1]) * 2.0 + g.sum(l * l * l, axes: [0, 1, 2])
    }
  }

  @Test func luLogDeterminant() throws {
    try Self.check([2, 5, 5]) { g, x in
      let lu = g.lu(x).lu
      return g.sum(g.log(g.abs(g.diagonal(lu))), axes: [0, 1]) + g.sum(lu * lu, axes: [0, 1, 2])
    }
  }

  @Test func solveOfAFactor() throws {
    try Self.check([1, 4, 4]) { g, x in
      let l = g.cholesky(Self.positive(g, x))
      let y = g.triangularSolve(l, x, transpose: true)
      return g.sum(g.tanh(y), axes: [0, 1, 2])
    }
  }

  @Test func recurrence() throws {
    try Self.check([6, 3]) { g, x in
      let w = g.slice(x, axis: 0, from: 0, to: 3)
      let start = g.constant(0.1, .float64, [3])
      let (carried, outputs) = g.scan(carried: [start], inputs: [x]) { g, c, s in
        let h = g.tanh(g.dotGeneral(w, c[0], lhsContracting: [1], rhsContracting: [0]) + s[0])
        return ([h], [h * h])
      }
      return g.sum(carried[0], axes: [0]) + g.sum(outputs[0], axes: [0, 1])
    }
  }

  @Test func loopsInLoops() throws {
    try Self.check([3, 2]) { g, x in
      let (carried, _) = g.scan(carried: [g.constant(1, .float64, [2])], inputs: [x]) { g, c, s in
        let (inner, _) = g.scan(carried: [c[0]], length: 3, reverse: true) { g, d, _ in
          ([g.sine(d[0] * s[0]) + x.row(g, 1)], [])
        }
        return ([inner[0] * 0.5 + c[0]], [])
      }
      return g.sum(carried[0] * carried[0], axes: [0])
    }
  }

  @Test func boundedWhile() throws {
    try Self.check([4], range: 0.5...1) { g, x in
      let results = g.whileLoop([x, g.constant(0, .int32)], bound: 8) { g, c in
        g.compare(.less, c[1], g.constant(5, .int32))
      } body: { g, c in
        [g.sine(c[0]) * x + c[0], c[1] + g.constant(1, .int32)]
      }
      return g.sum(results[0], axes: [0])
    }
  }

  @Test func branches() throws {
    for sign in [1.0, -1.0] {
      try Self.check([4], range: 0.5...1) { g, x in
        let total = g.sum(x, axes: [0]) * sign
        return g.cond(g.compare(.greater, total, g.constant(0, like: total))) { g in
          [g.sum(g.exponential(x), axes: [0])]
        } otherwise: { g in
          [g.sum(x * x * x, axes: [0])]
        }[0]
      }
    }
  }

  @Test func convolutionPoolAndNorm() throws {
    try Self.check([1, 2, 6, 7]) { g, x in
      let k = g.reshape(g.slice(x, axis: 2, from: 0, to: 2), [1, 2, 2, 7])
      let y = g.convolution(x, k, strides: [2, 1], padding: [(1, 0), (3, 3)])
      let pooled = g.maxPool(y, window: [2, 2], strides: [1, 2])
      return g.sum(pooled * pooled, axes: [0, 1, 2, 3])
    }
  }

  @Test func sortAndTopK() throws {
    try Self.check([3, 9]) { g, x in
      let top = g.topK(x, 4).values
      return g.sum(top * top * top, axes: [0, 1])
    }
  }
}

extension Value {
  fileprivate func row(_ g: FunctionBuilder, _ index: Int) -> Value {
    let part = g.slice(self, axis: 0, from: Size(index), to: Size(index + 1))
    return g.reshape(part, Array(shape.dropFirst()))
  }
}
