import DLCFormats
import DLCGraph
import DLCTensor
import Foundation
import Testing

@testable import DLCONNX

/// ONNX models that are trained.
@Suite struct FineTuningTests {
  /// The mean of each row, whatever its length, through a layer of two outputs.
  private let classifier = model(
    [("x", .float32, [.name("n"), .name("d")])], ["logits"],
    initializers: [
      "axes": integers([1], [1]), "w": floats([1, 2], [0.5, -0.5]), "b": floats([2], [0, 0]),
    ],
    [
      node("ReduceMean", ["x", "axes"], ["mean"]),
      node("Gemm", ["mean", "w", "b"], ["logits"]),
    ])

  /// Rows of five numbers around -1 and 1, in turn; the second are of class 1.
  private static func rows(_ count: Int) -> [(String, Tensor)] {
    let x = (0..<count * 5).map { place -> Double in
      let (row, column) = (place / 5, place % 5)
      return (row % 2 == 0 ? -1 : 1) + 0.1 * Double(column - 2)
    }
    return [
      ("x", floats([count, 5], x)),
      ("target", integers([count], (0..<count).map { Int64($0 % 2) })),
    ]
  }

  /// The data say the size of the axis that the model leaves open.
  @Test func classesAreCountedAndOpenAxesAreBound() throws {
    let folder = try ONNXCommandTests.Folder()
    let file = try folder.write(classifier)
    let data = try folder.write(Self.rows(16), as: "train.npz")
    let validation = try folder.write(Self.rows(8), as: "valid.npz")
    let log = "\(folder.path)/log.jsonl"
    let tuned = "\(folder.path)/tuned.onnx"
    let made = try folder.dlc(
      "train", file, "--loss", "cross-entropy", "--data", data, "--validation", validation,
      "--epochs", "20", "--batch", "4", "--lr", "0.1", "--log", log, "--json", "-o", tuned)
    #expect(made.status == 0, "\(made.error)")
    let end = try #require(
      try JSONSerialization.jsonObject(with: Data(made.out.utf8)) as? [String: Any])
    let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
    let first = try #require(
      try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any])
    // Both classes are mistaken for the other at first.
    #expect(first["accuracy"] as? Double == 0)
    #expect(end["accuracy"] as? Double == 1 && end["validation_accuracy"] as? Double == 1)
    let losses = try #require([first["loss"], end["loss"]] as? [Double])
    #expect(losses[1] < losses[0] / 2)
    // The model that is written takes rows of any length still.
    let read = try ONNXModel(try MappedFile(tuned))
    let logits = try run(read, ["x": floats([2, 3], [-1, -1, -1, 1, 1, 1])])["logits"]!.doubles
    #expect(logits[0] > logits[1] && logits[2] < logits[3])
  }

  @Test func accuracyIsOfClassesAlone() throws {
    let tuned = try FineTuning(.meanSquaredError).module(classifier, sizes: ["d": 5])
    #expect(tuned.function("loss")?.outputs.map(\.name) == ["loss"])
    let classes = try FineTuning(.crossEntropy).module(classifier, sizes: ["d": 5])
    #expect(classes.function("loss")?.outputs.map(\.name) == ["loss", "accuracy"])
  }
}
