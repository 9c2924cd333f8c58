import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct WidenHalfFloatsTests {
  /// Arithmetic is that of float32; only what comes in and goes out is stored as half floats.
  @Test(arguments: [DataType.float16, .bfloat16]) func arithmeticIsWide(_ type: DataType) throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", type, [5])
      g.output("y", g.tanh(x * x) + x)
    }
    var budget = RewriteBudget()
    let (after, counts) = try WidenHalfFloats().run(before, &budget)
    #expect(after.violations(in: "after").isEmpty && counts["widen"] == 3)
    for node in after.nodes where node.operation.mnemonic != "convert" {
      #expect((node.operands + node.results).allSatisfy { after.type($0).dataType == .float32 })
    }
    #expect(after.resultTypes == before.resultTypes)
    try PassCheck.compareStored(before, after)
  }

  @Test func graphsWithoutHalfFloatsStay() throws {
    let before = try PassCheck.graph { g in g.output("y", g.tanh(g.input("x", .float32, [5]))) }
    let (after, counts) = try PassCheck.run(WidenHalfFloats(), before)
    #expect(after == before && counts.isEmpty)
  }
}
