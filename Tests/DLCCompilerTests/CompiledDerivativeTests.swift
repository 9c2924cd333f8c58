import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// Derivatives of every operator, compiled, against the interpreter in double precision.
@Suite struct CompiledDerivativeTests {
  @Test(arguments: Operation.operators.indices) func agreesWithDoublePrecision(_ index: Int) throws
  {
    var left = 3
    for (number, sample) in Operation.operators[index].samples.enumerated() where left > 0 {
      switch sample.operation.definition.derivative {
      case .rule, .control: break
      default: continue
      }
      guard sample.operands.contains(where: { $0.dataType == .float32 }),
        sample.operands.allSatisfy({ $0.elementCount > 0 && $0.elementCount <= 2048 })
      else { continue }
      left -= 1
      var module = try Differential.module(sample)
      guard module.functions[0].outputs.contains(where: { $0.type.dataType.isFloat }) else {
        continue
      }
      try Gradient.addPullback(to: &module, function: "forward", named: "gradient")
      let function = module.function("gradient")!
      let primal = Differential.arrays(
        sample.operands, range: sample.range, seed: UInt64(number) + 1)
      let extra = Differential.arrays(
        function.inputs.dropFirst(primal.count).map(\.type), range: -1...1, seed: 99)
      let inputs = Dictionary(
        uniqueKeysWithValues: zip(function.inputs.map(\.name), primal + extra))
      let (want, _) = try Interpreter(.float64).run(
        module, function: function, inputs: inputs, states: [:], dimensions: [:])
      let got = try Compiler().compile(module, function: "gradient").run(inputs, threads: 2)
      for (a, b) in zip(got, want) {
        let size = b.value.doubles.map { abs($0) }.max() ?? 0
        let off = zip(a.value.doubles, b.value.doubles).map { abs($0 - $1) }.max() ?? 0
        #expect(
          off <= 2e-5 * max(size, 1),
          "\(sample.operation.mnemonic) \(sample.operands): \(a.name) is off by \(off) of \(size)")
      }
    }
  }
}

