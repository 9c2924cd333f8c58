import DLCGraph
import Testing

@Suite struct ConcatenateTests {
  @Test func samples() throws { try OperatorSamples.check(Concatenate.self) }
}
