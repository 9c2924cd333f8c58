import DLCGraph
import Testing

@Suite struct ScatterTests {
  @Test func samples() throws { try OperatorSamples.check(Scatter.self) }
}
