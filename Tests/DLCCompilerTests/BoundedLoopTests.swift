import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import Foundation
import Testing

/// A bounded `while` stops at its bound: values and derivatives, interpreted, compiled, and from a file.
@Suite struct BoundedLoopTests {
  /// x squared `n` times, at most `bound` times; odd and even numbers of turns.
  static func module(_ bound: Int, inScan: Bool) throws -> Module {
    var module = Module("loop")
    module.dimension("most", default: bound)
    try module.function("forward") { g in
      let x = g.input("x", .float64, [2])
      let n = g.input("n", .int32)
      func squared(_ g: FunctionBuilder, _ x: Value) -> [Value] {
        g.whileLoop([x, g.constant(0, .int32)], bound: "most") { g, c in
          g.compare(.less, c[1], n)
        } body: { g, c in
          [c[0] * c[0], c[1] + g.constant(1, .int32)]
        }
      }
      let value: Value
      let count: Value
      if inScan {
        let counts = g.constant(0, .int32)
        let (carried, _) = g.scan(carried: [x, counts], length: 2) { g, c, _ in
          let made = squared(g, c[0])
          return ([made[0], c[1] + made[1]], [])
        }
        (value, count) = (carried[0], carried[1])
      } else {
        let made = squared(g, x)
        (value, count) = (made[0], made[1])
      }
      g.output("y", value)
      g.output("count", count)
      g.output("dx", g.gradient(of: g.sum(value, axes: [0]), by: [x])[0])
    }
    return module
  }

  @Test(arguments: [1, 2, 3, 4], [false, true]) func stopsAtItsBound(_ bound: Int, _ inScan: Bool)
    throws
  {
    let module = try Self.module(bound, inScan: inScan)
    let path = ProgramTests.temporary() + ".dlc"
    defer { try? FileManager.default.removeItem(atPath: path) }
    let build = try Compiler().build(module, function: nil, dimensions: ["most": bound])
    try build.write(to: path, module: module)
    let loaded = try Executable(contentsOf: path)
    for n in 0..<7 {
      let inputs = ["x": Tensor([2], [1.25, 0.5] as [Double]), "n": Tensor([], [Int32(n)])]
      let turns = min(n, bound) * (inScan ? 2 : 1)
      let power = Double(1 << turns)
      let (reference, _) = try Interpreter().run(
        module, function: module.functions[0], inputs: inputs, states: [:],
        dimensions: ["most": bound])
      for list in [try build.executable.run(inputs, threads: 2), try loaded.run(inputs), reference] {
        for (name, value) in list {
          switch name {
          case "count": #expect(value.doubles == [Double(turns)])
          case "y":
            for (got, x) in zip(value.doubles, [1.25, 0.5]) {
              let want = (0..<turns).reduce(x) { y, _ in y * y }
              #expect(abs(got - want) <= 1e-12 * want, "\(n) of \(bound)")
            }
          default:
            for (got, x) in zip(value.doubles, [1.25, 0.5]) {
              let want = power * (0..<turns).reduce(1.0) { d, k in
                d * (0..<k).reduce(x) { y, _ in y * y }
              }
              #expect(abs(got - want) <= 1e-12 * want, "\(n) of \(bound): \(got), not \(want)")
            }
          }
        }
      }
    }
  }
}
