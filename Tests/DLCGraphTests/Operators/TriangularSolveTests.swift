import DLCGraph
import Testing

@Suite struct TriangularSolveTests {
  @Test func samples() throws { try OperatorSamples.check(TriangularSolve.self) }
}
