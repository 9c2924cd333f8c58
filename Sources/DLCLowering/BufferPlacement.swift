/// A span of steps during which some bytes must not be touched by others.
package struct LiveRange: Hashable, Sendable {
  package var size: Int
  package var first: Int
  package var last: Int
  package init(size: Int, first: Int, last: Int) {
    self.size = size
    self.first = first
    self.last = last
  }

  package func overlaps(_ other: LiveRange) -> Bool { first <= other.last && other.first <= last }
}

/// Offsets in one arena for buffers with live ranges.
package struct BufferPlacement: Sendable {
  package var offsets: [Int]
  /// The size of the arena.
  package var peak: Int
  /// The most bytes that are live in one step: no placement can do with less.
  package var lowerBound: Int

  /// Places each buffer at the lowest free offset, in several orders, and keeps the smallest result.
  package init(_ ranges: [LiveRange]) {
    let sized = ranges.map {
      LiveRange(size: ($0.size + 63) / 64 * 64, first: $0.first, last: $0.last)
    }
    let orders: [(Int, Int) -> Bool] = [
      { (sized[$0].size, -$0) > (sized[$1].size, -$1) },
      { (sized[$0].first, $0) < (sized[$1].first, $1) },
      {
        (sized[$0].last - sized[$0].first, sized[$0].size, -$0) > (
          sized[$1].last - sized[$1].first, sized[$1].size, -$1
        )
      },
      {
        let a = sized[$0].size * (sized[$0].last - sized[$0].first + 1)
        let b = sized[$1].size * (sized[$1].last - sized[$1].first + 1)
        return (a, -$0) > (b, -$1)
      },
      { (sized[$0].last, $0) > (sized[$1].last, $1) },
    ]
    (offsets, peak) = ([], Int.max)
    for order in orders {
      let (candidate, size) = Self.place(sized, sized.indices.sorted(by: order))
      if size < peak { (offsets, peak) = (candidate, size) }
    }
    let end = sized.map(\.last).max() ?? -1
    var live = [Int](repeating: 0, count: end + 2)
    for range in sized {
      live[range.first] += range.size
      live[range.last + 1] -= range.size
    }
    var (present, most) = (0, 0)
    for change in live {
      present += change
      most = max(most, present)
    }
    lowerBound = most
    if ranges.isEmpty { peak = 0 }
  }

  private static func place(_ ranges: [LiveRange], _ order: [Int]) -> ([Int], Int) {
    var offsets = [Int](repeating: 0, count: ranges.count)
    var (placed, peak) = ([Int](), 0)
    for index in order {
      let neighbours = placed.filter { ranges[$0].overlaps(ranges[index]) }.sorted {
        offsets[$0] < offsets[$1]
      }
      var offset = 0
      for other in neighbours {
        if offsets[other] - offset >= ranges[index].size { break }
        offset = max(offset, offsets[other] + ranges[other].size)
      }
      offsets[index] = offset
      placed.append(index)
      peak = max(peak, offset + ranges[index].size)
    }
    return (offsets, peak)
  }
}