/// Matrices, loops and random numbers, compiled.
@Suite struct RoutineTests {
  static func run(
    _ inputs: [String: Tensor], threads: Int = 2, _ build: (FunctionBuilder) -> Void
  ) throws -> (got: [Tensor], want: [Tensor]) {
    var module = Module("m")
    try module.function("f", build)
    let (want, _) = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:])
    let executable = try Compiler().compile(module, function: "f")
    let got = try executable.run(inputs, threads: threads)
    for other in [1, 4] {
      #expect(try executable.run(inputs, threads: other).map(\.value) == got.map(\.value))
    }
    return (got.map(\.value), want.map(\.value))
  }

  @Test(arguments: [1, 2, 7, 16, 33]) func factorsOfPositiveMatrices(_ n: Int) throws {
    let type = TensorType(.float64, sizes: [3, n, n])
    let a = Differential.arrays([type], range: -1...1, seed: UInt64(n))[0]
    let (got, want) = try Self.run(["a": a]) { g in
      let x = g.input("a", .float64, type.shape)
      let identity = g.diagonalMatrix(g.constant(1, like: x))
      let p = g.matmul(x, g.transpose(x, [0, 2, 1])) + identity * 0.5
      let l = g.cholesky(p)
      g.output("rest", g.matmul(l, g.transpose(l, [0, 2, 1])) - p)
      g.output("l", l)
      let lu = g.lu(x)
      g.output("lu", lu.lu)
      g.output("permutation", lu.permutation)
      g.output("pivots", lu.pivots)
    }
    #expect(got[0].doubles.allSatisfy { abs($0) < 1e-12 * Double(n) })
    for index in [1, 2] {
      let scale = want[index].doubles.map { abs($0) }.max()!
      for (x, y) in zip(got[index].doubles, want[index].doubles) {
        #expect(abs(x - y) <= 1e-9 * scale)
      }
    }
    #expect(got[3] == want[3] && got[4] == want[4])
  }

  @Test func sortsLongRowsStably() throws {
    let keys = Tensor([2, 5000], (0..<10000).map { Int32($0 * 7919 % 37) })
    let (got, want) = try Self.run(["x": keys]) { g in
      let x = g.input("x", .int32, [2, 5000])
      let number = g.iota(.int32, [2, 5000], axis: 1)
      for (index, v) in g.sort([x, number]).enumerated() { g.output("up\(index)", v) }
      for (index, v) in g.sort([x, number], descending: true).enumerated() {
        g.output("down\(index)", v)
      }
    }
    #expect(got == want)
  }

  @Test func notANumberSortsLast() throws {
    let x = Tensor([6], [2, Float.nan, -Float.infinity, 0, .infinity, -1])
    let (got, _) = try Self.run(["x": x]) { g in
      g.output("y", g.sort([g.input("x", .float32, [6])])[0])
    }
    #expect(got[0].doubles[5].isNaN)
    #expect(got[0].doubles[..<5].elementsEqual([-.infinity, -1, 0, 2, .infinity]))
  }

  /// Moments and shares of many draws, and the same bits as the interpreter's.
  @Test func drawsHaveTheirDistributions() throws {
    let n: Size = 40000
    let (got, want) = try Self.run(["seed": Tensor([], [Int64(42)])]) { g in
      let random = RandomStream(g, key: g.input("seed", .int64))
      g.output("uniform", random.uniform([n]))
      g.output("normal", random.normal([n]))
      g.output("coin", g.convert(random.bernoulli(g.constant(0.3, .float32, [n])), .float32))
      let logits = g.constant(Tensor([3], [Float(0), 1, -1]))
      g.output("category", random.categorical(g.broadcast(logits, to: [n, 3])))
      g.output("order", random.permutation(1000))
    }
    func mean(_ x: [Double]) -> Double { x.reduce(0, +) / Double(x.count) }
    let (uniform, normal, coin) = (got[0].doubles, got[1].doubles, got[2].doubles)
    #expect(uniform.allSatisfy { $0 >= 0 && $0 < 1 } && abs(mean(uniform) - 0.5) < 0.006)
    #expect(abs(mean(normal)) < 0.02 && abs(mean(normal.map { $0 * $0 }) - 1) < 0.03)
    #expect(abs(mean(normal.map { $0 * $0 * $0 * $0 }) - 3) < 0.2)
    #expect(abs(mean(coin) - 0.3) < 0.01)
    let total = 1 + exp(1.0) + exp(-1.0)
    for (k, p) in [1 / total, exp(1.0) / total, exp(-1.0) / total].enumerated() {
      #expect(abs(mean(got[3].integers.map { $0 == Int64(k) ? 1 : 0 }) - p) < 0.01)
    }
    #expect(Set(got[4].integers) == Set(0..<1000) && got[4].integers != Array(0..<1000))
    #expect(got[0] == want[0] && got[4] == want[4])
  }

  /// Loops that run no, one or many times, in both directions, inside each other, and data-dependent.
  @Test func loopsOfAllLengths() throws {
    for length in [0, 1, 2, 5] {
      let xs = Differential.arrays(
        [TensorType(.float32, sizes: [length, 7])], range: -1...1, seed: 8)[0]
      let (got, want) = try Self.run(["x": xs]) { g in
        let x = g.input("x", .float32, [Size(length), 7])
        for reverse in [false, true] {
          let (carried, outputs) = g.scan(
            carried: [g.constant(0.5, .float32, [7]), g.constant(0, .int32)], inputs: [x],
            reverse: reverse
          ) { g, c, s in
            let (inner, sums) = g.scan(carried: [c[0]], length: 3) { g, d, _ in
              ([g.tanh(d[0] + s[0])], [g.sum(d[0], axes: [0])])
            }
            return (
              [inner[0] + g.max(sums[0], axes: [0]), c[1] + g.constant(1, .int32)],
              [inner[0], sums[0]]
            )
          }
          for (index, v) in (carried + outputs).enumerated() { g.output("\(reverse)\(index)", v) }
        }
      }
      for (a, b) in zip(got, want) { #expect(Differential.error(a, b, ulps: 64, scale: 1) <= 1) }
    }
  }

  @Test func collatz() throws {
    for (start, steps) in [(1, 0), (6, 8), (27, 111)] {
      let (got, _) = try Self.run(["n": Tensor([], [Int64(start)])]) { g in
        let one = g.constant(1, .int64)
        let results = g.whileLoop([g.input("n", .int64), g.constant(0, .int64)]) { g, c in
          g.compare(.not_equal, c[0], one)
        } body: { g, c in
          let isOdd = g.compare(.equal, g.binary(.and, c[0], one), one)
          let next = g.cond(isOdd) { g in
            [c[0] * 3.0 + one]
          } otherwise: { g in
            [g.binary(.shift_right_logical, c[0], one)]
          }
          return [next[0], c[1] + one]
        }
        g.output("steps", results[1])
      }
      #expect(got[0].integers == [Int64(steps)])
    }
  }
}
