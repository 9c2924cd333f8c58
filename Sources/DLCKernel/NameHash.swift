import DLCTensor

/// What tells functions of the code apart whose names say the same.
package enum NameHash {
  /// The hash of a text in letters and digits.
  package static func of(_ text: String) -> String { String(TextHash.of(text), radix: 36) }
}
