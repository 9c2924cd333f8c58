import DLCGraph
import Testing

@Suite struct ScanTests {
  @Test func samples() throws { try OperatorSamples.check(Scan.self) }
}
