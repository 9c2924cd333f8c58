import DLCGraph
import DLCReference
import DLCTensor
import Testing

/// The interpreter by itself, against numbers worked out by hand.
@Suite struct InterpreterTests {
  static func run(_ inputs: [String: Tensor] = [:], _ body: (FunctionBuilder) -> Void) throws
    -> [[Double]]
  {
    var module = Module("m")
    try module.function("f", body)
    return try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:]
    ).outputs.map { $0.value.doubles }
  }

  @Test func loopsAndBranches() throws {
    let x = Tensor([3], [1, 2, 3] as [Float])
    let results = try Self.run(["x": x]) { g in
      let x = g.input("x", .float32, [3])
      // Running sums, from the last to the first.
      let (last, all) = g.scan(carried: [g.constant(0, .float32)], inputs: [x], reverse: true) {
        g, carried, slice in
        let sum = carried[0] + slice[0]
        return ([sum], [sum])
      }
      g.output("last", last[0])
      g.output("all", all[0])
      let doubled = g.whileLoop([g.constant(1, .float32)]) { g, c in
        g.compare(.less, c[0], g.constant(100, .float32))
      } body: { _, c in
        [c[0] * 2.0]
      }
      g.output("doubled", doubled[0])
      let chosen = g.cond(g.compare(.greater, doubled[0], last[0])) { _ in
        [x * 10.0]
      } otherwise: { _ in
        [x]
      }
      g.output("chosen", chosen[0])
    }
    #expect(results == [[6], [6, 5, 3], [128], [10, 20, 30]])
  }

  /// Factors of narrow types are multiplied and summed in the type that is asked for.
  @Test func productsIntoWiderTypes() throws {
    let a = Tensor([1, 3], [-128, 127, 3] as [Int8])
    let b = Tensor([3, 1], [255, 255, 1] as [UInt8])
    let results = try Self.run(["a": a, "b": b]) { g in
      let product = g.dotGeneral(
        g.input("a", .int8, [1, 3]), g.input("b", .uint8, [3, 1]), lhsContracting: [1],
        rhsContracting: [0], into: .int32)
      g.output("y", product)
    }
    let want: Double = 3 - 255
    #expect(results == [[want]])
  }
}
