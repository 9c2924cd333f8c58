import DLCGraph
import Testing

@Suite struct CondTests {
  @Test func samples() throws { try OperatorSamples.check(Cond.self) }
}
