public import DLCTensor

/// Gather, scatter, slices at positions that are values, prefixes, sorting, and matrices.
extension FunctionBuilder {
  /// Rows of a table: `table[V, ...]` at `indices[...]` gives [indices..., ...]. Indices outside are
  /// moved inside.
  public func embedding(
    _ table: Value, _ indices: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [table, indices]) { _ throws(DLCError) in
      try table.need(rank: 1, "a table")
      guard indices.dataType.isInteger else {
        throw DLCError(
          .type, "rows are chosen by integers, these are \(indices.type)",
          remedy: "declare them as int32, or convert them")
      }
      let axes = IndexAttributes(
        offsetAxes: Array(indices.rank..<indices.rank + table.rank - 1), collapsedAxes: [0],
        startAxes: [0], vectorAxis: indices.rank)
      return add(
        .gather(Gather(axes, sliceSizes: [1] + table.shape.dropFirst())), [table, indices])
    }
  }

  /// `x` at positions along one axis: result[.., i, ..] = x[.., indices[.., i, ..], ..], all other
  /// axes alike.
  public func gatherAlong(
    _ axis: Int, _ x: Value, _ indices: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, indices]) { _ throws(DLCError) in
      let axis = try x.axis(axis)
      return add(
        .gather(Gather(alongAxes(axis, x.rank), sliceSizes: x.shape.map { _ in 1 })), [x, indices])
    }
  }

  /// `x` with `updates` combined into it at positions along one axis, all other axes alike.
  package func scatterAlong(
    _ axis: Int, _ x: Value, _ indices: Value, _ updates: Value, _ combiner: Combiner? = .sum,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, indices, updates]) { _ throws(DLCError) in
      let axis = try x.axis(axis)
      return add(.scatter(Scatter(alongAxes(axis, x.rank), combiner)), [x, indices, updates])
    }
  }

  private func alongAxes(_ axis: Int, _ rank: Int) -> IndexAttributes {
    let others = (0..<rank).filter { $0 != axis }
    return IndexAttributes(
      offsetAxes: [], collapsedAxes: [axis], operandBatchAxes: others, indicesBatchAxes: others,
      startAxes: [axis], vectorAxis: rank)
  }

  /// A box of `sizes` that starts at integer scalars, one for each axis. One that would reach beyond the end is moved
  /// inside.
  public func dynamicSlice(
    _ x: Value, at starts: [Value], sizes: [Size], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x] + starts) { _ in add(.dynamicSlice(DynamicSlice(sizes)), [x] + starts) }
  }

  /// `x` with `update`, of its type and as many axes, in its place at integer scalars, one for each axis; moved inside
  /// as for `dynamicSlice`.
  public func dynamicUpdate(
    _ x: Value, _ update: Value, at starts: [Value], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x, update] + starts) { _ in
      add(.dynamicUpdate(DynamicUpdateSlice()), [x, update] + starts)
    }
  }

  package func cumulative(
    _ combiner: Combiner, _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      add(
        .cumulative(
          Cumulative(combiner, axis: try x.axis(axis), reverse: reverse, exclusive: exclusive)),
        [x])
    }
  }

  /// Sums of each element and those before it along an axis, in x's shape.
  /// - Parameters:
  ///   - reverse: those after it instead.
  ///   - exclusive: without the element itself, so that the first is 0.
  public func cumulativeSum(
    _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) {
      $0.cumulative(.sum, x, axis: axis, reverse: reverse, exclusive: exclusive)
    }
  }

  /// Products of each element and those before it along an axis; see `cumulativeSum`.
  public func cumulativeProduct(
    _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) {
      $0.cumulative(.product, x, axis: axis, reverse: reverse, exclusive: exclusive)
    }
  }

  /// The largest of each element and those before it along an axis; see `cumulativeSum`.
  public func cumulativeMaximum(
    _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) {
      $0.cumulative(.maximum, x, axis: axis, reverse: reverse, exclusive: exclusive)
    }
  }

  /// Zeros of the operand's shape with each window's source added at its first extreme element
  /// (StableHLO's `select_and_scatter`). Windows are over all axes, without padding.
  public func selectAndScatter(
    _ x: Value, source: Value, largest: Bool = true, window: [Int], strides: [Int],
    dilation: [Int]? = nil, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, source]) { _ throws(DLCError) in
      let dilation = dilation ?? window.map { _ in 1 }
      for list in [window, strides, dilation] where list.count != x.rank {
        throw DLCError(
          .type, "window, strides and dilation need an entry for each of the \(x.rank) axes of \(x.type)")
      }
      var leading = 0
      while leading < x.rank, window[leading] == 1, strides[leading] == 1, dilation[leading] == 1 {
        leading += 1
      }
      let place = add(
        .argWindow(
          ArgWindow(
            ArgWindowGeometry(
              largest: largest, window: window, strides: strides, dilation: dilation,
              leading: leading))), [x])
      if place.isPoisoned { return place }
      guard source.shape == place.shape else {
        throw DLCError(
          .type, "the source is \(source.type), there are \(TensorType(x.dataType, place.shape)) windows")
      }
      // Leading axes pair up; the others are one axis of numbered elements.
      func flat(_ v: Value) -> Value {
        let rest = v.shape[leading...].reduce(Size(1)) { $0 * $1 }
        return reshape(v, v.shape[..<leading] + [rest])
      }
      let zeros = flat(constant(0, source.dataType, x.shape))
      return reshape(scatterAlong(leading, zeros, flat(place), flat(source), .sum), x.shape)
    }
  }

  /// All values, of one shape, in the ascending order of the first `keys` of them along an axis; equal ones keep
  /// theirs.
  public func sort(
    _ values: [Value], axis: Int = -1, keys: Int = 1, descending: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> [Value] {
    enter(file, line, values, failing: { p in values.map { _ in p } }) { g throws(DLCError) in
      guard let first = values.first else { throw DLCError(.type, "there is nothing to sort") }
      let made = addAll(
        .sort(Sort(axis: try first.axis(axis), keys: keys, descending: descending)), values)
      return made.isEmpty ? values.map { _ in g.poison } : made
    }
  }

  /// The `count` largest elements along the last axis, largest first, and their positions (int32);
  /// of equal elements the first ones.
  public func topK(
    _ x: Value, _ count: Size, file: StaticString = #fileID, line: UInt = #line
  ) -> (values: Value, indices: Value) {
    enter(file, line, [x], failing: { ($0, $0) }) { _ throws(DLCError) in
      try x.need(rank: 1, "the input of topK")
      let number = iota(.int32, x.shape, axis: -1)
      let sorted = sort([x, number], descending: true)
      func first(_ v: Value) -> Value { slice(v, axis: -1, from: 0, to: count) }
      return (first(sorted[0]), first(sorted[1]))
    }
  }

  /// The lower triangular L with L L^T = (A + A^T)/2, for float32 or float64 A [..., n, n]; NaN where that is not
  /// positive definite.
  public func cholesky(_ a: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [a]) { _ in add(.cholesky(Cholesky()), [a]) }
  }

  /// X with op(A) X = B, for a triangular A [..., n, n] and B [..., n, m]. The other triangle is not read.
  /// - Parameters:
  ///   - lower: whether A is the lower triangle.
  ///   - transpose: op(A) is the transpose of A; else A itself.
  ///   - unitDiagonal: the diagonal counts as ones and is not read.
  public func triangularSolve(
    _ a: Value, _ b: Value, lower: Bool = true, transpose: Bool = false,
    unitDiagonal: Bool = false, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [a, b]) { _ in
      add(
        .triangularSolve(
          TriangularSolve(lower: lower, transpose: transpose, unitDiagonal: unitDiagonal)), [a, b])
    }
  }

  /// P A = L U with row pivoting, for float32 or float64 A [..., n, n].
  /// - Returns: L (without its diagonal of ones) and U in one matrix; the pivots [..., n], int32: row i was exchanged
  ///   with row `pivots[i]`; and the permutation [..., n], int32: row i of P A is row `permutation[i]` of A.
  public func lu(
    _ a: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> (lu: Value, pivots: Value, permutation: Value) {
    enter(file, line, [a], failing: { ($0, $0, $0) }) { g in
      let made = addAll(.lu(LU()), [a])
      return made.count == 3 ? (made[0], made[1], made[2]) : (g.poison, g.poison, g.poison)
    }
  }

  package func matrixTranspose(
    _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try x.need(rank: 2, "a matrix")
      return transpose(x, Array(0..<x.rank - 2) + [-1, -2])
    }
  }

  /// The elements whose row compares so with their column, zero elsewhere.
  private func masked(
    _ x: Value, _ comparison: Comparison, _ file: StaticString, _ line: UInt
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try x.need(rank: 2, "a matrix")
      let row = iota(.int32, x.shape, axis: -2)
      let column = iota(.int32, x.shape, axis: -1)
      return select(compare(comparison, row, column), x, constant(0, like: x))
    }
  }

  /// The elements on and below the diagonal (or strictly below it), zero elsewhere.
  public func lowerTriangle(
    _ x: Value, strict: Bool = false, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { masked(x, strict ? .greater : .greater_equal, file, line) }

  /// The elements on and above the diagonal (or strictly above it), zero elsewhere.
  public func upperTriangle(
    _ x: Value, strict: Bool = false, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { masked(x, strict ? .less : .less_equal, file, line) }

  /// The matrix with everything off its diagonal zero.
  public func diagonalMatrix(
    _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { masked(x, .equal, file, line) }

  /// The diagonal of the matrices in the last two axes.
  public func diagonal(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { _ in sum(diagonalMatrix(x), axes: [-1]) }
  }
}
