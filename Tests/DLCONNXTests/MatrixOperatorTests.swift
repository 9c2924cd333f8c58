import DLCTensor
import Testing

@testable import DLCONNX

/// Products of matrices, softmax, norms and losses.
@Suite struct MatrixOperatorTests {
  private func floats(_ shape: [Int], _ values: [Double]) -> Tensor {
    OneNode.floats(shape, values)
  }

  // MARK: Products

  @Test func vectorsAreRowsAndColumns() throws {
    let row = floats([2], [1, 10])
    let matrix = floats([2, 2], [1, 2, 3, 4])
    let left = try OneNode.run("MatMul", [row, matrix], opset: 13)[0]
    #expect(left.shape == [2] && left.doubles == [31, 42])
    let right = try OneNode.run("MatMul", [matrix, row], opset: 13)[0]
    #expect(right.shape == [2] && right.doubles == [21, 43])
    let inner = try OneNode.run("MatMul", [row, row], opset: 13)[0]
    #expect(inner.shape == [] && inner.doubles == [101])
  }

  @Test func batchesBroadcastBothWays() throws {
    let a = floats([2, 1, 1, 2], [1, 2, 3, 4])
    let b = floats([3, 2, 1], [1, 0, 0, 1, 1, 1])
    let y = try OneNode.run("MatMul", [a, b], opset: 13)[0]
    #expect(y.shape == [2, 3, 1, 1] && y.doubles == [1, 2, 3, 3, 4, 7])
  }

  @Test func gemmScalesAndBroadcastsItsBias() throws {
    let a = floats([2, 2], [1, 2, 3, 4])
    let b = floats([2, 2], [1, 0, 1, 1])
    let column = floats([2, 1], [10, 20])
    let attributes: [String: ONNXAttribute] = [
      "transA": .integer(1), "alpha": .float(2), "beta": .float(0.5),
    ]
    let y = try OneNode.run("Gemm", [a, b, column], attributes, opset: 13)[0]
    // A^T B = [[4, 3], [6, 4]].
    #expect(y.doubles == [13, 11, 22, 18])
  }

  @Test func einsumTakesEllipsesAndDiagonals() throws {
    let x = floats([2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8])
    func einsum(_ equation: String, _ operands: [Tensor]) throws -> Tensor {
      try OneNode.run(
        "Einsum", operands, ["equation": .text(Array(equation.utf8))], opset: 12)[0]
    }
    let diagonals = try einsum("...ii->...i", [x])
    #expect(diagonals.shape == [2, 2] && diagonals.doubles == [1, 4, 5, 8])
    // Letters of an implicit result are in their order, after the ellipsis.
    let turned = try einsum("b...a", [x])
    #expect(turned.doubles == [1, 5, 2, 6, 3, 7, 4, 8])
    let spread = try einsum(
      "ij,ij->j", [floats([1, 2], [10, 100]), floats([2, 2], [1, 2, 3, 4])])
    #expect(spread.doubles == [40, 600])
    #expect(throws: DLCError.self) { try einsum("ij->ijk", [floats([1, 2], [1, 2])]) }
  }

  @Test func determinantOfASingularMatrixIsZero() throws {
    let x = floats([3, 2, 2], [0, 0, 0, 0, 1, 2, 3, 4, 0, 1, 1, 0])
    let y = try OneNode.run("Det", [x], opset: 11)[0]
    #expect(near(y.doubles, [0, -2, -1]))
  }

  // MARK: Softmax

  @Test func softmaxBeforeThirteenIsOverAllAxesFromOneOn() throws {
    let x = OneNode.floats([1, 2, 2], [0, 0, 0, 0])
    let old = try OneNode.run("Softmax", [x], opset: 12)[0]
    #expect(old.doubles == [0.25, 0.25, 0.25, 0.25])
    let new = try OneNode.run("Softmax", [x], opset: 13)[0]
    #expect(new.doubles == [0.5, 0.5, 0.5, 0.5])
    let log = try OneNode.run("LogSoftmax", [x], opset: 9)[0]
    #expect(near(log.doubles, [Double](repeating: -1.3862943611198906, count: 4)))
    let hard = try OneNode.run("Hardmax", [x], opset: 11)[0]
    #expect(hard.doubles == [1, 0, 0, 0])
    let last = try OneNode.run("Hardmax", [x], opset: 13)[0]
    #expect(last.doubles == [1, 0, 1, 0])
  }

  // MARK: Norms

  @Test func layerNormGivesItsStatisticsInTheStashType() throws {
    let x = Tensor(.float16, [2, 2], rounding: [1, 3, 2, 6])
    let scale = Tensor(.float16, [2], rounding: [1, 2])
    let y = try OneNode.run(
      "LayerNormalization", [x, scale], ["epsilon": .float(0)], opset: 17, outputs: 3)
    #expect(y[0].dataType == .float16 && y[0].doubles == [-1, 2, -1, 2])
    #expect(y[1].dataType == .float32 && y[1].shape == [2, 1] && y[1].doubles == [2, 4])
    #expect(y[2].dataType == .float32 && near(y[2].doubles, [1, 0.5]))
  }

  @Test func layerNormOverSeveralAxes() throws {
    let x = floats([2, 2], [1, 3, 5, 7])
    let y = try OneNode.run(
      "LayerNormalization", [x, floats([2, 1], [1, 2]), floats([1], [1])],
      ["axis": .integer(0), "epsilon": .float(0)], opset: 17)[0]
    let unit = 1 / 5.0.squareRoot()
    #expect(near(y.doubles, [1 - 3 * unit, 1 - unit, 1 + 2 * unit, 1 + 6 * unit]))
  }

  @Test func skippedNormGivesTheSumToo() throws {
    let y = try OneNode.run(
      "SkipSimplifiedLayerNormalization",
      [floats([1, 2], [1, 2]), floats([1, 2], [2, 2]), floats([2], [1, 2])],
      ["epsilon": .float(0)], domain: "com.microsoft", opset: 1, outputs: 4)
    let inverse = 1 / 12.5.squareRoot()
    #expect(near(y[0].doubles, [3 * inverse, 8 * inverse]))
    #expect(y[3].doubles == [3, 4])
  }

  // MARK: Losses

  @Test func lossLeavesOutWhatIsIgnored() throws {
    let log = floats([3, 2], [-1, -2, -3, -4, -5, -.infinity])
    let labels = OneNode.integers([3], [0, 1, -1])
    let weights = floats([2], [2, 1])
    func loss(_ reduction: String, _ operands: [Tensor?]) throws -> [Double] {
      try OneNode.run(
        "NegativeLogLikelihoodLoss", operands,
        ["reduction": .text(Array(reduction.utf8)), "ignore_index": .integer(-1)], opset: 13)[0]
        .doubles
    }
    #expect(try loss("none", [log, labels, weights]) == [2, 4, 0])
    #expect(try loss("sum", [log, labels]) == [5])
    #expect(try loss("mean", [log, labels]) == [2.5])
    #expect(try loss("mean", [log, labels, weights]) == [2])
  }

  @Test func crossEntropyGivesLogarithms() throws {
    let y = try OneNode.run(
      "SoftmaxCrossEntropyLoss", [floats([1, 2, 1], [0, 0]), OneNode.integers([1, 1], [1])],
      opset: 13, outputs: 2)
    #expect(near(y[0].doubles, [0.6931471805599453]))
    #expect(near(y[1].doubles, [-0.6931471805599453, -0.6931471805599453]))
  }
}
