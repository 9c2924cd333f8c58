import DLCTensor

/// Reads little-endian numbers from bytes that are not to be trusted.
struct ByteReader {
  let bytes: UnsafeRawBufferPointer
  let context: String

  func check(_ offset: Int, _ count: Int) throws(DLCError) {
    guard offset >= 0, count >= 0, count <= bytes.count, offset <= bytes.count - count else {
      throw DLCError(.format, "the file is truncated or damaged", at: context)
    }
  }

  func integer<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: T.Type) throws(DLCError)
    -> Int
  {
    try check(offset, MemoryLayout<T>.size)
    return Int(
      truncatingIfNeeded: T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self)))
  }

  func slice(_ offset: Int, _ count: Int) throws(DLCError) -> UnsafeRawBufferPointer {
    try check(offset, count)
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }
}
