package import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The exact meaning of each scalar operation, computed in double or in 64-bit integers.
package enum ScalarReference {
  package static func apply(_ operation: ScalarOperation, _ type: DataType, _ x: [ScalarConstant])
    -> ScalarConstant
  {
    switch operation {
    case .unary(let f):
      switch x[0] {
      case .float(let a):
        return f == .is_finite ? .integer(a.isFinite ? 1 : 0) : .float(unary(f, a))
      case .integer(let a): return .integer(unary(f, a, type))
      }
    case .binary(let f):
      switch (x[0], x[1]) {
      case (.float(let a), .float(let b)): return .float(binary(f, a, b))
      case (.integer(let a), .integer(let b)): return .integer(binary(f, a, b, type))
      default: preconditionFailure("mixed operands")
      }
    case .compare(let c): return .integer(compare(c, x[0], x[1], type) ? 1 : 0)
    case .select:
      if case .integer(0) = x[0] { return x[2] }
      return x[1]
    case .clamp:  // operands low, value, high
      let low = apply(.binary(.maximum), type, [x[1], x[0]])
      return apply(.binary(.minimum), type, [low, x[2]])
    case .convert(let target): return convert(x[0], type, target)
    case .reinterpret(let target): return reinterpret(x[0], type, target)
    }
  }

  /// The bits of a number of one type as one of another of the same size.
  static func reinterpret(_ x: ScalarConstant, _ type: DataType, _ target: DataType) -> ScalarConstant {
    let bits: UInt64 =
      switch x {
      case .float(let v): type == .float64 ? v.bitPattern : UInt64(Float(v).bitPattern)
      case .integer(let v): UInt64(bitPattern: v)
      }
    switch target {
    case .float64: return .float(Double(bitPattern: bits))
    case .float32: return .float(Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits))))
    default: return .integer(wrap(Int64(bitPattern: bits), target))
    }
  }

  static func unary(_ f: UnaryFunction, _ a: Double) -> Double {
    switch f {
    case .negate: -a
    case .abs: abs(a)
    case .sign: a > 0 ? 1 : a < 0 ? -1 : a
    case .floor: a.rounded(.down)
    case .ceil: a.rounded(.up)
    case .round_nearest_even: a.rounded(.toNearestOrEven)
    case .exponential: Glibc.exp(a)
    case .exponential_minus_one: Glibc.expm1(a)
    case .log: Glibc.log(a)
    case .log_plus_one: Glibc.log1p(a)
    case .sqrt: a.squareRoot()
    case .rsqrt: 1 / a.squareRoot()
    case .cbrt: Glibc.cbrt(a)
    case .tanh: Glibc.tanh(a)
    case .logistic: a < 0 ? Glibc.exp(a) / (1 + Glibc.exp(a)) : 1 / (1 + Glibc.exp(-a))
    case .sine: Glibc.sin(a)
    case .cosine: Glibc.cos(a)
    case .tan: Glibc.tan(a)
    case .erf: Glibc.erf(a)
    case .erfc: Glibc.erfc(a)
    case .stop_gradient: a
    case .not, .is_finite: preconditionFailure("not a real function")
    }
  }

  static func unary(_ f: UnaryFunction, _ a: Int64, _ type: DataType) -> Int64 {
    switch f {
    case .negate: 0 &- a
    case .abs: type.isSigned && a < 0 ? 0 &- a : a
    case .sign: a == 0 ? 0 : type.isSigned && a < 0 ? -1 : 1
    case .not: type == .bool ? 1 - a : ~a
    case .stop_gradient: a
    default: preconditionFailure("not an integer function")
    }
  }

  static func binary(_ f: BinaryFunction, _ a: Double, _ b: Double) -> Double {
    switch f {
    case .add: a + b
    case .subtract: a - b
    case .multiply: a * b
    case .divide: a / b
    // NaN wins over any number.
    case .maximum: a.isNaN ? a : b.isNaN ? b : a > b ? a : b
    case .minimum: a.isNaN ? a : b.isNaN ? b : a < b ? a : b
    case .power: Glibc.pow(a, b)
    case .remainder: Glibc.fmod(a, b)
    case .atan2: Glibc.atan2(a, b)
    default: preconditionFailure("not a real function")
    }
  }

  static func binary(_ f: BinaryFunction, _ a: Int64, _ b: Int64, _ type: DataType) -> Int64 {
    let unsigned = type == .uint64
    let (ua, ub) = (UInt64(bitPattern: a), UInt64(bitPattern: b))
    let width = Int64(type.bitCount)
    switch f {
    case .add: return a &+ b
    case .subtract: return a &- b
    case .multiply: return a &* b
    // Division by zero gives all ones, the remainder then is the dividend.
    case .divide:
      if b == 0 { return -1 }
      return unsigned ? Int64(bitPattern: ua / ub) : a.dividedReportingOverflow(by: b).partialValue
    case .remainder:
      if b == 0 { return a }
      return unsigned ? Int64(bitPattern: ua % ub) : b == -1 ? 0 : a % b
    case .maximum: return (unsigned ? ua > ub : a > b) ? a : b
    case .minimum: return (unsigned ? ua < ub : a < b) ? a : b
    case .power: return power(a, b, type)
    case .and: return a & b
    case .or: return a | b
    case .xor: return a ^ b
    // Shifting by the width or more gives zero, or copies of the sign.
    case .shift_left: return ub >= UInt64(width) ? 0 : a << b
    case .shift_right_logical:
      let mask: UInt64 = width == 64 ? .max : (1 << UInt64(width)) - 1
      return ub >= UInt64(width) ? 0 : Int64(bitPattern: (ua & mask) >> ub)
    case .shift_right_arithmetic:
      let amount = ub >= UInt64(width) ? width - 1 : b
      let pattern = width == 64 ? a : (a << (64 - width)) >> (64 - width)
      return pattern >> amount
    case .atan2: preconditionFailure("not an integer function")
    }
  }

  /// Wrapping power; a negative exponent gives 0, but 1 or -1 to it stay what they are.
  static func power(_ a: Int64, _ b: Int64, _ type: DataType) -> Int64 {
    if type.isSigned && b < 0 { return a == 1 ? 1 : a == -1 ? (b & 1 == 0 ? 1 : -1) : 0 }
    var result: Int64 = 1
    var base = a
    var exponent = UInt64(bitPattern: b)
    while exponent > 0 {
      if exponent & 1 == 1 { result = result &* base }
      base = base &* base
      exponent >>= 1
    }
    return result
  }

  static func compare(_ c: Comparison, _ x: ScalarConstant, _ y: ScalarConstant, _ type: DataType)
    -> Bool
  {
    func decide<T: Comparable>(_ a: T, _ b: T) -> Bool {
      switch c {
      case .equal: a == b
      case .not_equal: a != b
      case .less: a < b
      case .less_equal: a <= b
      case .greater: a > b
      case .greater_equal: a >= b
      }
    }
    switch (x, y) {
    case (.float(let a), .float(let b)): return decide(a, b)
    case (.integer(let a), .integer(let b)):
      return type == .uint64 ? decide(UInt64(bitPattern: a), UInt64(bitPattern: b)) : decide(a, b)
    default: preconditionFailure("mixed operands")
    }
  }

  /// Floats to integers truncate toward zero and saturate; NaN becomes 0.
  package static func convert(_ x: ScalarConstant, _ type: DataType, _ target: DataType)
    -> ScalarConstant
  {
    switch x {
    case .float(let a):
      if target.isFloat { return x }
      if target == .bool { return .integer(a != 0 ? 1 : 0) }
      if a.isNaN { return .integer(0) }
      if target == .uint64 {
        return .integer(Int64(bitPattern: a <= 0 ? 0 : a >= 0x1p64 ? .max : UInt64(a)))
      }
      let range = target.integerRange
      if a <= Double(range.lowerBound) { return .integer(range.lowerBound) }
      if a >= Double(range.upperBound) { return .integer(range.upperBound) }
      return .integer(Int64(a))
    case .integer(let a):
      if target == .float64 {
        return .float(type == .uint64 ? Double(UInt64(bitPattern: a)) : Double(a))
      }
      // Who rounds this to the type then has rounded once.
      if target.isFloat {
        return .float(
          type == .uint64
            ? Double(roundingToOdd: UInt64(bitPattern: a)) : Double(roundingToOdd: a))
      }
      return .integer(wrap(a, target))
    }
  }
}
