package import DLCTensor

/// Bounds of floating-point numbers, for every element that is one.
///
/// They hold in double arithmetic, in the declared type, for half floats that are carried in float32, and
/// for sums that take a product in before it is rounded: each operation widens them by its rounding.
package struct RealRange: Hashable, Sendable {
  package private(set) var low: Double
  package private(set) var high: Double
  package var mayBeNaN: Bool
  /// No element is below zero or minus zero; the sign of a NaN is no matter.
  package private(set) var isSignClear: Bool

  package static let all = RealRange(-.infinity, .infinity, mayBeNaN: true)

  /// Bounds that are not a number know nothing.
  package init(_ low: Double, _ high: Double, mayBeNaN: Bool, isSignClear: Bool = false) {
    self.mayBeNaN = mayBeNaN
    self.isSignClear = isSignClear || low > 0
    self.low = low.isNaN ? -.infinity : low
    self.high = high.isNaN ? .infinity : high
    if isSignClear && !(self.low > 0) { self.low = 0 }
  }

  package init(_ numbers: [Double]) {
    let real = numbers.filter { !$0.isNaN }
    guard let low = real.min(), let high = real.max() else {
      self = .all
      return
    }
    self.init(
      low, high, mayBeNaN: real.count < numbers.count,
      isSignClear: real.allSatisfy { $0.sign == .plus })
  }

  package var isFinite: Bool { !mayBeNaN && low > -.infinity && high < .infinity }
  /// What holds for numbers of which each is of one or the other.
  package func union(_ other: RealRange) -> RealRange {
    RealRange(
      min(low, other.low), max(high, other.high), mayBeNaN: mayBeNaN || other.mayBeNaN,
      isSignClear: isSignClear && other.isSignClear)
  }

  /// The same once rounded to the type, to what the type is computed in, or to neither.
  package func widened(_ type: DataType) -> RealRange {
    let wide = type.computeType
    return RealRange(
      min(low, wide.rounded(low), type.rounded(low)),
      max(high, wide.rounded(high), type.rounded(high)), mayBeNaN: mayBeNaN,
      isSignClear: isSignClear)
  }

  private var mayBeZero: Bool { low <= 0 && high >= 0 }
  private var mayBeInfinite: Bool { low == -.infinity || high == .infinity }
  private var negated: RealRange { RealRange(-high, -low, mayBeNaN: mayBeNaN) }

  /// A bound of a product, which may enter a sum before it is rounded.
  private static func product(_ a: Double, _ b: Double, up: Bool) -> Double {
    if a == 0 || b == 0 { return 0 }
    return up ? (a * b).nextUp : (a * b).nextDown
  }

  static func + (a: RealRange, b: RealRange) -> RealRange {
    let opposed =
      a.high == .infinity && b.low == -.infinity || a.low == -.infinity && b.high == .infinity
    let low = a.low + b.low
    return RealRange(
      low, a.high + b.high, mayBeNaN: a.mayBeNaN || b.mayBeNaN || opposed,
      isSignClear: (a.isSignClear || b.isSignClear) && low >= 0)
  }

  static func * (a: RealRange, b: RealRange) -> RealRange {
    let pairs = [(a.low, b.low), (a.low, b.high), (a.high, b.low), (a.high, b.high)]
    return RealRange(
      pairs.map { product($0, $1, up: false) }.min()!,
      pairs.map { product($0, $1, up: true) }.max()!,
      mayBeNaN: a.mayBeNaN || b.mayBeNaN || a.mayBeZero && b.mayBeInfinite
        || a.mayBeInfinite
          && b.mayBeZero,
      isSignClear: a.isSignClear && b.isSignClear)
  }

  /// A number times itself.
  var squared: RealRange {
    let most = max(abs(low), abs(high))
    return RealRange(0, (most * most).nextUp, mayBeNaN: mayBeNaN, isSignClear: true)
  }

  static func / (a: RealRange, b: RealRange) -> RealRange {
    let mayBeNaN =
      a.mayBeNaN || b.mayBeNaN || a.mayBeZero && b.mayBeZero || a.mayBeInfinite && b.mayBeInfinite
    if a.isSignClear && b.isSignClear {
      // Of a positive divisor the smallest gives the most.
      let high = b.low > 0 ? (a.high / b.low).nextUp : .infinity
      return RealRange(0, high, mayBeNaN: mayBeNaN, isSignClear: true)
    }
    if b.low > 0 && b.high < .infinity {
      let bounds = [a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high]
      return RealRange(bounds.min()!.nextDown, bounds.max()!.nextUp, mayBeNaN: mayBeNaN)
    }
    return RealRange(-.infinity, .infinity, mayBeNaN: mayBeNaN)
  }

  /// The larger one; of equal ones the second, as of zeros with different signs.
  static func maximum(_ a: RealRange, _ b: RealRange) -> RealRange {
    let low = max(a.low, b.low)
    return RealRange(
      low, max(a.high, b.high), mayBeNaN: a.mayBeNaN || b.mayBeNaN,
      isSignClear: b.isSignClear && low >= 0)
  }

  static func minimum(_ a: RealRange, _ b: RealRange) -> RealRange {
    RealRange(
      min(a.low, b.low), min(a.high, b.high), mayBeNaN: a.mayBeNaN || b.mayBeNaN,
      isSignClear: a.isSignClear && b.isSignClear)
  }

  /// Sums of so many numbers, in any order and association; nil: of any number of them.
  func sum(_ count: Int?, _ type: DataType) -> RealRange {
    if count == 0 { return RealRange(0, 0, mayBeNaN: false, isSignClear: true) }
    if let count, isFinite {
      // Twice what it can be, for the rounding of every sum.
      let most = 2 * Double(count) * max(abs(low), abs(high))
      if count < 1 << 20, most < 0x1p120 || type == .float64 && most < 0x1p1000,
        type.computeType.rounded(most).isFinite
      {
        return RealRange(
          low >= 0 ? 0 : -most, high <= 0 ? 0 : most, mayBeNaN: false, isSignClear: isSignClear)
      }
    }
    // Sums of one sign only grow; else parts may be infinities of both.
    return RealRange(
      low >= 0 ? 0 : -.infinity, high <= 0 ? 0 : .infinity,
      mayBeNaN: mayBeNaN || low < 0 && high > 0, isSignClear: isSignClear)
  }

  /// Functions that are approximated stay inside their range up to a margin, and a zero may have any sign.
  static func unary(_ f: UnaryFunction, _ x: RealRange) -> RealRange {
    let isNaN = x.mayBeNaN
    func monotone(_ f: (Double) -> Double) -> RealRange {
      RealRange(f(x.low), f(x.high), mayBeNaN: isNaN, isSignClear: x.isSignClear)
    }
    func within(_ bounds: ClosedRange<Double>, orNaN: Bool = false) -> RealRange {
      RealRange(bounds.lowerBound, bounds.upperBound, mayBeNaN: isNaN || orNaN)
    }
    switch f {
    case .negate: return x.negated
    case .abs:
      let near = x.low >= 0 ? x.low : x.high <= 0 ? -x.high : 0
      return RealRange(near, max(abs(x.low), abs(x.high)), mayBeNaN: isNaN, isSignClear: true)
    case .sign: return monotone { $0 > 0 ? 1 : $0 < 0 ? -1 : 0 }
    case .floor: return monotone { $0.rounded(.down) }
    case .ceil: return monotone { $0.rounded(.up) }
    case .round_nearest_even: return monotone { $0.rounded(.toNearestOrEven) }
    case .sqrt:
      return RealRange(
        max(x.low, 0).squareRoot(), max(x.high, 0).squareRoot(), mayBeNaN: isNaN || x.low < 0,
        isSignClear: x.isSignClear)
    case .rsqrt:
      // Of minus zero it is minus infinity.
      return x.isSignClear ? within(0...(.infinity)) : .all
    case .exponential: return within(0...(.infinity))
    case .exponential_minus_one: return within(-1.125...(.infinity))
    case .logistic: return within(0...1.125)
    case .tanh, .erf: return within(-1.125...1.125)
    case .erfc: return within(0...2.125)
    case .sine, .cosine: return within(-1.125...1.125, orNaN: x.mayBeInfinite)
    case .stop_gradient: return x
    case .log, .log_plus_one, .cbrt, .tan, .not, .is_finite: return .all
    }
  }

  static func binary(_ f: BinaryFunction, _ a: RealRange, _ b: RealRange) -> RealRange {
    switch f {
    case .add: a + b
    case .subtract: a + b.negated
    case .multiply: a * b
    case .divide: a / b
    case .maximum: maximum(a, b)
    case .minimum: minimum(a, b)
    case .atan2: RealRange(-3.5, 3.5, mayBeNaN: a.mayBeNaN || b.mayBeNaN)
    default: .all
    }
  }
}

