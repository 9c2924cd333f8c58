package import DLCTensor

/// P A = L U with row pivoting over the last two axes: L (its diagonal of ones left out) and U in one
/// matrix; the pivots (row i was exchanged with row pivots[i]); and the permutation (row i of P A is
/// row permutation[i] of A), both int32.
package struct LU: Operator {
  package init() {}
  package static let mnemonics = ["lu"]
  package var mnemonic: String { "lu" }
  package var attributes: [Attribute] { [] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {}

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 1)
    try Cholesky.checkSquare(operands[0])
    let rows = TensorType(.int32, Array(operands[0].shape.dropLast()))
    return [operands[0], rows, rows]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let n = operands[0].shape.last!
    var a = operands[0]
    var pivots = ReferenceArray(.int32, results[1].sizes)
    var permutation = ReferenceArray(.int32, results[2].sizes)
    guard n > 0 else { return [a, pivots, permutation] }
    for batch in 0..<a.count / (n * n) {
      func at(_ i: Int, _ j: Int) -> Int { (batch * n + i) * n + j }
      for i in 0..<n { permutation.integers[batch * n + i] = Int64(i) }
      for j in 0..<n {
        var pivot = j
        for i in j..<n where abs(a.reals[at(i, j)]) > abs(a.reals[at(pivot, j)]) { pivot = i }
        pivots.integers[batch * n + j] = Int64(pivot)
        for c in 0..<n { a.reals.swapAt(at(j, c), at(pivot, c)) }
        permutation.integers.swapAt(batch * n + j, batch * n + pivot)
        for i in j + 1..<max(n, j + 1) {
          a.reals[at(i, j)] /= a.reals[at(j, j)]
          for c in j + 1..<max(n, j + 1) {
            a.reals[at(i, c)] -= a.reals[at(i, j)] * a.reals[at(j, c)]
          }
        }
      }
    }
    return [a, pivots, permutation]
  }

  package var derivative: Derivative {
    .rule { p in
      guard let d = p.cotangents[0] else { return [nil] }
      let (g, lu, permutation) = (p.g, p.results[0], p.results[2])
      // P A' = L^-T (strictly lower part of L^T L' + upper part of U' U^T) U^-T.
      let unit = g.lowerTriangle(lu, strict: true) + g.diagonalMatrix(g.constant(1, like: lu))
      let upper = g.upperTriangle(lu)
      let inner =
        g.lowerTriangle(g.matmul(g.matrixTranspose(unit), d), strict: true)
        + g.upperTriangle(g.matmul(d, g.matrixTranspose(upper)))
      let left = g.triangularSolve(unit, inner, transpose: true, unitDiagonal: true)
      // G U^-T: solve with U from the right, that is U X^T = G^T.
      let right = g.triangularSolve(upper, g.matrixTranspose(left), lower: false)
      let rows = g.matrixTranspose(right)
      // Row i goes back to row permutation[i].
      let places = g.broadcast(permutation, to: lu.shape, axes: Array(0..<lu.rank - 1))
      return [g.scatterAlong(lu.rank - 2, g.constant(0, like: lu), places, rows)]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .routine(.lu)
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.lu(LU()), [TensorType(.float64, [3, 5, 5])]),
      OperatorSample(.lu(LU()), [TensorType(.float32, [12, 12])]),
      OperatorSample(.lu(LU()), [TensorType(.float64, [1, 1])]),
    ]
  }
}
