import DLCGraph
import Testing

@Suite struct ConstantTests {
  @Test func samples() throws { try OperatorSamples.check(Constant.self) }
}
