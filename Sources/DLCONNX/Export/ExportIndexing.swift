import DLCGraph
import DLCTensor

/// Gather and scatter by the numbers of elements in row-major order, and slices at places that are values.
extension NodeExporter {
  private func add(_ a: String, _ b: String) -> String { emit("Add", [a, b]) }
  private func multiply(_ a: String, _ b: String) -> String { emit("Mul", [a, b]) }

  /// Row-major strides of a shape, each an int64 vector of one element.
  private func strides(_ shape: [Size]) throws(DLCError) -> [String] {
    var result: [String] = []
    var stride = Size(1)
    for size in shape.reversed() {
      result.insert(try exporter.size(stride), at: 0)
      stride = stride * size
    }
    return result
  }

  /// Each slice element's coordinate along an axis of the operand, which broadcasts to `shape`.
  private func offset(_ axis: Int, of shape: [Size]) throws(DLCError) -> String {
    let row = try iota(TensorType(.int64, [shape[axis]]), 0)
    var sizes = shape.map { _ in Size(1) }
    sizes[axis] = shape[axis]
    return try exporter.reshape(row, sizes)
  }

  /// A component of the index vectors, in the axes that batches have in `shape`.
  private func component(
    _ number: Int, _ axes: IndexAttributes, _ indices: TensorType, _ name: String, _ shape: [Size]
  ) throws(DLCError) -> String {
    var value = exporter.cast(name, indices.dataType, .int64)
    if axes.vectorAxis < indices.rank {
      value = emit(
        "Gather", [value, exporter.scalar(Double(number), .int64)],
        ["axis": .integer(axes.vectorAxis)])
    }
    return try placed(value, axes.batchAxes(indices.rank).map { indices.shape[$0] }, axes, shape)
  }

  /// A value over the batch axes, put where they are in `shape`.
  private func placed(_ value: String, _ batch: [Size], _ axes: IndexAttributes, _ shape: [Size])
    throws(DLCError) -> String
  {
    var sizes = shape.map { _ in Size(1) }
    for (size, axis) in zip(batch, shape.indices.filter { !axes.offsetAxes.contains($0) }) {
      sizes[axis] = size
    }
    return try exporter.reshape(value, sizes)
  }

  /// The axis in the sliced shape that a batch axis of the operand follows.
  private func batchPlace(
    _ position: Int, _ axes: IndexAttributes, _ indicesRank: Int, _ shape: [Size]
  ) -> Int {
    let kept = shape.indices.filter { !axes.offsetAxes.contains($0) }
    let order = axes.batchAxes(indicesRank)
    return kept[order.firstIndex(of: axes.indicesBatchAxes[position])!]
  }

  /// The numbers of the elements that slices cover, [shape]; and whether each lies inside, when places may not be moved.
  private func numbers(
    _ axes: IndexAttributes, _ operand: [Size], _ sizes: [Size], _ indices: TensorType,
    _ name: String,
    _ shape: [Size], moves: Bool
  ) throws(DLCError) -> (number: String, inside: String?) {
    let strides = try strides(operand)
    var number = exporter.scalar(0, .int64)
    var inside: String?
    for (position, axis) in axes.startAxes.enumerated() {
      var start = try component(position, axes, indices, name, shape)
      let room = try exporter.size(operand[axis] - sizes[axis])
      let zero = exporter.scalar(0, .int64)
      if moves {
        start = emit("Min", [emit("Max", [start, zero]), room])
      } else {
        let test = emit(
          "And", [emit("GreaterOrEqual", [start, zero]), emit("LessOrEqual", [start, room])])
        inside = inside.map { emit("And", [$0, test]) } ?? test
      }
      number = add(number, multiply(start, strides[axis]))
    }
    for (axis, from) in zip(axes.windowAxes(operand.count), axes.offsetAxes) {
      number = add(number, multiply(try offset(from, of: shape), strides[axis]))
    }
    for (position, axis) in axes.operandBatchAxes.enumerated() {
      let place = batchPlace(position, axes, indices.rank, shape)
      number = add(number, multiply(try offset(place, of: shape), strides[axis]))
    }
    return (emit("Expand", [number, try exporter.shape(shape)]), inside)
  }

  private func flat(_ value: String, _ shape: [Size]) throws(DLCError) -> String {
    try exporter.reshape(value, [shape.reduce(1) { $0 * $1 }])
  }

  func gather(_ o: Gather) throws(DLCError) -> String {
    if let simple = try rows(o) { return simple }
    let shape = types[0].shape
    let (number, _) = try numbers(
      o.axes, shape, o.sliceSizes, types[1], operands[1], result.shape, moves: true)
    return emit("Gather", [try flat(x, shape), number], ["axis": .integer(0)])
  }

