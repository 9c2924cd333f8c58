/// A number for a text, the same on every machine and in every process.
package enum TextHash {
  /// The 64-bit FNV-1a hash of the UTF-8 bytes.
  package static func of(_ text: String) -> UInt64 {
    text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}
