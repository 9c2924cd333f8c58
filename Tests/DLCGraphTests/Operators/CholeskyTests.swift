import DLCGraph
import Testing

@Suite struct CholeskyTests {
  @Test func samples() throws { try OperatorSamples.check(Cholesky.self) }
}
