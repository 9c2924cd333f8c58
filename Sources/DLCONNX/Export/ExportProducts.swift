import DLCGraph
import DLCTensor

/// Products, convolutions, prefixes and sorting.
extension NodeExporter {
  func dotGeneral(_ o: DotGeneral) throws(DLCError) -> String {
    let g = o.geometry
    let sum = o.sumType ?? type
    let (a, b) = (types[0].shape, types[1].shape)
    let freeA = a.indices.filter { !g.lhsBatch.contains($0) && !g.lhsContracting.contains($0) }
    let freeB = b.indices.filter { !g.rhsBatch.contains($0) && !g.rhsContracting.contains($0) }
    func product(_ shape: [Size], _ axes: [Int]) -> Size { axes.reduce(1) { $0 * shape[$1] } }
    let wide = GraphExporter.wide(sum)
    func matrix(
      _ value: String, _ from: DataType, _ shape: [Size], _ order: [[Int]], _ sizes: [Size]
    )
      throws(DLCError) -> String
    {
      let typed = exporter.cast(value, from, wide)
      let moved = exporter.transpose(typed, Array(order.joined()))
      return try exporter.reshape(moved, sizes)
    }
    let batch = product(a, g.lhsBatch)
    let depth = product(a, g.lhsContracting)
    let lead = g.lhsBatch.isEmpty ? [] : [batch]
    let left = try matrix(
      operands[0], types[0].dataType, a, [g.lhsBatch, freeA, g.lhsContracting],
      lead + [product(a, freeA), depth])
    let right = try matrix(
      operands[1], types[1].dataType, b, [g.rhsBatch, g.rhsContracting, freeB],
      lead + [depth, product(b, freeB)])
    let made = try exporter.reshape(emit("MatMul", [left, right]), result.shape)
    return exporter.narrow(made, sum)
  }

  /// Conv with channels first, between transposes where the axes lie in another order.
  func convolution(_ o: Convolution) throws(DLCError) -> String {
    let (g, d) = (o.geometry, o.geometry.dimensions)
    let sum = o.sumType ?? type
    let input = (
      name: exporter.transpose(operands[0], d.input), type: types[0].dataType,
      shape: types[0].shape.picked(d.input)
    )
    let kernel = (
      name: exporter.transpose(operands[1], d.kernel), type: types[1].dataType,
      shape: types[1].shape.picked(d.kernel)
    )
    let made: String
    let wide = GraphExporter.wide(sum)
    if input.type.isFloat && kernel.type.isFloat {
      made = exporter.cast(
        try convolution(
          g, input.shape, kernel.shape, exporter.cast(input.name, input.type, .float32),
          exporter.cast(kernel.name, kernel.type, .float32), .float32), .float32, sum)
    } else {
      made = exporter.narrow(
        try integerConvolution(
          g, input.shape, kernel.shape, exporter.cast(input.name, input.type, wide),
          exporter.cast(kernel.name, kernel.type, wide), wide), sum, from: wide)
    }
    return exporter.transpose(made, Array(d.output.indices).placed(d.output))
  }

  private func convolution(
    _ g: ConvolutionGeometry, _ input: [Size], _ kernel: [Size], _ value: String, _ weights: String,
    _ type: DataType
  ) throws(DLCError) -> String {
    var (x, low, high) = (value, g.paddingLow, g.paddingHigh)
    // Gaps in the input, and padding that cuts off, are written out.
    if g.inputDilation.contains(where: { $0 != 1 }) || (low + high).contains(where: { $0 < 0 }) {
      x = try padded(g, x, TensorType(type, input))
      (low, high) = (low.map { _ in 0 }, high.map { _ in 0 })
    }
    return emit(
      "Conv", [x, weights],
      [
        "strides": .integers(g.strides), "pads": .integers(low + high),
        "dilations": .integers(g.kernelDilation), "group": .integer(g.groups),
        "kernel_shape": .integers(try numbers(kernel.dropFirst(2), "a kernel")),
      ])
  }

  private func numbers(_ sizes: some Sequence<Size>, _ what: String) throws(DLCError) -> [Int] {
    var list: [Int] = []
    for size in sizes { list.append(try exporter.number(size, what)) }
    return list
  }

  private func padded(_ g: ConvolutionGeometry, _ x: String, _ type: TensorType) throws(DLCError)
    -> String
  {
    let pad = Pad(
      low: [0, 0] + g.paddingLow.map { Size($0) }, high: [0, 0] + g.paddingHigh.map { Size($0) },
      interior: [0, 0] + g.inputDilation.map { $0 - 1 })
    return try NodeExporter(
      exporter: exporter, node: node, operands: [x, exporter.scalar(0, type.dataType)],
      types: [type, TensorType(type.dataType)], results: [type]
    ).pad(pad)
  }

