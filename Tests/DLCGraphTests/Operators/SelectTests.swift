import DLCGraph
import Testing

@Suite struct SelectTests {
  @Test func samples() throws { try OperatorSamples.check(Select.self) }
}
