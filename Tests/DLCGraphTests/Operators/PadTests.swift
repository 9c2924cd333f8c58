import DLCGraph
import Testing

@Suite struct PadTests {
  @Test func samples() throws { try OperatorSamples.check(Pad.self) }
}
