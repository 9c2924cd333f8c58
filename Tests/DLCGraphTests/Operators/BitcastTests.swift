import DLCGraph
import Testing

@Suite struct BitcastTests {
  @Test func samples() throws { try OperatorSamples.check(Bitcast.self) }
}
