import DLCGraph
import Testing

@Suite struct SortTests {
  @Test func samples() throws { try OperatorSamples.check(Sort.self) }
}
