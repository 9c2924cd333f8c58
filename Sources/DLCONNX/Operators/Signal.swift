import DLCGraph
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Fourier transforms and what goes with them. Sums are taken in float64.
enum SignalOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("DFT", since: 17, inputs: 2, statics: ["dft_length"]) { c throws(ImportStop) in
      try transform(c, axis: try c.integer("axis", 1))
    },
    OperatorMapping("DFT", since: 20, inputs: 3, statics: ["dft_length", "axis"]) {
      c throws(ImportStop) in
      try transform(c, axis: c.has(2) ? try c.integer(2) : -2)
    },
    OperatorMapping(
      "STFT", since: 17, inputs: 4, statics: ["frame_step", "frame_length"], shortTime),
    window("HannWindow", [0.5, 0.5]),
    window("HammingWindow", [25.0 / 46, 21.0 / 46]),
    window("BlackmanWindow", [0.42, 0.5, 0.08]),
    OperatorMapping(
      "MelWeightMatrix", since: 17, inputs: 5,
      statics: [
        "num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz",
      ], melWeights),
  ]

  // MARK: Transforms

  /// Real and imaginary parts, transformed along the last axis.
  private typealias Parts = (real: Value, imaginary: Value)

  /// Transforms of no more elements are products with a matrix.
  private static let directLimit = 64

  /// sum over n of e^(sign 2 pi j k n / N) x[n], by the smallest factors of N that are no larger than the limit
  /// (Cooley and Tukey 1965); of what has no factors, as a product.
  private static func spectrum(_ g: FunctionBuilder, _ x: Parts, _ count: Int, _ sign: Double)
    -> Parts
  {
    let factor = (2...max(directLimit, 2)).reversed().first { count % $0 == 0 && $0 < count }
    guard count > directLimit, let n1 = factor else { return direct(g, x, count, sign) }
    let n2 = count / n1
    let lead = Array(x.real.shape.dropLast())
    let rank = lead.count
    // x[N2 n1 + n2] as [n2, n1], transformed over n1.
    let swap = Array(0..<rank) + [rank + 1, rank]
    func split(_ v: Value) -> Value {
      g.transpose(g.reshape(v, lead + [Size(n1), Size(n2)]), swap)
    }
    let inner = spectrum(g, (split(x.real), split(x.imaginary)), n1, sign)
    // Twiddle factors e^(sign 2 pi j n2 k1 / N).
    let angles = (0..<n2).flatMap { b in (0..<n1).map { k in angle(b * k, count, sign) } }
    let twiddle = (
      real: g.constant(Tensor(.float64, [n2, n1], rounding: angles.map { cos($0) })),
      imaginary: g.constant(Tensor(.float64, [n2, n1], rounding: angles.map { sin($0) }))
    )
    let turned: Parts = (
      inner.real * twiddle.real - inner.imaginary * twiddle.imaginary,
      inner.real * twiddle.imaginary + inner.imaginary * twiddle.real
    )
    func back(_ v: Value) -> Value { g.transpose(v, swap) }
    let outer = spectrum(g, (back(turned.real), back(turned.imaginary)), n2, sign)
    // X[k1 + N1 k2] is at [k1, k2].
    func joined(_ v: Value) -> Value { g.reshape(g.transpose(v, swap), lead + [Size(count)]) }
    return (joined(outer.real), joined(outer.imaginary))
  }

  private static func angle(_ product: Int, _ count: Int, _ sign: Double) -> Double {
    sign * 2 * Double.pi * Double(product % count) / Double(count)
  }

  /// Throws for lengths whose large factors would need too large a matrix.
  private static func requireTransform(_ c: NodeContext, _ count: Int) throws(ImportStop) {
    var rest = count
    for factor in 2...directLimit { while rest % factor == 0 { rest /= factor } }
    guard rest <= 1 << 13 else {
      throw c.unsupported("a transform of \(count) elements, which has the factor \(rest)")
    }
  }

  private static func direct(_ g: FunctionBuilder, _ x: Parts, _ count: Int, _ sign: Double)
    -> Parts
  {
    let angles = (0..<count).flatMap { n in (0..<count).map { k in angle(n * k, count, sign) } }
    let cosines = g.constant(Tensor(.float64, [count, count], rounding: angles.map { cos($0) }))
    let sines = g.constant(Tensor(.float64, [count, count], rounding: angles.map { sin($0) }))
    func dot(_ v: Value, _ m: Value) -> Value {
      g.dotGeneral(v, m, lhsContracting: [-1], rhsContracting: [0])
    }
    return (
      dot(x.real, cosines) - dot(x.imaginary, sines), dot(x.real, sines) + dot(x.imaginary, cosines)
    )
  }

  /// Elements along the last axis: the first ones, or all with zeros behind them.
  private static func sized(_ g: FunctionBuilder, _ x: Value, _ count: Int, from size: Int) -> Value
  {
    if size == count { return x }
    if size > count { return g.slice(x, axis: -1, from: 0, to: Size(count)) }
    let zeros = x.shape.map { _ in Size(0) }
    return g.pad(x, 0, low: zeros, high: zeros.dropLast() + [Size(count - size)])
  }

  private static func transform(_ c: NodeContext, axis given: Int) throws(ImportStop) -> [Value?] {
    let input = try c.operand(0)
    let g = c.g
    let rank = input.rank
    guard rank >= 2 else { throw c.fail("the input is \(input.type), without an axis of parts") }
    let axis = try c.axis(given, rank: rank)
    guard axis < rank - 1 else { throw c.fail("axis \(given) is that of the parts") }
    let width = try c.number(input.shape[rank - 1])
    guard width == 1 || width == 2 else {
      throw c.fail("the last axis of \(input.type) is not 1 or 2")
    }
    let (isInverse, isOnesided) = (try c.flag("inverse"), try c.flag("onesided"))
    let size = try c.number(input.shape[axis])
    let length =
      try c.integers(orNil: 1)?.first ?? (isInverse && isOnesided ? 2 * (size - 1) : size)
    guard length >= 1, length <= 1 << 24 else {
      throw c.fail("the length of the transform is \(length)")
    }
    try requireTransform(c, length)
    // The axis last, and real and imaginary parts apart.
    let order = (0..<rank - 1).filter { $0 != axis } + [axis]
    func part(_ index: Int) -> Value {
      let one = g.slice(input, axis: -1, from: Size(index), to: Size(index + 1))
      return g.convert(g.transpose(g.reshape(one, Array(input.shape.dropLast())), order), .float64)
    }
    let real = part(0)
    var x: Parts = (real, width == 2 ? part(1) : g.constant(0, like: real))
    if isInverse && isOnesided {
      let half = length / 2 + 1
      x = (sized(g, x.real, half, from: size), sized(g, x.imaginary, half, from: size))
      x = mirrored(g, x, half, length)
    } else {
      x = (sized(g, x.real, length, from: size), sized(g, x.imaginary, length, from: size))
    }
    var y = spectrum(g, x, length, isInverse ? 1 : -1)
    if isInverse {
      let scale = 1 / Double(length)
      y = (y.real * scale, y.imaginary * scale)
    } else if isOnesided {
      let half = length / 2 + 1
      y = (sized(g, y.real, half, from: length), sized(g, y.imaginary, half, from: length))
    }
    var back = [Int](repeating: 0, count: rank - 1)
    for (place, from) in order.enumerated() { back[from] = place }
    let parts = (isInverse && isOnesided ? [y.real] : [y.real, y.imaginary]).map {
      c.unsqueezed(g.convert(g.transpose($0, back), input.dataType), [rank - 1])
    }
    return [g.concatenate(parts, axis: rank - 1)]
  }

  /// The whole spectrum of a real signal from its first half: the rest is conjugate.
  private static func mirrored(_ g: FunctionBuilder, _ x: Parts, _ half: Int, _ length: Int)
    -> Parts
  {
    let rest = length - half
    if rest == 0 { return x }
    func tail(_ v: Value) -> Value {
      g.reverse(g.slice(v, axis: -1, from: 1, to: Size(1 + rest)), axes: [v.rank - 1])
    }
    return (
      g.concatenate([x.real, tail(x.real)], axis: x.real.rank - 1),
      g.concatenate([x.imaginary, -tail(x.imaginary)], axis: x.real.rank - 1)
    )
  }

  private static func shortTime(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let signal = try c.operand(0)
    let g = c.g
    guard signal.rank == 3 || signal.rank == 2 else { throw c.fail("the signal is \(signal.type)") }
    let wide = signal.rank == 2 ? c.unsqueezed(signal, [2]) : signal
    let step = try c.integer(1)
    let total = try c.number(wide.shape[1])
    let windowSize = try c.optional(2).map { w throws(ImportStop) in try c.number(w.shape[0]) }
    let length = try c.integers(orNil: 3)?.first ?? windowSize ?? total
    guard step > 0, length > 0, length <= total, windowSize ?? length == length else {
      throw c.fail("frames of \(length) every \(step) do not fit a signal of \(total)")
    }
    let frames = (total - length) / step + 1
    guard frames <= (1 << 28) / length else {
      throw c.unsupported("\(frames) frames of \(length) elements")
    }
    try requireTransform(c, length)
    let width = try c.number(wide.shape[2])
    let places = (0..<frames).flatMap { f in (0..<length).map { f * step + $0 } }
    let picked = IndexingOperators.taken(c, wide, c.constant([frames, length], places), axis: 1)
    func part(_ index: Int) -> Value {
      let one = g.slice(picked, axis: -1, from: Size(index), to: Size(index + 1))
      let flat = g.convert(g.reshape(one, Array(picked.shape.dropLast())), .float64)
      return c.optional(2).map { flat * g.convert($0, .float64) } ?? flat
    }
    let real = part(0)
    var y = spectrum(g, (real, width == 2 ? part(1) : g.constant(0, like: real)), length, -1)
    if try c.flag("onesided", true) {
      let half = length / 2 + 1
      y = (sized(g, y.real, half, from: length), sized(g, y.imaginary, half, from: length))
    }
    let parts = [y.real, y.imaginary].map {
      c.unsqueezed(g.convert($0, signal.dataType), [$0.rank])
    }
    return [g.concatenate(parts, axis: 3)]
  }

  // MARK: Constants

  /// A sum of cosines: a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N).
  private static func window(_ name: String, _ factors: [Double]) -> OperatorMapping {
    OperatorMapping(name, since: 17, inputs: 1, statics: ["size"]) { c throws(ImportStop) in
      let size = try c.integer(0)
      guard size >= 0, size <= 1 << 24 else { throw c.fail("a window of \(size)") }
      let type = try c.elementType("output_datatype") ?? .float32
      let period = Double(try c.flag("periodic", true) ? size : size - 1)
      let values = (0..<size).map { n -> Double in
        factors.enumerated().reduce(0) { sum, term in
          let sign: Double = term.offset % 2 == 0 ? 1 : -1
          return sum + sign * term.element
            * cos(2 * Double.pi * Double(term.offset * n) / max(period, 1))
        }
      }
      return [c.constant(type, [size], values)]
    }
  }

  private static func melWeights(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (bins, length) = (try c.integer(0), try c.integer(1))
    let numbers = [try c.reals(2), try c.reals(3), try c.reals(4)].compactMap(\.first)
    guard numbers.count == 3, bins > 0, length > 0, bins < 1 << 16, length < 1 << 24,
      (length / 2 + 1) * bins <= 1 << 26
    else { throw c.fail("\(bins) bins of a transform of \(length)") }
    let (rate, low, high) = (numbers[0], numbers[1], numbers[2])
    func mel(_ hertz: Double) -> Double { 2595 * log10(1 + hertz / 700) }
    let step = (mel(high) - mel(low)) / Double(bins + 2)
    let edges = (0..<bins + 2).map { i -> Int in
      let hertz = 700 * (pow(10, (Double(i) * step + mel(low)) / 2595) - 1)
      return Int(Int64(truncatingWithin: ((Double(length) + 1) * hertz / rate).rounded(.down)))
    }
    guard edges.allSatisfy({ $0.magnitude < 1 << 40 }) else {
      throw c.fail("edges of \(low) and \(high) Hz at a rate of \(rate)")
    }
    let rows = length / 2 + 1
    var weights = [Double](repeating: 0, count: rows * bins)
    for i in 0..<bins {
      let (left, centre, right) = (edges[i], edges[i + 1], edges[i + 2])
      if left == centre {
        if centre < rows && centre >= 0 { weights[centre * bins + i] = 1 }
      } else {
        for j in max(left, 0)..<min(max(centre + 1, left), rows) {
          weights[j * bins + i] = Double(j - left) / Double(centre - left)
        }
      }
      for j in max(centre, 0)..<max(min(right, rows), max(centre, 0)) where right > centre {
        weights[j * bins + i] = Double(right - j) / Double(right - centre)
      }
    }
    return [c.constant(try c.elementType("output_datatype") ?? .float32, [rows, bins], weights)]
  }
}
