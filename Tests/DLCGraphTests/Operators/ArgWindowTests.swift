import DLCGraph
import Testing

@Suite struct ArgWindowTests {
  @Test func samples() throws { try OperatorSamples.check(ArgWindow.self) }
}
