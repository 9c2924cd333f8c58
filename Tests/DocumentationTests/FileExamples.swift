import DLC
import DLCData
import Foundation
import Testing

/// Examples that read and write files of names that are not ours to choose: each runs in a process of its own, in a
/// directory that is removed afterwards.
@Suite struct FileExamples {
  /// Runs `body` with a new directory as the current one.
  static func inFolder(_ body: () throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    #expect(FileManager.default.changeCurrentDirectoryPath(folder.path))
    defer { try? FileManager.default.removeItem(at: folder) }
    try body()
  }

  @Test func files() async {
    await #expect(processExitsWith: .success) {
      try FileExamples.inFolder {
        try FileExamples.saveModule()
        try FileExamples.writeNpz()
        try FileExamples.writeSafetensors()
        try FileExamples.writePicture()
      }
    }
  }

  static func saveModule() throws {
    let module = try ModelExamples.classifier()
    // example: DLCFormats/ModuleFile.swift: public func save(
    try module.save("model.pb")
    let same = try Module(contentsOf: "model.pb")
    // end
    #expect(same == module)
  }

  static func writeNpz() throws {
    // example: DLCFormats/Npz.swift: public enum Npz
    try Npz.write([("x", Tensor([[1, 2], [3, 4]], .float32))], to: "arrays.npz")
    let arrays = try Npz.arrays("arrays.npz")  // by name
    // end
    #expect(arrays == ["x": floats([2, 2], [1, 2, 3, 4])])
  }

  static func writeSafetensors() throws {
    // example: DLCFormats/Safetensors.swift: public enum Safetensors
    try Safetensors.write([("w", Tensor([1, 2, 3], .float32))], to: "weights.safetensors")
    let weights = try Safetensors.read("weights.safetensors")
    // end
    #expect(weights.map(\.name) == ["w"])
    #expect(weights.map(\.value) == [floats([3], [1, 2, 3])])
  }

  static func writePicture() throws {
    let samples = Tensor(zeros: .float32, [4, 28, 28])
    // example: DLCData/Picture.swift: public init(
    let picture = try Picture(samples, height: 28, width: 28, zoom: 2)
    try picture.write("samples.png")
    // end
    #expect(try Picture(reading: "samples.png") == picture)
  }
}
