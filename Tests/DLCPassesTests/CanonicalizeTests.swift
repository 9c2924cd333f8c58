import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct CanonicalizeTests {
  /// Views of views become one view, and those that change nothing go.
  @Test func viewsMerge() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float32, [4, 6])
      let turned = g.transpose(
        g.transpose(g.reshape(g.reshape(x, [24]), [6, 4]), [1, 0]), [1, 0])
      g.output("y", g.slice(turned, axis: 0, from: 0, to: 6))
      g.output("z", g.slice(g.slice(x, axis: 1, from: 1, to: 6), axis: 1, from: 2, to: 4))
    }
    let (after, counts) = try PassCheck.run(Canonicalize(), before)
    #expect(try PassCheck.needed(after) == ["reshape", "slice"])
    #expect(counts["transpose-of-transpose"] == 1 && counts["slice-of-slice"] == 1)
  }

  @Test func constantsGoToTheRight() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float64, [3])
      g.output("y", g.constant(2, like: x) * x)
    }
    let (after, _) = try PassCheck.run(Canonicalize(), before)
    let product = try #require(after.definition(after.results[0].value))
    #expect(after.definition(product.operands[0]) == nil)
  }
}
