import DLCKernel
import DLCTensor
import Testing

@Suite struct KernelVerifierTests {
  @Test func kernelVerifierFindsBadIndices() throws {
    let i = LoopVariable(id: 0, extent: 10)
    let s = ScalarID(0)
    func kernel(_ index: IndexExpression) -> Kernel {
      Kernel(
        name: "k",
        parameters: [
          Parameter(.float32, 10, isOutput: false), Parameter(.float32, 10, isOutput: true),
        ], locals: [],
        grid: [],
        body: [
          .loop(
            Loop(
              i,
              body: [
                .define(s, .load(.parameter(0), index, .float32)),
                .store(.parameter(1), IndexExpression(i), s, .float32),
              ]))
        ], flops: 0, bytesMoved: 0)
    }
    #expect(kernel(IndexExpression(i)).violations().isEmpty)
    #expect(!kernel(IndexExpression(i) + 1).violations().isEmpty)
    #expect(!kernel(IndexExpression(i) + -1).violations().isEmpty)
    #expect(!kernel(IndexExpression(LoopVariable(id: 5, extent: 3))).violations().isEmpty)
  }
}
