/// Random bits from a seed, the same on every machine (Steele, Lea and Flood 2014).
package struct SplitMix: RandomNumberGenerator, Sendable {
  private var state: UInt64
  package init(state: UInt64) { self.state = state }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}

/// A stream of small numbers that a generator draws from, recorded so that what it made can be made
/// again from fewer and smaller numbers.
package struct Choices: Sendable {
  private var random: SplitMix?
  /// The numbers drawn so far, or to be drawn.
  package private(set) var numbers: [Int] = []
  private var position = 0

  /// New numbers from a seed.
  package init(seed: UInt64) {
    random = SplitMix(state: seed &* 0x9E37_79B9_7F4A_7C15 ^ 0xD1B5_4A32_D192_ED03)
  }

  /// The given numbers, then zeros.
  package init(_ numbers: [Int]) { self.numbers = numbers }

  /// A number below `bound`; 0 stands for the simplest choice.
  package mutating func next(_ bound: Int) -> Int {
    defer { position += 1 }
    if let word = random?.next() {
      let number = Int(word >> 33) % bound
      numbers.append(number)
      return number
    }
    return position < numbers.count ? numbers[position] % bound : 0
  }

  /// The shortest and smallest numbers that can be found for which `fails` still holds, in at most
  /// `attempts` trials: parts are left out, then numbers are made smaller.
  package static func shrunk(
    _ numbers: [Int], attempts: Int = 400, _ fails: ([Int]) -> Bool
  ) -> [Int] {
    var (best, left) = (numbers, attempts)
    func holds(_ candidate: [Int]) -> Bool {
      left -= 1
      guard left >= 0, fails(candidate) else { return false }
      best = candidate
      return true
    }
    var size = best.count / 2
    while size > 0 && left > 0 {
      var start = 0
      while start < best.count && left > 0 {
        var candidate = best
        candidate.removeSubrange(start..<min(start + size, best.count))
        if !holds(candidate) { start += size }
      }
      size /= 2
    }
    var index = 0
    while index < best.count && left > 0 {
      if best[index] != 0 {
        var candidate = best
        candidate[index] = 0
        if !holds(candidate), best[index] > 1 {
          candidate[index] = best[index] / 2
          _ = holds(candidate)
        }
      }
      index += 1
    }
    return best
  }
}