/// Bounds of integers, of which those of an operation that may wrap are the bounds of the type. Of uint64
/// they are below 2^63.
package typealias IntegerRange = ClosedRange<Int64>

extension DataType {
  /// Bounds of any integer of the type; nil for uint64.
  var anyInteger: IntegerRange? { self == .uint64 ? nil : integerRange }
}

enum IntegerBounds {
  /// The least and the largest of some numbers, unless one of them is beyond the type.
  private static func hull(_ numbers: [(partialValue: Int64, overflow: Bool)], _ type: DataType)
    -> IntegerRange?
  {
    let range = type.integerRange
    guard numbers.allSatisfy({ !$0.overflow && range.contains($0.partialValue) }) else {
      return type.anyInteger
    }
    let values = numbers.map(\.partialValue)
    return values.min()!...values.max()!
  }

  static func unary(_ f: UnaryFunction, _ x: IntegerRange?, _ type: DataType) -> IntegerRange? {
    guard let x else { return f == .sign ? 0...1 : nil }
    func negative(_ v: Int64) -> (partialValue: Int64, overflow: Bool) {
      Int64(0).subtractingReportingOverflow(v)
    }
    switch f {
    case .stop_gradient: return x
    case .negate: return hull([negative(x.lowerBound), negative(x.upperBound)], type)
    case .abs:
      if x.lowerBound >= 0 { return x }
      return hull([negative(x.lowerBound), (x.upperBound, false), (0, false)], type)
    case .sign: return x.lowerBound.signum()...x.upperBound.signum()
    case .not where type == .bool: return 1 - x.upperBound...1 - x.lowerBound
    default: return type.anyInteger
    }
  }

