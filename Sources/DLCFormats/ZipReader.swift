import CZlib
import DLCTensor

/// Reads zip files whose entries are stored or deflated. Every number in them is checked before it is used.
struct ZipReader {
  /// A file of the archive, as the directory describes it.
  struct Entry {
    var name: String
    var method: Int
    var checksum: Int
    var size: Int
    /// The bytes in the archive.
    var data: UnsafeRawBufferPointer
  }

  private let bytes: UnsafeRawBufferPointer
  private let path: String
  private let reader: ByteReader
  /// How many bytes may still come from inflating.
  private var budget: Int
  /// Where the next entry of the directory is, and how many there are from there on.
  private var (position, remaining) = (0, 0)

  init(_ bytes: UnsafeRawBufferPointer, path: String) throws(DLCError) {
    self.bytes = bytes
    self.path = path
    reader = ByteReader(bytes: bytes, context: path)
    budget = bytes.count.multipliedReportingOverflow(by: 1100).partialValue
    (remaining, position) = try directory()
  }

  private func bad(_ what: String) -> DLCError { DLCError(.format, what, at: path) }

  /// How many entries there are, and where their list begins.
  private func directory() throws(DLCError) -> (count: Int, position: Int) {
    // The end record is at the end, before a comment of at most 64 KiB.
    var end = bytes.count - 22
    let lowest = max(0, bytes.count - 22 - 65535)
    while end >= lowest {
      if try reader.integer(end, UInt32.self) == 0x0605_4b50 { break }
      end -= 1
    }
    guard end >= lowest, bytes.count >= 22 else { throw bad("not a zip archive") }
    var count = try reader.integer(end + 10, UInt16.self)
    var directory = try reader.integer(end + 16, UInt32.self)
    if count == 0xffff || directory == 0xffff_ffff {
      // ZIP64: a locator before the end record names the larger record.
      let locator = end - 20
      guard locator >= 0, try reader.integer(locator, UInt32.self) == 0x0706_4b50 else {
        throw bad("the archive is damaged")
      }
      let record = try reader.integer(locator + 8, UInt64.self)
      guard try reader.integer(record, UInt32.self) == 0x0606_4b50 else {
        throw bad("the archive is damaged")
      }
      count = try reader.integer(record + 32, UInt64.self)
      directory = try reader.integer(record + 48, UInt64.self)
    }
    guard count >= 0, count <= bytes.count / 46 else { throw bad("the archive is damaged") }
    return (count, directory)
  }

  /// The next entry of the directory; nil behind the last one.
  mutating func next() throws(DLCError) -> Entry? {
    guard remaining > 0 else { return nil }
    remaining -= 1
    guard try reader.integer(position, UInt32.self) == 0x0201_4b50 else {
      throw bad("the archive's directory is damaged")
    }
    let flags = try reader.integer(position + 8, UInt16.self)
    let method = try reader.integer(position + 10, UInt16.self)
    let checksum = try reader.integer(position + 16, UInt32.self)
    var packed = try reader.integer(position + 20, UInt32.self)
    var size = try reader.integer(position + 24, UInt32.self)
    let nameLength = try reader.integer(position + 28, UInt16.self)
    let extraLength = try reader.integer(position + 30, UInt16.self)
    let commentLength = try reader.integer(position + 32, UInt16.self)
    var local = try reader.integer(position + 42, UInt32.self)
    let name = String(decoding: try reader.slice(position + 46, nameLength), as: UTF8.self)
    // ZIP64 sizes stand in an extra field, in this order, where the short ones are all ones.
    var extra = position + 46 + nameLength
    let extraEnd = extra + extraLength
    try reader.check(extra, extraLength)
    while extra + 4 <= extraEnd {
      let (id, length) = (
        try reader.integer(extra, UInt16.self), try reader.integer(extra + 2, UInt16.self)
      )
      if id == 1 {
        var at = extra + 4
        if size == 0xffff_ffff {
          size = try reader.integer(at, UInt64.self)
          at += 8
        }
        if packed == 0xffff_ffff {
          packed = try reader.integer(at, UInt64.self)
          at += 8
        }
        if local == 0xffff_ffff { local = try reader.integer(at, UInt64.self) }
      }
      extra += 4 + length
    }
    position = extraEnd + commentLength
    guard flags & 1 == 0 else { throw bad("'\(name)' is encrypted") }
    guard try reader.integer(local, UInt32.self) == 0x0403_4b50 else {
      throw bad("'\(name)' is not where the directory says")
    }
    let start =
      local + 30 + (try reader.integer(local + 26, UInt16.self))
      + (try reader.integer(local + 28, UInt16.self))
    return Entry(
      name: name, method: method, checksum: checksum, size: size,
      data: try reader.slice(start, packed))
  }

  /// What an entry holds, and the memory that it was inflated into.
  mutating func content(_ entry: Entry) throws(DLCError) -> (
    bytes: UnsafeRawBufferPointer, storage: TensorStorage?
  ) {
    let (name, size, packed) = (entry.name, entry.size, entry.data.count)
    let content: UnsafeRawBufferPointer
    var storage: TensorStorage?
    switch entry.method {
    case 0:
      guard packed == size else { throw bad("'\(name)' has two sizes") }
      content = entry.data
    case 8:
      // Deflate cannot expand more than about 1032 times.
      guard size >= 0, size <= budget,
        size <= packed.multipliedReportingOverflow(by: 1040).partialValue + 64
      else {
        throw bad("'\(name)' claims to be too large")
      }
      budget -= size
      let inflated = try inflate(entry.data, size, "\(path): \(name)")
      storage = inflated
      content = UnsafeRawBufferPointer(inflated.bytes)
    default:
      throw bad("'\(name)' is compressed by method \(entry.method), which is not supported")
    }
    let sum = crc32_z(0, content.baseAddress?.assumingMemoryBound(to: UInt8.self), content.count)
    guard Int(sum) == entry.checksum else { throw bad("'\(name)' has a wrong checksum") }
    return (content, storage)
  }

  private func inflate(_ data: UnsafeRawBufferPointer, _ size: Int, _ place: String)
    throws(DLCError) -> TensorStorage
  {
    var stream = z_stream()
    guard inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else {
      throw DLCError(.memory, "zlib cannot start", at: place)
    }
    defer { inflateEnd(&stream) }
    let out = try TensorStorage(reserving: size, for: "'\(place)'")
    var status = Z_OK
    var produced = 0
    let target = out.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self)
    stream.next_in = UnsafeMutablePointer(
      mutating: data.baseAddress?.assumingMemoryBound(to: UInt8.self))
    var remaining = data.count
    while status == Z_OK {
      let input = min(remaining, 1 << 30)
      stream.avail_in = UInt32(input)
      stream.next_out = target + produced
      let room = min(size - produced, 1 << 30)
      stream.avail_out = UInt32(room)
      status = CZlib.inflate(&stream, Z_NO_FLUSH)
      remaining -= input - Int(stream.avail_in)
      produced += room - Int(stream.avail_out)
      if status == Z_OK, input == 0 || room == 0 { break }
    }
    guard status == Z_STREAM_END, produced == size else {
      throw DLCError(.format, "the compressed data is damaged", at: place)
    }
    return out
  }
}
