package import DLCTensor

/// X with op(A) X = B, A triangular: [..., n, n] and [..., n, m]. The other triangle of A is not read.
package struct TriangularSolve: Operator {
  package var lower: Bool
  /// Solves with the transpose of A.
  package var transpose: Bool
  /// The diagonal counts as ones and is not read.
  package var unitDiagonal: Bool
  package init(lower: Bool, transpose: Bool, unitDiagonal: Bool) {
    self.lower = lower
    self.transpose = transpose
    self.unitDiagonal = unitDiagonal
  }

  package static let mnemonics = ["triangular_solve"]
  package var mnemonic: String { "triangular_solve" }
  package var attributes: [Attribute] {
    [
      Attribute("lower", .flag(lower)), Attribute("transpose_a", .flag(transpose)),
      Attribute("unit_diagonal", .flag(unitDiagonal)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    lower = try attributes.flag("lower")
    transpose = try attributes.flag("transpose_a")
    unitDiagonal = try attributes.flag("unit_diagonal")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    let (a, b) = (operands[0], operands[1])
    try Cholesky.checkSquare(a)
    try require(
      b.dataType == a.dataType && b.rank == a.rank
        && Array(b.shape.dropLast()) == Array(a.shape.dropLast()), "solve-shape",
      "the right sides \(b) do not belong to the matrices \(a)")
    return [b]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    let (a, b) = (operands[0], operands[1])
    var x = b
    let (n, m) = (a.shape.last!, b.shape.last!)
    guard n > 0, m > 0 else { return [x] }
    for batch in 0..<a.count / (n * n) {
      func element(_ i: Int, _ j: Int) -> Double {
        a.reals[batch * n * n + (transpose ? j * n + i : i * n + j)]
      }
      let forward = lower != transpose
      for column in 0..<m {
        for step in 0..<n {
          let i = forward ? step : n - 1 - step
          var sum = b.reals[(batch * n + i) * m + column]
          for j in forward ? 0..<i : i + 1..<n {
            sum -= element(i, j) * x.reals[(batch * n + j) * m + column]
          }
          x.reals[(batch * n + i) * m + column] = unitDiagonal ? sum : sum / element(i, i)
        }
      }
    }
    return [x]
  }

  package var derivative: Derivative {
    let (lower, transpose, unit) = (lower, transpose, unitDiagonal)
    return .rule { p in
      let (g, a, x) = (p.g, p.operands[0], p.results[0])
      let db = g.triangularSolve(
        a, p.cotangent, lower: lower, transpose: !transpose, unitDiagonal: unit)
      let outer =
        transpose
        ? g.matmul(x, g.matrixTranspose(db)) : g.matmul(db, g.matrixTranspose(x))
      let part =
        lower ? g.lowerTriangle(outer, strict: unit) : g.upperTriangle(outer, strict: unit)
      return [-part, db]
    }
  }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .routine(.triangularSolve(lower: lower, transpose: transpose, unitDiagonal: unitDiagonal))
  }

  package static var samples: [OperatorSample] {
    [true, false].flatMap { lower in
      [true, false].flatMap { transpose in
        [true, false].map { unit in
          OperatorSample(
            .triangularSolve(
              TriangularSolve(lower: lower, transpose: transpose, unitDiagonal: unit)),
            [
              TensorType(lower ? .float64 : .float32, [2, 5, 5]),
              TensorType(lower ? .float64 : .float32, [2, 5, 9]),
            ],
            range: 0.5...1.5)
        }
      }
    }
  }
}
