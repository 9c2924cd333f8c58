import DLCTensor
import Testing

@testable import DLCData

@Suite struct TextTests {
  let folder = Folder()

  func read(
    _ text: String, _ name: String = "out.npz", _ change: (inout TextWindows.Options) -> Void
  )
    throws -> [String: Tensor]
  {
    var options = TextWindows.Options()
    change(&options)
    _ = try TextWindows(try folder.put("a.txt", text), options).write("\(folder.path)/out")
    return try folder.arrays(name)
  }

  static func text(_ arrays: [String: Tensor], _ name: String) -> String {
    let alphabet = arrays["alphabet"]!.integers
    var text = ""
    for code in arrays[name]!.integers {
      text.unicodeScalars.append(Unicode.Scalar(UInt32(alphabet[Int(code)]))!)
    }
    return text
  }

  @Test func rowsFollowEachOther() throws {
    let arrays = try read("größer als 0€") { $0.window = 4 }
    #expect(arrays["x"]?.type == TensorType(.uint8, sizes: [3, 4]))
    #expect(Self.text(arrays, "x") == "größer als 0")
    #expect(Self.text(arrays, "y") == "rößer als 0€")
    let alphabet = arrays["alphabet"]!.integers
    #expect(alphabet == Set("größer als 0€".unicodeScalars.map { Int64($0.value) }).sorted())
    // The last character is only ever predicted.
    #expect(try read("abcdefgh") { $0.window = 4 }["x"]?.shape == [1, 4])
  }

  @Test func asciiPutsQuestionMarks() throws {
    let arrays = try read("aä\tb\r\n~c") {
      $0.window = 7
      $0.alphabet = .ascii
    }
    #expect(Self.text(arrays, "x") == "a??b?\n~")
    #expect(arrays["alphabet"]?.integers == "\n?abc~".unicodeScalars.map { Int64($0.value) })
    // Broken bytes are one question mark for each longest piece, as in Python's errors="replace".
    let path = try folder.put(
      "b.txt", [97, 0xe2, 0x82, 98, 0xff, 0xfe, 0xc0, 0x80, 99, 0xf0, 0x9f, 0x98])
    var options = TextWindows.Options()
    (options.window, options.alphabet) = (8, .ascii)
    _ = try TextWindows(path, options).write("\(folder.path)/out")
    #expect(Self.text(try folder.arrays("out.npz"), "x") == "a?b????c")
    #expect(Self.text(try folder.arrays("out.npz"), "y") == "?b????c?")
  }

  @Test func bytesHaveNoAlphabet() throws {
    let arrays = try read("aä\0b!") {
      $0.window = 5
      $0.alphabet = .bytes
    }
    #expect(arrays.keys.sorted() == ["x", "y"])
    #expect(arrays["x"]?.integers == [97, 0xc3, 0xa4, 0, 98])
    #expect(arrays["y"]?.integers == [0xc3, 0xa4, 0, 98, 33])
  }

  @Test func wideAlphabets() throws {
    let text = String(String.UnicodeScalarView((0..<300).map { Unicode.Scalar(0x4e00 + $0)! }))
    let arrays = try read(text) { $0.window = 299 }
    #expect(arrays["x"]?.dataType == .uint16)
    #expect(arrays["x"]?.integers == (0..<299).map { Int64($0) })
  }

  @Test func aGivenAlphabetIsKept() throws {
    let arrays = try read("bab") {
      $0.window = 2
      $0.alphabet = .given([97, 98, 99])
    }
    #expect(arrays["x"]?.integers == [1, 0] && arrays["alphabet"]?.integers == [97, 98, 99])
    let text = problem { _ = try read("ab\nad") { $0.alphabet = .given([10, 97, 98]) } }
    #expect(
      text.contains("has no 'd' (U+0064)") && text.contains("a.txt, line 2, column 2"), "\(text)")
  }

  /// Against the definition: blocks, every so-manieth held back, the others joined.
  @Test func blocksAreHeldBack() throws {
    let letters = (0..<1000).map { Character(Unicode.Scalar(UInt8(97 + $0 * 7 % 26))) }
    let blocks = stride(from: 0, to: 1000, by: 30).map { letters[$0..<min(1000, $0 + 30)] }
    for (name, isTest) in [("out_train.npz", false), ("out_test.npz", true)] {
      let part = blocks.indices.filter { ($0 % 4 == 3) == isTest }.flatMap { blocks[$0] }
      let arrays = try read(String(letters), name) {
        $0.window = 7
        $0.division = .every(4, block: 30)
      }
      let rows = (part.count - 1) / 7
      #expect(arrays["x"]?.shape == [rows, 7])
      #expect(Self.text(arrays, "x") == String(part[..<(rows * 7)]))
      #expect(Self.text(arrays, "y") == String(part[1...(rows * 7)]))
      let bytes = try read(String(letters), name) {
        $0.window = 7
        $0.alphabet = .bytes
        $0.division = .every(4, block: 30)
      }
      #expect(bytes["y"]?.integers == part[1...(rows * 7)].map { Int64($0.asciiValue!) })
    }
    let (train, test) = (
      try read(String(letters), "out_train.npz") {
        $0.division = .blocks(100, .share(0.3, seed: 1))
      },
      try read(String(letters), "out_test.npz") { $0.division = .blocks(100, .share(0.3, seed: 1)) }
    )
    #expect(train["x"]?.shape == [699 / 64, 64] && test["x"]?.shape == [299 / 64, 64])
    let last = try read(String(letters), "out_test.npz") { $0.division = .plain(.last(65)) }
    #expect(Self.text(last, "y") == String(letters.suffix(64)))
  }

  @Test func whatIsNoTextIsSaid() throws {
    let broken = try folder.put("b.txt", Array("ab\nc".utf8) + [0xff, 100])
    var text = problem { _ = try TextWindows(broken, .init()) }
    #expect(text.contains("not UTF-8") && text.contains("b.txt, line 2, column 2"), "\(text)")
    text = problem { _ = try read("ab\0") { _ in } }
    #expect(text.contains("zero byte") && text.contains("line 1, column 3"), "\(text)")
    #expect(problem { _ = try read("") { _ in } }.contains("empty"))
    text = problem { _ = try read("short") { _ in } }
    #expect(text.contains("no window of 64") && text.contains("5 characters"), "\(text)")
    text = problem {
      _ = try read("abcdefghij") {
        $0.window = 2
        $0.division = .every(10, block: 100)
      }
    }
    #expect(text.contains("0 characters"), "\(text)")
  }

  /// Against the standard library, over every pair and triple of bytes that matter.
  @Test func brokenTextIsThatOfTheStandardLibrary() {
    let kinds: [UInt8] = [
      0x41, 0x80, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf4, 0xf5,
    ]
    for a in kinds {
      for b in kinds {
        for c in kinds {
          for bytes in [[a, b, c], [a, b, c, 0x80, 0x42]] {
            var (scanner, scalars) = (bytes.withUnsafeBytes { UTF8Scanner($0) }, [UInt32]())
            bytes.withUnsafeBytes {
              scanner = UTF8Scanner($0)
              while let scalar = scanner.next() { scalars.append(scalar) }
            }
            #expect(
              scalars == String(decoding: bytes, as: UTF8.self).unicodeScalars.map(\.value),
              "\(bytes)")
          }
        }
      }
    }
  }
}
