import DLCGraph
import Testing

@Suite struct CompareTests {
  @Test func samples() throws { try OperatorSamples.check(Compare.self) }
}
