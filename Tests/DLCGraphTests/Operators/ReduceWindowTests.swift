import DLCGraph
import Testing

@Suite struct ReduceWindowTests {
  @Test func samples() throws { try OperatorSamples.check(ReduceWindow.self) }
}
