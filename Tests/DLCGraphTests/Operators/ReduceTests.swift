import DLCGraph
import Testing

@Suite struct ReduceTests {
  @Test func samples() throws { try OperatorSamples.check(Reduce.self) }
}
