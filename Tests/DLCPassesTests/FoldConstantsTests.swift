import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct FoldConstantsTests {
  @Test func constantsFold() throws {
    let before = try Graph(
      parsing: """
        %0 = constant {value = dense(float32[2], [1.0, 2.0])} : float32[2]
        %1 = exponential %0 : float32[2]
        %2 = add %1, %0 : float32[2]
        output "y" = %2
        """)
    var budget = RewriteBudget()
    let (after, counts) = try FoldConstants().run(before, &budget)
    #expect(counts["fold-constant"] == 2)
    #expect(try PassCheck.needed(after) == ["constant"])
    // The numbers are those of float32.
    try PassCheck.compareStored(before, after)
  }

  /// A broadcast costs nothing as it is, and much as a constant; so does what is beyond the limit.
  @Test func largeResultsStay() throws {
    let before = try PassCheck.graph { g in
      g.output("y", g.broadcast(g.constant(1, .float32), to: [4, 4]))
    }
    let (after, counts) = try PassCheck.run(FoldConstants(), before)
    #expect(after == before && counts.isEmpty)
    var small = FoldConstants()
    small.elementLimit = 2
    let sum = try Graph(
      parsing: """
        %0 = constant {value = dense(float32[3], [1.0, 2.0, 4.0])} : float32[3]
        %1 = add %0, %0 : float32[3]
        output "y" = %1
        """)
    #expect(try PassCheck.run(small, sum).counts.isEmpty)
  }
}
