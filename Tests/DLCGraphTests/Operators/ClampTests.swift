import DLCGraph
import Testing

@Suite struct ClampTests {
  @Test func samples() throws { try OperatorSamples.check(Clamp.self) }
}
