public import DLCTensor

extension Value {
  /// The axis counted from the front; negative ones count from the end.
  /// - Throws: `.type` when there is no such axis.
  package func axis(_ axis: Int) throws(DLCError) -> Int { try type.axis(axis) }

  package func axes(_ axes: [Int]) throws(DLCError) -> [Int] {
    var result: [Int] = []
    for axis in axes { result.append(try self.axis(axis)) }
    return result
  }

  /// Throws unless the value has that many axes at least.
  /// - Parameter what: what it is to the function, such as "the input of a convolution".
  package func need(rank least: Int, _ what: @autoclosure () -> String) throws(DLCError) {
    guard rank >= least else {
      throw DLCError(
        .type, "\(what()) has at least \(least) \(least == 1 ? "axis" : "axes"), this is \(type)")
    }
  }

  /// Throws unless the elements are floating-point numbers.
  package func needFloat(_ what: @autoclosure () -> String) throws(DLCError) {
    guard dataType.isFloat else {
      throw DLCError(.type, "\(what()) is floating-point, this is \(type)")
    }
  }
}

extension Value {
  /// Throws unless the value is broadcast to a shape without making that larger.
  package func need(within shape: [Size], _ what: @autoclosure () -> String) throws(DLCError) {
    let lead = shape.count - rank
    guard lead >= 0, zip(self.shape, shape.dropFirst(lead)).allSatisfy({ $0 == $1 || $0 == 1 })
    else {
      let wanted = TensorType(dataType, shape)
      throw DLCError(.type, "\(what()) is \(type), which is not broadcast to \(wanted)")
    }
  }

  /// Throws unless the value has that shape.
  package func need(shape wanted: [Size], _ what: @autoclosure () -> String) throws(DLCError) {
    guard shape == wanted else {
      throw DLCError(.type, "\(what()) is \(TensorType(dataType, wanted)), this is \(type)")
    }
  }
}

/// Throws unless a norm's epsilon is a number from 0 on.
package func needEpsilon(_ epsilon: Double) throws(DLCError) {
  guard epsilon.isFinite, epsilon >= 0 else {
    throw DLCError(.graph, "epsilon is a number from 0 on, not \(epsilon)")
  }
}

extension TensorType {
  package func axis(_ axis: Int) throws(DLCError) -> Int {
    guard axis >= -rank, axis < rank else { throw DLCError(.type, "\(self) has no axis \(axis)") }
    return axis < 0 ? axis + rank : axis
  }
}

