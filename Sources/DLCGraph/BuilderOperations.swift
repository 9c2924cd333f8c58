public import DLCTensor

/// One method per operation, with checked shapes and nothing implicit but the broadcast of
/// operands in `add`, `multiply` and the like (NumPy's rule).
extension FunctionBuilder {
  /// A scalar, or a tensor in which every element is `number`.
  public func constant(
    _ number: Double, _ type: DataType = .float32, _ shape: [Dimension] = [],
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let scalar = add(.constant(Constant(Tensor(splat: number, type, []))), [], file, line)
    return shape.isEmpty ? scalar : broadcast(scalar, to: shape, file: file, line: line)
  }

  /// The number in the type and shape of another value.
  public func constant(
    _ number: Double, like other: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { constant(number, other.dataType, other.shape, file: file, line: line) }

  public func constant(
    _ tensor: Tensor, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { add(.constant(Constant(tensor)), [], file, line) }

  /// The size of a dimension as a scalar.
  public func dimension(
    _ size: Dimension, _ type: DataType = .float32, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { add(.dimension(DimensionSize(size, type)), [], file, line) }

  public func iota(
    _ type: DataType, _ shape: [Dimension], axis: Int, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { add(.iota(Iota(TensorType(type, shape), axis: axis)), [], file, line) }

  /// uint32 Philox words from uint64 scalars `key` and `counter`.
  public func randomBits(
    key: Value, counter: Value, _ shape: [Dimension], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { add(.randomBits(RandomBits(shape)), [key, counter], file, line) }

  package func unary(
    _ f: UnaryFunction, _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { add(.unary(Unary(f)), [x], file, line) }

  package func binary(
    _ f: BinaryFunction, _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let (x, y) = aligned(a, b, file, line)
    return add(.binary(Binary(f)), [x, y], file, line)
  }

  package func compare(
    _ c: Comparison, _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let (x, y) = aligned(a, b, file, line)
    return add(.compare(Compare(c)), [x, y], file, line)
  }

  /// Both operands broadcast to their common shape: axes are matched from the last one, and size 1
  /// stretches.
  private func aligned(_ a: Value, _ b: Value, _ file: StaticString, _ line: UInt) -> (Value, Value)
  {
    if a.shape == b.shape || failure != nil { return (a, b) }
    var shape: [Dimension] = []
    let rank = max(a.rank, b.rank)
    for axis in 0..<rank {
      let x = axis - (rank - a.rank) >= 0 ? a.shape[axis - (rank - a.rank)] : 1
      let y = axis - (rank - b.rank) >= 0 ? b.shape[axis - (rank - b.rank)] : 1
      guard x == y || x == 1 || y == 1 else {
        let bad = fail(
          DLCError(
            .type, "shapes \(a.type) and \(b.type) do not broadcast together", at: "\(file):\(line)"
          ))
        return (bad, bad)
      }
      shape.append(x == 1 ? y : x)
    }
    return (
      broadcast(a, to: shape, file: file, line: line),
      broadcast(b, to: shape, file: file, line: line)
    )
  }

  public func select(
    _ predicate: Value, _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let (x, y) = aligned(a, b, file, line)
    let p = broadcast(predicate, to: x.shape, file: file, line: line)
    return add(.select(Select()), [p, x, y], file, line)
  }

  public func clamp(
    _ x: Value, _ low: Double, _ high: Double, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    add(
      .clamp(Clamp()), [constant(low, like: x), x, constant(high, like: x)], file, line)
  }

  public func convert(
    _ x: Value, _ type: DataType, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { x.dataType == type ? x : add(.convert(Convert(type)), [x], file, line) }

  public func reshape(
    _ x: Value, _ shape: [Dimension], file: StaticString = #fileID, line: UInt = #line
  ) -> Value { x.shape == shape ? x : add(.reshape(Reshape(shape)), [x], file, line) }

  public func transpose(
    _ x: Value, _ permutation: [Int], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    permutation == Array(0..<x.rank) ? x : add(.transpose(Transpose(permutation)), [x], file, line)
  }

  /// Repeats along new leading axes and along axes of size 1 (NumPy's rule).
  public func broadcast(
    _ x: Value, to shape: [Dimension], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    if x.shape == shape { return x }
    let axes = x.shape.indices.map { $0 + shape.count - x.rank }
    return add(.broadcast(Broadcast(shape, axes: axes)), [x], file, line)
  }

  /// Operand axis i becomes axis `axes[i]` of the result.
  public func broadcast(
    _ x: Value, to shape: [Dimension], axes: [Int], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { add(.broadcast(Broadcast(shape, axes: axes)), [x], file, line) }

  public func slice(
    _ x: Value, from starts: [Dimension], to limits: [Dimension], strides: [Int]? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let steps = strides ?? [Int](repeating: 1, count: starts.count)
    if starts.allSatisfy({ $0 == 0 }), limits == x.shape, steps.allSatisfy({ $0 == 1 }) { return x }
    return add(.slice(Slice(starts, limits, strides: steps)), [x], file, line)
  }

  /// The part of one axis from `start` up to, not including, `limit`.
  public func slice(
    _ x: Value, axis: Int, from start: Dimension, to limit: Dimension,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    var (starts, limits) = (x.shape.map { _ in Dimension(0) }, x.shape)
    guard x.shape.indices.contains(axis) else {
      return fail(DLCError(.type, "\(x.type) has no axis \(axis)", at: "\(file):\(line)"))
    }
    starts[axis] = start
    limits[axis] = limit
    return slice(x, from: starts, to: limits, file: file, line: line)
  }

  public func pad(
    _ x: Value, _ fill: Double, low: [Dimension], high: [Dimension], interior: [Int]? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let interior = interior ?? low.map { _ in 0 }
    if (low + high).allSatisfy({ $0 == 0 }) && interior.allSatisfy({ $0 == 0 }) { return x }
    return add(
      .pad(Pad(low: low, high: high, interior: interior)),
      [x, constant(fill, x.dataType, file: file, line: line)], file, line)
  }

  public func concatenate(
    _ parts: [Value], axis: Int, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    parts.count == 1 ? parts[0] : add(.concatenate(Concatenate(axis: axis)), parts, file, line)
  }

  public func reverse(
    _ x: Value, axes: [Int], file: StaticString = #fileID, line: UInt = #line
  ) -> Value { add(.reverse(Reverse(axes)), [x], file, line) }

  package func reduce(
    _ combiner: Combiner, _ x: Value, axes: [Int], keepAxes: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let axes = axes.map { $0 < 0 ? $0 + x.rank : $0 }
    let result = add(.reduce(Reduce(combiner, axes: axes)), [x], file, line)
    guard keepAxes else { return result }
    let shape = x.shape.enumerated().map { axes.contains($0.offset) ? 1 : $0.element }
    return reshape(result, shape, file: file, line: line)
  }

  /// The index of the first largest element along an axis.
  public func argmax(
    _ x: Value, axis: Int, _ type: DataType = .int32, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    add(.argReduce(ArgReduce(largest: true, axis: axis, indexType: type)), [x], file, line)
  }

  public func argmin(
    _ x: Value, axis: Int, _ type: DataType = .int32, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    add(.argReduce(ArgReduce(largest: false, axis: axis, indexType: type)), [x], file, line)
  }

  public func dotGeneral(
    _ a: Value, _ b: Value, lhsBatch: [Int] = [], rhsBatch: [Int] = [], lhsContracting: [Int],
    rhsContracting: [Int], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    add(
      .dotGeneral(
        DotGeneral(
          lhsBatch: lhsBatch, rhsBatch: rhsBatch, lhsContracting: lhsContracting,
          rhsContracting: rhsContracting)), [a, b], file, line)
  }

  /// Input [n, c, spatial...], kernel [m, c/groups, kernel...]; cross-correlation.
  public func convolution(
    _ x: Value, _ kernel: Value, strides: [Int]? = nil, padding: [(low: Int, high: Int)]? = nil,
    inputDilation: [Int]? = nil, kernelDilation: [Int]? = nil, groups: Int = 1,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let ones = [Int](repeating: 1, count: max(x.rank - 2, 0))
    return add(
      .convolution(
        Convolution(
          ConvolutionGeometry(
            strides: strides ?? ones, paddingLow: padding?.map(\.low) ?? ones.map { _ in 0 },
            paddingHigh: padding?.map(\.high) ?? ones.map { _ in 0 },
            inputDilation: inputDilation ?? ones, kernelDilation: kernelDilation ?? ones,
            groups: groups))), [x, kernel], file, line)
  }

  /// Combines windows over the trailing axes; leading axes are left alone.
  package func reduceWindow(
    _ combiner: Combiner, _ x: Value, window: [Int], strides: [Int],
    padding: [(low: Int, high: Int)]? = nil, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let lead = max(x.rank - window.count, 0)
    func full(_ list: [Int], _ fill: Int) -> [Int] { [Int](repeating: fill, count: lead) + list }
    return add(
      .reduceWindow(
        ReduceWindow(
          WindowGeometry(
            combiner: combiner, window: full(window, 1), strides: full(strides, 1),
            dilation: full(window.map { _ in 1 }, 1),
            paddingLow: full(padding?.map(\.low) ?? window.map { _ in 0 }, 0),
            paddingHigh: full(padding?.map(\.high) ?? window.map { _ in 0 }, 0)))), [x], file, line)
  }

  /// A reduced value spread again over the axes that its reduction removed.
  package func restore(
    _ x: Value, axes: [Int], to shape: [Dimension], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    broadcast(
      x, to: shape, axes: shape.indices.filter { !axes.contains($0) }, file: file, line: line)
  }
}

extension FunctionBuilder {
  public func negate(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.negate, x, file: file, line: line)
  }
  public func abs(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.abs, x, file: file, line: line)
  }
  public func sign(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.sign, x, file: file, line: line)
  }
  public func exponential(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.exponential, x, file: file, line: line)
  }
  public func log(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.log, x, file: file, line: line)
  }
  public func logPlusOne(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.log_plus_one, x, file: file, line: line)
  }
  public func sqrt(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.sqrt, x, file: file, line: line)
  }
  public func rsqrt(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.rsqrt, x, file: file, line: line)
  }
  public func tanh(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.tanh, x, file: file, line: line)
  }
  /// 1 / (1 + e^-x)
  public func logistic(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.logistic, x, file: file, line: line)
  }
  public func sine(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.sine, x, file: file, line: line)
  }
  public func cosine(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.cosine, x, file: file, line: line)
  }
  public func erf(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.erf, x, file: file, line: line)
  }
  public func erfc(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    unary(.erfc, x, file: file, line: line)
  }
  public func maximum(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { binary(.maximum, a, b, file: file, line: line) }
  public func minimum(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { binary(.minimum, a, b, file: file, line: line) }
  public func power(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { binary(.power, a, b, file: file, line: line) }
  public func sum(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { reduce(.sum, x, axes: axes, keepAxes: keepAxes, file: file, line: line) }
  public func max(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { reduce(.maximum, x, axes: axes, keepAxes: keepAxes, file: file, line: line) }
  public func min(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { reduce(.minimum, x, axes: axes, keepAxes: keepAxes, file: file, line: line) }

  private func max(_ a: Int, _ b: Int) -> Int { Swift.max(a, b) }
}

extension Value {
  public static func + (a: Value, b: Value) -> Value {
    FunctionBuilder.innermost(a, b).binary(.add, a, b)
  }
  public static func - (a: Value, b: Value) -> Value {
    FunctionBuilder.innermost(a, b).binary(.subtract, a, b)
  }
  public static func * (a: Value, b: Value) -> Value {
    FunctionBuilder.innermost(a, b).binary(.multiply, a, b)
  }
  public static func / (a: Value, b: Value) -> Value {
    FunctionBuilder.innermost(a, b).binary(.divide, a, b)
  }
  public static func & (a: Value, b: Value) -> Value {
    FunctionBuilder.innermost(a, b).binary(.and, a, b)
  }
  public static func | (a: Value, b: Value) -> Value {
    FunctionBuilder.innermost(a, b).binary(.or, a, b)
  }
  public static prefix func - (a: Value) -> Value { a.builder.unary(.negate, a) }
  public static func + (a: Value, b: Double) -> Value { a + a.builder.constant(b, a.dataType) }
  public static func - (a: Value, b: Double) -> Value { a - a.builder.constant(b, a.dataType) }
  public static func * (a: Value, b: Double) -> Value { a * a.builder.constant(b, a.dataType) }
  public static func / (a: Value, b: Double) -> Value { a / a.builder.constant(b, a.dataType) }
  public static func * (a: Double, b: Value) -> Value { b * a }
  public static func - (a: Double, b: Value) -> Value { b.builder.constant(a, b.dataType) - b }
}
