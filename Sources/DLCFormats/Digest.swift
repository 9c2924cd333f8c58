import CXXHash

/// XXH3, 128 bits: for the names of cache entries and for finding damage in files. It is as fast as
/// memory, and it is no protection against somebody who means to deceive: what counts on that
/// compares the content too.
package struct Digest: ~Copyable {
  /// Bytes of a digest.
  package static let byteCount = 16

  private let state = XXH3_createState()

  package init() { XXH3_128bits_reset(state) }

  deinit { XXH3_freeState(state) }

  package borrowing func update(_ bytes: UnsafeRawBufferPointer) {
    XXH3_128bits_update(state, bytes.baseAddress, bytes.count)
  }

  package borrowing func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

  /// The digest in its canonical order of bytes.
  package borrowing func finish() -> [UInt8] {
    let hash = XXH3_128bits_digest(state)
    return [hash.high64, hash.low64].flatMap { half in
      (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * UInt64($0))) }
    }
  }

  /// The digest in hexadecimal digits.
  package var hex: String {
    finish().map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  package static func hash(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    let digest = Digest()
    digest.update(bytes)
    return digest.finish()
  }

  package static func hash(_ bytes: [UInt8]) -> [UInt8] { bytes.withUnsafeBytes { hash($0) } }

  package static func hex(_ bytes: UnsafeRawBufferPointer) -> String {
    let digest = Digest()
    digest.update(bytes)
    return digest.hex
  }

  package static func hex(_ bytes: [UInt8]) -> String { bytes.withUnsafeBytes { hex($0) } }
}
