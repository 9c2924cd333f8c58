import DLCGraph
import Testing

@Suite struct DotGeneralTests {
  @Test func samples() throws { try OperatorSamples.check(DotGeneral.self) }
}
