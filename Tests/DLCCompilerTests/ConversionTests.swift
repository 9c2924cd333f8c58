import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Conversions between all 13 types, compiled and interpreted, against the nearest number found by exact
/// comparison.
@Suite struct ConversionTests {
  /// A number exactly: no double holds every 64-bit integer.
  enum Exact {
    case real(Double)
    case integer(Int128)

    func isBelow(_ x: Double) -> Bool { compare(x) < 0 }

    /// -1, 0 or 1: how this stands to a finite double.
    func compare(_ x: Double) -> Int {
      switch self {
      case .real(let value): value < x ? -1 : value > x ? 1 : 0
      case .integer(let value):
        // A double with a fraction is far below 2^53, where integers are doubles.
        if let whole = Int128(exactly: x) {
          value < whole ? -1 : value > whole ? 1 : 0
        } else {
          Double(value) < x ? -1 : 1
        }
      }
    }
  }

  /// All finite numbers of a half type in order, with what comes where infinity is.
  static func numbers(_ type: DataType) -> [(value: Double, bits: UInt16)] {
    let top: UInt16 = type == .float16 ? 0x7c00 : 0x7f80
    func value(_ bits: UInt16) -> Double {
      Double(type == .float16 ? Float(float16Bits: bits) : Float(bfloat16Bits: bits))
    }
    let positive = (0..<top).map { (value($0), $0) } + [(type == .float16 ? 0x1p16 : 0x1p128, top)]
    return positive.dropFirst().reversed().map { (-$0.0, $0.1 | 0x8000) } + positive
  }

  /// The nearest number of a half type, ties to the even pattern.
  static func nearest(_ x: Exact, _ list: [(value: Double, bits: UInt16)]) -> UInt16 {
    if case .real(let v) = x, v == 0, v.sign == .minus { return 0x8000 }
    var (low, high) = (0, list.count)
    while low < high {
      let middle = (low + high) / 2
      if x.isBelow(list[middle].value) { high = middle } else { low = middle + 1 }
    }
    // list[low - 1] <= x < list[low]
    if low == 0 { return list[0].bits }
    if low == list.count { return list[low - 1].bits }
    let (a, b) = (list[low - 1], list[low])
    // Zero has the sign of what was rounded to it.
    func zero(_ bits: UInt16) -> UInt16 {
      if bits == 0, x.isBelow(0) { return 0x8000 }
      return bits
    }
    switch x.compare(a.value / 2 + b.value / 2) {
    case -1: return zero(a.bits)
    case 1: return zero(b.bits)
    default: return zero(a.bits & 1 == 0 ? a.bits : b.bits)
    }
  }

