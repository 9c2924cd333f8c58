import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct SplitDilatedConvolutionsTests {
  /// An input with zeros in between becomes as many convolutions as there are kinds of positions.
  @Test func convolutionsAreInterleaved() throws {
    let before = try PassCheck.graph { g in
      let x = g.pad(
        g.input("x", .float64, [1, 2, 4, 4]), 0, low: [0, 0, 1, 1], high: [0, 0, 1, 1],
        interior: [0, 0, 1, 1])
      g.output("y", g.convolution(x, g.input("k", .float64, [3, 2, 3, 3])))
    }
    let (after, counts) = try PassCheck.run(SplitDilatedConvolutions(), before, isExact: false)
    #expect(counts["split-dilated-convolution"] == 1)
    let names = try PassCheck.needed(after)
    #expect(names.count { $0 == "convolution" } == 4 && names.contains("concatenate"))
    for node in after.nodes {
      if case .pad(let pad) = node.operation, after.uses(of: node.results[0]) > 0 {
        #expect(pad.interior.allSatisfy { $0 == 0 })
      }
    }
  }

  /// Positions that no tap meets are zeros of the sum's type, whatever types the graph has besides.
  @Test func partsWithoutTapsHaveTheTypeOfTheSum() throws {
    let before = try PassCheck.graph { g in
      let x = g.pad(
        g.input("x", .int8, [1, 1, 5]), 0, low: [0, 0, 0], high: [0, 0, 0], interior: [0, 0, 1])
      g.output("y", g.convolution(x, g.input("k", .int8, [1, 1, 1]), into: .int32))
      g.output("z", g.input("z", .int64, [3]) + 1.0)
    }
    let (after, counts) = try PassCheck.run(SplitDilatedConvolutions(), before)
    #expect(counts["split-dilated-convolution"] == 1)
    #expect(after.type(after.results[0].value).dataType == .int32)
  }
}

extension Graph {
  fileprivate func uses(of value: ValueID) -> Int { useCounts[value.index] }
}
