import DLCGraph
import Testing

@Suite struct TransposeTests {
  @Test func samples() throws { try OperatorSamples.check(Transpose.self) }
}
