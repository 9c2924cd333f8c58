/// What tells functions of the code apart whose names say the same.
package enum NameHash {
  /// FNV-1a of a text, 64 bits, in letters and digits.
  package static func of(_ text: String) -> String {
    let hash = text.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
      ($0 ^ UInt64($1)) &* 0x100_0000_01b3
    }
    return String(hash, radix: 36)
  }
}
