import DLCTensor
import Foundation
import Testing

@testable import DLCData

@Suite struct ImageTests {
  let folder = Folder()
  static let grey: [UInt8] = [0, 51, 102, 153, 204, 255]
  static let colours: [UInt8] = (0..<18).map { UInt8($0 * 14) }

  func read(_ change: (inout ImageFolder.Options) -> Void = { _ in }) throws -> [String: Tensor] {
    var options = ImageFolder.Options()
    change(&options)
    _ = try ImageFolder("\(folder.path)/in").dataset(options).write("\(folder.path)/out", .whole)
    return try folder.arrays("out.npz")
  }

  @Test func classesAreFolders() throws {
    try folder.put("in/dog/1.png", try png([2, 3], Self.grey))
    try folder.put("in/cat/b.png", try png([2, 3], Self.grey.reversed()))
    try folder.put("in/cat/a.png", try png([2, 3], Self.grey))
    try folder.put("in/.hidden", "x")
    let arrays = try read()
    #expect(arrays["x"]?.shape == [3, 1, 2, 3])
    #expect(
      arrays["x"]?.doubles.prefix(3) == [0, Double(Float(51) / 255), Double(Float(102) / 255)])
    #expect(arrays["y"] == Tensor([3], [Int32(0), 0, 1]))
    #expect(try ClassNames.names(arrays["classes"]!) == ["cat", "dog"])
    let bytes = try read {
      $0.keepsBytes = true
      $0.layout = .flat
    }
    #expect(bytes["x"]?.type == TensorType(.uint8, sizes: [3, 6]))
    #expect(bytes["x"]?.integers.suffix(6) == Self.grey.map { Int64($0) }[...])
  }

  @Test func coloursInBothLayouts() throws {
    try folder.put("in/a.png", try png([3, 2, 3], Self.colours))
    let planes = try read { $0.keepsBytes = true }
    #expect(planes.keys.sorted() == ["x"])
    #expect(planes["x"]?.shape == [1, 3, 2, 3])
    #expect(planes["x"]?.integers == Self.colours.map { Int64($0) })
    let flat = try read {
      $0.keepsBytes = true
      $0.layout = .flat
    }
    #expect(flat["x"]?.shape == [1, 18])
    let together: [Int64] = (0..<18).map { index in
      let (pixel, channel) = (index / 3, index % 3)
      return Int64(Self.colours[channel * 6 + pixel])
    }
    #expect(flat["x"]?.integers == together)
    // A grey file beside it becomes one of colours.
    try folder.put("in/b.png", try png([2, 3], Self.grey))
    let threefold = (0..<18).map { Int64(Self.grey[$0 % 6]) }
    let mixed = try read { $0.keepsBytes = true }
    #expect(mixed["x"]?.integers.suffix(18) == threefold[...])
    #expect(try read { $0.channels = 1 }["x"]?.shape == [2, 1, 2, 3])
  }

  @Test func jpegsAreRead() throws {
    // A smooth picture, of which quality 100 keeps all but roundings.
    let pixels: [UInt8] = (0..<256).map { index in
      let (y, x) = (index / 16, index % 16)
      return UInt8(60 + 4 * y + 5 * x)
    }
    try folder.put("in/a.jpg", jpeg(pixels, height: 16, width: 16, channels: 1))
    let grey = try read { $0.keepsBytes = true }["x"]
    #expect(grey?.shape == [1, 1, 16, 16])
    #expect(zip(grey!.integers, pixels).allSatisfy { abs($0 - Int64($1)) <= 2 })
    let red: [UInt8] = (0..<192).map { [200, 40, 30][$0 % 3] }
    try folder.put("in/a.jpg", jpeg(red, height: 8, width: 8, channels: 3))
    let colours = try read { $0.keepsBytes = true }["x"]
    #expect(colours?.shape == [1, 3, 8, 8])
    for (channel, value) in [200, 40, 30].enumerated() {
      #expect(
        colours!.integers[(channel * 64)..<(channel * 64 + 64)].allSatisfy {
          abs($0 - Int64(value)) <= 3
        })
    }
  }

  /// Greys are the luma of what is stored, whatever the format; transparent pixels are over black.
  @Test func greysOfColours() throws {
    let planes: [UInt8] = [255, 0, 0, 60, 0, 255, 0, 120, 0, 0, 255, 200]
    try folder.put("in/a.png", try png([3, 2, 2], planes))
    let grey = try read {
      $0.keepsBytes = true
      $0.channels = 1
    }["x"]
    #expect(grey?.integers == [76, 150, 29, 111])
  }

  @Test func otherSizesNeedASize() throws {
    try folder.put("in/a.png", try png([2, 3], Self.grey))
    let second = try folder.put("in/b.png", try png([4, 6], (0..<24).map { Self.grey[$0 / 4] }))
    let text = problem { _ = try read() }
    #expect(text.contains("in/b.png") && text.contains("4x6") && text.contains("--size"), "\(text)")
    let both = try read { $0.size = (2, 3) }
    #expect(both["x"]?.shape == [2, 1, 2, 3])
    #expect(both["x"]?.integers.isEmpty == false)
    _ = second
  }

  /// What is constant stays so, the mean of halves is theirs, and the same size is the same picture.
  @Test func resizing() {
    func resize(_ pixels: [UInt8], _ source: (Int, Int), _ target: (Int, Int)) -> [UInt8] {
      pixels.withUnsafeBytes { Resizing(from: source, to: target).apply($0, channels: 1) }
    }
    #expect(resize(Self.grey, (2, 3), (2, 3)) == Self.grey)
    #expect(
      resize([UInt8](repeating: 77, count: 35), (5, 7), (3, 11))
        == [UInt8](repeating: 77, count: 33))
    #expect(resize([10, 20], (1, 2), (1, 1)) == [15])
    // Linear between the centres: 0 and 100 at 0.5 and 1.5, asked for at 0.25, 0.75, 1.25, 1.75.
    #expect(resize([0, 100], (1, 2), (1, 4)) == [0, 25, 75, 100])
  }

  @Test func whatIsWrongNamesTheFile() throws {
    #expect(problem { _ = try read() }.contains("there is no folder"))
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/in", withIntermediateDirectories: true)
    #expect(problem { _ = try read() }.contains("the folder is empty"))
    let good = try png([2, 3], Self.grey)
    try folder.put("in/one/a.png", good)
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/in/two", withIntermediateDirectories: true)
    #expect(problem { _ = try read() }.contains("class 'two' is empty"))
    try folder.put("in/two/b.png", "no picture")
    var text = problem { _ = try read() }
    #expect(text.contains("neither PNG nor JPEG") && text.contains("in/two/b.png"))
    try folder.put("in/stray.png", good)
    text = problem { _ = try read() }
    #expect(text.contains("'stray.png' stands beside folders"))
  }

  @Test func everyTruncationIsAnError() throws {
    let pixels = (0..<256).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    for (name, whole) in [
      ("a.png", try png([16, 16], pixels)),
      ("a.jpg", jpeg(pixels, height: 16, width: 16, channels: 1)),
    ] {
      #expect(
        problem { _ = try ImageFile(try folder.put(name, whole)).pixels(channels: 1) } == "no error"
      )
      // A JPEG without its last marker has all its pixels.
      for count in 0..<whole.count - 2 {
        let path = try folder.put(name, Array(whole[..<count]))
        let text = problem { _ = try ImageFile(path).pixels(channels: 1) }
        #expect(text.contains(path), "\(count) of \(whole.count): \(text)")
      }
    }
  }

  @Test func damageNeverTraps() throws {
    let pixels = (0..<192).map { UInt8(truncatingIfNeeded: $0 &* 37) }
    for (name, whole) in [
      ("a.png", try png([3, 8, 8], pixels)),
      ("a.jpg", jpeg(pixels, height: 8, width: 8, channels: 3)),
    ] {
      for offset in whole.indices {
        for value in [0, 1, 0x7f, 0xff] as [UInt8] {
          var copy = whole
          copy[offset] = value
          let path = try folder.put(name, copy)
          _ = problem {
            let image = try ImageFile(path)
            // Sizes that the file claims but does not have are not worth their memory here.
            if image.height * image.width < 1 << 14 { _ = try image.pixels(channels: 3) }
          }
        }
      }
    }
  }
}
