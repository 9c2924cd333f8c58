import DLCTensor
import Foundation
import Testing

@testable import DLCData

@Suite struct IDXTests {
  let folder = Folder()

  @Test func everyTypeIsRead() throws {
    let big: [(UInt8, [UInt8], DataType, [Double])] = [
      (8, [1, 255], .uint8, [1, 255]), (9, [1, 255], .int8, [1, -1]),
      (11, [1, 2, 255, 254], .int16, [258, -2]),
      (12, [0, 0, 1, 0, 255, 255, 255, 255], .int32, [256, -1]),
      (13, [63, 128, 0, 0, 192, 0, 0, 0], .float32, [1, -2]),
      (14, [63, 240, 0, 0, 0, 0, 0, 0, 192, 0, 0, 0, 0, 0, 0, 0], .float64, [1, -2]),
    ]
    for (code, data, type, values) in big {
      for bytes in [idx(code, [2], data), gzip(idx(code, [2], data))] {
        let tensor = try IDX.read(try folder.put("a", bytes))
        #expect(tensor.dataType == type && tensor.shape == [2] && tensor.doubles == values)
      }
    }
  }

  @Test func severalMembersOfGzipAreOneFile() throws {
    let bytes = idx(8, [2, 2], [1, 2, 3, 4])
    let path = try folder.put("a", gzip(Array(bytes[..<7])) + gzip(Array(bytes[7...])))
    #expect(try IDX.read(path).integers == [1, 2, 3, 4])
    // Zeros that fill a block are no data.
    let padded = try folder.put("b", gzip(bytes) + [UInt8](repeating: 0, count: 512))
    #expect(try IDX.read(padded).integers == [1, 2, 3, 4])
  }

  @Test func whatIsWrongIsSaid() throws {
    let whole = idx(8, [2, 3], [1, 2, 3, 4, 5, 6])
    let squeezed = gzip(whole)
    let cases: [([UInt8], String)] = [
      (Array("hello, world".utf8), "not an IDX file"), ([], "not an IDX file"),
      (idx(8, [3, 3], [1, 2, 3, 4, 5, 6]), "3 x 3 elements of uint8, 9 bytes; there are 6"),
      (whole + [0], "6 bytes; there are 7"),
      ([0, 0, 8, 200, 0, 0], "200 axes"), (idx(7, [1], [0]), "not an IDX file"),
      (idx(14, [0xffff_ffff, 0xffff_ffff, 0xffff_ffff], []), "sizes beyond any file"),
      (Array(squeezed.dropLast(5)), "cut short"), (Array(squeezed.prefix(12)), "cut short"),
      (squeezed.enumerated().map { $0.offset == 14 ? ~$0.element : $0.element }, "damaged"),
      (squeezed + Array("more".utf8), "is not gzip"), (squeezed + [0x1f], "is not gzip"),
    ]
    for (bytes, message) in cases {
      let path = try folder.put("a", bytes)
      let text = problem { _ = try IDX.read(path) }
      #expect(text.contains(message) && text.contains(path), "\(text)")
    }
    #expect(problem { _ = try IDX.read("\(folder.path)/none") }.contains("cannot open"))
  }

  @Test func damageNeverTraps() throws {
    let original = idx(11, [2, 3], [UInt8](repeating: 7, count: 12))
    for bytes in [original, gzip(original)] {
      for offset in bytes.indices {
        for value in [0, 1, 127, 255] as [UInt8] {
          var copy = bytes
          copy[offset] = value
          let path = try folder.put("a", copy)
          _ = problem { _ = try IDX.read(path) }
        }
      }
    }
  }
}
