import DLCGraph
import DLCTensor

/// An axis of a named size that is resized: the graph computes coordinates, and gathers what is there.
struct OpenAxis {
  let c: NodeContext
  let x: Value
  let axis: Int
  let count: Size
  /// nil for the ratio of the sizes.
  let scale: Double?
  let resampling: Resampling

  private var g: FunctionBuilder { c.g }
  private var size: Size { x.shape[axis] }

  /// - Throws: where the size must be a number.
  init(
    _ c: NodeContext, _ x: Value, _ axis: Int, _ count: Size, _ scale: Double?,
    _ resampling: Resampling
  ) throws(ImportStop) {
    let isOpen: Bool
    switch resampling.coordinates {
    case .tf_crop_and_resize, .half_pixel_symmetric: isOpen = false
    default: isOpen = !resampling.antialiases && !resampling.excludesOutside
    }
    if !isOpen || resampling.mode == .nearest && resampling.rounding == .simple {
      _ = try c.number(x.shape[axis])
      _ = try c.number(count)
    }
    (self.c, self.x, self.axis, self.count) = (c, x, axis, count)
    (self.scale, self.resampling) = (scale, resampling)
  }

  private func number(_ size: Size) -> Value {
    g.broadcast(g.dimension(size, .float32), to: [count])
  }

  /// Where the elements of the result lie.
  private func source() -> Value {
    let place = g.iota(.float32, [count], axis: 0)
    let ratio =
      scale.map { g.constant($0, like: place) } ?? number(count) / number(size)
    switch resampling.coordinates {
    case .asymmetric: return place / ratio
    case .align_corners:
      let steps = g.maximum(number(count - 1), g.constant(1, like: place))
      return place * number(size - 1) / steps
    case .pytorch_half_pixel:
      let inner = (place + 0.5) / ratio - 0.5
      return g.select(number(count) > 1.0, inner, g.constant(0, like: place))
    default: return (place + 0.5) / ratio - 0.5
    }
  }

  private func nearest(_ x: Value) -> Value {
    switch resampling.rounding {
    case .round_prefer_floor: g.ceil(x - 0.5)
    case .round_prefer_ceil: g.floor(x + 0.5)
    case .floor, .simple: g.floor(x)
    case .ceil: g.ceil(x)
    }
  }

  private func taps(_ x: Value) -> [(place: Value, weight: Value?)] {
    if resampling.mode == .nearest { return [(nearest(x), nil)] }
    let base = g.floor(x)
    let part = x - base
    if resampling.mode == .linear { return [(base, 1.0 - part), (base + 1.0, part)] }
    let a = resampling.cubicCoefficient
    func near(_ t: Value) -> Value { ((a + 2) * t - (a + 3)) * t * t + 1.0 }
    func far(_ t: Value) -> Value { ((a * t - 5 * a) * t + 8 * a) * t - 4 * a }
    return [
      (base - 1.0, far(part + 1.0)), (base, near(part)), (base + 1.0, near(1.0 - part)),
      (base + 2.0, far(2.0 - part)),
    ]
  }

  func resized() -> Value {
    let points = source()
    let (first, last) = (g.constant(0, like: points), number(size - 1))
    let parts = taps(points).map { place, weight -> Value in
      let index = g.convert(g.minimum(g.maximum(place, first), last), .int64)
      let part = IndexingOperators.taken(c, x, index, axis: axis)
      guard let weight else { return part }
      return part * g.broadcast(g.convert(weight, x.dataType), to: part.shape, axes: [axis])
    }
    return parts.dropFirst().reduce(parts[0]) { $0 + $1 }
  }
}
