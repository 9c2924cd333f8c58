import DLCGraph
import Testing

@Suite struct CumulativeTests {
  @Test func samples() throws { try OperatorSamples.check(Cumulative.self) }
}
