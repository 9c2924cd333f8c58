import CZlib
public import DLCTensor

/// NumPy's archive: a zip file of arrays, stored or deflated.
///
/// ```swift
/// try Npz.write([("x", Tensor([[1, 2], [3, 4]], .float32))], to: "arrays.npz")
/// let arrays = try Npz.arrays("arrays.npz")  // by name
/// ```
public enum Npz {
  /// Reads every array of an archive, by name; folders, texts and arrays of texts in it are left out.
  /// Stored arrays stay in the mapped file, where they are aligned for their elements: a file that is
  /// replaced by another one of its name is still there for them, one that is cut short is not.
  /// - Throws: `.file` when it cannot be read, `.format` when it is damaged or hostile, `.memory` when
  ///   there is not enough for an array.
  public static func read(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> [(name: String, value: Tensor)] {
    do throws(DLCError) {
      return try contents(path).arrays
    } catch {
      throw error.called(file, line)
    }
  }

  /// The same by name, as a trainer or an executable takes them.
  public static func arrays(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> [String: Tensor] {
    do throws(DLCError) {
      return Dictionary(
        try contents(path).arrays.map { ($0.name, $0.value) },
        uniquingKeysWith: { first, _ in first })
    } catch {
      throw error.called(file, line)
    }
  }

  /// Reads every array of an archive, and says what in it is none, and why.
  /// - Throws: as `read`.
  package static func contents(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> (
    arrays: [(name: String, value: Tensor)], skipped: [(name: String, reason: String)]
  ) {
    do throws(DLCError) {
      let file = try MappedFile(path)
      return try contents(file.bytes, path: path, owner: file)
    } catch {
      throw error.called(file, line)
    }
  }

  /// - Parameter owner: keeps the bytes alive; without one every array is a copy.
  package static func contents(
    _ bytes: UnsafeRawBufferPointer, path: String, owner: AnyObject? = nil
  ) throws(DLCError) -> (
    arrays: [(name: String, value: Tensor)], skipped: [(name: String, reason: String)]
  ) {
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
    var skipped: [(name: String, reason: String)] = []
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
      if name.hasSuffix("/") {
        skipped.append((name, "a folder"))
        continue
      }
      let storage: TensorStorage?
      let content: UnsafeRawBufferPointer
      switch method {
      case 0:
        guard packed == size else { throw bad("'\(name)' has two sizes") }
        storage = nil
        content = data
      case 8:
        // Deflate cannot expand more than about 1032 times.
        guard size >= 0, size <= budget,
          size <= packed.multipliedReportingOverflow(by: 1040).partialValue + 64
        else {
          throw bad("'\(name)' claims to be too large")
        }
        budget -= size
        let inflated = try inflate(data, size, "\(path): \(name)")
        storage = inflated
        content = UnsafeRawBufferPointer(inflated.bytes)
      default: throw bad("'\(name)' is compressed by method \(method), which is not supported")
      }
      try withExtendedLifetime(storage) { () throws(DLCError) in
        let sum = crc32_z(
          0, content.baseAddress?.assumingMemoryBound(to: UInt8.self), content.count)
        guard Int(sum) == checksum else { throw bad("'\(name)' has a wrong checksum") }
        let key = name.hasSuffix(".npy") ? String(name.dropLast(4)) : name
        guard names.insert(key).inserted else { throw bad("'\(key)' is in the archive twice") }
        guard Npy.isArray(content) else {
          skipped.append((name, "not an array"))
          return
        }
        let header = try Npy.header(content, name: "\(path): \(key)")
        guard header.element != nil else {
          skipped.append((key, "elements of type '\(header.descriptor.prefix(16))'"))
          return
        }
        // What was inflated is kept by the array itself, what is stored by the mapped file.
        result.append(
          (key, try Npy.read(content, name: "\(path): \(key)", owner: storage ?? owner)))
      }
    }
    return (result, skipped)
  }

  private static func inflate(_ data: UnsafeRawBufferPointer, _ size: Int, _ place: String)
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

  /// Writes arrays as a stored archive, aligned for mapping; the same arrays give the same bytes. A
  /// regular file is replaced as a whole; `-` is standard output. bfloat16, which NumPy has not, is written as float32, which
  /// holds it exactly.
  /// - Throws: `.unsupported` for names that a zip file cannot hold, `.file` when it cannot be written,
  ///   `.format` when a name occurs twice.
  public static func write(
    _ arrays: [(name: String, value: Tensor)], to path: String, file: StaticString = #fileID,
    line: UInt = #line
  )
    throws(DLCError)
  {
    do throws(DLCError) {
      let writer = try NpzWriter(path)
      for (name, value) in arrays { try writer.add(name, value) }
      try writer.commit()
    } catch {
      throw error.called(file, line)
    }
  }

  package static func encode(_ arrays: [(name: String, value: Tensor)]) throws(DLCError) -> [UInt8]
  {
    let writer = NpzWriter()
    for (name, value) in arrays { try writer.add(name, value) }
    return try writer.bytes()
  }
}
