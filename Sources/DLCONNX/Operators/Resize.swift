import DLCGraph
import DLCTensor

/// Images made larger or smaller. Axes are resized one after the other, by weights that are constants.
enum ResizeOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("Upsample", inputs: 1) { c throws(ImportStop) in
      guard let width = try c.real("width_scale"), let height = try c.real("height_scale") else {
        throw c.fail("attributes 'width_scale' and 'height_scale' are missing")
      }
      return try scaled(c, [1, 1, height, width])
    },
    OperatorMapping("Upsample", since: 7, inputs: 1) { c throws(ImportStop) in
      guard let scales = try c.reals("scales") else {
        throw c.fail("attribute 'scales' is missing")
      }
      return try scaled(c, scales)
    },
    OperatorMapping("Upsample", since: 9, inputs: 2, statics: ["scales"]) { c throws(ImportStop) in
      try scaled(c, try c.reals(1))
    },
    OperatorMapping("Resize", since: 10, inputs: 2, statics: ["scales"]) { c throws(ImportStop) in
      try scaled(c, try c.reals(1))
    },
    OperatorMapping("Resize", since: 11, inputs: 4, statics: ["roi", "scales", "sizes"], resize),
  ]

  /// What one axis becomes.
  private struct Target {
    var axis: Int
    /// nil where named sizes decide it.
    var scale: Double?
    /// nil where the size times the scale says it.
    var count: Size?
    var region: (Double, Double) = (0, 1)
  }

  // MARK: Forms

  private static func scaled(_ c: NodeContext, _ scales: [Double]) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    var resampling = Resampling()
    resampling.coordinates = .asymmetric
    resampling.rounding = .simple
    switch try c.text("mode", "nearest") {
    case "nearest": break
    case "linear", "bilinear": resampling.mode = .linear
    case let other: throw c.fail("attribute 'mode' is '\(other)'")
    }
    guard scales.count == x.rank else { throw c.fail("\(scales.count) scales for \(x.type)") }
    let targets = scales.enumerated().map { Target(axis: $0.offset, scale: $0.element) }
    return [try resized(c, x, targets, resampling, fill: 0)]
  }

  private static func resize(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let resampling = try resampling(c)
    let axes = try c.axes(try c.integers("axes") ?? Array(0..<x.rank), rank: x.rank)
    var targets: [Target]
    if c.has(3), try c.operand(3).shape != [0] {
      targets = try sized(c, x, axes)
    } else {
      guard c.has(2) else { throw c.fail("neither scales nor sizes are given") }
      let scales = try c.reals(2)
      guard scales.count == axes.count else {
        throw c.fail("\(scales.count) scales for \(axes.count) axes")
      }
      targets = zip(axes, scales).map { Target(axis: $0, scale: $1) }
    }
    if resampling.coordinates == .tf_crop_and_resize {
      let region = try c.reals(1)
      guard region.count == 2 * axes.count else {
        throw c.fail("a region of \(region.count) numbers for \(axes.count) axes")
      }
      for index in axes.indices {
        targets[index].region = (region[index], region[axes.count + index])
      }
    }
    let fill = try c.real("extrapolation_value", 0)
    return [try resized(c, x, targets, resampling, fill: fill)]
  }

  private static func resampling(_ c: NodeContext) throws(ImportStop) -> Resampling {
    var result = Resampling()
    switch try c.text("mode", "nearest") {
    case "nearest": break
    case "linear": result.mode = .linear
    case "cubic": result.mode = .cubic
    case let other: throw c.fail("attribute 'mode' is '\(other)'")
    }
    let coordinates = try c.text("coordinate_transformation_mode", "half_pixel")
    if coordinates == "tf_half_pixel_for_nn" {
      throw c.unsupported("the coordinates '\(coordinates)'")
    }
    guard let known = Resampling.Coordinates(rawValue: coordinates) else {
      throw c.fail("attribute 'coordinate_transformation_mode' is '\(coordinates)'")
    }
    let rounding = try c.text("nearest_mode", "round_prefer_floor")
    guard let direction = Resampling.Rounding(rawValue: rounding), direction != .simple else {
      throw c.fail("attribute 'nearest_mode' is '\(rounding)'")
    }
    (result.coordinates, result.rounding) = (known, direction)
    result.cubicCoefficient = try c.real("cubic_coeff_a", -0.75)
    result.excludesOutside = try c.flag("exclude_outside")
    result.antialiases = try c.flag("antialias")
    return result
  }

  /// The sizes that the model asks for, or those next to them that keep the proportions.
  private static func sized(_ c: NodeContext, _ x: Value, _ axes: [Int]) throws(ImportStop)
    -> [Target]
  {
    let sizes = try c.sizes(3)
    guard sizes.count == axes.count else {
      throw c.fail("\(sizes.count) sizes for \(axes.count) axes")
    }
    let policy = try c.text("keep_aspect_ratio_policy", "stretch")
    guard ["stretch", "not_larger", "not_smaller"].contains(policy) else {
      throw c.fail("attribute 'keep_aspect_ratio_policy' is '\(policy)'")
    }
    var targets: [Target] = []
    for (axis, size) in zip(axes, sizes) {
      let old = x.shape[axis]
      if policy == "stretch", let factor = (1...16).first(where: { size == old * Size($0) }) {
        targets.append(Target(axis: axis, scale: Double(factor), count: size))
        continue
      }
      guard let from = old.constant, let to = size.constant else {
        targets.append(Target(axis: axis, count: size))
        continue
      }
      guard from > 0, to > 0 else { throw c.fail("an axis of \(from) becomes one of \(to)") }
      targets.append(Target(axis: axis, scale: Double(to) / Double(from), count: size))
    }
    guard policy != "stretch", !targets.isEmpty else { return targets }
    let scales = targets.compactMap(\.scale)
    guard scales.count == targets.count else {
      throw c.fail(
        "proportions are kept of sizes that are open", remedy: "bind the sizes with --dim")
    }
    let scale = policy == "not_larger" ? scales.min()! : scales.max()!
    for index in targets.indices {
      let from = try c.number(x.shape[targets[index].axis])
      targets[index].scale = scale
      targets[index].count = Size(Int(scale * Double(from) + 0.5))
    }
    return targets
  }

  // MARK: Axes

  private static func resized(
    _ c: NodeContext, _ operand: Value, _ targets: [Target], _ resampling: Resampling, fill: Double
  ) throws(ImportStop) -> Value {
    let scales = targets.compactMap(\.scale)
    guard scales.allSatisfy({ $0 > 0 && $0.isFinite }) else {
      throw c.fail("scales \(scales) are not positive")
    }
    let isCopy = resampling.mode == .nearest
    let type = operand.dataType
    var x = operand
    if !isCopy { x = c.g.convert(operand, type.isFloat ? type.computeType : .float64) }
    for target in targets.sorted(by: { $0.scale ?? 1 < $1.scale ?? 1 }) {
      x = try resized(c, x, target, resampling, fill: fill)
    }
    if isCopy || type.isFloat { return c.g.convert(x, type) }
    let range = type.integerRange
    return c.g.convert(
      c.g.clamp(c.g.round(x), Double(range.lowerBound), Double(range.upperBound)), type)
  }

  private static func resized(
    _ c: NodeContext, _ x: Value, _ target: Target, _ resampling: Resampling, fill: Double
  ) throws(ImportStop) -> Value {
    let (axis, size) = (target.axis, x.shape[target.axis])
    let isCrop = resampling.coordinates == .tf_crop_and_resize
    if target.scale == 1, target.count == nil || target.count == size,
      !isCrop || target.region == (0, 1)
    {
      return x
    }
    if let factor = repetition(target, resampling) {
      return repeated(c, x, axis, factor)
    }
    guard let number = size.constant, let scale = target.scale else {
      let product = try scaled(c, size, target.count == nil ? target.scale ?? 1 : 1)
      let count = target.count ?? product
      return try OpenAxis(c, x, axis, count, target.scale, resampling).resized()
    }
    let width =
      target.count == nil ? Double(Float(scale) * Float(number)) : scale * Double(number)
    let count =
      try target.count.map { size throws(ImportStop) in try c.number(size) }
      ?? Int(min(width, 1e9))
    guard number > 0, count > 0, max(number, count) <= 1 << 22 else {
      throw c.fail("an axis of \(number) becomes one of \(count)")
    }
    let weights = resampling.weights(
      number, count, scale: scale, width: width, region: target.region)
    return try apply(c, x, axis, number, weights, fill)
  }

  /// A named size times a scale that is a simple fraction.
  private static func scaled(_ c: NodeContext, _ size: Size, _ scale: Double) throws(ImportStop)
    -> Size
  {
    for divisor in 1...16 {
      let factor = (scale * Double(divisor)).rounded()
      guard factor >= 1, factor <= 4096, Float(factor) / Float(divisor) == Float(scale) else {
        continue
      }
      return size * Size(Int(factor)) / Size(divisor)
    }
    return Size(try c.number(size))
  }

  /// How often each element follows itself, whatever the size is.
  private static func repetition(_ target: Target, _ resampling: Resampling) -> Int? {
    guard resampling.mode == .nearest, let scale = target.scale, scale <= 64,
      let factor = Int(exactly: scale),
      [.half_pixel, .asymmetric].contains(resampling.coordinates)
    else { return nil }
    let sample = 8
    let weights = resampling.weights(
      sample, sample * factor, scale: scale, width: Double(sample * factor), region: (0, 1))
    return weights.repeats(sample)
  }

  private static func repeated(_ c: NodeContext, _ x: Value, _ axis: Int, _ factor: Int) -> Value {
    var (spread, shape) = (x.shape, x.shape)
    spread.insert(Size(factor), at: axis + 1)
    shape[axis] = x.shape[axis] * Size(factor)
    let axes = x.shape.indices.map { $0 <= axis ? $0 : $0 + 1 }
    return c.g.reshape(c.g.broadcast(x, to: spread, axes: axes), shape)
  }

  private static func apply(
    _ c: NodeContext, _ x: Value, _ axis: Int, _ size: Int, _ weights: ResizeWeights,
    _ fill: Double
  ) throws(ImportStop) -> Value {
    let g = c.g
    if weights.isIdentity(size) { return x }
    if let factor = weights.repeats(size) { return repeated(c, x, axis, factor) }
    if let (start, step) = weights.stride {
      var (starts, limits) = (x.shape.map { _ in Size(0) }, x.shape)
      starts[axis] = Size(start)
      limits[axis] = Size(start + (weights.places.count - 1) * step + 1)
      return g.slice(
        x, from: starts, to: limits,
        strides: x.shape.indices.map { $0 == axis ? step : 1 })
    }
    let count = weights.places.count
    let taps = weights.places[0].count
    var result: Value
    if weights.weights.allSatisfy({ $0 == [1] }) {
      result = try IndexingOperators.picked(c, x, weights.places.map { $0[0] }, axis: axis)
    } else if size <= 32 * taps {
      result = contracted(c, x, axis, size, weights)
    } else {
      result = try IndexingOperators.picked(c, x, weights.places.map { $0[0] }, axis: axis)
      result = result * column(c, result, axis, weights.weights.map { $0[0] })
      for tap in 1..<taps {
        let part = try IndexingOperators.picked(c, x, weights.places.map { $0[tap] }, axis: axis)
        result = result + part * column(c, part, axis, weights.weights.map { $0[tap] })
      }
    }
    guard weights.isOutside.contains(true) else { return result }
    let outside = c.constant([count], weights.isOutside.map { $0 ? 1 : 0 }, .bool)
    return g.select(
      g.broadcast(outside, to: result.shape, axes: [axis]),
      g.broadcast(c.scalar(fill, result.dataType), to: result.shape), result)
  }

  /// Numbers along an axis.
  private static func column(_ c: NodeContext, _ x: Value, _ axis: Int, _ numbers: [Double])
    -> Value
  {
    c.g.broadcast(c.constant(x.dataType, [numbers.count], numbers), to: x.shape, axes: [axis])
  }

  /// A product with a matrix of the weights.
  private static func contracted(
    _ c: NodeContext, _ x: Value, _ axis: Int, _ size: Int, _ weights: ResizeWeights
  ) -> Value {
    let count = weights.places.count
    var matrix = [Double](repeating: 0, count: count * size)
    for row in 0..<count {
      for (place, weight) in zip(weights.places[row], weights.weights[row]) {
        matrix[row * size + place] += weight
      }
    }
    let product = c.g.dotGeneral(
      x, c.constant(x.dataType, [count, size], matrix), lhsContracting: [axis], rhsContracting: [1])
    let order = Array(0..<axis) + [x.rank - 1] + Array(axis..<x.rank - 1)
    return c.g.transpose(product, order)
  }
}
