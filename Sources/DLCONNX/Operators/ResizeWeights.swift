import DLCTensor

/// What each element of a resized axis is made of: a sum of elements of the axis with weights, which are all known when
/// the graph is built.
struct ResizeWeights: Equatable {
  /// Per element of the result its sources, of which all elements have as many.
  var places: [[Int]]
  var weights: [[Double]]
  /// Elements that lie outside and get a value of their own.
  var isOutside: [Bool]

  /// Whether the result is the axis itself.
  func isIdentity(_ size: Int) -> Bool {
    places.count == size && isPlain && places.indices.allSatisfy { places[$0] == [$0] }
  }

  /// Whether each element is a copy of one.
  var isPlain: Bool { weights.allSatisfy { $0 == [1] } && !isOutside.contains(true) }

  /// How often each element follows itself, when all do so alike.
  func repeats(_ size: Int) -> Int? {
    guard isPlain, size > 0, places.count % size == 0 else { return nil }
    let count = places.count / size
    return places.indices.allSatisfy { places[$0] == [$0 / count] } ? count : nil
  }

  /// The start and the step, when every element is a copy of the one a step further.
  var stride: (start: Int, step: Int)? {
    guard isPlain, places.count > 1 else { return nil }
    let (start, step) = (places[0][0], places[1][0] - places[0][0])
    guard step > 0 else { return nil }
    return places.indices.allSatisfy { places[$0][0] == start + $0 * step } ? (start, step) : nil
  }
}

/// How coordinates of a resized axis relate to those of the axis, and what is read there.
struct Resampling {
  enum Mode { case nearest, linear, cubic }
  enum Coordinates: String {
    case half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric
    case tf_crop_and_resize
  }
  enum Rounding: String {
    case round_prefer_floor, round_prefer_ceil, floor, ceil
    /// That of version 10: away from zero where the axis shrinks.
    case simple
  }

  var mode = Mode.nearest
  var coordinates = Coordinates.half_pixel
  var rounding = Rounding.round_prefer_floor
  var cubicCoefficient = -0.75
  var excludesOutside = false
  var antialiases = false

  /// Where an element of the result lies on the axis.
  /// - Parameters:
  ///   - scale: as the model gives it, which need not be the ratio of the sizes.
  ///   - width: the size times the scale.
  private func source<R: BinaryFloatingPoint>(
    _ index: Int, _ size: Int, _ count: Int, _ scale: R, _ width: R, _ region: (R, R)
  ) -> R {
    let (x, last) = (R(index), R(size - 1))
    switch coordinates {
    case .half_pixel: return (x + 0.5) / scale - 0.5
    case .half_pixel_symmetric:
      let offset = R(size) / 2 * (1 - R(count) / width)
      return offset + (x + 0.5) / scale - 0.5
    case .pytorch_half_pixel: return count > 1 ? (x + 0.5) / scale - 0.5 : 0
    case .align_corners: return width == 1 || count == 1 ? 0 : x * last / (width - 1)
    case .asymmetric: return x / scale
    case .tf_crop_and_resize:
      let (start, end) = region
      return width == 1 || count == 1
        ? (start + end) * last / 2 : start * last + x * (end - start) * last / (width - 1)
    }
  }

  /// - Parameters:
  ///   - size: of the axis, at least 1.
  ///   - count: of the result.
  ///   - region: the part of the axis that is taken, in units of its length.
  func weights(_ size: Int, _ count: Int, scale: Double, width: Double, region: (Double, Double))
    -> ResizeWeights
  {
    var result = ResizeWeights(places: [], weights: [], isOutside: [])
    for index in 0..<count {
      if mode == .nearest {
        // In single precision, in which ties fall as they do in ONNX Runtime.
        let x = source(
          index, size, count, Float(scale), Float(width), (Float(region.0), Float(region.1)))
        result.places.append([min(max(nearest(x, scale), 0), size - 1)])
        result.weights.append([1])
        result.isOutside.append(isOutside(Double(x), size))
      } else {
        let x = source(index, size, count, scale, width, region)
        let (first, weights) = taps(x, scale, size)
        result.places.append(weights.indices.map { min(max(first + $0, 0), size - 1) })
        result.weights.append(weights)
        result.isOutside.append(isOutside(x, size))
      }
    }
    return result
  }

  private func isOutside(_ x: Double, _ size: Int) -> Bool {
    coordinates == .tf_crop_and_resize && (x < 0 || x > Double(size - 1))
  }

  /// - Parameter x: a coordinate, of which rounding may have moved a tie by a bit.
  private func nearest(_ x: Float, _ scale: Double) -> Int {
    guard x.magnitude < 1e9 else { return x > 0 ? Int.max : 0 }
    let below = x.rounded(.down)
    let isTie = (x - below - 0.5).magnitude <= 1e-6
    switch rounding {
    case .round_prefer_floor: return Int(isTie ? below : x.rounded())
    case .round_prefer_ceil: return Int(isTie ? below + 1 : x.rounded())
    case .floor: return Int(x.rounded(.down))
    case .ceil: return Int(x.rounded(.up))
    case .simple: return Int(x.rounded(scale < 1 ? .up : .towardZero))
    }
  }

  private func cubic(_ x: Double) -> Double {
    let (a, x) = (cubicCoefficient, x.magnitude)
    if x <= 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0
  }

  /// The first source and the weights from there on.
  private func taps(_ x: Double, _ scale: Double, _ size: Int) -> (first: Int, weights: [Double]) {
    let x = x.isNaN ? 0 : min(max(x, -1e9), 1e9)
    let base = Int(x.rounded(.down))
    let shrink = antialiases ? min(scale, 1) : 1
    let reach = Int(((mode == .cubic ? 2 : 1) / shrink).rounded(.up))
    let first = base - reach + 1
    var weights = (first...base + reach).map { place -> Double in
      let distance = (Double(place) - x) * shrink
      return mode == .cubic ? cubic(distance) : max(1 - distance.magnitude, 0)
    }
    func normalize() {
      let sum = weights.reduce(0, +)
      if sum != 0 { weights = weights.map { $0 / sum } }
    }
    if shrink < 1 { normalize() }
    if excludesOutside {
      for index in weights.indices where first + index < 0 || first + index >= size {
        weights[index] = 0
      }
      normalize()
    }
    return (first, weights)
  }
}
