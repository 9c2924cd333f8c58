import DLCGraph
import Testing

@Suite struct GatherTests {
  @Test func samples() throws { try OperatorSamples.check(Gather.self) }
}
