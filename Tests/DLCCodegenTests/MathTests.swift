import CMachine
import DLCCodegen
import DLCKernel
import DLCTensor
import Foundation
import Testing

/// The inlined functions against the C library in double (and long sums in the error bound), over the
/// whole range: every exponent, infinities, NaN and subnormal numbers. No graph takes part.
@Suite struct MathTests {
  /// One function of one array.
  static func kernel(_ operation: ScalarOperation, _ type: DataType, operands: Int, count: Int)
    -> Kernel
  {
    let i = LoopVariable(id: 0, extent: count)
    var body: [Statement] = (0..<operands).map {
      .define(ScalarID($0), .load(.parameter($0), IndexExpression(i), type))
    }
    body.append(
      .define(ScalarID(operands), .apply(operation, type, (0..<operands).map { ScalarID($0) })))
    body.append(.store(.parameter(operands), IndexExpression(i), ScalarID(operands), type))
    return Kernel(
      name: "math",
      parameters: (0...operands).map { Parameter(type, count, isOutput: $0 == operands) },
      locals: [],
      grid: [], body: [.loop(Loop(i, mode: .vector(unroll: 1), body: body))], flops: 0,
      bytesMoved: 0)
  }

  static func run<T>(
    _ operation: ScalarOperation, _ type: DataType, _ inputs: [[T]], zero: T,
    target: Target? = nil
  ) throws -> [T] {
    let count = inputs[0].count
    let kernel = kernel(operation, type, operands: inputs.count, count: count)
    #expect(kernel.violations().isEmpty)
    let image = try CodeGenerator(target ?? LLVMLibrary().host).generate([kernel])
    let code = image.bytes.withUnsafeBytes { dlc_map_code($0.baseAddress, $0.count)! }
    defer { dlc_unmap_code(code, image.bytes.count) }
    var arrays = inputs + [[T](repeating: zero, count: count)]
    var pointers: [UnsafeMutableRawPointer?] = []
    for index in arrays.indices {
      pointers.append(arrays[index].withUnsafeMutableBytes { $0.baseAddress })
    }
    pointers.withUnsafeBufferPointer {
      dlc_call_kernel(code + image.symbols["math"]!.lowerBound, $0.baseAddress, 0, nil)
    }
    return arrays[inputs.count]
  }

  /// All 2^16 upper halves of a float, with two different lower halves.
  static let floats: [Float] = (0..<131072).map { index in
    let low: UInt32 = index & 1 == 0 ? 0 : UInt32(truncatingIfNeeded: index &* 40503) & 0xffff
    return Float(bitPattern: UInt32(index >> 1) << 16 | low)
  }

  static let doubles: [Double] = (0..<131072).map { index in
    let low = UInt64(truncatingIfNeeded: index) &* 0x9E37_79B9_7F4A_7C15 & 0xffff_ffff_ffff
    return Double(bitPattern: UInt64(index >> 1) << 48 | (index & 1 == 0 ? 0 : low))
  }

  static let functions: [(UnaryFunction, Double, @Sendable (Double) -> Double)] = [
    (.exponential, 2, { exp($0) }),
    (.log, 2, { log($0) }),
    (.exponential_minus_one, 3, { expm1($0) }),
    (.log_plus_one, 4, { log1p($0) }),
    (.tanh, 4, { tanh($0) }),
    (
      .logistic, 4, { $0 < 0 ? exp($0) / (1 + exp($0)) : 1 / (1 + exp(-$0)) }
    ), (.erf, 4, { erf($0) }),
    (.erfc, 4, { erfc($0) }),
    (.sqrt, 1, { sqrt($0) }),
    (.rsqrt, 2, { 1 / sqrt($0) }),
    (.cbrt, 4, { cbrt($0) }),
    (.sine, 1, { sin($0) }), (.cosine, 1, { cos($0) }), (.tan, 3, { tan($0) }),
    (.floor, 0, { $0.rounded(.down) }), (.ceil, 0, { $0.rounded(.up) }),
    (.round_nearest_even, 0, { $0.rounded(.toNearestOrEven) }), (.abs, 0, { abs($0) }),
    (.negate, 0, { -$0 }), (.sign, 0, { $0 == 0 || $0.isNaN ? $0 : $0 > 0 ? 1 : -1 }),
  ]

  /// A zero of the right sign.
  static func hasSign(_ y: Double, of want: Double) -> Bool { want != 0 || y.sign == want.sign }

