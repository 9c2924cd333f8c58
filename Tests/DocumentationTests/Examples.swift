import Foundation

/// The examples of doc comments and pages. They stand in this target's test functions, between `// example: PLACE` and
/// `// end`, so that they are compiled and run; PLACE is a page, or a file below `Sources` and how a declaration of it
/// begins.
struct Example {
  /// The page, or the file below `Sources`.
  var file: String
  /// How the declaration begins; empty for a page.
  var declaration: String
  var code: String

  /// All that stand in this target.
  static func all() throws -> [Example] {
    var examples: [Example] = []
    for file in try Source.files(below: Source.root + "/Tests/DocumentationTests") {
      var open: Example?
      for line in file.lines {
        let text = line.trimmingPrefix { $0 == " " }
        if text.hasPrefix("// example: ") {
          let place = text.dropFirst("// example: ".count).split(separator: ": ", maxSplits: 1)
          open = Example(
            file: String(place[0]), declaration: place.count > 1 ? String(place[1]) : "", code: "")
        } else if text == "// end", let example = open {
          examples.append(example)
          open = nil
        } else {
          open?.code += line + "\n"
        }
      }
    }
    return examples
  }

  /// Code without its layout, which differs with the indentation of what is around it.
  static func compact(_ code: String) -> String { code.filter { !$0.isWhitespace } }

  /// The Swift code between fences. `import DLC`, with which a page may begin, is not part of it.
  static func fences(_ lines: [some StringProtocol]) -> [String] {
    var fences: [String] = []
    var open: String?
    for line in lines {
      let text = line.trimmingPrefix { $0 == " " }
      if let code = open {
        if text == "```" {
          fences.append(code)
          open = nil
        } else if text != "import DLC" {
          open = code + text + "\n"
        }
      } else if text == "```swift" {
        open = ""
      }
    }
    return fences
  }
}

/// A source file's text.
struct Source {
  /// Relative to where was searched.
  var path: String
  var text: String
  var lines: [String] { text.components(separatedBy: "\n") }

  /// The package's directory.
  static let root = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" }

  init(_ path: String, below folder: String) throws {
    self.path = path
    text = try String(contentsOfFile: "\(folder)/\(path)", encoding: .utf8)
  }

  static func files(below folder: String) throws -> [Source] {
    try FileManager.default.subpathsOfDirectory(atPath: folder).filter { $0.hasSuffix(".swift") }
      .sorted().map { try Source($0, below: folder) }
  }

  /// A public declaration and its doc comment, without the slashes.
  struct Declaration {
    var line: Int
    var text: String
    var comment: [String]
  }

  var declarations: [Declaration] {
    let lines = lines
    return lines.indices.compactMap { index in
      let text = lines[index].drop { $0 == " " }
      guard text.hasPrefix("public ") || text.hasPrefix("@") else { return nil }
      let words = text.split(separator: " ").drop { $0.hasPrefix("@") }
      guard words.first == "public", words.dropFirst().first != "import" else { return nil }
      var comment: [String] = []
      for line in lines[..<index].reversed() {
        let text = line.drop { $0 == " " }
        if text.hasPrefix("@") { continue }
        guard text.hasPrefix("///") else { break }
        comment.insert(String(text.dropFirst(3)), at: 0)
      }
      return Declaration(line: index + 1, text: String(text), comment: comment)
    }
  }
}