/// One method per operation, with checked shapes and nothing implicit but the broadcast of
/// operands in `add`, `multiply` and the like (NumPy's rule).
extension FunctionBuilder {
  /// A scalar, or a tensor in which every element is `number`, which an integer type must hold exactly and
  /// which a half float type rounds no sooner than it rounds results.
  public func constant(
    _ number: Double, _ type: DataType = .float32, _ shape: [Size] = [],
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, []) { _ throws(DLCError) in
      guard type.holds(number) else {
        throw DLCError(
          .type, "\(number) is no \(type)", remedy: "convert the other operand, or round the number"
        )
      }
      let stored = Tensor(splat: number, type, [])
      let scalar: Value
      if type == type.computeType || stored.doubles[0] == number || number.isNaN {
        scalar = add(.constant(Constant(stored)), [])
      } else {
        // A number that half floats lack is carried in float32, as all that is computed with it.
        scalar = carry(constant(number, type.computeType), type)
      }
      return shape.isEmpty ? scalar : broadcast(scalar, to: shape)
    }
  }

  /// The number in the type and shape of another value.
  public func constant(
    _ number: Double, like other: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [other]) { _ in constant(number, other.dataType, other.shape) }
  }

  /// The numbers of a tensor, in its type and shape.
  public func constant(
    _ tensor: Tensor, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, []) { _ throws(DLCError) in
      try tensor.check()
      return add(.constant(Constant(tensor)), [])
    }
  }

  /// A size as a scalar of any type but bool.
  public func dimension(
    _ size: Size, _ type: DataType = .float32, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { enter(file, line, []) { _ in add(.dimension(DimensionSize(size, type)), []) } }

  /// Each element's own coordinate along an axis, from 0.
  public func iota(
    _ type: DataType, _ shape: [Size], axis: Int, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, []) { _ throws(DLCError) in
      let type = TensorType(type, shape)
      return add(.iota(Iota(type, axis: try type.axis(axis))), [])
    }
  }

  /// uint32 words of Philox 4x32-10 in a shape, from uint64 scalars `key` and `counter` (Salmon et al. 2011). See
  /// `RandomStream`, which counts.
  public func randomBits(
    key: Value, counter: Value, _ shape: [Size], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [key, counter]) { _ in add(.randomBits(RandomBits(shape)), [key, counter]) }
  }

  package func unary(
    _ f: UnaryFunction, _ x: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { enter(file, line, [x]) { _ in add(.unary(Unary(f)), [x]) } }

  package func binary(
    _ f: BinaryFunction, _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [a, b]) { _ throws(DLCError) in
      let (x, y) = try aligned(a, b)
      return add(.binary(Binary(f)), [x, y])
    }
  }

  package func compare(
    _ c: Comparison, _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [a, b]) { _ throws(DLCError) in
      let (x, y) = try aligned(a, b)
      return add(.compare(Compare(c)), [x, y])
    }
  }

  /// Both operands broadcast to their common shape: axes are matched from the last one, and size 1
  /// stretches.
  private func aligned(_ a: Value, _ b: Value) throws(DLCError) -> (Value, Value) {
    guard a.dataType == b.dataType else {
      throw DLCError(
        .type, "the operands are \(a.type) and \(b.type)", remedy: "convert one of them")
    }
    if a.shape == b.shape { return (a, b) }
    let shape = try commonShape(a, b)
    return (broadcast(a, to: shape), broadcast(b, to: shape))
  }

  private func commonShape(_ a: Value, _ b: Value) throws(DLCError) -> [Size] {
    let rank = Swift.max(a.rank, b.rank)
    func wide(_ v: Value) -> [Size] {
      [Size](repeating: 1, count: rank - v.rank) + v.shape
    }
    var shape: [Size] = []
    for (p, q) in zip(wide(a), wide(b)) {
      guard p == q || p == 1 || q == 1 else {
        throw DLCError(.type, "shapes \(a.type) and \(b.type) do not broadcast together")
      }
      shape.append(p == 1 ? q : p)
    }
    return shape
  }

  /// Elements of `a` where the predicate is true, else of `b`; all broadcast to the shape of `a` and
  /// `b` together.
  public func select(
    _ predicate: Value, _ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [predicate, a, b]) { _ throws(DLCError) in
      let (x, y) = try aligned(a, b)
      return add(.select(Select()), [broadcast(predicate, to: x.shape), x, y])
    }
  }

  /// Every element moved into low...high; outside the derivative is 0.
  public func clamp(
    _ x: Value, _ low: Double, _ high: Double, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      guard low <= high else {
        throw DLCError(
          .graph, "a clamp is from \(low) to \(high): two numbers, the smaller one first")
      }
      return add(.clamp(Clamp()), [constant(low, like: x), x, constant(high, like: x)])
    }
  }

  /// The elements in another type, rounded once to nearest, ties to even. Floats to integers truncate and stay
  /// inside the range, with NaN as 0; integers to narrower ones keep the low bits; anything but 0 is true.
  public func convert(
    _ x: Value, _ type: DataType, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ in x.dataType == type ? x : add(.convert(Convert(type)), [x]) }
  }

  /// The bits of each element as an element of another type of the same size; half floats and bool are left out.
  public func bitcast(
    _ x: Value, _ type: DataType, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ in x.dataType == type ? x : add(.bitcast(Bitcast(type)), [x]) }
  }

  /// A float32 value in a half float type, not rounded before it leaves the function; other types stay.
  package func carry(_ x: Value, _ type: DataType) -> Value {
    x.dataType == type
      ? x : add(.convert(Convert(type, rounds: type == type.computeType)), [x])
  }

  /// The elements in row-major order in another shape of as many.
  public func reshape(
    _ x: Value, _ shape: [Size], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ in x.shape == shape ? x : add(.reshape(Reshape(shape)), [x]) }
  }

  /// Axis i of the result is axis `permutation[i]` of the operand.
  public func transpose(
    _ x: Value, _ permutation: [Int], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      let order = try x.axes(permutation)
      return order == Array(0..<x.rank) ? x : add(.transpose(Transpose(order)), [x])
    }
  }

  /// Repeats along new leading axes and along axes of size 1 (NumPy's rule).
  public func broadcast(
    _ x: Value, to shape: [Size], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      if x.shape == shape { return x }
      guard shape.count >= x.rank else {
        throw DLCError(.type, "\(x.type) cannot be broadcast to \(TensorType(x.dataType, shape))")
      }
      let axes = x.shape.indices.map { $0 + shape.count - x.rank }
      return add(.broadcast(Broadcast(shape, axes: axes)), [x])
    }
  }

  /// Operand axis i becomes axis `axes[i]` of the result.
  public func broadcast(
    _ x: Value, to shape: [Size], axes: [Int], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      let result = TensorType(x.dataType, shape)
      var places: [Int] = []
      for axis in axes { places.append(try result.axis(axis)) }
      return add(.broadcast(Broadcast(shape, axes: places)), [x])
    }
  }

  /// A box: on each axis the positions from `starts` up to, not including, `limits`, in steps of `strides`.
  /// - Parameter strides: one positive step for each axis; nil: 1.
  public func slice(
    _ x: Value, from starts: [Size], to limits: [Size], strides: [Int]? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ in
      let steps = strides ?? [Int](repeating: 1, count: starts.count)
      if starts == x.shape.map({ _ in 0 }), limits == x.shape, steps == x.shape.map({ _ in 1 }) {
        return x
      }
      return add(.slice(Slice(starts, limits, strides: steps)), [x])
    }
  }

  /// The part of one axis from `start` up to, not including, `limit`.
  public func slice(
    _ x: Value, axis: Int, from start: Size, to limit: Size,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      var (starts, limits) = (x.shape.map { _ in Size(0) }, x.shape)
      let axis = try x.axis(axis)
      starts[axis] = start
      limits[axis] = limit
      return slice(x, from: starts, to: limits)
    }
  }

  /// `x` with `low` and `high` elements of `fill` around each axis (negative amounts cut off) and
  /// `interior` ones between its elements.
  public func pad(
    _ x: Value, _ fill: Double, low: [Size], high: [Size], interior: [Int]? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ in
      let interior = interior ?? low.map { _ in 0 }
      let zeros = x.shape.map { _ in 0 }
      let none = zeros.map { Size($0) }
      if low == none, high == none, interior == zeros { return x }
      return add(
        .pad(Pad(low: low, high: high, interior: interior)), [x, constant(fill, x.dataType)])
    }
  }

  /// Values side by side along an axis; all other sizes are alike.
  public func concatenate(
    _ parts: [Value], axis: Int, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, parts) { _ throws(DLCError) in
      guard let first = parts.first else {
        throw DLCError(.type, "there is nothing to concatenate")
      }
      let axis = try first.axis(axis)
      return parts.count == 1 ? first : add(.concatenate(Concatenate(axis: axis)), parts)
    }
  }

  /// The elements in opposite order along the axes.
  public func reverse(
    _ x: Value, axes: [Int], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in add(.reverse(Reverse(try x.axes(axes))), [x]) }
  }

  package func reduce(
    _ combiner: Combiner, _ x: Value, axes: [Int], keepAxes: Bool = false,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      let axes = try x.axes(axes)
      let result = add(.reduce(Reduce(combiner, axes: axes)), [x])
      guard keepAxes else { return result }
      return reshape(
        result, x.shape.enumerated().map { axes.contains($0.offset) ? 1 : $0.element })
    }
  }

  /// The index of the first largest element along an axis, which goes.
  public func argmax(
    _ x: Value, axis: Int, _ type: DataType = .int32, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      add(.argReduce(ArgReduce(largest: true, axis: try x.axis(axis), indexType: type)), [x])
    }
  }

  /// The index of the first smallest element along an axis, which goes.
  public func argmin(
    _ x: Value, axis: Int, _ type: DataType = .int32, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      add(.argReduce(ArgReduce(largest: false, axis: try x.axis(axis), indexType: type)), [x])
    }
  }

  /// Products summed over pairs of contracting axes; the result has the batch axes, then the free axes
  /// of `a`, then those of `b`.
  /// - Parameter sumType: the type that factors are converted to, products are summed in, and the result has:
  ///   float32, float64, int32 or int64, which holds every element of both (int8 times uint8 into int32, say).
  ///   nil: that of the operands, which then have one type.
  public func dotGeneral(
    _ a: Value, _ b: Value, lhsBatch: [Int] = [], rhsBatch: [Int] = [], lhsContracting: [Int],
    rhsContracting: [Int], into sumType: DataType? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [a, b]) { _ throws(DLCError) in
      let dot = DotGeneral(
        lhsBatch: try a.axes(lhsBatch), rhsBatch: try b.axes(rhsBatch),
        lhsContracting: try a.axes(lhsContracting), rhsContracting: try b.axes(rhsContracting),
        into: sumType)
      return add(.dotGeneral(dot), [a, b])
    }
  }

  /// Cross-correlation of x [n, c, spatial...] with a kernel [m, c / groups, kernel...]: [n, m, ...] with
  /// (size + padding - kernel) / stride + 1 positions on each spatial axis, rounded down.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, ["n", 1, 28, 28])
  /// let kernel = g.parameter("k", [8, 1, 3, 3])
  /// g.output("y", g.convolution(x, kernel, strides: [2, 2], padding: [(1, 1), (1, 1)]))
  /// ```
  ///
  /// - Parameters:
  ///   - dimensions: which axes are what, when they are others.
  ///   - sumType: as for `dotGeneral`.
  public func convolution(
    _ x: Value, _ kernel: Value, strides: [Int]? = nil, padding: [(low: Int, high: Int)]? = nil,
    inputDilation: [Int]? = nil, kernelDilation: [Int]? = nil, groups: Int = 1,
    dimensions: ConvolutionDimensions? = nil, into sumType: DataType? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, kernel]) { _ in
      let ones = [Int](repeating: 1, count: Swift.max(x.rank - 2, 0))
      let geometry = ConvolutionGeometry(
        strides: strides ?? ones, paddingLow: padding?.map(\.low) ?? ones.map { _ in 0 },
        paddingHigh: padding?.map(\.high) ?? ones.map { _ in 0 },
        inputDilation: inputDilation ?? ones, kernelDilation: kernelDilation ?? ones,
        groups: groups, dimensions: dimensions ?? .channelsFirst(spatial: ones.count))
      return add(.convolution(Convolution(geometry, into: sumType)), [x, kernel])
    }
  }

  /// Combines windows over the trailing axes; leading axes are left alone.
  package func reduceWindow(
    _ combiner: Combiner, _ x: Value, window: [Int], strides: [Int],
    padding: [(low: Int, high: Int)]? = nil, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      let low = padding?.map(\.low) ?? window.map { _ in 0 }
      let high = padding?.map(\.high) ?? window.map { _ in 0 }
      guard window.count <= x.rank, strides.count == window.count, low.count == window.count else {
        throw DLCError(
          .type,
          "a window of \(window.count) axes with \(strides.count) strides and \(low.count) paddings does not go over \(x.type)"
        )
      }
      let lead = x.rank - window.count
      func full(_ list: [Int], _ fill: Int) -> [Int] { [Int](repeating: fill, count: lead) + list }
      return add(
        .reduceWindow(
          ReduceWindow(
            WindowGeometry(
              combiner: combiner, window: full(window, 1), strides: full(strides, 1),
              dilation: full(window.map { _ in 1 }, 1), paddingLow: full(low, 0),
              paddingHigh: full(high, 0)))), [x])
    }
  }

  /// A reduced value spread again over the axes that its reduction removed.
  package func restore(
    _ x: Value, axes: [Int], to shape: [Size], file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) {
      $0.broadcast(x, to: shape, axes: shape.indices.filter { !axes.contains($0) })
    }
  }
}

extension DataType {
  /// Whether a constant of this type can be the number: floats round it, integers do not.
  func holds(_ number: Double) -> Bool {
    if isFloat { return true }
    guard let integer = Int128(exactly: number) else { return false }
    return holds(integer)
  }

  /// Whether an element of this integer type can be the number.
  func holds(_ integer: Int128) -> Bool {
    switch self {
    case .uint64: return integer >= 0 && integer <= Int128(UInt64.max)
    default: return integer >= integerRange.lowerBound && integer <= integerRange.upperBound
    }
  }
}
