import DLCFormats
import DLCTensor
import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Arrays that stay in the file they are in.
@Suite struct MappedArchiveTests {
  static func temporary() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent("dlc-\(UUID().uuidString).npz")
      .path
  }

  /// Names of different lengths, so that the padding takes every form.
  static let arrays: [(name: String, value: Tensor)] =
    (1...70).map { (String(repeating: "n", count: $0), Tensor([3], [Double($0), 1, 2])) }
    + [("empty", Tensor(zeros: .float32, [0, 4])), ("größe", Tensor([2], [Int32(1), 2]))]

  @Test func everyArrayIsAlignedAndMapped() throws {
    let path = Self.temporary()
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Npz.write(Self.arrays, to: path)
    let read = try Npz.read(path)
    #expect(read.map(\.name) == Self.arrays.map(\.name))
    for ((name, value), (_, expected)) in zip(read, Self.arrays) {
      #expect(value == expected, "\(name)")
      #expect(!value.storage.isOwned, "\(name)")
      #expect(Int(bitPattern: value.storage.bytes.baseAddress) % 64 == 0, "\(name)")
    }
  }

  @Test func whatIsMappedOutlivesItsFile() throws {
    let path = Self.temporary()
    defer { try? FileManager.default.removeItem(atPath: path) }
    let first = Tensor([100_000], (0..<100_000).map { Int64($0) })
    try Npz.write([("x", first)], to: path)
    let old = try Npz.read(path)[0].value
    try Npz.write([("x", Tensor([1], [Int32(7)]))], to: path)
    #expect(try Npz.read(path)[0].value.integers == [7])
    #expect(old == first)
    try FileManager.default.removeItem(atPath: path)
    #expect(old == first)
  }

  @Test func changingAMappedArrayLeavesTheFile() throws {
    let path = Self.temporary()
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Npz.write([("x", Tensor([2], [Float(1), 2]))], to: path)
    var value = try Npz.read(path)[0].value
    value.withUnsafeMutableBytes { $0[0] = 9 }
    #expect(try Npz.read(path)[0].value.doubles == [1, 2])
  }

  /// A member where its elements are not aligned, as other programs write them, is copied.
  @Test func whatIsNotAlignedIsCopied() throws {
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } \n"
    var content = [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0]
    content += Array(header.utf8) + [0, 0, 128, 63, 0, 0, 0, 64]
    var copies = 0
    for length in 1...4 {
      let path = Self.temporary()
      defer { try? FileManager.default.removeItem(atPath: path) }
      let name = String(repeating: "a", count: length)
      let zip = ForeignFileTests.zip([("\(name).npy", content)])
      try Data(zip).write(to: URL(fileURLWithPath: path))
      let value = try Npz.read(path)[0].value
      #expect(value.doubles == [1, 2])
      if value.storage.isOwned { copies += 1 }
    }
    #expect(copies == 3)
  }

  /// Bytes other than 0 and 1 must not become a bool behind a mapping's back.
  @Test func boolsAreCopied() throws {
    let path = Self.temporary()
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Npz.write([("x", Tensor(zeros: .bool, [3]))], to: path)
    #expect(try Npz.read(path)[0].value.storage.isOwned)
  }

  @Test func anArrayInPartsIsTheArray() throws {
    let (whole, parts) = (Self.temporary(), Self.temporary())
    defer {
      for path in [whole, parts] { try? FileManager.default.removeItem(atPath: path) }
    }
    let x = Tensor([4, 3], (0..<12).map { Float($0) })
    try Npz.write([("x", x), ("y", Tensor([1], [Int32(1)]))], to: whole)
    let writer = try NpzWriter(parts)
    try writer.begin("x", .float32, [4, 3])
    try x.withUnsafeBytes { (bytes) throws(DLCError) in
      for start in stride(from: 0, to: 48, by: 16) {
        try writer.write(UnsafeRawBufferPointer(rebasing: bytes[start..<start + 16]))
      }
    }
    try writer.add("y", Tensor([1], [Int32(1)]))
    #expect(!FileManager.default.fileExists(atPath: parts))
    try writer.commit()
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: whole))
        == Data(contentsOf: URL(fileURLWithPath: parts)))
    #expect(throws: DLCError.self) { try NpzWriter(parts).begin("x", .float32, [-1]) }
  }

  /// What cannot be changed any more, such as a pipe, has its checksum behind the elements.
  @Test func aPipeTakesAnArrayInParts() throws {
    let pipe = Self.temporary()
    #expect(mkfifo(pipe, 0o600) == 0)
    defer { try? FileManager.default.removeItem(atPath: pipe) }
    // Opened for both, so that neither end waits for the other; the archive fits into the pipe.
    let descriptor = open(pipe, O_RDWR)
    defer { close(descriptor) }
    let writer = try NpzWriter(pipe)
    for name in ["x", "second"] {
      try writer.begin(name, .uint8, [3])
      try [UInt8]([1, 2, 3]).withUnsafeBytesTyped { (bytes) throws(DLCError) in
        try writer.write(bytes)
      }
    }
    try writer.commit()
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = Glibc.read(descriptor, &bytes, bytes.count)
    let read = try Array(bytes.prefix(count)).withUnsafeBytes { try Npz.contents($0, path: "p") }
    #expect(read.arrays.map(\.value.integers) == [[1, 2, 3], [1, 2, 3]])
  }
}