  /// Numbers around multiples of pi/2 of all sizes, where the difference is smallest.
  static let nearTurns: [Double] =
    (0..<60).flatMap { exponent -> [Double] in
      (0..<40).flatMap { index -> [Double] in
        let turns = (Double(1 + index * 7919) * pow(2, Double(exponent))).rounded()
        let x = turns * (Double.pi / 2)
        return [x, x.nextUp, x.nextDown, -x]
      }
    } + [0x1p20, (0x1p20).nextUp, -0x1p1023, .greatestFiniteMagnitude]

  @Test(arguments: functions.indices) func floatError(_ index: Int) throws {
    let (function, bound, exact) = Self.functions[index]
    let inputs = Self.floats + Self.nearTurns.map { Float($0) }
    let results = try Self.run(.unary(function), .float32, [inputs], zero: 0)
    for (x, y) in zip(inputs, results) {
      let want = exact(Double(x))
      if x.isNaN || want.isNaN {
        #expect(y.isNaN, "\(function)(\(x)) = \(y)")
        continue
      }
      let rounded = Float(want)
      if y == rounded, Self.hasSign(Double(y), of: want) { continue }
      // In the subnormal range a unit is the smallest number; double rounding costs one more.
      let unit = max(Double(rounded.ulp), Double(Float.leastNonzeroMagnitude))
      let error = abs(Double(y) - want) / unit
      if !(error <= bound) || !Self.hasSign(Double(y), of: want) {
        Issue.record("\(function)(\(x)) = \(y), not \(rounded): \(error) ulp")
      }
    }
  }

  @Test(arguments: functions.indices) func doubleError(_ index: Int) throws {
    let (function, bound, exact) = Self.functions[index]
    let inputs = Self.doubles + Self.nearTurns
    let results = try Self.run(.unary(function), .float64, [inputs], zero: 0)
    for (x, y) in zip(inputs, results) {
      let want = exact(x)
      if x.isNaN || want.isNaN {
        #expect(y.isNaN, "\(function)(\(x)) = \(y)")
        continue
      }
      if y == want, Self.hasSign(y, of: want) { continue }
      // The C library itself may be off by half a unit or, for tan and erfc, one; 1/(1+e^-x) by two.
      let slack: Double = function == .logistic ? 2 : 1
      let error = abs(y - want) / max(want.ulp, .leastNonzeroMagnitude)
      if !(error <= bound + slack) || !Self.hasSign(y, of: want) {
        Issue.record("\(function)(\(x)) = \(y), not \(want): \(error) ulp")
      }
    }
  }

  /// The double that comes nearest to a multiple of pi/2 (J.-M. Muller, Elementary Functions): the C
  /// library is 8 units off there.
  @Test func nearestToAMultiple() throws {
    let x = 6_381_956_970_095_103 * 0x1p797
    for (function, want) in [
      (UnaryFunction.sine, 1), (.cosine, -4.68716592425462761112e-19),
      (.tan, -2.13348538575370379e18),
    ] {
      let y = try Self.run(.unary(function), .float64, [[x, -x]], zero: 0)
      #expect(abs(y[0] - want) <= want.ulp, "\(function): \(y[0]), not \(want)")
      #expect(abs(y[1]) == abs(y[0]) && (y[1] == y[0]) == (function == .cosine))
    }
  }

  /// All numbers of both half types, computed in float and rounded to storage.
  @Test(arguments: functions.indices) func halfError(_ index: Int) throws {
    let (function, bound, exact) = Self.functions[index]
    let patterns = (0...UInt16.max).map { $0 }
    for type in [DataType.float16, .bfloat16] {
      func number(_ bits: UInt16) -> Double {
        Double(type == .float16 ? Float(float16Bits: bits) : Float(bfloat16Bits: bits))
      }
      func bits(_ value: Double) -> UInt16 {
        type == .float16 ? value.float16Bits : Float(value).bfloat16Bits
      }
      let results = try Self.run(.unary(function), type, [patterns], zero: 0)
      for (pattern, result) in zip(patterns, results) {
        let (x, y) = (number(pattern), number(result))
        let want = exact(x)
        let rounded = bits(want)
        let same = result == rounded || y.isNaN && want.isNaN
        // A neighbour, where the error in float passes the middle between two.
        let isNear =
          bound > 0 && Self.hasSign(y, of: want) && !y.isNaN && !want.isNaN
          && abs(Int(result & 0x7fff) - Int(rounded & 0x7fff)) <= 1
        if !same && !isNear { Issue.record("\(function)(\(x)) = \(y), not \(want) in \(type)") }
      }
    }
  }

