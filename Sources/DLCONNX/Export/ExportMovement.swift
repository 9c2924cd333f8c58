import DLCGraph
import DLCTensor

/// Other arrangements, reductions and windows.
extension NodeExporter {
  func iota(_ type: TensorType, _ axis: Int) throws(DLCError) -> String {
    let scalarSize = try exporter.reshape(try exporter.size(type.shape[axis]), [])
    let row = emit("Range", [exporter.scalar(0, .int64), scalarSize, exporter.scalar(1, .int64)])
    let typed = exporter.cast(row, .int64, type.dataType)
    return try broadcast(typed, [type.shape[axis]], type.shape, [axis])
  }

  func broadcast(_ value: String, _ from: [Size], _ shape: [Size], _ axes: [Int]) throws(DLCError)
    -> String
  {
    if from == shape && axes == Array(axes.indices) { return value }
    // Axes that are moved come into order first.
    let order = axes.indices.sorted { axes[$0] < axes[$1] }
    let moved = exporter.transpose(value, order)
    var sizes = shape.map { _ in Size(1) }
    for source in order { sizes[axes[source]] = from[source] }
    let reshaped = try exporter.reshape(moved, sizes)
    return sizes == shape ? reshaped : emit("Expand", [reshaped, try exporter.shape(shape)])
  }

  func slice(_ value: String, _ starts: [Size], _ limits: [Size], _ strides: [Int]) throws(DLCError)
    -> String
  {
    emit(
      "Slice",
      [
        value, try exporter.shape(starts), try exporter.shape(limits),
        exporter.integers(Array(starts.indices)), exporter.integers(strides),
      ])
  }

  func reverse(_ value: String, _ axes: [Int]) -> String {
    if axes.isEmpty { return value }
    return emit(
      "Slice",
      [
        value, exporter.integers(axes.map { _ in -1 }),
        exporter.integers(axes.map { _ in Int.min + 1 }),
        exporter.integers(axes), exporter.integers(axes.map { _ in -1 }),
      ])
  }

  /// Amounts around a value, those inside of it by an axis more.
  func pad(_ o: Pad) throws(DLCError) -> String {
    // ONNX Runtime pads no elements of 16 bits.
    guard type.byteCount == 2 else { return try pad(o, x, operands[1]) }
    let wide = GraphExporter.wide(type)
    let made = try pad(o, exporter.widened(x, type), exporter.widened(operands[1], type))
    return exporter.cast(made, wide, type)
  }

  private func pad(_ o: Pad, _ x: String, _ fill: String) throws(DLCError) -> String {
    var value = x
    var shape = types[0].shape
    for (axis, gap) in o.interior.enumerated() where gap > 0 {
      let size = shape[axis]
      var wide = shape
      wide.insert(1, at: axis + 1)
      value = try exporter.reshape(value, wide)
      var after = wide.map { _ in 0 }
      after[axis + 1] = gap
      value = padded(value, wide.map { _ in 0 }, after, fill)
      shape[axis] = size * Size(gap + 1)
      value = try exporter.reshape(value, shape)
      // The last gap is none.
      let limit = size.constant == 0 ? Size(0) : shape[axis] - Size(gap)
      var limits = shape
      limits[axis] = limit
      value = try slice(value, shape.map { _ in 0 }, limits, shape.map { _ in 1 })
      shape[axis] = limit
    }
    if o.low.allSatisfy({ $0 == 0 }) && o.high.allSatisfy({ $0 == 0 }) { return value }
    // What is cut off is sliced.
    let low = o.low.map { $0.constant.map { min($0, 0) } ?? 0 }
    let high = o.high.map { $0.constant.map { min($0, 0) } ?? 0 }
    if low.contains(where: { $0 < 0 }) || high.contains(where: { $0 < 0 }) {
      value = try cut(value, shape, low, high)
    }
    func kept(_ sizes: [Size]) -> [Size] {
      sizes.map { $0.constant.map { Size(max($0, 0)) } ?? $0 }
    }
    let amounts = kept(o.low) + kept(o.high)
    return emit(
      "Pad", [value, try exporter.shape(amounts), fill], ["mode": .text(Array("constant".utf8))])
  }

  private func cut(_ value: String, _ shape: [Size], _ low: [Int], _ high: [Int]) throws(DLCError)
    -> String
  {
    try slice(
      value, low.map { Size(-$0) }, zip(shape, high).map { $0 + Size($1) }, shape.map { _ in 1 })
  }

  func padded(_ value: String, _ low: [Int], _ high: [Int], _ fill: String) -> String {
    if (low + high).allSatisfy({ $0 == 0 }) { return value }
    return emit(
      "Pad", [value, exporter.integers(low + high), fill], ["mode": .text(Array("constant".utf8))])
  }

  // MARK: Reductions

  func reduce(_ o: Reduce) throws(DLCError) -> String {
    let wide = GraphExporter.wide(type)
    let name: String
    switch o.combiner {
    case .sum: name = "ReduceSum"
    case .product: name = "ReduceProd"
    case .maximum: name = "ReduceMax"
    case .minimum: name = "ReduceMin"
    case .and, .or:
      guard type == .bool else { return try folded(o) }
      name = o.combiner == .and ? "ReduceMin" : "ReduceMax"
    }
    if type == .uint64, o.combiner != .sum { throw refuse("'\(o.combiner.rawValue)' of uint64") }
    let value = exporter.cast(x, type, wide)
    let made: String
    if name == "ReduceSum" || exporter.opset >= 18 {
      made = emit(name, [value, exporter.integers(o.axes)], ["keepdims": .integer(0)])
    } else {
      made = emit(name, [value], ["axes": .integers(o.axes), "keepdims": .integer(0)])
    }
    let result = o.axes.isEmpty ? value : made
    return wide == type ? result : exporter.narrow(result, type)
  }

