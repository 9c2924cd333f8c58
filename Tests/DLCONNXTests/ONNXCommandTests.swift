import DLCFormats
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

@testable import DLCONNX

/// The command on ONNX models, as a user runs it.
@Suite struct ONNXCommandTests {
  /// A directory that is removed when the test ends.
  final class Folder {
    let path = NSTemporaryDirectory() + "onnx-\(UUID().uuidString)"

    init() throws {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The path of a model that is written there.
    func write(_ model: ONNXModel, as name: String = "m.onnx") throws -> String {
      let bytes = ModelWriter().encode(model.graph, opset: 21, producer: "")
      try OutputFile.write(bytes, to: "\(path)/\(name)")
      return "\(path)/\(name)"
    }

    func write(_ arrays: [(String, Tensor)], as name: String = "in.npz") throws -> String {
      try Npz.write(arrays.map { (name: $0.0, value: $0.1) }, to: "\(path)/\(name)")
      return "\(path)/\(name)"
    }

    func dlc(_ arguments: String...) throws -> (status: Int32, out: String, error: String) {
      try DLCCommand.launch(
        DLCCommand.url, arguments, environment: ["XDG_CACHE_HOME": path])
    }
  }

  /// Rows times two, and whole numbers beside them.
  private let doubled = model(
    [("x", .float32, [.name("n"), .size(2)]), ("k", .int64, [.name("n")])], ["y", "j"],
    [node("Add", ["x", "x"], ["y"]), node("Add", ["k", "k"], ["j"])])

  @Test func arraysAreConvertedWhereTheyHoldTheNumbers() throws {
    let folder = try Folder()
    let file = try folder.write(doubled)
    let x = Tensor(.float64, [2, 2], rounding: [0.5, 1, 2, 3])
    let k = integers([2], [7, -9], .int32)
    let inputs = try folder.write([("x", x), ("k", k)])
    let made = try folder.dlc(
      "run", file, "--inputs", inputs, "--outputs", "\(folder.path)/out.npz")
    #expect(made.status == 0, "\(made.error)")
    #expect(made.error.contains("'k' is converted from int32 to int64"))
    let results = try Npz.read("\(folder.path)/out.npz")
    #expect(results.first { $0.name == "y" }?.value.doubles == [1, 2, 4, 6])
    #expect(results.first { $0.name == "j" }?.value.integers == [14, -18])
    let broken = try folder.write([("x", x), ("k", floats([2], [1, 1.5]))])
    let refused = try folder.dlc("run", file, "--inputs", broken)
    #expect(refused.status == 1)
    #expect(refused.error.contains("element [1] of 'k' is 1.5, which is not a whole number"))
  }

  @Test func namesThatDoNotFitAreListed() throws {
    let folder = try Folder()
    let file = try folder.write(doubled)
    let good = try folder.write([("x", floats([1, 2], [1, 2])), ("k", integers([1], [1]))])
    let unknown = try folder.dlc("run", file, "--inputs", good, "--dim", "rows=1")
    #expect(unknown.status == 1)
    #expect(unknown.error.contains("the model has no dimension 'rows'"))
    #expect(unknown.error.contains("its dimensions are 'n'"))
    let other = try folder.dlc("run", file, "--inputs", good, "--dim", "n=3")
    #expect(other.error.contains("dimension 'n' is 3 by --dim but 1 by array 'x'"))
    let apart = try folder.write([("x", floats([1, 2], [1, 2])), ("k", integers([2], [1, 2]))])
    let disagreeing = try folder.dlc("run", file, "--inputs", apart)
    #expect(
      disagreeing.error.contains("dimension 'n' is 1 by array 'x' but 2 by array 'k'"))
    let misnamed = try folder.write([("X", floats([1, 2], [1, 2])), ("k", integers([1], [1]))])
    let missing = try folder.dlc("run", file, "--inputs", misnamed)
    #expect(missing.status == 1 && missing.error.contains("input 'x' is missing"))
    #expect(
      missing.error.contains(
        "the inputs are 'x' float32[n, 2], 'k' int64[n]; the file has 'X', 'k'"))
  }
}
