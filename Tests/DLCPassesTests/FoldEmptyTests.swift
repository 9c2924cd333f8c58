import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct FoldEmptyTests {
  /// A product over no elements is zero, and nothing is done to results without elements.
  @Test func emptyWorkGoes() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float64, [3, 0])
      g.output("y", g.linear(x, g.input("w", .float64, [2, 0])) + 1.0)
      g.output("none", g.tanh(x))
    }
    let (after, counts) = try PassCheck.run(FoldEmpty(), before)
    #expect(counts["fold-empty"] == 2)
    let names = PassCheck.mnemonics(after)
    #expect(!names.contains("dot_general") && !names.contains("tanh"))
  }

  @Test func fullGraphsStay() throws {
    let before = try PassCheck.graph { g in g.output("y", g.tanh(g.input("x", .float64, [3]))) }
    let (after, counts) = try PassCheck.run(FoldEmpty(), before)
    #expect(after == before && counts.isEmpty)
  }
}
