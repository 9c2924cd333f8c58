import DLCGraph
import Testing

@Suite struct CallTests {
  @Test func samples() throws { try OperatorSamples.check(Call.self) }
}
