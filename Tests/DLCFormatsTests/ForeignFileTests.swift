import DLCFormats
import DLCTensor
import Foundation
import Testing

/// Files as other programs write them.
@Suite struct ForeignFileTests {
  /// A zip archive of stored members.
  static func zip(_ members: [(name: String, content: [UInt8])]) -> [UInt8] {
    func little(_ value: Int, _ size: Int) -> [UInt8] {
      (0..<size).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    func checksum(_ bytes: [UInt8]) -> Int {
      var sum: UInt32 = 0xffff_ffff
      for byte in bytes {
        sum ^= UInt32(byte)
        for _ in 0..<8 { sum = sum >> 1 ^ (sum & 1 == 1 ? 0xedb8_8320 : 0) }
      }
      return Int(~sum)
    }
    var (out, directory) = ([UInt8](), [UInt8]())
    for (name, content) in members {
      let common =
        little(20, 2) + little(0, 8) + little(checksum(content), 4) + little(content.count, 4)
        + little(content.count, 4) + little(name.utf8.count, 2) + little(0, 2)
      directory +=
        little(0x0201_4b50, 4) + little(20, 2) + common + little(0, 10) + little(out.count, 4)
        + Array(name.utf8)
      out += little(0x0403_4b50, 4) + common + Array(name.utf8) + content
    }
    let start = out.count
    return out + directory + little(0x0605_4b50, 4) + little(0, 4) + little(members.count, 2)
      + little(members.count, 2) + little(directory.count, 4) + little(start, 4) + little(0, 2)
  }

  static func npy(_ descriptor: String, _ data: [UInt8]) -> [UInt8] {
    let header = "{'descr': \(descriptor), 'fortran_order': False, 'shape': (2,), }\n"
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0]
      + Array(header.utf8) + data
  }

  static let mixed: [(name: String, content: [UInt8])] = [
    ("folder/", []), ("README.txt", Array("hello".utf8)),
    ("names.npy", npy("'<U3'", [UInt8](repeating: 65, count: 24))),
    ("objects.npy", npy("'|O'", [1, 2])),
    ("records.npy", npy("[('a', '<f4'), ('b', '<i4')]", [UInt8](repeating: 0, count: 16))),
    ("x.npy", npy("'<i8'", [7] + [UInt8](repeating: 0, count: 15))),
    ("folder/y.npy", npy("'|u1'", [1, 2])),
  ]

  @Test func archivesWithOtherThingsAreRead() throws {
    let bytes = Self.zip(Self.mixed)
    let (arrays, skipped) = try bytes.withUnsafeBytes { try Npz.contents($0, path: "a.npz") }
    #expect(arrays.map(\.name) == ["x", "folder/y"])
    #expect(arrays[0].value.integers == [7, 0])
    #expect(skipped.map(\.name) == ["folder/", "README.txt", "names", "objects", "records"])
    #expect(skipped[2].reason.contains("<U3"))
  }

  @Test func inputsTakeTheirArrays() throws {
    let path = FormatTests.temporary("mixed.npz")
    defer { try? FileManager.default.removeItem(atPath: path) }
    try OutputFile.write(Self.zip(Self.mixed), to: path)
    let wanted: [(name: String, type: TensorType)] = [("x", TensorType(.float32, ["n"]))]
    let arrays = try InputArrays(path, for: wanted)
    #expect(arrays.values["x"] == Tensor([2], [7, 0] as [Float]) && arrays.values.count == 1)
    let notes = arrays.notes.joined(separator: "\n")
    for word in ["int64 to float32", "'folder/y'", "'README.txt'", "'names'"] {
      #expect(notes.contains(word), "\(word) in \(notes)")
    }
    let error = #expect(throws: DLCError.self) {
      try InputArrays(path, for: wanted + [("names", TensorType(.int32, ["n"]))])
    }
    #expect("\(error!)".contains("input 'names' is missing [\(path)]"), "\(error!)")
    #expect("\(error!)".contains("'names' (elements of type '<U3')"), "\(error!)")
    #expect(
      try InputArrays(path, for: wanted + [("z", TensorType(.int32))], optional: ["z"]).values.count
        == 1)
    let fractional = try #require(
      #expect(throws: DLCError.self) {
        try InputArrays(path, for: [("folder/y", TensorType(.bool, ["n"]))])
      })
    #expect("\(fractional)".contains(path), "\(fractional)")
  }

  /// Bit 11 says that a name is UTF-8, in the member and in the directory.
  @Test func namesCarryTheFlag() throws {
    let value = Tensor([], [1] as [Float])
    for (name, flag) in [("plain", UInt8(0)), ("größe", 8)] {
      let bytes = try Npz.encode([(name, value)])
      #expect(bytes[7] == flag)
      let directory = bytes.indices.first { bytes[$0...].starts(with: [0x50, 0x4b, 1, 2]) }!
      #expect(bytes[directory + 9] == flag)
      let read = try bytes.withUnsafeBytes { try Npz.contents($0, path: "a") }
      #expect(read.arrays.map(\.name) == [name])
    }
    #expect(throws: DLCError.self) {
      try Npz.encode([(String(repeating: "n", count: 70_000), value)])
    }
  }

  static func safetensors(_ header: String, _ data: Int = 8) throws -> [(
    name: String, value: Tensor
  )] {
    let size = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
    let bytes = size + Array(header.utf8) + [UInt8](repeating: 0, count: data)
    return try bytes.withUnsafeBytes { try Safetensors.read($0, path: "s", owner: NSObject()) }
  }

  static let entry = #""dtype":"F32","shape":[2],"data_offsets":[0,8]"#

  @Test func headersOfOtherWriters() throws {
    let spaced = try Self.safetensors(
      "{ \"__metadata__\" : {\"format\":\"pt\", \"q\":\"\\\"\\u00e9\\ud83d\\ude00\"} ,\n \"a\\/b\" : {\(Self.entry)} }   ")
    #expect(spaced.map(\.name) == ["a/b"])
    #expect(try Self.safetensors("{}", 0).isEmpty)
  }

  @Test(arguments: [
    ("{\"a\":{ENTRY},\"a\":{ENTRY}}", "'a' occurs twice"),
    ("{\"a\":{ENTRY},\"\\u0061\":{ENTRY}}", "'a' occurs twice"),
    ("{\"a\":{ENTRY,\"dtype\":\"F32\"}}", "'dtype' of 'a' occurs twice"),
    ("{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"},\"a\":{ENTRY}}", "'k' of the metadata occurs twice"),
    (#"{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#, "'2.0'"),
    (#"{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}"#, "'2.5'"),
    (#"{"a":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}"#, "'2e0'"),
    (#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, "'-2'"),
    (#"{"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}"#, "'02'"),
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.5]}}"#, "'8.5'"),
    (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999]}}"#, "no size"),
    (#"{"a":{"dtype":"F32","shape":[2]}}"#, "incomplete"),
    ("{\"a\":{ENTRY,\"more\":1}}", "unknown 'more'"), ("{\"a\":{ENTRY}", "no end"),
    ("{\"a\":{ENTRY}} x", "something follows"), ("{\"a\":{ENTRY},}", "missing"),
    ("{\"__metadata__\":{\"k\":1},\"a\":{ENTRY}}", "text is missing"),
    (#"{"\ud83d":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, "escape"),
  ]) func headersThatAreNone(_ header: String, _ words: String) {
    let error = #expect(throws: DLCError.self) {
      try Self.safetensors(header.replacingOccurrences(of: "ENTRY", with: Self.entry))
    }
    #expect(error?.code == .format && "\(error!)".contains(words), "\(error!)")
  }
}
