package import DLCTensor

/// NumPy's array format, versions 1 to 3: C and Fortran order, either byte order.
package enum Npy {
  private static let types: [(code: String, type: DataType)] = [
    ("f4", .float32), ("f8", .float64), ("f2", .float16), ("i1", .int8), ("i2", .int16),
    ("i4", .int32),
    ("i8", .int64), ("u1", .uint8), ("u2", .uint16), ("u4", .uint32), ("u8", .uint64),
    ("b1", .bool),
  ]

  /// What stands before the elements.
  struct Header {
    /// NumPy's name of the element type, and which one that is here; nil when it is none.
    var descriptor: String
    var element: (type: DataType, isSwapped: Bool)?
    var isFortran: Bool
    var shape: [Int]
    /// Where the elements begin.
    var end: Int
  }

  static func isArray(_ bytes: UnsafeRawBufferPointer) -> Bool {
    bytes.count >= 6 && bytes[0] == 0x93 && bytes[1..<6].elementsEqual("NUMPY".utf8)
  }

  /// - Throws: `.format` with `name` unless it is well formed.
  static func header(_ bytes: UnsafeRawBufferPointer, name: String) throws(DLCError) -> Header {
    let reader = ByteReader(bytes: bytes, context: name)
    func bad(_ what: String) -> DLCError { DLCError(.format, what, at: name) }
    guard bytes.count >= 10, isArray(bytes) else { throw bad("not a NumPy array") }
    let isOld = bytes[6] == 1
    guard (1...3).contains(bytes[6]) else {
      throw bad("NumPy format version \(bytes[6]) is not known")
    }
    let headerSize = isOld ? try reader.integer(8, UInt16.self) : try reader.integer(8, UInt32.self)
    let headerStart = isOld ? 10 : 12
    guard headerSize <= 1 << 16 else { throw bad("the header is too long") }
    var parser = HeaderParser(bytes: Array(try reader.slice(headerStart, headerSize)))
    guard let (descriptor, isFortran, shape) = parser.parse() else {
      throw bad("the header is malformed")
    }
    var element: (DataType, Bool)?
    if let order = descriptor.utf8.first, "<>|=".utf8.contains(order), descriptor.utf8.count == 3,
      let type = types.first(where: { $0.code == descriptor.dropFirst() })?.type
    {
      element = (type, order == UInt8(ascii: ">") && type.byteCount > 1)
    }
    return Header(
      descriptor: descriptor, element: element, isFortran: isFortran, shape: shape,
      end: headerStart + headerSize)
  }

  /// - Throws: `.format` with `name` for anything but a well-formed array of a supported type,
  ///   `.memory` when there is not enough for it.
  /// - Parameter owner: keeps the bytes alive. The array then borrows its elements from them, where they
  ///   stand as a tensor's do; without one, or elsewhere, they are copied.
  package static func read(
    _ bytes: UnsafeRawBufferPointer, name: String, owner: AnyObject? = nil
  ) throws(DLCError) -> Tensor {
    func bad(_ what: String) -> DLCError { DLCError(.format, what, at: name) }
    let header = try Self.header(bytes, name: name)
    guard let (type, swaps) = header.element else {
      throw bad("elements of type '\(header.descriptor.prefix(16))' are not supported")
    }
    let (shape, isFortran) = (header.shape, header.isFortran)
    do { try TensorType(type, sizes: shape).validate() } catch { throw error.within(name) }
    let size = shape.reduce(1, *) * type.byteCount
    let data = try ByteReader(bytes: bytes, context: name).slice(header.end, size)
    guard bytes.count == header.end + size else {
      throw bad("there are bytes after the last element")
    }
    if let owner, !swaps, !isFortran || shape.count < 2, type != .bool,
      Int(bitPattern: data.baseAddress) % type.byteCount == 0
    {
      return Tensor(
        dataType: type, shape: shape, storage: TensorStorage(borrowing: data, owner: owner))
    }
    var tensor = try Tensor(reserving: type, shape, for: "array '\(name)'")
    let width = type.byteCount
    let strides = rowMajorStrides(Array(shape.reversed()))
    let count = shape.reduce(1, *)
    tensor.withUnsafeMutableBytes { target in
      if !swaps && (!isFortran || shape.count < 2) {
        target.copyMemory(from: data)
        return
      }
      for index in 0..<count {
        var source = index
        if isFortran {
          var rest = index
          source = 0
          for axis in shape.indices.reversed() {
            source += rest % shape[axis] * strides[shape.count - 1 - axis]
            rest /= shape[axis]
          }
        }
        for byte in 0..<width {
          target[index * width + byte] = data[source * width + (swaps ? width - 1 - byte : byte)]
        }
      }
    }
    if type == .bool {
      // Any byte but 0 and 1 would break the promise that a bool holds.
      tensor.withUnsafeMutableBytes { for i in $0.indices where $0[i] > 1 { $0[i] = 1 } }
    }
    return tensor
  }

  /// What stands before the elements of an array in a file.
  /// - Throws: `.unsupported` for bfloat16, which NumPy has not.
  static func header(of type: DataType, _ sizes: [Int], name: String) throws(DLCError) -> [UInt8] {
    guard let code = types.first(where: { $0.type == type })?.code else {
      throw DLCError(
        .unsupported, "NumPy has no \(type) for '\(name)'",
        remedy: "convert it, or use safetensors")
    }
    let order = type.byteCount == 1 ? "|" : "<"
    let shape = sizes.map { "\($0)," }.joined(separator: " ")
    var header = "{'descr': '\(order)\(code)', 'fortran_order': False, 'shape': (\(shape)), }"
    while (10 + header.utf8.count + 1) % 64 != 0 { header += " " }
    header += "\n"
    return [0x93] + Array("NUMPY".utf8)
      + [1, 0, UInt8(header.utf8.count & 255), UInt8(header.utf8.count >> 8)]
      + Array(header.utf8)
  }

  /// The header is a Python dictionary literal with three known keys.
  private struct HeaderParser {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func skip() {
      while position < bytes.count, bytes[position] == 32 || bytes[position] == 10 { position += 1 }
    }
    mutating func take(_ character: Character) -> Bool {
      skip()
      guard position < bytes.count, bytes[position] == character.asciiValue! else { return false }
      position += 1
      return true
    }
    mutating func string() -> String? {
      skip()
      guard position < bytes.count, bytes[position] == 39 || bytes[position] == 34 else {
        return nil
      }
      let quote = bytes[position]
      let start = position + 1
      guard let end = bytes[start...].firstIndex(of: quote) else { return nil }
      position = end + 1
      return String(decoding: bytes[start..<end], as: UTF8.self)
    }
    /// A list, as the type of records is written.
    mutating func brackets() -> String? {
      skip()
      let start = position
      var depth = 0
      repeat {
        guard position < bytes.count else { return nil }
        if bytes[position] == UInt8(ascii: "[") { depth += 1 }
        if bytes[position] == UInt8(ascii: "]") { depth -= 1 }
        position += 1
      } while depth > 0
      guard position > start + 1 else { return nil }
      return String(decoding: bytes[start..<position], as: UTF8.self)
    }
    mutating func word() -> String {
      skip()
      let start = position
      while position < bytes.count,
        bytes[position] >= 48 && bytes[position] <= 57
          || (bytes[position] | 32) >= 97 && (bytes[position] | 32) <= 122
      {
        position += 1
      }
      return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    mutating func parse() -> (String, Bool, [Int])? {
      var (descriptor, order, shape): (String?, Bool?, [Int]?) = (nil, nil, nil)
      guard take("{") else { return nil }
      while !take("}") {
        guard let key = string(), take(":") else { return nil }
        switch key {
        case "descr": descriptor = string() ?? brackets()
        case "fortran_order":
          let text = word()
          order = text == "True" ? true : text == "False" ? false : nil
        case "shape":
          guard take("(") else { return nil }
          var sizes: [Int] = []
          while !take(")") {
            guard sizes.count < 32, let size = Int(word()), size >= 0 else { return nil }
            sizes.append(size)
            _ = take(",")
          }
          shape = sizes
        default: return nil
        }
        _ = take(",")
      }
      guard let descriptor, let order, let shape else { return nil }
      return (descriptor, order, shape)
    }
  }
}
