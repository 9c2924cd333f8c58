package import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

extension Initializer {
  /// The initial value of the state tensor `name` under `seed`. Fans follow the convention that
  /// axis 0 counts outputs, axis 1 inputs, and further axes the receptive field.
  package func value(_ type: TensorType, name: String, seed: UInt64) -> Tensor {
    let sizes = type.sizes
    let field = sizes.dropFirst(2).reduce(1, *)
    let fanIn = Double(max(1, (sizes.count > 1 ? sizes[1] : sizes.first ?? 1) * field))
    let fanOut = Double(max(1, (sizes.first ?? 1) * field))
    switch self {
    case .zeros: return Tensor(zeros: type.dataType, sizes)
    case .constant(let value): return Tensor(splat: value, type.dataType, sizes)
    case .uniform(let low, let high): return uniform(low, high, type, name, seed)
    case .normal(let mean, let deviation): return normal(mean, deviation, type, name, seed)
    case .glorotUniform:
      let limit = sqrt(6 / (fanIn + fanOut))
      return uniform(-limit, limit, type, name, seed)
    case .glorotNormal: return normal(0, sqrt(2 / (fanIn + fanOut)), type, name, seed)
    case .heUniform:
      let limit = sqrt(6 / fanIn)
      return uniform(-limit, limit, type, name, seed)
    case .heNormal: return normal(0, sqrt(2 / fanIn), type, name, seed)
    }
  }

  /// The stream of a name: the 64-bit FNV-1a hash of its UTF-8 bytes is the Philox counter.
  private func stream(_ name: String) -> UInt64 {
    TextHash.of(name)
  }

  /// Makes the elements in parts, so that they take no more memory than the tensor.
  private func fill(_ type: TensorType, _ value: (Int) -> Double) -> Tensor {
    var tensor = Tensor(uninitialized: type.dataType, type.sizes)
    let part = 1 << 12
    for start in stride(from: 0, to: type.elementCount, by: part) {
      let values = (start..<min(start + part, type.elementCount)).map(value)
      let piece =
        type.dataType.isFloat
        ? Tensor(type.dataType, [values.count], rounding: values)
        : Tensor(
          type.dataType, [values.count],
          truncating: values.map {
            Int64(clamping: Int128(exactly: $0.rounded(.towardZero)) ?? 0)
          })
      tensor.withUnsafeMutableBytes { target in
        piece.withUnsafeBytes {
          UnsafeMutableRawBufferPointer(rebasing: target[(start * type.dataType.byteCount)...])
            .copyMemory(from: $0)
        }
      }
    }
    return tensor
  }

  private func uniform(
    _ low: Double, _ high: Double, _ type: TensorType, _ name: String, _ seed: UInt64
  ) -> Tensor {
    let counter = stream(name)
    return fill(type) { index in
      let word = Philox.word(index: UInt64(index), key: seed, counter: counter)
      return low + (high - low) * (Double(word >> 8) * 0x1p-24)
    }
  }

  /// Box and Muller's transformation of pairs of words.
  private func normal(
    _ mean: Double, _ deviation: Double, _ type: TensorType, _ name: String, _ seed: UInt64
  ) -> Tensor {
    let counter = stream(name)
    return fill(type) { index in
      let pair = UInt64(index) / 2 * 2
      let u = Philox.word(index: pair, key: seed, counter: counter)
      let v = Philox.word(index: pair + 1, key: seed, counter: counter)
      let radius = sqrt(-2 * log((Double(u >> 8) + 1) * 0x1p-24))
      let angle = 2 * Double.pi * (Double(v >> 8) * 0x1p-24)
      return mean + deviation * radius * (index % 2 == 0 ? cos(angle) : sin(angle))
    }
  }

  /// The name and the arguments under which files hold the initialiser.
  package var encoded: (name: String, arguments: [Double]) {
    switch self {
    case .zeros: ("zeros", [])
    case .constant(let v): ("constant", [v])
    case .uniform(let a, let b): ("uniform", [a, b])
    case .normal(let m, let d): ("normal", [m, d])
    case .glorotUniform: ("glorot_uniform", [])
    case .glorotNormal: ("glorot_normal", [])
    case .heUniform: ("he_uniform", [])
    case .heNormal: ("he_normal", [])
    }
  }

  package init(name: String, arguments a: [Double]) throws(DLCError) {
    switch (name, a.count) {
    case ("zeros", 0): self = .zeros
    case ("constant", 1): self = .constant(a[0])
    case ("uniform", 2): self = .uniform(a[0], a[1])
    case ("normal", 2): self = .normal(mean: a[0], deviation: a[1])
    case ("glorot_uniform", 0): self = .glorotUniform
    case ("glorot_normal", 0): self = .glorotNormal
    case ("he_uniform", 0): self = .heUniform
    case ("he_normal", 0): self = .heNormal
    default:
      throw DLCError(
        .graph, "initialiser '\(name.prefix(64))' with \(counted(a.count, "argument")) is not known"
      )
    }
    guard a.allSatisfy(\.isFinite) else {
      throw DLCError(.graph, "initialiser '\(name)' has an argument that is not finite")
    }
  }
}

extension Initializer {
  /// Throws `.graph` for numbers that no tensor of the type can begin with.
  func validate(for type: DataType) throws(DLCError) {
    func require(_ holds: Bool, _ what: String) throws(DLCError) {
      if !holds { throw DLCError(.graph, what) }
    }
    switch self {
    case .zeros: return
    case .constant(let number):
      // Any real number is rounded to a floating-point one, but not to infinity.
      let isHeld =
        type.isFloat ? Tensor(splat: number, type, []).doubles[0].isFinite : type.holds(number)
      try require(isHeld, "the initial value \(number) is no \(type)")
    case .uniform(let low, let high):
      try require(
        low.isFinite && high.isFinite && low <= high,
        "an initialiser is uniform from \(low) to \(high): two numbers, the smaller one first")
    case .normal(let mean, let deviation):
      try require(
        mean.isFinite && deviation.isFinite && deviation >= 0,
        "an initialiser is normal with mean \(mean) and deviation \(deviation): numbers, the deviation from 0 on"
      )
    case .glorotUniform, .glorotNormal, .heUniform, .heNormal: break
    }
    switch self {
    case .zeros, .constant: break
    default:
      try require(
        type.isFloat, "\(type) values have no random initialiser; give .zeros or .constant")
    }
  }
}
