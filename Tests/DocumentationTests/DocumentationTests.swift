import Foundation
import Testing

@Suite struct DocumentationTests {
  static let sources = Result { try Source.files(below: Source.root + "/Sources") }

  /// Every public declaration says what it is, before it says what it takes and throws.
  @Test func publicDeclarationsAreDocumented() throws {
    var count = 0
    for file in try Self.sources.get() {
      for declaration in file.declarations {
        count += 1
        let summary = declaration.comment.first?.drop { $0 == " " } ?? ""
        #expect(
          !summary.isEmpty && !summary.hasPrefix("- "),
          "\(file.path):\(declaration.line) has no doc comment: \(declaration.text)")
      }
    }
    // So many that the search itself works.
    #expect(count > 400)
  }

  /// The examples of doc comments are those that this target compiles and runs, and no others.
  @Test func examplesAreCompiled() throws {
    var examples = try Example.all().filter { !$0.declaration.isEmpty }
    #expect(examples.count >= 30)
    for file in try Self.sources.get() {
      for declaration in file.declarations {
        for code in Example.fences(declaration.comment) {
          let index = examples.firstIndex {
            $0.file == file.path && declaration.text.hasPrefix($0.declaration)
              && Example.compact($0.code) == Example.compact(code)
          }
          let place = "\(file.path):\(declaration.line)"
          guard let index else {
            Issue.record("the example at \(place) is no snippet of Tests/DocumentationTests")
            continue
          }
          examples.remove(at: index)
        }
      }
    }
    for example in examples {
      Issue.record("the doc comment of \(example.file), \(example.declaration) has another example")
    }
  }

  /// So are those of the pages.
  @Test(arguments: [
    "README.md", "Sources/DLC/DLC.docc/DLC.md", "Sources/DLC/DLC.docc/Training.md",
    "Sources/DLC/DLC.docc/Architecture.md",
  ])
  func pagesAreCompiled(_ page: String) throws {
    let examples = try Example.all().filter { $0.file == page }
    let fences = Example.fences(try Source(page, below: Source.root).lines)
    #expect(fences.map(Example.compact) == examples.map { Example.compact($0.code) })
  }

  /// A public function says once where it was called from, to `enter` or to `called`; what it is made of stands there
  /// too.
  @Test func linesOfCallsAreNotPassedOn() throws {
    for file in try Self.sources.get() {
      #expect(
        file.text.range(of: "file: file, line: line") == nil,
        "\(file.path) passes on the line of a call: enter takes it once")
    }
  }
}
