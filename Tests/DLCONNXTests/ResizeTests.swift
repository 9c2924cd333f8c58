import DLCTensor
import Testing

@testable import DLCONNX

/// Expected numbers are those of the standard's reference implementation, or worked out by hand.
struct ResizeTests {
  private func expect(
    _ operands: [Tensor?], _ attributes: [String: ONNXAttribute], _ shape: [Int],
    _ numbers: [Double], opset: Int = 19, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let y = try OneNode.run("Resize", operands, attributes, opset: opset)[0]
    #expect(y.shape == shape, sourceLocation: sourceLocation)
    for (got, wanted) in zip(y.doubles, numbers) {
      #expect(abs(got - wanted) <= 1e-4, sourceLocation: sourceLocation)
    }
  }

  private func scales(_ numbers: Double...) -> Tensor {
    Tensor(.float32, [numbers.count], rounding: numbers)
  }
  private func sizes(_ numbers: Int64...) -> Tensor {
    Tensor(.int64, [numbers.count], truncating: numbers)
  }

  /// Coordinates follow 0.65, not the ratio of the sizes, 3/5.
  @Test func coordinatesFollowTheScaleAsGiven() throws {
    try expect(
      [counting(1, 1, 5), nil, scales(1, 1, 0.65)], ["mode": text("linear")], [1, 1, 3],
      [1.26923, 2.80769, 4.34615])
  }

  @Test func symmetricCoordinatesKeepTheCentre() throws {
    try expect(
      [counting(1, 1, 5), nil, scales(1, 1, 0.65)],
      [
        "mode": text("linear"),
        "coordinate_transformation_mode": text("half_pixel_symmetric"),
      ], [1, 1, 3], [1.46154, 3, 4.53846])
  }

  /// The first element, by the standard's text, where there is but one.
  @Test(arguments: ["align_corners", "pytorch_half_pixel"])
  func oneElementIsTheFirst(_ coordinates: String) throws {
    for mode in ["linear", "cubic", "nearest"] {
      try expect(
        [counting(1, 1, 4), nil, nil, sizes(1, 1, 1)],
        [
          "mode": text(mode),
          "coordinate_transformation_mode": text(coordinates),
        ], [1, 1, 1], [1])
    }
  }

  @Test func croppingExtrapolates() throws {
    try expect(
      [counting(1, 1, 4), scales(0, 0, 0.25, 1, 1, 1.25), nil, sizes(1, 1, 4)],
      [
        "mode": text("linear"), "extrapolation_value": .float(-7),
        "coordinate_transformation_mode": text("tf_crop_and_resize"),
      ], [1, 1, 4], [1.75, 2.75, 3.75, -7])
  }

  @Test func antialiasingWidensTheFilter() throws {
    let squares = Tensor(.float32, [1, 1, 8], rounding: (1...8).map { Double($0 * $0) })
    try expect(
      [squares, nil, scales(1, 1, 0.5)],
      ["mode": text("linear"), "antialias": .integer(1)], [1, 1, 4],
      [3.125, 13, 31, 54.875])
    try expect(
      [squares, nil, scales(1, 1, 0.5)],
      [
        "mode": text("cubic"), "antialias": .integer(1), "exclude_outside": .integer(1),
      ], [1, 1, 4], [2.22661, 11.762, 30.85029, 56.17048])
  }

  @Test func proportionsAreKeptOnTheAxesThatAreNamed() throws {
    try expect(
      [counting(1, 1, 2, 4), nil, nil, sizes(5, 6)],
      [
        "axes": .integers([3, 2]), "keep_aspect_ratio_policy": text("not_larger"),
      ], [1, 1, 3, 5], [1, 2, 2, 3, 4, 5, 6, 6, 7, 8, 5, 6, 6, 7, 8])
    try expect(
      [counting(1, 1, 2, 3), nil, nil, sizes(4, 3)],
      [
        "axes": .integers([3, 2]), "keep_aspect_ratio_policy": text("not_smaller"),
      ], [1, 1, 3, 5], [1, 1, 2, 3, 3, 1, 1, 2, 3, 3, 4, 4, 5, 6, 6])
  }

  /// Bytes are rounded half to even: 1.5 and 2.5 are 2.
  @Test func integersAreRounded() throws {
    let x = Tensor(.uint8, [1, 1, 3], truncating: [1, 2, 3])
    let y = try OneNode.run(
      "Resize", [x, nil, nil, sizes(1, 1, 5)],
      [
        "mode": text("linear"),
        "coordinate_transformation_mode": text("align_corners"),
      ], opset: 19)[0]
    #expect(y.dataType == .uint8 && y.integers == [1, 2, 2, 2, 3])
  }

  @Test func refusesWhatIsNeitherScaledNorSized() {
    #expect(throws: DLCError.self) { try OneNode.run("Resize", [counting(1, 1, 4)], opset: 19) }
    #expect(throws: DLCError.self) {
      try OneNode.run("Resize", [counting(1, 1, 4), nil, scales(1, 1, -1)], opset: 19)
    }
  }
}
