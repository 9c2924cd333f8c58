import DLCGraph
import Testing

@Suite struct UnaryTests {
  @Test func samples() throws { try OperatorSamples.check(Unary.self) }
}