  static func binary(_ f: BinaryFunction, _ a: IntegerRange?, _ b: IntegerRange?, _ type: DataType)
    -> IntegerRange?
  {
    guard let a, let b else { return type.anyInteger }
    func corners(_ f: (Int64, Int64) -> (partialValue: Int64, overflow: Bool)) -> IntegerRange? {
      hull(
        [a.lowerBound, a.upperBound].flatMap { x in
          [f(x, b.lowerBound), f(x, b.upperBound)]
        }, type)
    }
    let isNatural = a.lowerBound >= 0 && b.lowerBound >= 0
    switch f {
    case .add: return corners { $0.addingReportingOverflow($1) }
    case .subtract: return corners { $0.subtractingReportingOverflow($1) }
    case .multiply: return corners { $0.multipliedReportingOverflow(by: $1) }
    case .maximum: return max(a.lowerBound, b.lowerBound)...max(a.upperBound, b.upperBound)
    case .minimum: return min(a.lowerBound, b.lowerBound)...min(a.upperBound, b.upperBound)
    case .divide where isNatural && b.lowerBound > 0:
      return a.lowerBound / b.upperBound...a.upperBound / b.lowerBound
    case .remainder where isNatural && b.lowerBound > 0:
      return 0...min(a.upperBound, b.upperBound - 1)
    case .and where isNatural: return 0...min(a.upperBound, b.upperBound)
    case .or where isNatural, .xor where isNatural:
      let width = Int64.bitWidth - max(a.upperBound, b.upperBound).leadingZeroBitCount
      return 0...(width >= 63 ? Int64.max : (Int64(1) << Int64(width)) - 1)
    // Of an unsigned type the arithmetic one copies its first bit.
    case .shift_right_logical where isNatural,
      .shift_right_arithmetic where isNatural && type.isSigned:
      return a.lowerBound >> min(b.upperBound, 63)...a.upperBound >> min(b.lowerBound, 63)
    default: return type.anyInteger
    }
  }

  /// Sums of so many numbers in the type; nil: of any number of them.
  static func sum(_ x: IntegerRange?, _ count: Int?, _ type: DataType) -> IntegerRange? {
    guard let x, let count else { return type.anyInteger }
    let n = Int64(count)
    return hull(
      [
        x.lowerBound.multipliedReportingOverflow(by: n),
        x.upperBound.multipliedReportingOverflow(by: n),
        // Parts of the sum stay inside, too.
        (0, false),
      ], type)
  }
}
