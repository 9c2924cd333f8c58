import DLCGraph
import Testing

@Suite struct ConvolutionTests {
  @Test func samples() throws { try OperatorSamples.check(Convolution.self) }
}
