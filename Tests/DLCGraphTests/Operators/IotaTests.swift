import DLCGraph
import Testing

@Suite struct IotaTests {
  @Test func samples() throws { try OperatorSamples.check(Iota.self) }
}
