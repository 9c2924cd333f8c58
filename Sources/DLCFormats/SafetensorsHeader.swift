import DLCTensor

/// Reads the header of a safetensors file: a JSON object of tensors by name, and of texts under
/// `__metadata__`. Stricter than a reader of JSON: no name occurs twice, and numbers are plain integers.
struct SafetensorsHeader {
  struct Entry {
    var name: String
    var type = ""
    var shape: [Int] = []
    var offsets: [Int] = []
  }

  private let bytes: UnsafeRawBufferPointer
  private let path: String
  private var position = 0

  init(bytes: UnsafeRawBufferPointer, path: String) {
    self.bytes = bytes
    self.path = path
  }

  mutating func parse() throws(DLCError) -> [Entry] {
    var entries: [Entry] = []
    try object("") { (header, name) throws(DLCError) in
      if name == "__metadata__" {
        try header.object("of the metadata ") { (header, _) throws(DLCError) in
          _ = try header.string()
        }
      } else {
        entries.append(try header.entry(name))
      }
    }
    skipSpace()
    guard position == bytes.count else { throw bad("something follows it") }
    return entries
  }

  private mutating func entry(_ name: String) throws(DLCError) -> Entry {
    var entry = Entry(name: name)
    var found: Set<String> = []
    try object("of '\(name.prefix(64))' ") { (header, key) throws(DLCError) in
      found.insert(key)
      switch key {
      case "dtype": entry.type = try header.string()
      case "shape": entry.shape = try header.integers("the shape of '\(name.prefix(64))'")
      case "data_offsets":
        entry.offsets = try header.integers("the offsets of '\(name.prefix(64))'")
      default: throw header.bad("'\(name.prefix(64))' has an unknown '\(key.prefix(64))'")
      }
    }
    guard found.count == 3 else { throw bad("'\(name.prefix(64))' is incomplete") }
    return entry
  }

  private func bad(_ what: String) -> DLCError {
    DLCError(.format, "the header is not that of a safetensors file: \(what)", at: path)
  }

  private mutating func skipSpace() {
    while position < bytes.count, [9, 10, 13, 32].contains(bytes[position]) { position += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  /// The members of an object, each with its name.
  private mutating func object(
    _ place: String, _ member: (inout SafetensorsHeader, String) throws(DLCError) -> Void
  ) throws(DLCError) {
    guard take("{") else { throw bad("an object is missing") }
    if take("}") { return }
    var names: Set<String> = []
    repeat {
      let name = try string()
      guard names.insert(name).inserted else {
        throw bad("the name '\(name.prefix(64))' \(place)occurs twice")
      }
      guard take(":") else { throw bad("'\(name.prefix(64))' has no value") }
      try member(&self, name)
    } while take(",")
    guard take("}") else { throw bad("an object has no end") }
  }

  /// A list of integers of at least 0.
  private mutating func integers(_ what: String) throws(DLCError) -> [Int] {
    guard take("[") else { throw bad("\(what) is no list") }
    if take("]") { return [] }
    var result: [Int] = []
    repeat {
      skipSpace()
      let start = position
      while position < bytes.count, !",] \t\r\n".utf8.contains(bytes[position]) { position += 1 }
      let text = String(decoding: bytes[start..<position], as: UTF8.self)
      guard let value = Int(text), value >= 0, text == String(value) else {
        throw bad("\(what) holds '\(text.prefix(32))', which is no size")
      }
      result.append(value)
      guard result.count <= 64 else { throw bad("\(what) is too long") }
    } while take(",")
    guard take("]") else { throw bad("\(what) has no end") }
    return result
  }

  private mutating func string() throws(DLCError) -> String {
    guard take("\"") else { throw bad("a text is missing") }
    var scalars: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let text = String(validating: scalars, as: UTF8.self) else {
          throw bad("a text is not UTF-8")
        }
        return text
      case UInt8(ascii: "\\"): scalars += Array(String(try escape()).utf8)
      case 0..<32: throw bad("a text holds a control character")
      default: scalars.append(byte)
      }
    }
    throw bad("a text has no end")
  }

  /// What follows a backslash.
  private mutating func escape() throws(DLCError) -> Unicode.Scalar {
    guard position < bytes.count else { throw bad("a text has no end") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      let first = try hexadecimal()
      guard (0xd800..<0xdc00).contains(first) else {
        guard let scalar = Unicode.Scalar(first) else { throw bad("an escape is malformed") }
        return scalar
      }
      // Two halves of a surrogate pair.
      guard position + 2 <= bytes.count, bytes[position..<position + 2].elementsEqual("\\u".utf8)
      else { throw bad("an escape is malformed") }
      position += 2
      let second = try hexadecimal()
      guard (0xdc00..<0xe000).contains(second),
        let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
      else { throw bad("an escape is malformed") }
      return scalar
    default: throw bad("an escape is malformed")
    }
  }

  private mutating func hexadecimal() throws(DLCError) -> UInt32 {
    guard position + 4 <= bytes.count else { throw bad("an escape is malformed") }
    let text = String(decoding: bytes[position..<position + 4], as: UTF8.self)
    position += 4
    guard text.utf8.count == 4, text.allSatisfy(\.isHexDigit), let value = UInt32(text, radix: 16)
    else { throw bad("an escape is malformed") }
    return value
  }
}
