import CZlib
public import DLCTensor

/// NumPy's archive: a zip file of arrays, stored or deflated.
public enum Npz {
  /// Reads every array of an archive, by name.
  /// - Throws: `.file` when it cannot be read, `.format` when it is damaged or hostile.
  public static func read(_ path: String) throws(DLCError) -> [(name: String, value: Tensor)] {
    let file = try MappedFile(path)
    return try read(file.bytes, path: path)
  }

  package static func read(_ bytes: UnsafeRawBufferPointer, path: String) throws(DLCError) -> [(
    name: String, value: Tensor
  )] {
    let reader = ByteReader(bytes: bytes, context: path)
    func bad(_ what: String) -> DLCError { DLCError(.format, what, at: path) }
    if bytes.count >= 6, bytes[0] == 0x93, bytes[1..<6].elementsEqual("NUMPY".utf8) {
      throw DLCError(
        .format, "this is a single array (.npy), not an archive (.npz)", at: path,
        remedy: "save it with numpy.savez")
    }
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
    var result: [(name: String, value: Tensor)] = []
    var names: Set<String> = []
    var position = directory
    var budget = bytes.count.multipliedReportingOverflow(by: 1100).partialValue
    for _ in 0..<count {
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
      let data = try reader.slice(start, packed)
      var storage: [UInt8] = []
      let content: UnsafeRawBufferPointer
      switch method {
      case 0:
        guard packed == size else { throw bad("'\(name)' has two sizes") }
        content = data
      case 8:
        // Deflate cannot expand more than about 1032 times.
        guard size >= 0, size <= budget,
          size <= packed.multipliedReportingOverflow(by: 1040).partialValue + 64
        else {
          throw bad("'\(name)' claims to be too large")
        }
        budget -= size
        storage = try inflate(data, size, "\(path): \(name)")
        content = storage.withUnsafeBytes { $0 }
      default: throw bad("'\(name)' is compressed by method \(method), which is not supported")
      }
      try withExtendedLifetime(storage) { () throws(DLCError) in
        let sum = crc32_z(
          0, content.baseAddress?.assumingMemoryBound(to: UInt8.self), content.count)
        guard Int(sum) == checksum else { throw bad("'\(name)' has a wrong checksum") }
        let key = name.hasSuffix(".npy") ? String(name.dropLast(4)) : name
        guard names.insert(key).inserted else { throw bad("'\(key)' is in the archive twice") }
        result.append((key, try Npy.read(content, name: "\(path): \(key)")))
      }
    }
    return result
  }

  private static func inflate(_ data: UnsafeRawBufferPointer, _ size: Int, _ place: String)
    throws(DLCError) -> [UInt8]
  {
    var stream = z_stream()
    guard inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else {
      throw DLCError(.memory, "zlib cannot start", at: place)
    }
    defer { inflateEnd(&stream) }
    var out = [UInt8](repeating: 0, count: size)
    var status = Z_OK
    var produced = 0
    out.withUnsafeMutableBufferPointer { target in
      stream.next_in = UnsafeMutablePointer(
        mutating: data.baseAddress?.assumingMemoryBound(to: UInt8.self))
      var remaining = data.count
      while status == Z_OK {
        let input = min(remaining, 1 << 30)
        stream.avail_in = UInt32(input)
        stream.next_out = target.baseAddress.map { $0 + produced }
        let room = min(size - produced, 1 << 30)
        stream.avail_out = UInt32(room)
        status = CZlib.inflate(&stream, Z_NO_FLUSH)
        remaining -= input - Int(stream.avail_in)
        produced += room - Int(stream.avail_out)
        if status == Z_OK, input == 0 || room == 0 { break }
      }
    }
    guard status == Z_STREAM_END, produced == size else {
      throw DLCError(.format, "the compressed data is damaged", at: place)
    }
    return out
  }

  /// Writes arrays as a stored archive, atomically; the same arrays give the same bytes.
  /// bfloat16, which NumPy has not, is written as float32, which holds it exactly.
  /// - Throws: `.file` when it cannot be written.
  public static func write(_ arrays: [(name: String, value: Tensor)], to path: String)
    throws(DLCError)
  {
    for entry in arrays { try entry.value.check() }
    try MappedFile.write(try encode(arrays), to: path)
  }

  package static func encode(_ arrays: [(name: String, value: Tensor)]) throws(DLCError) -> [UInt8]
  {
    var out: [UInt8] = []
    var directory: [UInt8] = []
    func put(_ list: inout [UInt8], _ value: Int, _ size: Int) {
      for byte in 0..<size { list.append(UInt8(truncatingIfNeeded: value >> (8 * byte))) }
    }
    for (name, value) in arrays {
      let data = try Npy.write(value, name: name)
      let file = Array("\(name).npy".utf8)
      let sum = data.withUnsafeBufferPointer { Int(crc32_z(0, $0.baseAddress, $0.count)) }
      let offset = out.count
      // Sizes always in the ZIP64 field, as numpy writes them.
      func common(_ list: inout [UInt8], _ extra: Int) {
        put(&list, 45, 2)
        put(&list, 0, 2)
        put(&list, 0, 2)
        put(&list, 0, 2)
        put(&list, 0x21, 2)  // 1 January 1980
        put(&list, sum, 4)
        put(&list, 0xffff_ffff, 4)
        put(&list, 0xffff_ffff, 4)
        put(&list, file.count, 2)
        put(&list, extra, 2)
      }
      put(&out, 0x0403_4b50, 4)
      common(&out, 20)
      out += file
      put(&out, 1, 2)
      put(&out, 16, 2)
      put(&out, data.count, 8)
      put(&out, data.count, 8)
      out += data
      put(&directory, 0x0201_4b50, 4)
      put(&directory, 45, 2)
      common(&directory, 28)
      put(&directory, 0, 2)
      put(&directory, 0, 2)
      put(&directory, 0, 2)
      put(&directory, 0o600 << 16, 4)
      put(&directory, 0xffff_ffff, 4)
      directory += file
      put(&directory, 1, 2)
      put(&directory, 24, 2)
      put(&directory, data.count, 8)
      put(&directory, data.count, 8)
      put(&directory, offset, 8)
    }
    let start = out.count
    out += directory
    let record = out.count
    put(&out, 0x0606_4b50, 4)
    put(&out, 44, 8)
    put(&out, 45, 2)
    put(&out, 45, 2)
    put(&out, 0, 8)
    put(&out, arrays.count, 8)
    put(&out, arrays.count, 8)
    put(&out, directory.count, 8)
    put(&out, start, 8)
    put(&out, 0x0706_4b50, 4)
    put(&out, 0, 4)
    put(&out, record, 8)
    put(&out, 1, 4)
    put(&out, 0x0605_4b50, 4)
    put(&out, 0, 4)
    put(&out, min(arrays.count, 0xffff), 2)
    put(&out, min(arrays.count, 0xffff), 2)
    put(&out, min(directory.count, 0xffff_ffff), 4)
    put(&out, min(start, 0xffff_ffff), 4)
    put(&out, 0, 2)
    return out
  }
}
