import DLCFormats
import DLCGraph
import DLCTensor
import Foundation
import Testing

@Suite struct OutputFileTests {
  /// A directory of its own.
  static func folder() throws -> String {
    let path = FileManager.default.temporaryDirectory.path + "/output-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  static func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
  }

  static func text(_ path: String) throws -> String {
    try String(contentsOfFile: path, encoding: .utf8)
  }

  @Test func filesAreReplacedAsAWhole() throws {
    let folder = try Self.folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = "\(folder)/a"
    try OutputFile.write(Array("old".utf8), to: path)
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
    do {
      // Not committed: an error or a crash on the way.
      let file = try OutputFile(path)
      try file.write(Array("half".utf8))
      #expect(try Self.text(path) == "old")
    }
    #expect(try Self.names(folder) == ["a"])
    let file = try OutputFile(path)
    try file.write(Array("new".utf8))
    try file.commit()
    #expect(try Self.text(path) == "new")
    #expect(try Self.names(folder) == ["a"])
    let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    for place in [folder, "\(folder)/none/a"] {
      let error = #expect(throws: DLCError.self) { try OutputFile.write([1], to: place) }
      #expect(error?.code == .file && "\(error!)".contains("'\(place)'"))
    }
  }

  @Test func linksAreFollowed() throws {
    let folder = try Self.folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(
      atPath: "\(folder)/data", withIntermediateDirectories: true)
    for link in [("one", "two"), ("two", "data/file"), ("round", "about"), ("about", "round")] {
      try FileManager.default.createSymbolicLink(
        atPath: "\(folder)/\(link.0)", withDestinationPath: link.1)
    }
    for content in ["first", "second"] {
      try OutputFile.write(Array(content.utf8), to: "\(folder)/one")
      #expect(try Self.text("\(folder)/data/file") == content)
    }
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/one") == "two")
    #expect(try Self.names("\(folder)/data") == ["file"])
    #expect(throws: DLCError.self) { try OutputFile.write([1], to: "\(folder)/round") }
  }

  @Test func devicesAndPipesAreWrittenTo() throws {
    try OutputFile.write([1, 2], to: "/dev/null")
    let error = #expect(throws: DLCError.self) { try OutputFile.write([1], to: "/dev/full") }
    #expect("\(error!)".contains("cannot write '/dev/full'"))
    let folder = try Self.folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let pipe = "\(folder)/pipe"
    #expect(mkfifo(pipe, 0o600) == 0)
    let reader = open(pipe, O_RDONLY | O_NONBLOCK)
    defer { close(reader) }
    try OutputFile.write(Array("through".utf8), to: pipe)
    var bytes = [UInt8](repeating: 0, count: 16)
    #expect(read(reader, &bytes, 16) == 7)
    // Reading a pipe that nobody writes does not wait.
    #expect(throws: DLCError.self) { try MappedFile(pipe) }
  }

  /// Nobody reads: an error, and no signal.
  @Test func brokenPipesAreErrors() throws {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    close(ends[0])
    defer { close(ends[1]) }
    #expect([UInt8](repeating: 1, count: 9).withUnsafeBytes { !writeAll($0, to: ends[1]) })
    #expect(errno == EPIPE)
  }

  static func model(_ value: Float) throws -> Module {
    var module = Module("m")
    try module.function("f") { g in
      let w = g.parameter("w", [128, 128], .zeros)
      g.output("y", g.tanh(w))
    }
    try module.setValue(
      Tensor([128, 128], [Float](repeating: value, count: 128 * 128)), of: "w")
    return module
  }

  static func value(_ path: String) throws -> Double {
    try Module(contentsOf: path).state("w")!.value!.doubles[0]
  }

  @Test func modelsAndTheirValuesChangeTogether() throws {
    let folder = try Self.folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = "\(folder)/m.pb"
    try Self.model(1).save(path)
    #expect(try Self.names(folder) == ["m.pb", "m.safetensors"])
    let first = try Data(contentsOf: URL(fileURLWithPath: path))
    try Self.model(1).save(path)
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == first)
    for value in [Float(2), 3, 1] {
      let before = try Self.names(folder)
      let old = try Self.value(path)
      let kept = try Self.folder()
      defer { try? FileManager.default.removeItem(atPath: kept) }
      for name in before {
        try FileManager.default.copyItem(atPath: "\(folder)/\(name)", toPath: "\(kept)/\(name)")
      }
      try Self.model(value).save(path)
      #expect(try Self.value(path) == Double(value))
      #expect(try Self.names(folder).count == 2)
      // A crash after the values are written and before the model is: the old pair is whole.
      for name in try Self.names(folder) where name != "m.pb" {
        #expect(!before.contains(name))
        try FileManager.default.copyItem(atPath: "\(folder)/\(name)", toPath: "\(kept)/\(name)")
      }
      #expect(try Self.value("\(kept)/m.pb") == old)
    }
    // Somebody else's file of that name stays.
    let other = "\(folder)/n.pb"
    try OutputFile.write(Array("mine".utf8), to: "\(folder)/n.safetensors")
    try Self.model(4).save(other)
    #expect(try Self.text("\(folder)/n.safetensors") == "mine")
    #expect(try Self.value(other) == 4)
  }
}
