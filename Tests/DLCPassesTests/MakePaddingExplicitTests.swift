import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct MakePaddingExplicitTests {
  @Test func convolutionsAndWindowsArePadded() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float64, [1, 2, 5, 5])
      let y = g.convolution(
        x, g.input("k", .float64, [3, 2, 3, 3]), strides: [2, 1], padding: [(1, 1), (1, 1)])
      g.output("y", g.maxPool(y, window: [2, 2], strides: [1, 1], padding: [(1, 0), (0, 1)]))
    }
    let (after, counts) = try PassCheck.run(MakePaddingExplicit(), before, isExact: false)
    #expect(counts == ["pad-convolution": 1, "pad-window": 1])
    for node in after.nodes {
      switch node.operation {
      case .convolution(let c):
        #expect((c.geometry.paddingLow + c.geometry.paddingHigh).allSatisfy { $0 == 0 })
      case .reduceWindow(let w):
        #expect((w.geometry.paddingLow + w.geometry.paddingHigh).allSatisfy { $0 == 0 })
      default: break
      }
    }
  }
}
