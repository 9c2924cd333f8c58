import DLCGraph
import Testing

@Suite struct DynamicUpdateSliceTests {
  @Test func samples() throws { try OperatorSamples.check(DynamicUpdateSlice.self) }
}
