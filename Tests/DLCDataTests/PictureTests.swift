import DLCTensor
import Testing

@testable import DLCData

@Suite struct PictureTests {
  let folder = Folder()

  @Test func aGridReadBack() throws {
    let images = Tensor([3, 2, 2], [0, 1, 0.2, 2, -1, .nan, 0.4, 0.6, 1, 1, 0, 0] as [Float])
    let picture = try Picture(images, columns: 2)
    let path = "\(folder.path)/a.png"
    try picture.write(path)
    let read = try Picture(reading: path)
    #expect(read == picture)
    #expect((read.height, read.width, read.channels) == (7, 7, 1))
    let g = Picture.gap
    #expect(
      read.pixels == [
        g, g, g, g, g, g, g,
        g, 0, 255, g, 0, 0, g,
        g, 51, 255, g, 102, 153, g,
        g, g, g, g, g, g, g,
        g, 255, 255, g, g, g, g,
        g, 0, 0, g, g, g, g,
        g, g, g, g, g, g, g,
      ])
  }

  @Test func zoomRepeatsPixels() throws {
    let images = Tensor([2, 3], [0, 0.5, 1, 1, 0.5, 0] as [Double])
    let plain = try Picture(images, height: 1, width: 3)
    let large = try Picture(images, height: 1, width: 3, zoom: 3)
    #expect(plain.width == 9 && large.width == 27 && large.height == 9)
    for y in 0..<large.height {
      for x in 0..<large.width {
        #expect(large.pixels[y * 27 + x] == plain.pixels[y / 3 * 9 + x / 3])
      }
    }
  }

  @Test func coloursInBothLayouts() throws {
    let values = (0..<12).map { Int64($0 * 20) }
    let planes = try Picture(Tensor(.uint8, [1, 3, 2, 2], truncating: values))
    let together = (0..<12).map { values[$0 % 3 * 4 + $0 / 3] }
    let flat = try Picture(Tensor(.uint8, [1, 12], truncating: together), height: 2, width: 2)
    #expect(planes == flat && planes.channels == 3)
    #expect(planes.cropped(1..<2, 1..<3).pixels == [0, 80, 160, 20, 100, 180])
    try planes.write("\(folder.path)/a.png")
    #expect(try Picture(reading: "\(folder.path)/a.png") == planes)
    let halves = try Picture(Tensor(.float16, [1, 1, 1], rounding: [0.2]))
    #expect(halves.cropped(1..<2, 1..<2).pixels == [51])
  }

  @Test func whatIsNoImageIsAnError() {
    let wrong: [(Tensor, Int?, Int?, String)] = [
      (Tensor(zeros: .float32, [2, 4]), nil, nil, "need a height"),
      (Tensor(zeros: .float32, [2, 5]), 2, 2, "three times as many"),
      (Tensor(zeros: .float32, [2, 2, 3, 3]), nil, nil, "1 or 3 channels"),
      (Tensor(zeros: .float32, [0, 3, 3]), nil, nil, "there is none"),
      (Tensor(zeros: .int32, [1, 3, 3]), nil, nil, "in 0...1"),
      (Tensor(zeros: .float32, [4]), nil, nil, "two, three or four"),
      (Tensor(zeros: .float32, [1, 2, 2]), 3, 2, "height is another"),
      (Tensor([2], [1] as [Float]), nil, nil, "2 elements"),
      (Tensor(zeros: .float32, [2, 4]), .max, 8, "three times"),
    ]
    for (images, height, width, message) in wrong {
      let text = problem { _ = try Picture(images, height: height, width: width) }
      #expect(text.contains(message), "\(text)")
    }
    let one = Tensor(zeros: .float32, [1, 2, 2])
    #expect(problem { _ = try Picture(one, columns: 0) }.contains("at least one column"))
    #expect(problem { _ = try Picture(one, zoom: 2000) }.contains("zoom"))
    #expect(problem { try Picture(one).write("/none/a.png") }.contains("/none/a.png"))
  }

  @Test func halfBlocksForTerminals() throws {
    let picture = try Picture(Tensor([1, 1, 1], [1] as [Float]))
    #expect(
      picture.text() == """
        \u{1B}[38;2;89;89;89;48;2;89;89;89m▀\u{1B}[48;2;255;255;255m▀\u{1B}[48;2;89;89;89m▀\u{1B}[0m
        \u{1B}[38;2;89;89;89;49m▀▀▀\u{1B}[0m

        """)
    #expect(picture.text(palette: .greys).hasPrefix("\u{1B}[38;5;240;48;5;240m▀\u{1B}[48;5;231m▀"))
    // Never wider than the terminal, and as high in proportion.
    let wide = try Picture(Tensor(zeros: .float32, [1, 18, 98])).text(within: 50)
    let lines = wide.split(separator: "\n")
    #expect(lines.count == 5 && lines.allSatisfy { $0.filter { $0 == "▀" }.count == 50 })
    #expect(Picture.columns(ofWidth: 28, within: 80) == 2)
    #expect(Picture.columns(ofWidth: 200, within: 80) == 1)
  }
}
