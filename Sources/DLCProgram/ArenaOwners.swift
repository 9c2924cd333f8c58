/// Which buffer had which bytes of an area last, for buffers that come one after the other.
///
/// A tree over the places where buffers begin and end; taking a range costs the logarithm of their
/// number and what it takes the bytes from, each piece once.
package struct ArenaOwners {
  private static let mixed = -2
  private static let nobody = -1
  private let borders: [Int]
  private let leaves: Int
  private var owners: [Int]

  /// - Parameter ranges: the byte ranges that will be taken.
  package init(_ ranges: [Range<Int>]) {
    borders = Array(Set(ranges.flatMap { [$0.lowerBound, $0.upperBound] })).sorted()
    var leaves = 1
    while leaves < max(borders.count - 1, 1) { leaves *= 2 }
    self.leaves = leaves
    owners = [Int](repeating: Self.nobody, count: 2 * leaves)
  }

  /// Gives a range of bytes to an owner.
  /// - Returns: the owners that bytes of it had before, each once, in ascending order.
  package mutating func take(_ range: Range<Int>, for owner: Int) -> [Int] {
    guard !range.isEmpty else { return [] }
    var before: Set<Int> = []
    visit(1, 0, leaves, place(range.lowerBound), place(range.upperBound), owner, &before)
    return before.sorted()
  }

  private func place(_ border: Int) -> Int {
    var (low, high) = (0, borders.count)
    while low < high {
      let middle = (low + high) / 2
      if borders[middle] < border { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private mutating func visit(
    _ node: Int, _ low: Int, _ high: Int, _ from: Int, _ to: Int, _ owner: Int,
    _ before: inout Set<Int>
  ) {
    if to <= low || high <= from { return }
    let known = owners[node]
    if from <= low && high <= to {
      collect(node, &before)
      owners[node] = owner
      return
    }
    if known != Self.mixed {
      owners[2 * node] = known
      owners[2 * node + 1] = known
    }
    let middle = (low + high) / 2
    visit(2 * node, low, middle, from, to, owner, &before)
    visit(2 * node + 1, middle, high, from, to, owner, &before)
    owners[node] =
      owners[2 * node] == owners[2 * node + 1] ? owners[2 * node] : Self.mixed
  }

  private func collect(_ node: Int, _ before: inout Set<Int>) {
    if owners[node] == Self.mixed {
      collect(2 * node, &before)
      collect(2 * node + 1, &before)
    } else if owners[node] != Self.nobody {
      before.insert(owners[node])
    }
  }
}
