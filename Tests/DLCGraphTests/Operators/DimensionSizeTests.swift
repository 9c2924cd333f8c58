import DLCGraph
import Testing

@Suite struct DimensionSizeTests {
  @Test func samples() throws { try OperatorSamples.check(DimensionSize.self) }
}
