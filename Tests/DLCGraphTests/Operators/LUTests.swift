import DLCGraph
import Testing

@Suite struct LUTests {
  @Test func samples() throws { try OperatorSamples.check(LU.self) }
}
