import DLCTensor
import Testing

@testable import DLCONNX

/// Convolutions, pools and normalisations. Expected numbers are those of the standard's reference implementation, or
/// worked out by hand.
struct WindowTests {
  private func expect(
    _ tensor: Tensor, _ shape: [Int], _ numbers: [Double], tolerance: Double = 1e-4,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(tensor.shape == shape, sourceLocation: sourceLocation)
    #expect(tensor.count == numbers.count, sourceLocation: sourceLocation)
    for (got, wanted) in zip(tensor.doubles, numbers) {
      #expect(abs(got - wanted) <= tolerance, sourceLocation: sourceLocation)
    }
  }

  @Test func averagesDropWindowsThatStartInTheEndPadding() throws {
    let y = try OneNode.run(
      "AveragePool", [counting(1, 1, 2, 2)],
      [
        "kernel_shape": .integers([3, 3]), "strides": .integers([3, 3]),
        "pads": .integers([1, 1, 1, 1]), "ceil_mode": .integer(1), "count_include_pad": .integer(1),
      ], opset: 22)
    expect(y[0], [1, 1, 1, 1], [10.0 / 9])
  }

  @Test(arguments: [(1, [1.0, 3.0]), (0, [1.5, 3.0])])
  func averagesCountPaddingAsTheModelSays(_ counts: Int, _ wanted: [Double]) throws {
    let y = try OneNode.run(
      "AveragePool", [counting(1, 1, 4)],
      [
        "kernel_shape": .integers([3]), "strides": .integers([2]), "pads": .integers([1, 0]),
        "ceil_mode": .integer(1), "count_include_pad": .integer(counts),
      ], opset: 22)
    expect(y[0], [1, 1, 2], wanted)
  }

  /// The last window reaches one element beyond the padding, which is not counted.
  @Test func averagesDoNotCountWhatOnlyRoundingAdds() throws {
    let y = try OneNode.run(
      "AveragePool", [counting(1, 1, 6)],
      [
        "kernel_shape": .integers([3]), "strides": .integers([2]), "ceil_mode": .integer(1),
        "count_include_pad": .integer(1),
      ], opset: 22)
    expect(y[0], [1, 1, 3], [2, 4, 5.5])
  }

  @Test func convolvesWithPaddingOnOneSide() throws {
    let y = try OneNode.run(
      "Conv", [counting(1, 1, 4), counting(1, 1, 3)], ["pads": .integers([0, 2])], opset: 22)
    expect(y[0], [1, 1, 4], [14, 20, 11, 4])
  }

  @Test(arguments: [
    ("SAME_LOWER", [2.0, 5, 8, 11]), ("SAME_UPPER", [5, 8, 11, 4]), ("VALID", [5, 8, 11]),
  ])
  func convolvesWithImpliedPadding(_ mode: String, _ wanted: [Double]) throws {
    let y = try OneNode.run(
      "Conv", [counting(1, 1, 4), counting(1, 1, 2)], ["auto_pad": text(mode)], opset: 22)
    expect(y[0], [1, 1, wanted.count], wanted)
  }

  @Test func refusesAKernelShapeThatTheKernelDoesNotHave() {
    #expect(throws: DLCError.self) {
      try OneNode.run(
        "Conv", [counting(1, 1, 4), counting(1, 1, 3)], ["kernel_shape": .integers([2])], opset: 22)
    }
  }

  /// The output's shape decides the padding; an odd element is cut off before, but for SAME_UPPER after.
  @Test(arguments: [
    ("NOTSET", [4], [2.0, 5, 4, 6]), ("SAME_UPPER", [4], [1, 2, 5, 4]),
    ("NOTSET", [1, 1, 4], [2, 5, 4, 6]), ("NOTSET", [6], [1, 2, 5, 4, 6, 0]),
  ])
  func transposedConvolutionsReachTheShapeThatIsGiven(
    _ mode: String, _ shape: [Int], _ wanted: [Double]
  ) throws {
    let y = try OneNode.run(
      "ConvTranspose", [counting(1, 1, 2), counting(1, 1, 3)],
      [
        "strides": .integers([2]), "output_shape": .integers(shape),
        "auto_pad": text(mode),
      ], opset: 22)
    expect(y[0], [1, 1, wanted.count], wanted)
  }

  @Test func transposedConvolutionsTakeOutputPaddingIntoImpliedPadding() throws {
    let y = try OneNode.run(
      "ConvTranspose", [counting(1, 1, 3), counting(1, 1, 3)],
      [
        "strides": .integers([2]), "output_padding": .integers([1]),
        "auto_pad": text("SAME_UPPER"),
      ], opset: 22)
    expect(y[0], [1, 1, 6], [2, 5, 4, 9, 6, 9])
  }

  @Test func maximaSayWhereTheyAreInColumnOrder() throws {
    let y = try OneNode.run(
      "MaxPool", [counting(1, 1, 3, 3)],
      [
        "kernel_shape": .integers([2, 2]), "strides": .integers([2, 2]),
        "pads": .integers([1, 1, 0, 0]), "storage_order": .integer(1),
      ], opset: 22, outputs: 2)
    expect(y[0], [1, 1, 2, 2], [1, 3, 7, 9])
    #expect(y[1].dataType == .int64 && y[1].integers == [0, 6, 2, 8])
  }

  @Test func maximaOfBytesDoNotLieInThePadding() throws {
    let y = try OneNode.run(
      "MaxPool", [Tensor(zeros: .uint8, [1, 1, 2, 2])],
      ["kernel_shape": .integers([2, 2]), "pads": .integers([1, 1, 0, 0])], opset: 22, outputs: 2)
    #expect(y[1].integers == [0, 0, 0, 0])
  }

  @Test func batchNormalizationInTrainingMovesItsStatistics() throws {
    let y = try OneNode.run(
      "BatchNormalization",
      [
        Tensor([[1.0, 10], [3, 20]], .float32), Tensor([1.0, 2], .float32),
        Tensor([0.0, 1], .float32), Tensor([5.0, 6], .float32), Tensor([1.0, 1], .float32),
      ], ["training_mode": .integer(1), "momentum": .float(0.75), "epsilon": .float(0)], opset: 22,
      outputs: 3)
    expect(y[0], [2, 2], [-1, -1, 1, 3])
    expect(y[1], [2], [4.25, 8.25])
    expect(y[2], [2], [1, 7])
  }

  /// Half to even before the zero point is added, and saturated.
  @Test func quantizedConvolutionsRoundHalfToEven() throws {
    func scalar(_ value: Double) -> Tensor { Tensor(splat: value, .float32, []) }
    let x = Tensor(.uint8, [1, 1, 4], truncating: [1, 3, 5, 255])
    let zero = Tensor(.uint8, [], truncating: [0])
    let y = try OneNode.run(
      "QLinearConv",
      [
        x, scalar(1), zero, Tensor(.uint8, [1, 1, 1], truncating: [1]), scalar(1), zero, scalar(2),
        Tensor(.uint8, [], truncating: [129]),
      ], opset: 22)
    #expect(y[0].integers == [129, 131, 131, 255])
  }
}
