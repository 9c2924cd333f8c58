import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct EliminateDeadCodeTests {
  /// What nobody uses goes, with the state that only it read; inputs stay, as they are the signature.
  @Test func unusedNodesAndStateGo() throws {
    let before = try Graph(
      parsing: """
        %0 = input "x" : float32[2]
        %1 = input "unused" : float32[2]
        %2 = state "w" : float32[2]
        %3 = tanh %0 : float32[2]
        %4 = multiply %3, %2 : float32[2]
        output "y" = %3
        """)
    let (after, counts) = try PassCheck.run(EliminateDeadCode(), before)
    #expect(PassCheck.mnemonics(after) == ["tanh"] && counts["dead-node"] == 1)
    #expect(after.arguments.map(\.name) == ["x", "unused"])
  }

  @Test func whatIsUpdatedStays() throws {
    let before = try Graph(
      parsing: """
        %0 = input "x" : float32[2]
        %1 = state "m" : float32[2]
        %2 = tanh %0 : float32[2]
        output "y" = %0
        update "m" = %2
        """)
    let (after, counts) = try PassCheck.run(EliminateDeadCode(), before)
    #expect(after == before && counts.isEmpty)
  }
}
