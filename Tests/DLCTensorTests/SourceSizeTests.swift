import Foundation
import Testing

/// The sizes that the house style sets: a function fits on a screen, a file has one job.
@Suite struct SourceSizeTests {
  static let longestFunction = 70
  static let longestFile = 500

  @Test func functionsAndFilesAreShort() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Sources")
    let paths = try #require(FileManager.default.enumerator(atPath: root.path))
      .compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") }.sorted()
    #expect(paths.count > 100)
    var found: [String] = []
    for path in paths {
      let source = SourceText(try Data(contentsOf: root.appendingPathComponent(path)))
      if source.lineCount > Self.longestFile {
        found.append("\(path) has \(source.lineCount) lines")
      }
      for function in source.functions
      where function.lines > Self.longestFunction {
        found.append("\(path):\(function.line) \(function.name) has \(function.lines) lines")
      }
    }
    #expect(found == [], "\(found.joined(separator: "\n"))")
  }

  @Test func braceCountingKnowsStringsAndComments() {
    let source = """
      protocol P {
        func nothing()
        var read: Int { get }
      }
      struct S {
        var stored = "}"  // }
        func first(_ body: () -> Void = {}) {
          /* { /* { */
          } */
          print("a \\(list.map { "\\($0) }" }) { \\" {", #"\\("{"#)
        }
        var computed: String {
          \"\"\"
          { \\(stored) { "
          \"\"\"
        }
        init(
          a: Int
        ) { func inner() {
            first()
          }
        }
      }
      """
    let functions = SourceText(Data(source.utf8)).functions
    #expect(functions.map(\.name) == ["read", "first", "computed", "inner", "init"])
    #expect(functions.map(\.line) == [3, 7, 12, 19, 17])
    #expect(functions.map(\.lines) == [1, 5, 5, 3, 6])
  }
}

/// Swift source without its strings and comments.
private struct SourceText {
  private var code: [UInt8] = []
  let lineCount: Int

  init(_ data: Data) {
    let bytes = [UInt8](data)
    lineCount = bytes.count { $0 == UInt8(ascii: "\n") }
    var stripper = Stripper(bytes: bytes)
    while let byte = stripper.next() { code.append(byte) }
  }

  struct Function {
    var name: String
    var line: Int
    var lines: Int
  }

  /// Functions, initialisers and computed properties, in the order of their ends.
  var functions: [Function] {
    var found: [Function] = []
    var (line, parentheses, position) = (1, 0, 0)
    /// What is declared and has had no brace yet.
    var pending: (name: String, line: Int, parentheses: Int, isVariable: Bool)?
    var open: [(name: String, line: Int)?] = []
    while position < code.count {
      let byte = code[position]
      if isLetter(byte) {
        let word = word(at: &position)
        if ["func", "var", "init", "deinit", "subscript"].contains(word.text), !word.isMember {
          pending = (
            name(after: position, word.text), line, parentheses, word.text == "var"
          )
        } else if ["struct", "class", "enum", "extension", "protocol", "let", "case"]
          .contains(word.text), !word.isMember, parentheses == pending?.parentheses
        {
          pending = nil
        }
        continue
      }
      switch byte {
      case UInt8(ascii: "\n"):
        line += 1
        // The brace of a property may stand on the next line, nothing else of it.
        if let declared = pending, declared.isVariable, parentheses == declared.parentheses,
          !opens(after: position)
        {
          pending = nil
        }
      case UInt8(ascii: "("), UInt8(ascii: "["): parentheses += 1
      case UInt8(ascii: ")"), UInt8(ascii: "]"): parentheses -= 1
      case UInt8(ascii: "{"):
        if let declared = pending, parentheses == declared.parentheses {
          open.append((declared.name, declared.line))
          pending = nil
        } else {
          open.append(nil)
        }
      case UInt8(ascii: "}"):
        if let declaration = open.popLast() ?? nil {
          found.append(
            Function(
              name: declaration.name, line: declaration.line, lines: line - declaration.line + 1))
        }
      default: break
      }
      position += 1
    }
    return found
  }