  /// Whole slices along one axis.
  private func rows(_ o: Gather) throws(DLCError) -> String? {
    let (axes, shape, indices) = (o.axes, types[0].shape, types[1])
    guard axes.startAxes.count == 1, axes.collapsedAxes == axes.startAxes,
      axes.operandBatchAxes.isEmpty,
      axes.vectorAxis == indices.rank
    else { return nil }
    let axis = axes.startAxes[0]
    let after = axis + indices.rank
    guard axes.offsetAxes == Array(0..<axis) + Array(after..<after + shape.count - axis - 1),
      shape.indices.allSatisfy({ $0 == axis || o.sliceSizes[$0] == shape[$0] })
    else { return nil }
    let wide = exporter.cast(operands[1], indices.dataType, .int64)
    let last = try exporter.reshape(try exporter.size(shape[axis] - 1), [])
    let inside = emit("Min", [emit("Max", [wide, exporter.scalar(0, .int64)]), last])
    return emit("Gather", [x, inside], ["axis": .integer(axis)])
  }

  func scatter(_ o: Scatter) throws(DLCError) -> String {
    let (shape, updates) = (types[0].shape, types[2].shape)
    let sizes = o.sliceSizes(shape.count, updates)
    let (number, inside) = try numbers(
      o.axes, shape, sizes, types[1], operands[1], updates, moves: false)
    return try scatter(number, inside, o.combiner)
  }

  /// What lies outside goes to an element behind the others, which is cut off.
  private func scatter(_ number: String, _ inside: String?, _ combiner: Combiner?) throws(DLCError)
    -> String
  {
    let (shape, updates) = (types[0].shape, types[types.count > 2 ? 2 : 1].shape)
    let count = shape.reduce(Size(1)) { $0 * $1 }
    let wide = combiner == nil ? type : GraphExporter.wide(type)
    let end = try exporter.size(count)
    let target = inside.map { emit("Where", [$0, number, end]) } ?? number
    let reduction: String
    switch combiner {
    case nil: reduction = "none"
    case .sum?: reduction = "add"
    case .product?: reduction = "mul"
    case .maximum? where exporter.opset >= 18: reduction = "max"
    case .minimum? where exporter.opset >= 18: reduction = "min"
    default: throw refuse("a scatter that combines by '\(combiner!.rawValue)'")
    }
    let memory = padded(
      exporter.cast(try flat(x, shape), type, wide), [0], [1], exporter.scalar(0, wide))
    let source = exporter.cast(try flat(operands[operands.count > 2 ? 2 : 1], updates), type, wide)
    let made = emit(
      "ScatterElements", [memory, try flat(target, updates), source],
      ["axis": .integer(0), "reduction": .text(Array(reduction.utf8))])
    let inner = try slice(made, [0], [count], [1])
    return exporter.narrow(try exporter.reshape(inner, shape), type)
  }

  // MARK: Dynamic slices

  /// Starts moved so that a box lies inside, each an int64 vector of one element.
  private func starts(_ first: Int, _ sizes: [Size]) throws(DLCError) -> [String] {
    var list: [String] = []
    for (axis, size) in sizes.enumerated() {
      let wide = exporter.cast(operands[first + axis], types[first + axis].dataType, .int64)
      let start = try exporter.reshape(wide, [1])
      let room = try exporter.size(types[0].shape[axis] - size)
      list.append(emit("Min", [emit("Max", [start, exporter.integers([0])]), room]))
    }
    return list
  }

  func dynamicSlice(_ sizes: [Size]) throws(DLCError) -> String {
    if sizes.isEmpty { return x }
    let list = try starts(1, sizes)
    let first = list.count == 1 ? list[0] : emit("Concat", list, ["axis": .integer(0)])
    let last = add(first, try exporter.shape(sizes))
    return emit("Slice", [x, first, last, exporter.integers(Array(sizes.indices))])
  }

  func dynamicUpdate() throws(DLCError) -> String {
    let (shape, update) = (types[0].shape, types[1].shape)
    if shape.isEmpty { return operands[1] }
    let strides = try strides(shape)
    var number = exporter.scalar(0, .int64)
    for (axis, start) in try starts(2, update).enumerated() {
      let place = add(try offset(axis, of: update), start)
      number = add(number, multiply(place, strides[axis]))
    }
    let wide = emit("Expand", [number, try exporter.shape(update)])
    let made = emit(
      "ScatterElements",
      [try flat(x, shape), try flat(wide, update), try flat(operands[1], update)],
      ["axis": .integer(0)])
    return try exporter.reshape(made, shape)
  }
}
