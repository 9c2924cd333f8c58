import DLCGraph
import Testing

@Suite struct BroadcastTests {
  @Test func samples() throws { try OperatorSamples.check(Broadcast.self) }
}
