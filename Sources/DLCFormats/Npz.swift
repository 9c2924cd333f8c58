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
    if bytes.count >= 6, bytes[0] == 0x93, bytes[1..<6].elementsEqual("NUMPY".utf8) {
      throw DLCError(
        .format, "this is a single array (.npy), not an archive (.npz)", at: path,
        remedy: "save it with numpy.savez")
    }
    var archive = try ZipReader(bytes, path: path)
    var result: [(name: String, value: Tensor)] = []
    var skipped: [(name: String, reason: String)] = []
    var names: Set<String> = []
    while let entry = try archive.next() {
      let name = entry.name
      if name.hasSuffix("/") {
        skipped.append((name, "a folder"))
        continue
      }
      let (content, storage) = try archive.content(entry)
      try withExtendedLifetime(storage) { () throws(DLCError) in
        let key = name.hasSuffix(".npy") ? String(name.dropLast(4)) : name
        guard names.insert(key).inserted else {
          throw DLCError(.format, "'\(key)' is in the archive twice", at: path)
        }
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
