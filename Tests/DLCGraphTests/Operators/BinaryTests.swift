import DLCGraph
import Testing

@Suite struct BinaryTests {
  @Test func samples() throws { try OperatorSamples.check(Binary.self) }
}
