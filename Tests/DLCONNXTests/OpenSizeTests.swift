import DLCGraph
import DLCReference
import DLCTensor
import Testing

@testable import DLCONNX

/// Windows and resizing over axes whose sizes have a name: one graph, for several sizes.
struct OpenSizeTests {
  private func expect(
    _ type: String, _ operands: [String: Tensor], _ order: [String],
    _ attributes: [String: ONNXAttribute], _ wanted: [Int: [Double]],
    sourceLocation: Testing.SourceLocation = #_sourceLocation
  ) throws {
    let model = model(
      opset: 19, [("x", .float32, [.size(1), .size(1), .name("w")])], ["y"],
      initializers: operands, [node(type, order, ["y"], attributes)])
    let module = try model.module()
    for (size, numbers) in wanted {
      let (outputs, _) = try Interpreter().run(
        module, function: module.functions[0], inputs: ["x": counting(1, 1, size)],
        states: operands, dimensions: ["w": size])
      #expect(near(outputs[0].value.doubles, numbers, 1e-5), sourceLocation: sourceLocation)
    }
  }

  @Test func convolutionsPadEvenly() throws {
    try expect(
      "Conv", ["k": counting(1, 1, 3)], ["x", "k"],
      ["auto_pad": text("SAME_UPPER"), "strides": .integers([2])],
      [5: [8, 20, 14], 6: [14, 26, 17]])
  }

  @Test func averagesPadEvenly() throws {
    try expect(
      "AveragePool", [:], ["x"],
      [
        "auto_pad": text("SAME_LOWER"), "strides": .integers([2]), "kernel_shape": .integers([3]),
      ], [5: [1.5, 3, 4.5], 6: [1.5, 3, 5]])
  }

  @Test func resizingComputesCoordinates() throws {
    try expect(
      "Resize", ["s": floats([3], [1, 1, 1.5])], ["x", "", "s"], ["mode": text("linear")],
      [
        5: [1, 1.5, 2.16667, 2.83333, 3.5, 4.16667, 4.83333],
        6: [1, 1.5, 2.16667, 2.83333, 3.5, 4.16667, 4.83333, 5.5, 6],
      ])
  }

  /// A window of 3 does not fit into the size 1 that dimensions have first.
  @Test func defaultSizesFitTheWindows() throws {
    try expect(
      "MaxPool", [:], ["x"], ["kernel_shape": .integers([3])], [5: [3, 4, 5], 3: [3]])
  }
}
