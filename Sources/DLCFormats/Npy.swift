package import DLCTensor

/// NumPy's array format, versions 1 to 3: C and Fortran order, either byte order.
package enum Npy {
  private static let types: [(code: String, type: DataType)] = [
    ("f4", .float32), ("f8", .float64), ("f2", .float16), ("i1", .int8), ("i2", .int16),
    ("i4", .int32),
    ("i8", .int64), ("u1", .uint8), ("u2", .uint16), ("u4", .uint32), ("u8", .uint64),
    ("b1", .bool),
  ]

  /// - Throws: `.format` with `name` for anything but a well-formed array of a supported type.
  package static func read(_ bytes: UnsafeRawBufferPointer, name: String) throws(DLCError) -> Tensor
  {
    let reader = ByteReader(bytes: bytes, context: name)
    func bad(_ what: String) -> DLCError { DLCError(.format, what, at: name) }
    guard bytes.count >= 10, bytes[0] == 0x93, bytes[1..<6].elementsEqual("NUMPY".utf8) else {
      throw bad("not a NumPy array")
    }
    let isOld = bytes[6] == 1
    guard (1...3).contains(bytes[6]) else {
      throw bad("NumPy format version \(bytes[6]) is not known")
    }
    let headerSize = isOld ? try reader.integer(8, UInt16.self) : try reader.integer(8, UInt32.self)
    let headerStart = isOld ? 10 : 12
    guard headerSize <= 1 << 16 else { throw bad("the header is too long") }
    let header = Array(try reader.slice(headerStart, headerSize))
    var parser = HeaderParser(bytes: header)
    guard let (descriptor, isFortran, shape) = parser.parse() else {
      throw bad("the header is malformed")
    }
    guard let code = descriptor.utf8.first, descriptor.utf8.count == 3,
      let type = types.first(where: { $0.code == descriptor.dropFirst() })?.type,
      code == UInt8(ascii: "<") || code == UInt8(ascii: ">") || code == UInt8(ascii: "|")
        || code == UInt8(ascii: "=")
    else { throw bad("elements of type '\(descriptor.prefix(16))' are not supported") }
    do { try TensorType(type, sizes: shape).validate() } catch { throw error.within(name) }
    let size = shape.reduce(1, *) * type.byteCount
    let data = try reader.slice(headerStart + headerSize, size)
    guard bytes.count == headerStart + headerSize + size else {
      throw bad("there are bytes after the last element")
    }
    var tensor = Tensor(uninitialized: type, shape)
    let width = type.byteCount
    let swaps = code == UInt8(ascii: ">") && width > 1
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

  /// bfloat16, which NumPy has not, is written as float32, which holds it exactly.
  package static func write(_ tensor: Tensor, name: String) throws(DLCError) -> [UInt8] {
    if tensor.dataType == .bfloat16 {
      return try write(Tensor(.float32, tensor.shape, rounding: tensor.doubles), name: name)
    }
    guard let code = types.first(where: { $0.type == tensor.dataType })?.code else {
      throw DLCError(
        .unsupported, "NumPy has no \(tensor.dataType) for '\(name)'",
        remedy: "convert it, or use safetensors")
    }
    let order = tensor.dataType.byteCount == 1 ? "|" : "<"
    let shape = tensor.shape.map { "\($0)," }.joined(separator: " ")
    var header = "{'descr': '\(order)\(code)', 'fortran_order': False, 'shape': (\(shape)), }"
    while (10 + header.utf8.count + 1) % 64 != 0 { header += " " }
    header += "\n"
    var out: [UInt8] =
      [0x93] + Array("NUMPY".utf8) + [
        1, 0, UInt8(header.utf8.count & 255), UInt8(header.utf8.count >> 8),
      ]
    out += Array(header.utf8)
    tensor.withUnsafeBytes { out += $0 }
    return out
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
        case "descr": descriptor = string()
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
