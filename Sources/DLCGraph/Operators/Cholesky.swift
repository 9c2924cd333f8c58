package import DLCTensor

/// The lower triangular L with L L^T = (A + A^T)/2 over the last two axes; NaN where that matrix is
/// not positive definite.
package struct Cholesky: Operator {
  package init() {}
  package static let mnemonics = ["cholesky"]
  package var mnemonic: String { "cholesky" }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {}

  /// Square matrices of floating-point elements in the last two axes.
  static func checkSquare(_ type: TensorType) throws(DLCError) {
    try require(
      type.dataType == .float32 || type.dataType == .float64, "float",
      "needs float32 or float64 elements, not \(type.dataType)")
    try require(type.rank >= 2, "matrix", "\(type) holds no matrices")
    try requireEqual(type.shape[type.rank - 2], type.shape[type.rank - 1], "square")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try Self.checkSquare(operands[0])
    return operands
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let n = operands[0].shape.last!
    var out = ReferenceArray(operands[0].type, operands[0].shape)
    for base in stride(from: 0, to: out.count, by: max(n * n, 1)) {
      for i in 0..<n {
        for j in 0...i {
          var sum = (operands[0].reals[base + i * n + j] + operands[0].reals[base + j * n + i]) / 2
          for k in 0..<j { sum -= out.reals[base + i * n + k] * out.reals[base + j * n + k] }
          out.reals[base + i * n + j] =
            i == j ? sum.squareRoot() : sum / out.reals[base + j * n + j]
        }
      }
    }
    return [out]
  }

  package var derivative: Derivative {
    .rule { p in
      // Murray 2016: A' = L^-T (Phi(L^T L') + its transpose)/2 L^-1, Phi the lower half with half
      // the diagonal.
      let (g, l, d) = (p.g, p.results[0], p.cotangent)
      let inner = g.matmul(g.matrixTranspose(l), g.lowerTriangle(d))
      let half = g.lowerTriangle(inner) - g.diagonalMatrix(inner) * 0.5
      let symmetric = half + g.matrixTranspose(half)
      let left = g.triangularSolve(l, symmetric, transpose: true)
      let both = g.triangularSolve(l, g.matrixTranspose(left), transpose: true)
      return [both * 0.5]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .routine(.cholesky)
  }

  package static var samples: [OperatorSample] {
    // Not positive definite as drawn: the tests of linear algebra draw matrices that are.
    [
      OperatorSample(.cholesky(Cholesky()), [TensorType(.float32, [1, 1])], range: 0.5...2),
      OperatorSample(.cholesky(Cholesky()), [TensorType(.float64, [5, 1, 1])], range: 0.5...2),
    ]
  }
}
