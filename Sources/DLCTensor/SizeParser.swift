extension Size {
  /// Parses sums, differences, products and floor divisions (`//`) of integers and names.
  /// - Throws: `.dimension` when the text is malformed, or longer or deeper than any sensible size.
  public init(
    parsing text: String, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      guard text.utf8.count <= 256 else {
        throw DLCError(.dimension, "dimension expression is longer than 256 characters")
      }
      var parser = DimensionParser(text: text, bytes: Array(text.utf8))
      let value = try parser.sum(depth: 0)
      guard parser.position == parser.bytes.count else { throw parser.failure() }
      if let problem = value.problem { throw DLCError(.dimension, problem) }
      self = value
    } catch {
      throw error.called(file, line)
    }
  }

  /// Whether `text` can name a dimension.
  package static func isName(_ text: String) -> Bool {
    guard let first = text.utf8.first, text.utf8.count <= 64 else { return false }
    return DimensionParser.isNameStart(first) && text.utf8.allSatisfy(DimensionParser.isNamePart)
  }
}

private struct DimensionParser {
  let text: String
  let bytes: [UInt8]
  var position = 0

  static func isNameStart(_ byte: UInt8) -> Bool {
    (byte | 32) >= 97 && (byte | 32) <= 122 || byte == 95
  }
  static func isNamePart(_ byte: UInt8) -> Bool {
    isNameStart(byte) || byte >= 48 && byte <= 57
  }

  func failure() -> DLCError {
    DLCError(
      .dimension, "'\(text.prefix(80))' is not a dimension",
      remedy: "write integers and names joined by + - * //")
  }

  mutating func peek() -> UInt8? {
    while position < bytes.count, bytes[position] == 32 { position += 1 }
    return position < bytes.count ? bytes[position] : nil
  }

  mutating func sum(depth: Int) throws(DLCError) -> Size {
    guard depth < 32 else { throw failure() }
    var value: Size
    if peek() == 45 {
      position += 1
      value = 0 - (try product(depth: depth))
    } else {
      value = try product(depth: depth)
    }
    while let sign = peek(), sign == 43 || sign == 45 {
      position += 1
      let next = try product(depth: depth)
      value = sign == 43 ? value + next : value - next
    }
    return value
  }

  mutating func product(depth: Int) throws(DLCError) -> Size {
    var value = try atom(depth: depth)
    while let sign = peek() {
      if sign == 42 {
        position += 1
        value = value * (try atom(depth: depth))
        if value.terms.count > 64 { throw failure() }
      } else if sign == 47, position + 1 < bytes.count, bytes[position + 1] == 47 {
        position += 2
        value = value / (try atom(depth: depth))
      } else {
        break
      }
    }
    return value
  }

  mutating func atom(depth: Int) throws(DLCError) -> Size {
    guard let byte = peek() else { throw failure() }
    let start = position
    if byte == 40 {
      position += 1
      let value = try sum(depth: depth + 1)
      guard peek() == 41 else { throw failure() }
      position += 1
      return value
    }
    if Self.isNameStart(byte) {
      while position < bytes.count, Self.isNamePart(bytes[position]) { position += 1 }
      return Size.named(String(decoding: bytes[start..<position], as: UTF8.self))
    }
    while position < bytes.count, bytes[position] >= 48, bytes[position] <= 57 { position += 1 }
    guard let size = Int(String(decoding: bytes[start..<position], as: UTF8.self)) else {
      throw failure()
    }
    return Size(size)
  }
}
