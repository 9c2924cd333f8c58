public import DLCTensor

/// The safetensors format: a JSON header, then the tensors' bytes.
///
/// ```swift
/// try Safetensors.write([("w", Tensor([1, 2, 3], .float32))], to: "weights.safetensors")
/// let weights = try Safetensors.read("weights.safetensors")
/// ```
public enum Safetensors {
  private static let types: [(code: String, type: DataType)] = [
    ("F32", .float32), ("F64", .float64), ("F16", .float16), ("BF16", .bfloat16), ("I8", .int8),
    ("I16", .int16),
    ("I32", .int32), ("I64", .int64), ("U8", .uint8), ("U16", .uint16), ("U32", .uint32),
    ("U64", .uint64),
    ("BOOL", .bool),
  ]

  /// Maps a file; the tensors use its memory in place.
  /// - Throws: `.file` when it cannot be read, `.format` unless the header is sound in full: known
  ///   types, names that occur once, whole sizes that match the offsets, no overlap, no hole. `.memory`
  ///   when there is not enough for a tensor that has to be copied.
  public static func read(
    _ path: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> [(name: String, value: Tensor)] {
    do throws(DLCError) {
      let file = try MappedFile(path)
      return try read(file.bytes, path: path, owner: file)
    } catch {
      throw error.called(file, line)
    }
  }

  package static func read(_ bytes: UnsafeRawBufferPointer, path: String, owner: AnyObject)
    throws(DLCError)
    -> [(name: String, value: Tensor)]
  {
    func bad(_ what: String) -> DLCError { DLCError(.format, what, at: path) }
    let reader = ByteReader(bytes: bytes, context: path)
    let headerSize = try reader.integer(0, UInt64.self)
    guard headerSize >= 2, headerSize <= 100_000_000 else { throw bad("not a safetensors file") }
    let header = try reader.slice(8, headerSize)
    guard header[0] == UInt8(ascii: "{") else { throw bad("not a safetensors file") }
    var parser = SafetensorsHeader(bytes: header, path: path)
    let entries = try parser.parse()
    let data = try reader.slice(8 + headerSize, bytes.count - 8 - headerSize)
    var result: [(name: String, value: Tensor, start: Int)] = []
    for entry in entries {
      let name = entry.name
      guard let type = types.first(where: { $0.code == entry.type })?.type else {
        throw bad(
          "'\(name)' has elements of type '\(entry.type.prefix(16))', which are not supported")
      }
      do { try TensorType(type, sizes: entry.shape).validate() } catch {
        throw error.within("\(path): \(name)")
      }
      let size = entry.shape.reduce(1, *) * type.byteCount
      guard entry.offsets.count == 2,
        entry.offsets[1] <= data.count,
        entry.offsets[0] <= entry.offsets[1],
        entry.offsets[1] - entry.offsets[0] == size
      else { throw bad("the offsets of '\(name)' do not fit its type or the file") }
      let start = entry.offsets[0]
      let memory = UnsafeRawBufferPointer(rebasing: data[start..<start + size])
      let isAligned = Int(bitPattern: memory.baseAddress) % type.byteCount == 0
      var tensor: Tensor
      if isAligned && type != .bool {
        tensor = Tensor(
          dataType: type, shape: entry.shape,
          storage: TensorStorage(borrowing: memory, owner: owner))
      } else {
        tensor = try Tensor(reserving: type, entry.shape, for: "tensor '\(name)'")
        tensor.withUnsafeMutableBytes { target in
          target.copyMemory(from: memory)
          if type == .bool { for i in target.indices where target[i] > 1 { target[i] = 1 } }
        }
      }
      result.append((name, tensor, start))
    }
    result.sort {
      ($0.start, $0.value.byteCount, $0.name) < ($1.start, $1.value.byteCount, $1.name)
    }
    var end = 0
    for (name, value, start) in result {
      guard start == end else {
        throw bad(
          start < end ? "'\(name)' overlaps another tensor" : "there is a hole before '\(name)'")
      }
      end = start + value.byteCount
    }
    guard end == data.count else { throw bad("there are bytes after the last tensor") }
    return result.map { ($0.name, $0.value) }
  }

  /// Writes tensors, aligned for mapping; the same tensors give the same bytes. A regular file is
  /// replaced as a whole; `-` is standard output.
  /// - Throws: `.file` when it cannot be written, `.format` when a name occurs twice or is that of the
  ///   format's own entry.
  public static func write(
    _ tensors: [(name: String, value: Tensor)], to path: String, file: StaticString = #fileID,
    line: UInt = #line
  )
    throws(DLCError)
  {
    do throws(DLCError) {
      try writeArchive(tensors, to: path) { (tensors, write) throws(DLCError) in
        guard !tensors.contains(where: { $0.name == "__metadata__" }) else {
          throw DLCError(
            .format, "a tensor is named '__metadata__', which the format keeps for itself")
        }
        try encode(tensors, write)
      }
    } catch {
      throw error.called(file, line)
    }
  }

  package static func encode(_ tensors: [(name: String, value: Tensor)]) -> [UInt8] {
    var out: [UInt8] = []
    encode(tensors) { out += $0 }
    return out
  }

  /// Hands out the file in parts, so that the tensors are not copied.
  package static func encode<Failure: Error>(
    _ tensors: [(name: String, value: Tensor)],
    _ write: (UnsafeRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    // Wide elements first, so that every tensor is aligned to its own elements.
    let ordered = tensors.sorted {
      ($1.value.dataType.byteCount, $0.name) < ($0.value.dataType.byteCount, $1.name)
    }
    var header = "{"
    var offset = 0
    for (name, value) in ordered {
      let code = types.first { $0.type == value.dataType }!.code
      let shape = value.shape.map(\.description).joined(separator: ",")
      if offset > 0 || header.count > 1 { header += "," }
      header +=
        "\(json(name)):{\"dtype\":\"\(code)\",\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(offset + value.byteCount)]}"
      offset += value.byteCount
    }
    header += "}"
    while header.utf8.count % 64 != 56 { header += " " }
    var head = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
    head += Array(header.utf8)
    try head.withUnsafeBytesTyped { (bytes) throws(Failure) in try write(bytes) }
    for (_, value) in ordered {
      try value.withUnsafeBytes { (bytes) throws(Failure) in try write(bytes) }
    }
  }
}

/// Writes a file of named arrays as a whole.
/// - Parameter encode: hands out the file in parts.
/// - Throws: `.format` for a name twice, an array's own problem, or what `encode` and writing throw.
func writeArchive(
  _ arrays: [(name: String, value: Tensor)], to path: String,
  _ encode: (
    [(name: String, value: Tensor)], (UnsafeRawBufferPointer) throws(DLCError) -> Void
  ) throws(DLCError) -> Void
) throws(DLCError) {
  var names: Set<String> = []
  for (name, value) in arrays {
    try value.check()
    guard names.insert(name).inserted else {
      throw DLCError(.format, "there are two arrays of the name '\(name.prefix(64))'")
    }
  }
  let file = try OutputFile(path)
  try encode(arrays) { (part) throws(DLCError) in try file.write(part) }
  try file.commit()
}

/// A JSON string literal.
package func json(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    default:
      if scalar.value < 32 {
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }
  return result + "\""
}
