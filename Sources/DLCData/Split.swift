package import DLCTensor

/// How rows become a part to train on and a part to test on. Both keep the rows' order.
package enum Split: Hashable, Sendable {
  /// All rows in one file.
  case whole
  /// A share of the rows, at least 0 and less than 1, chosen by a seed: the same ones on every machine.
  case share(Double, seed: UInt64)
  /// The last rows.
  case last(Int)
  /// The rows from this one on, counted from 0.
  case from(Int)

  /// The rows to train on and those to test on, as ranges in order; nil for one part of all.
  /// - Parameter what: the rows' name, for messages.
  /// - Throws: `.usage` when a part has no row.
  package func parts(of count: Int, _ what: String) throws(DLCError) -> (
    train: [Range<Int>], test: [Range<Int>]
  )? {
    func inOrder(_ first: Int) throws(DLCError) -> (train: [Range<Int>], test: [Range<Int>]) {
      guard first > 0, first < count else {
        throw DLCError(
          .usage,
          "of \(count) \(what), \(max(0, min(first, count))) are left to train on and "
            + "\(count - max(0, min(first, count))) to test on",
          remedy: "each part needs some")
      }
      return ([0..<first], [first..<count])
    }
    switch self {
    case .whole, .share(0, _): return nil
    case .last(let size):
      return try inOrder(count.subtractingReportingOverflow(size).partialValue)
    case .from(let first): return try inOrder(first)
    case .share(let share, let seed):
      let size = Int((share * Double(count)).rounded())
      guard share > 0, share < 1, size > 0, size < count else {
        throw DLCError(
          .usage, "a share of \(share) of \(count) \(what) is \(size) to test on",
          remedy: "each part needs some: choose another share, or 0 for one file of all")
      }
      var isTest = [Bool](repeating: false, count: count)
      for row in Self.permutation(count, seed: seed).prefix(size) { isTest[row] = true }
      return (Self.runs(isTest, false), Self.runs(isTest, true))
    }
  }

  /// The numbers below `count` in an order that the seed decides (Fisher and Yates; Philox 4x32-10, whose
  /// words 2 i and 2 i + 1 choose the i-th number).
  package static func permutation(_ count: Int, seed: UInt64) -> [Int] {
    var order = Array(0..<count)
    for index in 0..<max(0, count - 1) {
      let low = Philox.word(index: UInt64(2 * index), key: seed, counter: 0)
      let high = Philox.word(index: UInt64(2 * index + 1), key: seed, counter: 0)
      let word = UInt64(high) << 32 | UInt64(low)
      // The high half of the product is a number below the count that is left.
      order.swapAt(index, index + Int(word.multipliedFullWidth(by: UInt64(count - index)).high))
    }
    return order
  }

  /// The ranges in which a mark has a value.
  static func runs(_ marks: [Bool], _ value: Bool) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var start: Int?
    for index in 0...marks.count {
      let holds = index < marks.count && marks[index] == value
      if holds, start == nil { start = index }
      if !holds, let first = start {
        result.append(first..<index)
        start = nil
      }
    }
    return result
  }
}
