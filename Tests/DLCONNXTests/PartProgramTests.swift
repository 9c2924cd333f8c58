import DLCCompiler
import DLCFormats
import DLCRuntime
import DLCTensor
import Foundation
import Testing

@testable import DLCONNX

/// Programs of models that run in parts: the first part is compiled ahead, and the model is carried for the others.
@Suite struct PartProgramTests {
  private let rows = model(
    [("x", .float32, [.name("n"), .size(2)]), ("mask", .bool, [.name("n")])], ["y"],
    [
      node("Compress", ["x", "mask"], ["some"], ["axis": .integer(0)]),
      node("Add", ["some", "some"], ["y"]),
    ])

  private func program() throws -> String {
    let path = NSTemporaryDirectory() + "part-\(UUID().uuidString).dlc"
    let bindings = ONNXModel.Bindings(sizes: ["n": 3])
    let bytes = ModelWriter().encode(rows.graph, opset: 21, producer: "")
    let read = try bytes.withUnsafeBytes { try ONNXModel($0, path: path) }
    let (module, cut) = try read.compilable(bindings)
    #expect(cut?.contains("Compress") == true)
    try Compiler().build(module, function: nil, dimensions: [:])
      .write(part: module, of: bytes, to: path)
    return path
  }

  @Test func theFirstPartIsNotCompiledAgain() throws {
    let path = try program()
    defer { try? FileManager.default.removeItem(atPath: path) }
    let session = try ONNXSession(contentsOf: path, cache: nil)
    func run(_ n: Int, _ mask: [Int64]) throws -> [Double] {
      let x = floats([n, 2], (0..<2 * n).map(Double.init))
      return try session.run(["x": x, "mask": integers([n], mask, .bool)])[0].value.doubles
    }
    #expect(try run(3, [0, 1, 1]) == [4, 6, 8, 10])
    #expect(session.compilationCount == 1)
    #expect(try run(3, [1, 0, 1]) == [0, 2, 8, 10])
    #expect(session.compilationCount == 1)
    #expect(try run(3, [0, 0, 0]) == [])
    #expect(session.compilationCount == 2)
    // Another size is another first part.
    #expect(try run(2, [0, 1]) == [4, 6])
    #expect(session.compilationCount == 4)
  }

  @Test func itIsNoProgramOfItsOwn() throws {
    let path = try program()
    defer { try? FileManager.default.removeItem(atPath: path) }
    let error = #expect(throws: DLCError.self) { try Executable(contentsOf: path) }
    #expect(error?.message == "the program is the first part of an ONNX model that runs in parts")
  }

  @Test func openSizesAreNamed() throws {
    let error = #expect(throws: DLCError.self) { try rows.compilable() }
    #expect(error?.remedy.contains("--dim") == true)
    let whole = model([("x", .float32, [.size(2)])], ["y"], [node("Relu", ["x"], ["y"])])
    #expect(try whole.compilable().cut == nil)
  }
}
