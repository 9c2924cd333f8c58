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
    if input.type.isFloat && kernel.type.isFloat {
      made = exporter.cast(
        try convolution(
          g, input.shape, kernel.shape, exporter.cast(input.name, input.type, .float32),
          exporter.cast(kernel.name, kernel.type, .float32), .float32), .float32, sum)
    } else {
      guard input.type.bitCount == 8, kernel.type.bitCount == 8, sum == .int32,
        input.type.isInteger, kernel.type.isInteger
      else { throw refuse("a convolution of \(input.type) and \(kernel.type) in \(sum)") }
      // Kernels take the input without a sign: 128 is what 0 was.
      let shifted =
        input.type == .uint8
        ? input.name
        : exporter.cast(
          emit(
            "Add", [exporter.cast(input.name, .int8, .int32), exporter.scalar(128, .int32)]),
          .int32, .uint8)
      made = try convolution(
        g, input.shape, kernel.shape, shifted, kernel.name, .uint8,
        zero: exporter.scalar(input.type == .uint8 ? 0 : 128, .uint8))
    }
    return exporter.transpose(made, Array(d.output.indices).placed(d.output))
  }

  /// - Parameter zero: what stands for 0 in an input of integers.
  private func convolution(
    _ g: ConvolutionGeometry, _ input: [Size], _ kernel: [Size], _ value: String, _ weights: String,
    _ type: DataType, zero: String? = nil
  ) throws(DLCError) -> String {
    var (x, low, high) = (value, g.paddingLow, g.paddingHigh)
    // Gaps in the input, and padding that cuts off, are written out.
    let isPlain =
      g.inputDilation.allSatisfy { $0 == 1 } && (low + high).allSatisfy { $0 >= 0 }
    if !isPlain {
      let pad = Pad(
        low: [0, 0] + low.map { Size($0) }, high: [0, 0] + high.map { Size($0) },
        interior: [0, 0] + g.inputDilation.map { $0 - 1 })
      let typed = TensorType(type, input)
      x = try NodeExporter(
        exporter: exporter, node: node, operands: [x, zero ?? exporter.scalar(0, type)],
        types: [typed, TensorType(type)], results: [typed]
      ).pad(pad)
      (low, high) = (low.map { _ in 0 }, high.map { _ in 0 })
    }
    var window: [Int] = []
    for size in kernel.dropFirst(2) { window.append(try exporter.number(size, "a kernel")) }
    return emit(
      zero == nil ? "Conv" : "ConvInteger", [x, weights] + (zero.map { [$0] } ?? []),
      [
        "strides": .integers(g.strides), "pads": .integers(low + high),
        "dilations": .integers(g.kernelDilation), "group": .integer(g.groups),
        "kernel_shape": .integers(window),
      ])
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
