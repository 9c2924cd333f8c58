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

  static func run<T>(_ operation: ScalarOperation, _ type: DataType, _ inputs: [[T]], zero: T)
    throws -> [T]
  {
    let count = inputs[0].count
    let kernel = kernel(operation, type, operands: inputs.count, count: count)
    #expect(kernel.violations().isEmpty)
    let image = try CodeGenerator(LLVMLibrary().host).generate([kernel])
    let code = image.bytes.withUnsafeBytes { dlc_map_code($0.baseAddress, $0.count)! }
    defer { dlc_unmap_code(code, image.bytes.count) }
    var arrays = inputs + [[T](repeating: zero, count: count)]
    var pointers: [UnsafeMutableRawPointer?] = []
    for index in arrays.indices {
      pointers.append(arrays[index].withUnsafeMutableBytes { $0.baseAddress })
    }
    pointers.withUnsafeBufferPointer {
      dlc_call_kernel(code + image.symbols["math"]!, $0.baseAddress, 0, nil)
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

  static let functions:
    [(UnaryFunction, Double, @Sendable (Double) -> Double, ClosedRange<Double>)] = [
      (.exponential, 2, { exp($0) }, -.infinity ... .infinity),
      (.log, 2, { log($0) }, -.infinity ... .infinity),
      (.exponential_minus_one, 3, { expm1($0) }, -.infinity ... .infinity),
      (.log_plus_one, 4, { log1p($0) }, -.infinity ... .infinity),
      (.tanh, 4, { tanh($0) }, -.infinity ... .infinity),
      (
        .logistic, 4, { $0 < 0 ? exp($0) / (1 + exp($0)) : 1 / (1 + exp(-$0)) },
        -.infinity ... .infinity
      ), (.erf, 4, { erf($0) }, -.infinity ... .infinity),
      (.erfc, 4, { erfc($0) }, -.infinity ... .infinity),
      (.sqrt, 1, { sqrt($0) }, -.infinity ... .infinity),
      (.rsqrt, 2, { 1 / sqrt($0) }, -.infinity ... .infinity),
      (.cbrt, 4, { cbrt($0) }, -.infinity ... .infinity),
      (.sine, 4, { sin($0) }, -1e6...1e6), (.cosine, 4, { cos($0) }, -1e6...1e6),
      (.tan, 6, { tan($0) }, -1e6...1e6),
    ]

  @Test(arguments: functions.indices) func floatError(_ index: Int) throws {
    let (function, bound, exact, range) = Self.functions[index]
    let results = try Self.run(.unary(function), .float32, [Self.floats], zero: 0)
    for (x, y) in zip(Self.floats, results) {
      let want = exact(Double(x))
      if x.isNaN || want.isNaN {
        #expect(y.isNaN, "\(function)(\(x)) = \(y)")
        continue
      }
      guard range.contains(Double(x)) else { continue }
      let rounded = Float(want)
      if y == rounded { continue }
      // In the subnormal range a unit is the smallest number; double rounding costs one more.
      let unit = max(Double(rounded.ulp), Double(Float.leastNonzeroMagnitude))
      let error = abs(Double(y) - want) / unit
      if !(error <= bound) {
        Issue.record("\(function)(\(x)) = \(y), not \(rounded): \(error) ulp")
      }
    }
  }

  @Test(arguments: functions.indices) func doubleError(_ index: Int) throws {
    let (function, bound, exact, range) = Self.functions[index]
    let results = try Self.run(.unary(function), .float64, [Self.doubles], zero: 0)
    for (x, y) in zip(Self.doubles, results) {
      let want = exact(x)
      if x.isNaN || want.isNaN {
        #expect(y.isNaN, "\(function)(\(x)) = \(y)")
        continue
      }
      guard range.contains(x), y != want else { continue }
      // The C library itself may be off by half a unit or, for tan and erfc, one; 1/(1+e^-x) by two.
      let slack: Double = function == .logistic ? 2 : 1
      let error = abs(y - want) / max(want.ulp, .leastNonzeroMagnitude)
      if !(error <= bound + slack) {
        Issue.record("\(function)(\(x)) = \(y), not \(want): \(error) ulp")
      }
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