  /// The elements of every window, gathered, times the kernels: Conv is for real numbers.
  private func integerConvolution(
    _ g: ConvolutionGeometry, _ input: [Size], _ kernel: [Size], _ x: String, _ weights: String,
    _ type: DataType
  ) throws(DLCError) -> String {
    let window = try numbers(kernel.dropFirst(2), "a kernel")
    let sizes = try numbers(input.dropFirst(2), "a convolution of integers")
    let open = sizes.indices.map { axis in
      max(sizes[axis] - 1, 0) * g.inputDilation[axis] + min(sizes[axis], 1) + g.paddingLow[axis]
        + g.paddingHigh[axis]
    }
    let out = open.indices.map { axis in
      max(0, (open[axis] - (window[axis] - 1) * g.kernelDilation[axis] - 1) / g.strides[axis] + 1)
    }
    // Places in the spatial axes as one, of each element of the window for each result.
    var places: [Int] = [0]
    func extend(_ counts: [Int], _ steps: [Int]) {
      var stride = open.reduce(1, *)
      for axis in open.indices {
        stride /= max(open[axis], 1)
        places = places.flatMap { start in
          (0..<counts[axis]).map { start + $0 * steps[axis] * stride }
        }
      }
    }
    extend(window, g.kernelDilation)
    extend(out, g.strides)
    let (taps, results) = (window.reduce(1, *), out.reduce(1, *))
    let indices = exporter.constant(
      Tensor(.int64, [taps, results], truncating: places.map(Int64.init)))
    let flat = try exporter.reshape(
      try padded(g, x, TensorType(type, input)), [input[0], input[1], Size(open.reduce(1, *))])
    let columns = emit("Gather", [flat, indices], ["axis": .integer(2)])
    let groups = Size(g.groups)
    let depth = input[1] / groups * Size(taps)
    let product = emit(
      "MatMul",
      [
        try exporter.reshape(weights, [groups, kernel[0] / groups, depth]),
        try exporter.reshape(columns, [input[0], groups, depth, Size(results)]),
      ])
    return try exporter.reshape(product, [input[0], kernel[0]] + out.map { Size($0) })
  }

  // MARK: Prefixes

  /// Sums have an operator; other combiners double the distance with each step.
  func cumulative(_ p: PrefixGeometry) throws(DLCError) -> String {
    let wide = GraphExporter.wide(type)
    if p.combiner == .sum {
      let made = emit(
        "CumSum", [exporter.cast(x, type, wide), exporter.scalar(Double(p.axis), .int64)],
        ["exclusive": .integer(p.exclusive ? 1 : 0), "reverse": .integer(p.reverse ? 1 : 0)])
      return exporter.narrow(made, type)
    }
    guard case .binary(let function) = p.combiner.operation else { throw refuse("this prefix") }
    let shape = types[0].shape
    let size = try exporter.number(shape[p.axis], "a prefix")
    let fill = exporter.identity(p.combiner, type)
    func shifted(_ value: String, _ distance: Int) throws(DLCError) -> String {
      var (low, high) = (shape.map { _ in 0 }, shape.map { _ in 0 })
      if p.reverse { high[p.axis] = distance } else { low[p.axis] = distance }
      let wide = padded(value, low, high, fill)
      var starts = shape.map { _ in Size(0) }
      var limits = shape
      if p.reverse {
        starts[p.axis] = Size(distance)
        limits[p.axis] = Size(size + distance)
      }
      return try slice(wide, starts, limits, shape.map { _ in 1 })
    }
    var value = p.exclusive && size > 0 ? try shifted(x, 1) : x
    var distance = 1
    while distance < size {
      value = try binary(function, try shifted(value, distance), value, type)
      distance *= 2
    }
    return value
  }

  // MARK: Order

  /// Stable sorts by each key, the last one first.
  func sort(_ o: Sort) throws(DLCError) -> [String] {
    let count = try exporter.size(types[0].shape[o.axis])
    var order: String?
    for key in (0..<o.keys).reversed() {
      let type = types[key].dataType
      guard type != .uint64 else { throw refuse("an order of uint64") }
      var value = exporter.widened(operands[key], type)
      if let order {
        value = emit("GatherElements", [value, order], ["axis": .integer(o.axis)])
      }
      let places = exporter.emit(
        "TopK", [value, count],
        [
          "axis": .integer(o.axis), "largest": .integer(o.descending ? 1 : 0),
          "sorted": .integer(1),
        ],
        outputs: 2)[1]
      order =
        order.map { emit("GatherElements", [$0, places], ["axis": .integer(o.axis)]) } ?? places
    }
    return operands.map { emit("GatherElements", [$0, order!], ["axis": .integer(o.axis)]) }
  }
}
