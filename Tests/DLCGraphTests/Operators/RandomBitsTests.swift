import DLCGraph
import Testing

@Suite struct RandomBitsTests {
  @Test func samples() throws { try OperatorSamples.check(RandomBits.self) }
}
