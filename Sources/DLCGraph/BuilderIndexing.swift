public import DLCTensor

/// Gather, scatter, slices at positions that are values, prefixes, sorting, and matrices.
extension FunctionBuilder {
  /// Rows of a table: `table[V, ...]` at `indices[...]` gives [indices..., ...]. Indices outside are
  /// moved inside.
  public func embedding(
    _ table: Value, _ indices: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let axes = IndexAttributes(
      offsetAxes: Array(indices.rank..<Swift.max(indices.rank + table.rank - 1, indices.rank)),
      collapsedAxes: [0], startAxes: [0], vectorAxis: indices.rank)
    return add(
      .gather(Gather(axes, sliceSizes: [1] + table.shape.dropFirst())), [table, indices], file, line
    )
  }

  /// `x` at positions along one axis: result[.., i, ..] = x[.., indices[.., i, ..], ..], all other
  /// axes alike.
  public func gatherAlong(
    _ axis: Int, _ x: Value, _ indices: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    add(
      .gather(Gather(alongAxes(axis, x.rank), sliceSizes: x.shape.map { _ in 1 })), [x, indices],
      file, line)
  }

  /// `x` with `updates` combined into it at positions along one axis, all other axes alike.
  package func scatterAlong(
    _ axis: Int, _ x: Value, _ indices: Value, _ updates: Value, _ combiner: Combiner? = .sum,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    add(
      .scatter(Scatter(alongAxes(axis, x.rank), combiner)), [x, indices, updates], file, line)
  }

  private func alongAxes(_ axis: Int, _ rank: Int) -> IndexAttributes {
    let others = (0..<rank).filter { $0 != axis }
    return IndexAttributes(
      offsetAxes: [], collapsedAxes: [axis], operandBatchAxes: others, indicesBatchAxes: others,
      startAxes: [axis], vectorAxis: rank)
  }

  /// A box that starts at integer scalars, one per axis.
  public func dynamicSlice(
    _ x: Value, at starts: [Value], sizes: [Dimension], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { add(.dynamicSlice(DynamicSlice(sizes)), [x] + starts, file, line) }

  /// `x` with `update` in its place at integer scalars, one per axis.
  public func dynamicUpdate(
    _ x: Value, _ update: Value, at starts: [Value], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { add(.dynamicUpdate(DynamicUpdateSlice()), [x, update] + starts, file, line) }

  package func cumulative(
    _ combiner: Combiner, _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    add(
      .cumulative(
        Cumulative(
          combiner, axis: axis < 0 ? axis + x.rank : axis, reverse: reverse, exclusive: exclusive)),
      [x], file, line)
  }

  public func cumulativeSum(
    _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    cumulative(
      .sum, x, axis: axis, reverse: reverse, exclusive: exclusive, file: file, line: line)
  }

  public func cumulativeProduct(
    _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    cumulative(
      .product, x, axis: axis, reverse: reverse, exclusive: exclusive, file: file, line: line)
  }

  public func cumulativeMaximum(
    _ x: Value, axis: Int, reverse: Bool = false, exclusive: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    cumulative(
      .maximum, x, axis: axis, reverse: reverse, exclusive: exclusive, file: file, line: line)
  }

  /// Zeros of the operand's shape with each window's source added at its first extreme element
  /// (StableHLO's `select_and_scatter`). Windows are over all axes, without padding.
  public func selectAndScatter(
    _ x: Value, source: Value, largest: Bool = true, window: [Int], strides: [Int],
    dilation: [Int]? = nil, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let dilation = dilation ?? window.map { _ in 1 }
    var leading = 0
    while leading < window.count, window[leading] == 1, strides[leading] == 1,
      dilation[leading] == 1
    { leading += 1 }
    let place = add(
      .argWindow(
        ArgWindow(
          ArgWindowGeometry(
            largest: largest, window: window, strides: strides, dilation: dilation,
            leading: leading))), [x], file, line)
    // Leading axes pair up; the others are one axis of numbered elements.
    func flat(_ v: Value) -> Value {
      let rest = v.shape[leading...].reduce(Dimension(1)) { $0 * $1 }
      return reshape(v, v.shape[..<leading] + [rest], file: file, line: line)
    }
    let zeros = flat(constant(0, source.dataType, x.shape, file: file, line: line))
    let sums = scatterAlong(
      leading, zeros, flat(place), flat(source), .sum, file: file, line: line)
    return reshape(sums, x.shape, file: file, line: line)
  }

  /// All values in the order of the first `keys` of them along an axis.
  public func sort(
    _ values: [Value], axis: Int = -1, keys: Int = 1, descending: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> [Value] {
    let rank = values.first?.rank ?? 0
    let made = addAll(
      .sort(Sort(axis: axis < 0 ? axis + rank : axis, keys: keys, descending: descending)), values,
      file, line)
    return made.isEmpty ? values : made
  }

  /// The `count` largest elements along the last axis, largest first, and their positions (int32);
  /// of equal elements the first ones.
  public func topK(
    _ x: Value, _ count: Dimension, file: StaticString = #fileID, line: UInt = #line
  ) -> (values: Value, indices: Value) {
    let axis = x.rank - 1
    let number = iota(.int32, x.shape, axis: Swift.max(axis, 0), file: file, line: line)
    let sorted = sort([x, number], axis: axis, descending: true, file: file, line: line)
    func first(_ v: Value) -> Value {
      slice(v, axis: axis, from: 0, to: count, file: file, line: line)
    }
    return (first(sorted[0]), first(sorted[1]))
  }

  /// The lower triangular factor of (A + A^T)/2.
  public func cholesky(_ a: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    add(.cholesky(Cholesky()), [a], file, line)
  }

  /// X with op(A) X = B.
  public func triangularSolve(
    _ a: Value, _ b: Value, lower: Bool = true, transpose: Bool = false,
    unitDiagonal: Bool = false, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    add(
      .triangularSolve(
        TriangularSolve(lower: lower, transpose: transpose, unitDiagonal: unitDiagonal)), [a, b],
      file, line)
  }

  /// P A = L U: the factors in one matrix, the pivots, and the permutation.
  public func lu(
    _ a: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> (lu: Value, pivots: Value, permutation: Value) {
    let made = addAll(.lu(LU()), [a], file, line)
    return made.count == 3 ? (made[0], made[1], made[2]) : (a, a, a)
  }

  package func matrixTranspose(_ x: Value) -> Value {
    transpose(x, Array(0..<x.rank - 2) + [x.rank - 1, x.rank - 2])
  }

  /// The elements whose row compares so with their column, zero elsewhere.
  private func masked(_ x: Value, _ comparison: Comparison) -> Value {
    let row = iota(.int32, x.shape, axis: x.rank - 2)
    let column = iota(.int32, x.shape, axis: x.rank - 1)
    return select(compare(comparison, row, column), x, constant(0, like: x))
  }

  /// The elements on and below the diagonal (or strictly below it), zero elsewhere.
  public func lowerTriangle(_ x: Value, strict: Bool = false) -> Value {
    masked(x, strict ? .greater : .greater_equal)
  }

  /// The elements on and above the diagonal (or strictly above it), zero elsewhere.
  public func upperTriangle(_ x: Value, strict: Bool = false) -> Value {
    masked(x, strict ? .less : .less_equal)
  }

  /// The matrix with everything off its diagonal zero.
  public func diagonalMatrix(_ x: Value) -> Value { masked(x, .equal) }

  /// The diagonal of the matrices in the last two axes.
  public func diagonal(_ x: Value) -> Value { sum(diagonalMatrix(x), axes: [x.rank - 1]) }
}
