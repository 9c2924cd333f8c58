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

  /// A whole number of taps for each kind of position: one convolution, whose channels are shuffled.
  @Test func equalPartsAreOneConvolution() throws {
    let before = try PassCheck.graph { g in
      let x = g.pad(
        g.input("x", .float64, [2, 3, 7, 7]), 0, low: [0, 0, 2, 2], high: [0, 0, 2, 2],
        interior: [0, 0, 1, 1])
      g.output("y", g.convolution(x, g.input("k", .float64, [5, 3, 4, 4])))
    }
    let (after, counts) = try PassCheck.run(SplitDilatedConvolutions(), before, isExact: false)
    #expect(counts == ["shuffle-dilated-convolution": 1])
    let names = try PassCheck.needed(after)
    for name in ["convolution", "pad", "concatenate"] { #expect(names.count { $0 == name } == 1) }
  }

  /// Every way that axes may lie, with zeros along none, one or two of them, cut and padded borders, and kernels that
  /// are smaller and greater than the result.
  @Test func geometriesKeepTheirMeaning() throws {
    var fired: [String: Int] = [:]
    for seed in 0..<120 {
      guard let before = try Self.convolution(seed: UInt64(seed)) else { continue }
      let (_, counts) = try PassCheck.run(SplitDilatedConvolutions(), before, isExact: false)
      fired.merge(counts, uniquingKeysWith: +)
    }
    for rule in SplitDilatedConvolutions.rules.list { #expect(fired[rule.name, default: 0] > 5) }
  }

  /// A convolution over an input with zeros in between; nil where a border is cut off whole.
  private static func convolution(seed: UInt64) throws -> Graph? {
    var counter: UInt64 = 0
    func choose(_ range: ClosedRange<Int>) -> Int {
      counter += 1
      let word = Int(Philox.word(index: counter, key: seed, counter: 5))
      return range.lowerBound + word % range.count
    }
    let orders = [[0, 1, 2, 3], [1, 0, 2, 3], [0, 3, 1, 2], [3, 2, 0, 1]]
    let axes = (0..<3).map { _ in orders[choose(0...3)] }
    let x: [Int] = [choose(1...2), choose(1...3), choose(2...6), choose(2...6)]
    var (low, high, interior): ([Int], [Int], [Int]) = ([0, 0], [0, 0], [0, 0])
    var kernel: [Int] = [choose(1...4), x[1]]
    for axis in 0..<2 {
      low.append(choose(-1...3))
      high.append(choose(-1...3))
      interior.append(choose(0...2))
      let spread = (x[axis + 2] - 1) * (interior[axis + 2] + 1) + 1
      let size = spread + low[axis + 2] + high[axis + 2]
      if size < 1 { return nil }
      kernel.append(choose(1...min(size, 9)))
    }
    func sizes(_ list: [Int], _ order: [Int]) -> [Size] { list.placed(order).map { Size($0) } }
    return try PassCheck.graph { g in
      let padded = g.pad(
        g.input("x", .float64, sizes(x, axes[0])), 0, low: sizes(low, axes[0]),
        high: sizes(high, axes[0]), interior: interior.placed(axes[0]))
      let dimensions = ConvolutionDimensions(input: axes[0], kernel: axes[1], output: axes[2])
      let k = g.input("k", .float64, sizes(kernel, axes[1]))
      g.output("y", g.convolution(padded, k, dimensions: dimensions))
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
