/// A span of events during which some bytes must not be touched by others.
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
///
/// The best of several greedy orders, as long as the pairs of ranges that overlap are few enough to be
/// looked at; beyond that one pass over time with a list of free bytes. What is tried depends on the
/// ranges alone, so that the same program is placed alike everywhere.
package struct BufferPlacement: Sendable {
  package var offsets: [Int]
  /// The size of the arena.
  package var peak: Int
  /// The most bytes that are live in one event: no placement can do with less.
  package var lowerBound: Int

  private static let pairLimit = 1 << 21

  package init(_ ranges: [LiveRange]) {
    let sized = ranges.map {
      LiveRange(size: ($0.size + 63) / 64 * 64, first: $0.first, last: $0.last)
    }
    lowerBound = Self.mostBytes(sized)
    (offsets, peak) = Self.overTime(sized)
    guard peak > lowerBound, let neighbours = Self.neighbours(sized) else { return }
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
    for order in orders where peak > lowerBound {
      let (candidate, size) = Self.place(sized, sized.indices.sorted(by: order), neighbours)
      if size < peak { (offsets, peak) = (candidate, size) }
    }
  }

  private static func mostBytes(_ ranges: [LiveRange]) -> Int {
    var live = [Int](repeating: 0, count: (ranges.map(\.last).max() ?? -1) + 2)
    for range in ranges {
      live[range.first] += range.size
      live[range.last + 1] -= range.size
    }
    var (present, most) = (0, 0)
    for change in live {
      present += change
      most = max(most, present)
    }
    return most
  }

  /// For each range those that overlap it; nil when there are too many pairs.
  private static func neighbours(_ ranges: [LiveRange]) -> [[Int]]? {
    var result = [[Int]](repeating: [], count: ranges.count)
    var (active, pairs) = ([Int](), 0)
    for index in ranges.indices.sorted(by: { (ranges[$0].first, $0) < (ranges[$1].first, $1) })
    where ranges[index].size > 0 {
      active.removeAll { ranges[$0].last < ranges[index].first }
      pairs += active.count
      guard pairs <= pairLimit else { return nil }
      for other in active {
        result[other].append(index)
        result[index].append(other)
      }
      active.append(index)
    }
    return result
  }

  /// Each range at the lowest offset that is free all the time that it lives, in the given order.
  private static func place(_ ranges: [LiveRange], _ order: [Int], _ neighbours: [[Int]]) -> (
    [Int], Int
  ) {
    var offsets = [Int](repeating: -1, count: ranges.count)
    var peak = 0
    for index in order {
      let placed = neighbours[index].filter { offsets[$0] >= 0 }.sorted {
        offsets[$0] < offsets[$1]
      }
      var offset = 0
      for other in placed {
        if offsets[other] - offset >= ranges[index].size { break }
        offset = max(offset, offsets[other] + ranges[other].size)
      }
      offsets[index] = offset
      peak = max(peak, offset + ranges[index].size)
    }
    return (offsets, peak)
  }

  /// Each range, as it comes to life, in the smallest gap that is large enough.
  private static func overTime(_ ranges: [LiveRange]) -> ([Int], Int) {
    var offsets = [Int](repeating: 0, count: ranges.count)
    var free = FreeBytes()
    let births = ranges.indices.sorted { (ranges[$0].first, $0) < (ranges[$1].first, $1) }
    let deaths = ranges.indices.sorted { (ranges[$0].last, $0) < (ranges[$1].last, $1) }
    var dead = 0
    for index in births where ranges[index].size > 0 {
      while dead < deaths.count, ranges[deaths[dead]].last < ranges[index].first {
        let gone = deaths[dead]
        if ranges[gone].size > 0 { free.give(back: offsets[gone], ranges[gone].size) }
        dead += 1
      }
      offsets[index] = free.take(ranges[index].size)
    }
    return (offsets, free.end)
  }
}

/// The gaps of an arena that grows as needed.
private struct FreeBytes {
  private(set) var end = 0
  /// Gaps by where they begin and by where they end.
  private var sizeAt: [Int: Int] = [:]
  private var startOf: [Int: Int] = [:]
  /// The gaps in ascending order of size, then of where they begin.
  private var gaps: [(size: Int, start: Int)] = []

  mutating func take(_ size: Int) -> Int {
    let place = position(size, 0)
    guard place < gaps.count else {
      // The last gap grows, if it reaches the end.
      let start = startOf[end] ?? end
      if start < end { remove(start) }
      end = start + size
      return start
    }
    let gap = gaps[place]
    remove(gap.start)
    if gap.size > size { insert(gap.start + size, gap.size - size) }
    return gap.start
  }

  mutating func give(back start: Int, _ size: Int) {
    var (low, high) = (start, start + size)
    if let before = startOf[low] {
      remove(before)
      low = before
    }
    if let after = sizeAt[high] {
      remove(high)
      high += after
    }
    insert(low, high - low)
  }

  /// The first gap that does not come before one of this size and start.
  private func position(_ size: Int, _ start: Int) -> Int {
    var (low, high) = (0, gaps.count)
    while low < high {
      let middle = (low + high) / 2
      if (gaps[middle].size, gaps[middle].start) < (size, start) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  private mutating func insert(_ start: Int, _ size: Int) {
    sizeAt[start] = size
    startOf[start + size] = start
    gaps.insert((size, start), at: position(size, start))
  }

  private mutating func remove(_ start: Int) {
    let size = sizeAt.removeValue(forKey: start)!
    startOf[start + size] = nil
    gaps.remove(at: position(size, start))
  }
}