  /// Bits of integers, combined element by element.
  private func folded(_ o: Reduce) throws(DLCError) -> String {
    var value = x
    var shape = types[0].shape
    for axis in o.axes.sorted().reversed() {
      let size = try exporter.number(shape[axis], "a reduction of bits")
      guard size > 0, size <= 1024 else {
        throw refuse("a reduction of the bits of \(size) integers")
      }
      var rest: String?
      for place in 0..<size {
        let part = emit(
          "Gather", [value, exporter.scalar(Double(place), .int64)], ["axis": .integer(axis)])
        rest =
          try rest.map { r throws(DLCError) in
            try binary(o.combiner == .and ? .and : .or, r, part, type)
          } ?? part
      }
      value = rest!
      shape.remove(at: axis)
    }
    return value
  }

  func argReduce(_ o: ArgReduce) -> String {
    let value = exporter.widened(x, type)
    let made = emit(
      o.largest ? "ArgMax" : "ArgMin", [value],
      ["axis": .integer(o.axis), "keepdims": .integer(0)])
    return exporter.cast(made, .int64, o.indexType)
  }

  // MARK: Windows

  /// What lies under each place of a window, [result shape] each.
  private func taps(
    _ value: String, _ window: [Int], _ strides: [Int], _ dilation: [Int], _ counts: [Size]
  ) throws(DLCError) -> [(place: [Int], value: String)] {
    let total = window.reduce(1, *)
    guard total <= 1024 else { throw refuse("a window of \(total) elements") }
    var list: [(place: [Int], value: String)] = []
    for number in 0..<total {
      let place = unflatten(number, window)
      let start = zip(place, dilation).map { $0 * $1 }
      let limits = counts.indices.map { axis in
        Size(start[axis]) + (counts[axis] - 1) * Size(strides[axis]) + 1
      }
      list.append((place, try slice(value, start.map { Size($0) }, limits, strides)))
    }
    return list
  }

  func reduceWindow(_ w: WindowGeometry) throws(DLCError) -> String {
    if let pooled = try pool(w) { return pooled }
    let value = padded(x, w.paddingLow, w.paddingHigh, exporter.identity(w.combiner, type))
    let parts = try taps(value, w.window, w.strides, w.dilation, result.shape)
    guard case .binary(let function) = w.combiner.operation else { throw refuse("this window") }
    var sum = parts[0].value
    for part in parts.dropFirst() { sum = try binary(function, sum, part.value, type) }
    return sum
  }

  /// A maximum of float32 over trailing axes is a pool.
  private func pool(_ w: WindowGeometry) throws(DLCError) -> String? {
    let rank = w.window.count
    guard type == .float32, w.combiner == .maximum || w.combiner == .minimum,
      let first = (0..<rank).first(where: {
        w.window[$0] != 1 || w.strides[$0] != 1 || w.paddingLow[$0] + w.paddingHigh[$0] != 0
      }), rank - first <= 3
    else { return nil }
    let lead = types[0].shape[..<first].reduce(Size(1)) { $0 * $1 }
    var value = try exporter.reshape(x, [lead, 1] + types[0].shape[first...])
    if w.combiner == .minimum { value = emit("Neg", [value]) }
    let pads = Array(w.paddingLow[first...]) + Array(w.paddingHigh[first...])
    // Pools pad by less than the window.
    guard zip(pads, w.window[first...] + w.window[first...]).allSatisfy({ $0 < $1 }) else {
      return nil
    }
    var pooled = emit(
      "MaxPool", [value],
      [
        "kernel_shape": .integers(Array(w.window[first...])),
        "strides": .integers(Array(w.strides[first...])),
        "dilations": .integers(Array(w.dilation[first...])), "pads": .integers(pads),
      ])
    if w.combiner == .minimum { pooled = emit("Neg", [pooled]) }
    return try exporter.reshape(pooled, result.shape)
  }

  /// The number of the first extreme element under each window.
  func argWindow(_ w: ArgWindowGeometry) throws(DLCError) -> String {
    let shape = types[0].shape
    // The elements' numbers in the axes that windows go over.
    var number = exporter.scalar(0, .int64)
    for axis in w.leading..<shape.count {
      let extent = try exporter.size(shape[axis])
      let own = try iota(TensorType(.int64, shape), axis)
      number = emit("Add", [emit("Mul", [number, extent]), own])
    }
    let numbers =
      w.leading == shape.count ? emit("Expand", [number, try exporter.shape(shape)]) : number
    let values = try taps(x, w.window, w.strides, w.dilation, result.shape)
    let places = try taps(numbers, w.window, w.strides, w.dilation, result.shape)
    var (best, place) = (values[0].value, places[0].value)
    for (value, at) in zip(values.dropFirst(), places.dropFirst()) {
      let isBetter = try compare(w.largest ? .greater : .less, value.value, best, type)
      best = select(isBetter, value.value, best, type)
      place = emit("Where", [isBetter, at.value, place])
    }
    return exporter.cast(place, .int64, result.dataType)
  }
}
