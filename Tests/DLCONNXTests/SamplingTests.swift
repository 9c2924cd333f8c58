import DLCTensor
import Testing

@testable import DLCONNX

/// Images read at points that are computed. Expected numbers are those of ONNX Runtime, with which the standard's
/// reference implementation agrees, or worked out by hand.
struct SamplingTests {
  /// A corner of the image, its middle, a point inside and one outside.
  private let grid = floats([1, 1, 4, 2], [-1, -1, 0, 0, 0.5, 0.25, 1.5, -2])

  @Test(arguments: [
    ("linear", "zeros", [0.25, 5, 6.875, 0]), ("linear", "border", [1, 5, 6.875, 3]),
    ("linear", "reflection", [1, 5, 6.875, 5.75]), ("nearest", "zeros", [1, 5, 6, 0]),
    ("nearest", "border", [1, 5, 6, 3]), ("nearest", "reflection", [1, 5, 6, 6]),
    ("cubic", "zeros", [0.0625, 5, 8.64404, 0]), ("cubic", "border", [0.625, 5, 7.21924, 3]),
    ("cubic", "reflection", [0.25, 5, 7.21924, 5.80859]),
  ])
  func gridsReadBetweenElements(_ mode: String, _ padding: String, _ wanted: [Double]) throws {
    let y = try OneNode.run(
      "GridSample", [counting(1, 1, 3, 3), grid],
      ["mode": text(mode), "padding_mode": text(padding)], opset: 20)[0]
    #expect(y.shape == [1, 1, 1, 4])
    #expect(near(y.doubles, wanted, 1e-5))
  }

  @Test func gridsMayEndAtTheMiddleOfCorners() throws {
    let y = try OneNode.run(
      "GridSample", [counting(1, 1, 3, 3), grid], ["align_corners": .integer(1)], opset: 20)[0]
    #expect(near(y.doubles, [1, 5, 6.25, 0]))
  }

  /// With 0 samples there are as many as a part is long.
  @Test(arguments: [
    ("avg", 0, [5.3125, 6.75, 5.75, 6.25]), ("avg", 2, [5.3125, 6.75, 5.75, 6.25]),
    ("max", 0, [9, 9.625, 4.5, 4.5]), ("max", 2, [6.75, 7.21875, 3.9375, 3.9375]),
  ])
  func regionsAreAligned(_ mode: String, _ samples: Int, _ wanted: [Double]) throws {
    let y = try OneNode.run(
      "RoiAlign",
      [counting(1, 1, 4, 4), floats([2, 4], [0, 0, 3, 3, 1, 1, 2, 2]), integers([2], [0, 0])],
      [
        "mode": text(mode), "sampling_ratio": .integer(samples), "output_height": .integer(1),
        "output_width": .integer(2),
      ], opset: 22)[0]
    #expect(y.shape == [2, 1, 1, 2])
    #expect(near(y.doubles, wanted))
  }

  /// However large a region is, the image bounds the loop over its points; those outside count as 0.
  @Test func regionsBeyondTheImageEnd() throws {
    let y = try OneNode.run(
      "RoiAlign",
      [counting(1, 1, 2, 2), floats([1, 4], [-1e9, -1e9, 1e9, 1e9]), integers([1], [0])],
      ["mode": text("max")], opset: 22)[0]
    #expect(y.doubles[0] >= 0 && y.doubles[0] <= 4)
  }

  @Test func regionsHaveMaxima() throws {
    let y = try OneNode.run(
      "MaxRoiPool", [counting(1, 1, 4, 4), floats([2, 5], [0, 0, 0, 3, 3, 0, 1, 2, 1, 2])],
      ["pooled_shape": .integers([2, 1])], opset: 9)[0]
    #expect(y.doubles == [8, 16, 10, 10])
  }

  @Test func windowsAreDeformed() throws {
    let offsets: [Double] = [0.5, 0, 0, 0, 0, 0, 0, 1.5, 0, 0, 0, 0, 0, -0.5, 0, 0]
    let y = try OneNode.run(
      "DeformConv",
      [counting(1, 1, 2, 3), floats([1, 1, 1, 2], [1, 10]), floats([1, 4, 2, 2], offsets)],
      opset: 22)[0]
    #expect(near(y.doubles, [22.5, 27, 54, 63]))
  }

  @Test func blocksAreSummedWhereTheyOverlap() throws {
    let y = try OneNode.run(
      "Col2Im", [counting(1, 2, 3), integers([2], [1, 4]), integers([2], [1, 2])], opset: 18)[0]
    #expect(y.shape == [1, 1, 1, 4] && y.doubles == [1, 6, 8, 6])
  }

  @Test func unpooledElementsGoWhereTheyWere() throws {
    let attributes: [String: ONNXAttribute] = [
      "kernel_shape": .integers([2, 2]), "strides": .integers([2, 2]),
    ]
    let operands = [counting(1, 1, 1, 2), integers([1, 1, 1, 2], [1, 4])]
    let y = try OneNode.run("MaxUnpool", operands, attributes, opset: 22)[0]
    #expect(y.shape == [1, 1, 2, 4] && y.doubles == [0, 1, 0, 0, 2, 0, 0, 0])
    // Places count in the shape that the windows make, which is then put into the one that is asked for.
    let wide = try OneNode.run(
      "MaxUnpool", operands + [integers([4], [1, 1, 3, 5])], attributes, opset: 22)[0]
    #expect(wide.doubles == [0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0])
  }
}