  static let pairs: [(Double, Double)] = {
    let ends: [Double] = [
      0, -0.0, 1, -1, 2, -3, 0.1, 5e-324, -5e-324, 2.2250738585072014e-308, 1e-310, 1e300, -1e300,
      .greatestFiniteMagnitude, .infinity, -.infinity, .nan, 3, 1e22, 7e-9, 0x1p53, 0x1p52 + 1,
    ]
    var result = ends.flatMap { a in ends.map { (a, $0) } }
    for index in 0..<4000 {
      func any(_ counter: UInt64) -> Double {
        let low = Philox.word(index: UInt64(2 * index), key: 3, counter: counter)
        let high = Philox.word(index: UInt64(2 * index + 1), key: 3, counter: counter)
        return Double(bitPattern: UInt64(high) << 32 | UInt64(low))
      }
      result.append((any(1), any(2)))
    }
    return result
  }()

  /// The remainder is exact, whatever the quotient; without a fused instruction too.
  @Test(arguments: ["", "x86-64-v2"]) func remainder(_ cpu: String) throws {
    let target =
      cpu.isEmpty
      ? nil
      : Target(
        triple: try LLVMLibrary().host.triple, cpu: cpu, featureText: "+sse4.1,+sse4.2")
    if target != nil, try LLVMLibrary().host.architecture != .x86_64 { return }
    let results = try Self.run(
      .binary(.remainder), .float64, [Self.pairs.map(\.0), Self.pairs.map(\.1)], zero: 0,
      target: target)
    for ((a, b), y) in zip(Self.pairs, results) {
      let want = fmod(a, b)
      #expect(
        y == want && Self.hasSign(y, of: want) || y.isNaN && want.isNaN,
        "\(a) % \(b) = \(y), not \(want)")
    }
    let small = Self.pairs.map { (Float($0.0), Float($0.1)) }
    let floats = try Self.run(
      .binary(.remainder), .float32, [small.map(\.0), small.map(\.1)], zero: 0, target: target)
    for ((a, b), y) in zip(small, floats) {
      let want = fmodf(a, b)
      #expect(
        y == want && y.sign == want.sign || y.isNaN && want.isNaN, "\(a) % \(b) = \(y), not \(want)"
      )
    }
  }

  @Test func angles() throws {
    let results = try Self.run(
      .binary(.atan2), .float64, [Self.pairs.map(\.0), Self.pairs.map(\.1)], zero: 0)
    for ((a, b), y) in zip(Self.pairs, results) {
      let want = atan2(a, b)
      let isNear = abs(y - want) <= 3 * max(want.ulp, .leastNonzeroMagnitude)
      #expect(
        isNear && Self.hasSign(y, of: want) || y.isNaN && want.isNaN,
        "atan2(\(a), \(b)) = \(y), not \(want)")
    }
  }

  @Test func power() throws {
    var (xs, ys) = ([Float](), [Float]())
    for x: Float in [
      0, -0.0, 1, -1, 2, -2, 0.5, 3.7, -3.7, 1e-20, 1e20, .infinity, -.infinity, .nan,
    ] {
      for y: Float in [
        0, -0.0, 1, -1, 2, 3, -3, 0.5, -0.5, 10, 127, -126, .infinity, -.infinity, .nan,
      ] {
        xs.append(x)
        ys.append(y)
      }
    }
    let results = try Self.run(.binary(.power), .float32, [xs, ys], zero: 0)
    for ((x, y), z) in zip(zip(xs, ys), results) {
      let want = Float(pow(Double(x), Double(y)))
      #expect(
        z == want || z.isNaN && want.isNaN || abs(z - want) <= 4 * want.ulp,
        "\(x)^\(y) = \(z), not \(want)")
    }
  }

  @Test func linkerRefusesUnknownSymbols() throws {
    let text =
      "target triple = \"\(try LLVMLibrary().host.triple)\"\ndeclare void @missing()\ndefine void @f() {\n call void @missing()\n ret void\n}\n"
    let object = try LLVMLibrary().compile(text, LLVMLibrary().host)
    #expect(throws: DLCError.self) { try ObjectLinker.link([object]) }
  }
}