  private func isLetter(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "_") || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
      || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  /// Reads a word, and tells whether it is behind a point or a grave accent.
  private func word(at position: inout Int) -> (text: String, isMember: Bool) {
    let start = position
    while position < code.count, isLetter(code[position]) { position += 1 }
    let before = start > 0 ? code[start - 1] : 0
    return (
      String(decoding: code[start..<position], as: UTF8.self),
      before == UInt8(ascii: ".") || before == UInt8(ascii: "`")
    )
  }

  private func name(after position: Int, _ keyword: String) -> String {
    guard keyword == "func" || keyword == "var" else { return keyword }
    let rest = code[position...].drop { $0 == UInt8(ascii: " ") }
    let name = rest.prefix { ![" ", "(", "<", ":", "\n"].map { UInt8(ascii: $0) }.contains($0) }
    return String(decoding: name, as: UTF8.self)
  }

  private func opens(after position: Int) -> Bool {
    code[(position + 1)...].first { $0 != UInt8(ascii: " ") } == UInt8(ascii: "{")
  }
}

/// Leaves strings and comments out, but for their ends of lines.
private struct Stripper {
  let bytes: [UInt8]
  private var position = 0
  private var modes: [Mode] = [.code(parentheses: 0)]

  private enum Mode {
    case code(parentheses: Int)
    case string(hashes: Int, isLong: Bool)
    case comment(depth: Int)
  }

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func next() -> UInt8? {
    while position < bytes.count {
      let result: UInt8? =
        switch modes[modes.count - 1] {
        case .code(let parentheses): code(parentheses)
        case .string(let hashes, let isLong): string(hashes, isLong)
        case .comment(let depth): comment(depth)
        }
      // Code inside of a string does not count.
      if let result, modes.count == 1 || result == UInt8(ascii: "\n") { return result }
    }
    return nil
  }

  private func starts(_ text: String, at place: Int) -> Bool {
    bytes[min(place, bytes.count)...].starts(with: text.utf8)
  }

  private mutating func code(_ parentheses: Int) -> UInt8? {
    if starts("//", at: position) {
      while position < bytes.count, bytes[position] != UInt8(ascii: "\n") { position += 1 }
      return nil
    }
    if starts("/*", at: position) {
      modes.append(.comment(depth: 1))
      position += 2
      return nil
    }
    let hashes = bytes[position...].prefix { $0 == UInt8(ascii: "#") }.count
    if starts("\"", at: position + hashes) {
      let isLong = starts("\"\"\"", at: position + hashes)
      modes.append(.string(hashes: hashes, isLong: isLong))
      position += hashes + (isLong ? 3 : 1)
      return nil
    }
    let byte = bytes[position]
    position += 1
    let depth = parentheses + (byte == UInt8(ascii: "(") ? 1 : byte == UInt8(ascii: ")") ? -1 : 0)
    if depth < 0, modes.count > 1 {
      modes.removeLast()
      return nil
    }
    modes[modes.count - 1] = .code(parentheses: depth)
    return byte
  }

  private mutating func comment(_ depth: Int) -> UInt8? {
    let change = starts("/*", at: position) ? 1 : starts("*/", at: position) ? -1 : 0
    let byte = bytes[position]
    position += change == 0 ? 1 : 2
    modes.removeLast()
    if depth + change > 0 { modes.append(.comment(depth: depth + change)) }
    return byte == UInt8(ascii: "\n") ? byte : nil
  }

  private mutating func string(_ hashes: Int, _ isLong: Bool) -> UInt8? {
    let marks = String(repeating: "#", count: hashes)
    if starts("\\" + marks, at: position) {
      position += 1 + hashes
      if starts("(", at: position) { modes.append(.code(parentheses: 0)) }
      // What is escaped is no end of the string; an end of line still is one.
      guard position < bytes.count, bytes[position] != UInt8(ascii: "\n") else { return nil }
      position += 1
      return nil
    }
    let end = (isLong ? "\"\"\"" : "\"") + marks
    if starts(end, at: position) {
      position += end.utf8.count
      modes.removeLast()
      return nil
    }
    let byte = bytes[position]
    position += 1
    return byte == UInt8(ascii: "\n") ? byte : nil
  }
}
