/// The counter-based generator Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011): the same key and counter give the same bits on every machine.
package enum Philox {
  package static let multiplier0: UInt32 = 0xD251_1F53
  package static let multiplier1: UInt32 = 0xCD9E_8D57
  package static let weyl0: UInt32 = 0x9E37_79B9
  package static let weyl1: UInt32 = 0xBB67_AE85
  package static let rounds = 10

  /// Four 32-bit words for a 128-bit counter and a 64-bit key.
  package static func block(
    counter: (UInt32, UInt32, UInt32, UInt32), key: (UInt32, UInt32)
  ) -> (UInt32, UInt32, UInt32, UInt32) {
    var (c0, c1, c2, c3) = counter
    var (k0, k1) = key
    for _ in 0..<rounds {
      let p0 = UInt64(multiplier0) * UInt64(c0)
      let p1 = UInt64(multiplier1) * UInt64(c2)
      (c0, c1, c2, c3) = (
        UInt32(truncatingIfNeeded: p1 >> 32) ^ c1 ^ k0, UInt32(truncatingIfNeeded: p1),
        UInt32(truncatingIfNeeded: p0 >> 32) ^ c3 ^ k1, UInt32(truncatingIfNeeded: p0)
      )
      k0 &+= weyl0
      k1 &+= weyl1
    }
    return (c0, c1, c2, c3)
  }

  /// Word `index` of the stream of `key` and `counter`: block `index / 4`, word `index % 4`. The
  /// block number is the low half of the 128-bit counter, `counter` the high half.
  package static func word(index: UInt64, key: UInt64, counter: UInt64) -> UInt32 {
    let number = index / 4
    let words = block(
      counter: (
        UInt32(truncatingIfNeeded: number), UInt32(truncatingIfNeeded: number >> 32),
        UInt32(truncatingIfNeeded: counter), UInt32(truncatingIfNeeded: counter >> 32)
      ),
      key: (UInt32(truncatingIfNeeded: key), UInt32(truncatingIfNeeded: key >> 32)))
    switch index % 4 {
    case 0: return words.0
    case 1: return words.1
    case 2: return words.2
    default: return words.3
    }
  }
}
