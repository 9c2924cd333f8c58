import DLCGraph
import Testing

@Suite struct ReshapeTests {
  @Test func samples() throws { try OperatorSamples.check(Reshape.self) }
}
