import DLCGraph
import Testing

@Suite struct ConvertTests {
  @Test func samples() throws { try OperatorSamples.check(Convert.self) }
}
