import DLCFormats
import DLCGraph
import DLCTensor
import DLCZoo
import Foundation
import Testing

@Suite struct ZooTests {
  @Test func everyModelIsSound() throws {
    for model in Zoo.models { #expect(try model.module().violations().isEmpty, "\(model.name)") }
  }

  /// What `Graphs/` holds is what `dlc zoo build` writes.
  @Test func committedGraphsAreCurrent() throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
      "../../Graphs")
    let files = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
      .filter { $0.hasSuffix(".pb") }
    #expect(Set(files) == Set(Zoo.shipped.map { "\($0.name).pb" }))
    for file in files {
      let model = try #require(
        Zoo.model(String(file.dropLast(3))), "\(file) is no model of the zoo")
      let committed = [UInt8](try Data(contentsOf: folder.appendingPathComponent(file)))
      #expect(
        committed == ModuleFile.encode(try model.module()),
        "\(file): run dlc zoo build \(model.name) -o Graphs")
    }
  }
}
