import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct FoldScalesTests {
  static func graph(_ build: (FunctionBuilder, Value, Value) -> Void) throws -> Graph {
    try PassCheck.graph { g in
      let x = g.input("x", .float64, [2, 3])
      let product = g.linear(x, g.parameter("w", [4, 3], .zeros, .float64))
      let scale = g.parameter("s", [4], .constant(1), .float64)
      build(g, product, g.broadcast(scale, to: [2, 4], axes: [1]))
    }
  }

  @Test func scalesGoIntoWeights() throws {
    let before = try Self.graph { g, product, scale in g.output("y", product * scale) }
    let (after, counts) = try PassCheck.run(FoldScales(), before, isExact: false)
    #expect(counts["scale-into-weights"] == 1)
    #expect(try PassCheck.needed(after).last == "dot_general")
  }

  @Test func scalesPassShifts() throws {
    let before = try Self.graph { g, product, scale in
      let shift = g.broadcast(g.parameter("b", [4], .constant(1), .float64), to: [2, 4], axes: [1])
      g.output("y", (product + shift) * scale)
    }
    let (after, counts) = try PassCheck.run(FoldScales(), before, isExact: false)
    #expect(counts["scale-before-shift"] == 1 && counts["scale-into-weights"] == 1)
    #expect(try PassCheck.needed(after).last == "add")
  }

  /// A product that is needed without the scale, too, would be computed twice.
  @Test func productsWithOtherUsersStay() throws {
    let product = try Self.graph { g, product, scale in
      g.output("y", product * scale)
      g.output("z", product)
    }
    #expect(try PassCheck.run(FoldScales(), product, isExact: false).counts.isEmpty)
    let sum = try Self.graph { g, product, scale in
      let shift = g.broadcast(g.parameter("b", [4], .constant(1), .float64), to: [2, 4], axes: [1])
      g.output("y", (product + shift) * scale)
      g.output("z", product + shift)
    }
    var budget = RewriteBudget()
    let merged = try EliminateCommonSubexpressions().run(sum, &budget).graph
    #expect(try PassCheck.run(FoldScales(), merged, isExact: false).counts.isEmpty)
  }

  /// Scales that change from run to run are no part of prepared weights.
  @Test func onlySteadyScalesFold() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float64, [2, 3])
      let product = g.linear(x, g.parameter("w", [4, 3], .zeros, .float64))
      g.output("y", product * g.broadcast(g.input("s", .float64, [4]), to: [2, 4], axes: [1]))
    }
    #expect(try PassCheck.run(FoldScales(), before, isExact: false).counts.isEmpty)
  }
}
