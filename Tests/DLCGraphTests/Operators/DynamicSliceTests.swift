import DLCGraph
import Testing

@Suite struct DynamicSliceTests {
  @Test func samples() throws { try OperatorSamples.check(DynamicSlice.self) }
}
