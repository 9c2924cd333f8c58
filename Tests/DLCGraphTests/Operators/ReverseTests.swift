import DLCGraph
import Testing

@Suite struct ReverseTests {
  @Test func samples() throws { try OperatorSamples.check(Reverse.self) }
}
