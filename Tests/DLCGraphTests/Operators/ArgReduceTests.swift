import DLCGraph
import Testing

@Suite struct ArgReduceTests {
  @Test func samples() throws { try OperatorSamples.check(ArgReduce.self) }
}