  static func edges(_ type: DataType) -> Tensor {
    var state: UInt64 = 0x9E37_79B9
    func word() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state ^ state >> 29
    }
    if type == .bool { return Tensor(type, [5], truncating: [0, 1, 1, 0, 1]) }
    if type.isFloat {
      var list: [Double] = [
        0, -0.0, .nan, .infinity, -.infinity, 0.5, 1.5, 254.9, 255.5, 65504, 65519.99, 65520, 65536,
        0x1p-14, 0x1p-24, 0x1p-25, 0x1.0001p-25, 0x1p-126, 0x1p-133, 0x1p-134, 0x1.00001p-134, 0x1p-149,
        1 + 0x1p-11, 1 + 0x1p-11 + 0x1p-30, 1 + 0x1p-11 + 0x1p-45, 1 + 0x3p-11, 1 + 0x1p-8 + 0x1p-40,
        1 + 0x1p-8, 1 + 0x1p-8 - 0x1p-40, 1 + 0x1p-24 + 0x1p-52, 0x1p24 + 1, 0x1p31, 0x1p31 - 1, 0x1p32,
        0x1p53 + 2, 0x1p63, 0x1.fffffffffffffp62, 0x1p64, 1e30, 3.4e38, 0x1.ffp127, 0x1.fep127, 1e300,
        5e-324, 127.5, 128, 32767.5, 32768, 2.4e-4, 5.9604645e-08 * 2.5,
      ]
      list += list.map { -$0 }
      for _ in 0..<400 { list.append(Double(bitPattern: word())) }
      for _ in 0..<400 {
        let size = Double(sign: .plus, exponent: Int(word() % 60) - 30, significand: 1)
        list.append(size * (1 + Double(word() >> 12) * 0x1p-52) * (word() & 1 == 0 ? 1 : -1))
      }
      return Tensor(type, [list.count], rounding: list)
    }
    var list: [Int64] = [
      0, 1, -1, 127, 128, -128, 255, 256, 2047, 2049, 2051, 4097, 32767, -32768, 65504, 65519, 65520,
      1 << 24 + 1, (1 << 24) + 1, (1 << 25) + (1 << 13) + 1, (1 << 31) - 1, -(1 << 31), 1 << 32,
      (1 << 53) + 1, (1 << 62) + (1 << 38) + 1, (1 << 62) + (1 << 54) + 1, (1 << 62) + (1 << 54),
      (1 << 62) + (1 << 54) - 1, .max, .min, .max - 1, .min + 1, (1 << 40) + (1 << 32) + 1,
      (1 << 30) + (1 << 22) + 1, (1 << 30) + (1 << 22), -(1 << 30) - (1 << 22) - 1,
    ]
    list += list.map { 0 &- $0 }
    for _ in 0..<300 { list.append(Int64(bitPattern: word())) }
    for _ in 0..<300 { list.append(Int64(bitPattern: word()) >> Int64(word() % 60)) }
    return Tensor(type, [list.count], truncating: list)
  }

  static func exact(_ tensor: Tensor) -> [Exact] {
    if tensor.dataType.isFloat { return tensor.doubles.map { .real($0) } }
    return tensor.integers.map {
      .integer(
        tensor.dataType == .uint64 ? Int128(UInt64(bitPattern: $0)) : Int128($0))
    }
  }

  /// What a conversion gives, as a pattern of the target type; nil for NaN.
  static func expected(
    _ x: Exact, _ target: DataType, _ halves: [(value: Double, bits: UInt16)]
  ) -> UInt64? {
    var real: Double?
    if case .real(let v) = x { real = v }
    if target.isFloat {
      if let real, real.isNaN { return nil }
      switch target {
      case .float64:
        if case .integer(let i) = x { return Double(i).bitPattern }
        return real!.bitPattern
      case .float32:
        if case .integer(let i) = x { return UInt64(Float(i).bitPattern) }
        return UInt64(Float(real!).bitPattern)
      default:
        if let real, real.isInfinite {
          return UInt64(real < 0 ? halves.first!.bits : halves.last!.bits)
        }
        return UInt64(nearest(x, halves))
      }
    }
    if target == .bool {
      if case .integer(let i) = x { return i == 0 ? 0 : 1 }
      return real! == 0 ? 0 : 1
    }
    let mask: UInt64 = target.bitCount == 64 ? .max : 1 << UInt64(target.bitCount) - 1
    let wide: Int128
    switch x {
    case .integer(let i): wide = i  // low bits are kept
    case .real(let v):
      let bits = Int128(target.bitCount)
      let half: Int128 = 1 << (bits - 1)
      let low: Int128 = target.isSigned ? -half : 0
      let high: Int128 = target.isSigned ? half - 1 : half * 2 - 1
      if v.isNaN {
        wide = 0
      } else if v >= Double(high) {
        wide = high
      } else if v <= Double(low) {
        wide = low
      } else {
        wide = Int128(v.rounded(.towardZero))
      }
    }
    return UInt64(truncatingIfNeeded: wide) & mask
  }

  static func patterns(_ tensor: Tensor) -> [UInt64?] {
    let size = tensor.dataType.byteCount
    let reals = tensor.dataType.isFloat ? tensor.doubles : []
    return tensor.withUnsafeBytes { bytes in
      (0..<tensor.count).map { index in
        if !reals.isEmpty && reals[index].isNaN { return nil }
        var pattern: UInt64 = 0
        for byte in 0..<size { pattern |= UInt64(bytes[index * size + byte]) << UInt64(8 * byte) }
        return pattern
      }
    }
  }

  @Test(arguments: DataType.allCases) func everyConversionRoundsOnce(_ source: DataType) throws {
    let x = Self.edges(source)
    var module = Module("conversions")
    try module.function("forward") { g in
      let input = g.input("x", source, [Size(x.count)])
      // Conversions to the same type copy; what was converted is also used in the kernel that made it.
      for target in DataType.allCases {
        let y = g.convert(input, target)
        g.output("\(target)", y)
        if target.isFloat { g.output("wide \(target)", g.convert(y, .float64)) }
      }
    }
    let exact = Self.exact(x)
    let results = try Compiler().compile(module).run(["x": x], threads: 2)
    let (reference, _) = try Interpreter().run(
      module, function: module.functions[0], inputs: ["x": x], states: [:], dimensions: [:])
    for target in DataType.allCases {
      let halves = target == .float16 || target == .bfloat16 ? Self.numbers(target) : []
      let want = exact.map { Self.expected($0, target, halves) }
      for (kind, list) in [("compiled", results), ("interpreted", reference)] {
        let got = Self.patterns(list.first { $0.name == "\(target)" }!.value)
        for i in want.indices where got[i] != want[i] {
          Issue.record("\(kind) \(source) \(exact[i]) to \(target): \(got[i] as Any), not \(want[i] as Any)")
        }
        // Within a kernel the number is the one that is stored.
        if target.isFloat {
          let stored = list.first { $0.name == "\(target)" }!.value.doubles
          let carried = list.first { $0.name == "wide \(target)" }!.value.doubles
          for (i, (a, b)) in zip(stored, carried).enumerated() where !(a == b || a.isNaN && b.isNaN) {
            Issue.record("\(kind) \(source) \(exact[i]) by \(target): \(b) in use, \(a) stored")
          }
        }
      }
    }
  }

  /// Positions of every integer type, in range and beyond it, move inside; scatter leaves out.
  @Test(arguments: DataType.allCases.filter(\.isInteger)) func indicesClamp(_ type: DataType) throws {
    let raw: [Int64] = [0, 1, 2, 3, 100, type.isSigned ? -1 : type == .uint64 ? -1 : 255]
    let last: [Double] = type.isSigned ? [0, 1, 2, 2, 2, 0] : [0, 1, 2, 2, 2, 2]
    let indices = Tensor(type, [6], truncating: raw)
    let scalar = Tensor(type, [], truncating: [raw[5]])
    let table = Tensor([3], [10, 20, 30] as [Float])
    var module = Module("indices")
    try module.function("forward") { g in
      let t = g.input("t", .float32, [3])
      let i = g.input("i", type, [6])
      let at = g.input("at", type)
      let rows = g.embedding(t, i)
      g.output("gather", rows)
      g.output("slice", g.dynamicSlice(t, at: [at], sizes: [2]))
      g.output("update", g.dynamicUpdate(t, g.constant(7, .float32, [1]), at: [at]))
      let counts = g.scatterAlong(0, g.constant(0, like: t), i, g.constant(1, .float32, [6]))
      g.output("scatter", counts)
      g.output("derivative", g.gradient(of: g.sum(rows, axes: [0]), by: [t])[0])
    }
    let end = type.isSigned ? 0.0 : 1
    let want: [String: [Double]] = [
      "gather": last.map { 10 + 10 * $0 },
      "slice": type.isSigned ? [10, 20] : [20, 30],
      "update": type.isSigned ? [7, 20, 30] : [10, 20, 7],
      "scatter": [1, 1, 1],
      "derivative": [2 - end, 1, 3 + end],
    ]
    let inputs = ["t": table, "i": indices, "at": scalar]
    let results = try Compiler().compile(module).run(inputs, threads: 2)
    let (reference, _) = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:])
    for list in [results, reference] {
      for (name, value) in list { #expect(value.doubles == want[name], "\(type) \(name)") }
    }
  }

  /// An index type that cannot hold the size of the table.
  @Test func narrowIndicesKeepTheirDerivative() throws {
    var module = Module("indices")
    try module.function("forward") { g in
      let t = g.input("t", .float32, [1000])
      let i = g.input("i", .uint8, [2])
      g.output("d", g.gradient(of: g.sum(g.embedding(t, i), axes: [0]), by: [t])[0])
    }
    let inputs = [
      "t": Tensor(zeros: .float32, [1000]), "i": Tensor(.uint8, [2], truncating: [240, 255]),
    ]
    let d = try Compiler().compile(module).run(inputs)[0].value.doubles
    #expect(d.indices.filter { d[$0] != 0 } == [240, 255])
  }
}
