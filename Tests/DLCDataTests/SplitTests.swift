import DLCTensor
import Testing

@testable import DLCData

@Suite struct SplitTests {
  @Test func everyRowIsInOnePart() throws {
    for count in [2, 3, 10, 1000] {
      for seed in [0, 1, .max] as [UInt64] {
        let (train, test) = try #require(try Split.share(0.3, seed: seed).parts(of: count, "rows"))
        #expect((train + test).flatMap { $0 }.sorted() == Array(0..<count))
        #expect(test.reduce(0) { $0 + $1.count } == Int((0.3 * Double(count)).rounded()))
      }
    }
  }

  /// The same on every machine, and of every version: a run of numbers that must not change.
  @Test func theOrderIsThatOfTheSeed() {
    #expect(Split.permutation(8, seed: 0) == [7, 5, 4, 3, 1, 2, 6, 0])
    #expect(Split.permutation(8, seed: 0) != Split.permutation(8, seed: 1))
    #expect(Split.permutation(1, seed: 0) == [0])
    #expect(Split.permutation(0, seed: 0).isEmpty)
    // Every number is as likely in the first place: 800 seeds, 100 expected each, 5 deviations.
    var counts = [Int](repeating: 0, count: 8)
    for seed in 0..<800 { counts[Split.permutation(8, seed: UInt64(seed))[0]] += 1 }
    #expect(counts.allSatisfy { abs($0 - 100) < 47 })
  }

  @Test func partsInOrder() throws {
    let last = try #require(try Split.last(2).parts(of: 5, "rows"))
    #expect(last.train == [0..<3] && last.test == [3..<5])
    let from = try #require(try Split.from(1).parts(of: 5, "rows"))
    #expect(from.train == [0..<1] && from.test == [1..<5])
    #expect(try Split.whole.parts(of: 5, "rows") == nil)
    #expect(try Split.share(0, seed: 1).parts(of: 5, "rows") == nil)
  }

  @Test func aPartWithoutRowsIsAnError() {
    for split in [.last(5), .last(.max), .from(5), .share(0.1, seed: 0), .share(0.99, seed: 0)]
      as [Split]
    {
      let error = #expect(throws: DLCError.self) { try split.parts(of: 4, "rows") }
      #expect(error?.code == .usage && error?.description.contains("4 rows") == true)
    }
  }
}
