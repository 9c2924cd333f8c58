import DLCGraph
import Testing

@Suite struct SliceTests {
  @Test func samples() throws { try OperatorSamples.check(Slice.self) }
}
