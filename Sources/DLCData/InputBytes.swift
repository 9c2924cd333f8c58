import CZlib
import DLCFormats
package import DLCTensor

/// The bytes of a data file: mapped, or inflated where it is compressed by gzip.
package final class InputBytes {
  package let bytes: UnsafeRawBufferPointer
  package let path: String
  /// Keeps the bytes.
  package let owner: AnyObject

  /// - Throws: `.file` when it cannot be read, `.format` when the compressed data is damaged, `.memory`
  ///   when there is not enough to inflate it.
  package init(_ path: String) throws(DLCError) {
    self.path = path
    let file = try MappedFile(path)
    guard file.bytes.count >= 3, file.bytes[0] == 0x1f, file.bytes[1] == 0x8b, file.bytes[2] == 8
    else {
      (bytes, owner) = (file.bytes, file)
      return
    }
    // Once to learn the size, which the file does not say reliably, and once to keep what comes out.
    let size = try Self.inflate(file, into: nil)
    let storage = try TensorStorage(reserving: size, for: "what '\(path)' inflates to")
    guard try Self.inflate(file, into: storage.bytes) == size else {
      throw DLCError(.format, "the compressed data is damaged", at: path)
    }
    (bytes, owner) = (UnsafeRawBufferPointer(storage.bytes), storage)
  }

  /// Inflates all members of a gzip file; without a target the bytes are only counted.
  /// - Returns: how many bytes come out.
  private static func inflate(_ file: MappedFile, into target: UnsafeMutableRawBufferPointer?)
    throws(DLCError) -> Int
  {
    var stream = z_stream()
    guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else {
      throw DLCError(.memory, "zlib cannot start", at: file.path)
    }
    defer { inflateEnd(&stream) }
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 64)
    defer { scratch.deallocate() }
    var consumed = 0
    var produced = 0
    while true {
      let input = min(file.bytes.count - consumed, 1 << 30)
      stream.next_in = UnsafeMutablePointer(
        mutating: (file.bytes.baseAddress! + consumed).assumingMemoryBound(to: UInt8.self))
      stream.avail_in = UInt32(input)
      // At the end of the target a byte of the scratch shows whether more comes.
      let room = target.map { min($0.count - produced, 1 << 30) } ?? 0
      let out = room > 0 ? target!.baseAddress! + produced : scratch.baseAddress!
      let space = room > 0 ? room : scratch.count
      stream.next_out = out.assumingMemoryBound(to: UInt8.self)
      stream.avail_out = UInt32(space)
      let status = CZlib.inflate(&stream, Z_NO_FLUSH)
      let (taken, made) = (input - Int(stream.avail_in), space - Int(stream.avail_out))
      consumed += taken
      produced += made
      if let target, produced > target.count { return produced }
      if status == Z_STREAM_END {
        // Another member may follow, or zeros that fill a block of a tape; anything else is damage.
        if file.bytes[consumed...].allSatisfy({ $0 == 0 }) { return produced }
        guard consumed + 2 < file.bytes.count, file.bytes[consumed] == 0x1f,
          file.bytes[consumed + 1] == 0x8b
        else {
          throw DLCError(
            .format, "what follows the compressed data at byte \(consumed) is not gzip",
            at: file.path)
        }
        guard inflateReset(&stream) == Z_OK else { break }
      } else if status != Z_OK || taken == 0 && made == 0 {
        break
      }
    }
    throw DLCError(
      .format,
      consumed >= file.bytes.count
        ? "the compressed file is cut short"
        : "the compressed data is damaged near byte \(consumed)",
      at: file.path)
  }

  /// The line and the column of a byte, each from 1; a column counts bytes.
  package func place(of offset: Int) -> (line: Int, column: Int) {
    var (line, start) = (1, 0)
    for index in 0..<min(offset, bytes.count) where bytes[index] == 10 {
      line += 1
      start = index + 1
    }
    return (line, offset - start + 1)
  }
}
