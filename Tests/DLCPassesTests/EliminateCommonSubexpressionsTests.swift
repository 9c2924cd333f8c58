import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct EliminateCommonSubexpressionsTests {
  @Test func equalOperationsMerge() throws {
    let before = try Graph(
      parsing: """
        %0 = input "x" : float32[2]
        %1 = tanh %0 : float32[2] at "A.swift:1"
        %2 = tanh %0 : float32[2] at "B.swift:2"
        %3 = add %1, %2 : float32[2]
        output "y" = %3
        """)
    let (after, counts) = try PassCheck.run(EliminateCommonSubexpressions(), before)
    #expect(PassCheck.mnemonics(after) == ["tanh", "add"])
    #expect(counts["common-subexpression"] == 1)
  }

  @Test func whatDiffersInAnAttributeStays() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float32, [3, 3])
      g.output("y", g.sum(x, axes: [0]) + g.sum(x, axes: [1]))
    }
    #expect(try PassCheck.run(EliminateCommonSubexpressions(), before).counts.isEmpty)
  }
}
