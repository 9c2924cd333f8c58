import DLCGraph
import Testing

@Suite struct WhileTests {
  @Test func samples() throws { try OperatorSamples.check(While.self) }
}
