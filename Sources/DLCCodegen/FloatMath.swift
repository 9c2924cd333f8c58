import DLCKernel
import DLCTensor

/// What is known of the argument of an exponential; NaN may be among all of them.
enum ExponentialRange {
  case all
  case nonPositive
  /// Where e^x does not vanish: from -745 on, for float from -103.
  case boundedNonPositive
  /// Where 2^n is a normal number for the nearest n to x / ln 2.
  case small
}

/// Arithmetic on float or double operands, for writing polynomials.
struct FloatMath {
  let text: FunctionText
  let type: ElementType
  let lanes: Int

  init(_ text: FunctionText, _ type: ElementType, _ lanes: Int) {
    self.text = text
    self.type = type
    self.lanes = lanes
  }

  var integerType: ElementType { type.bits }
  var hasFMA: Bool { text.target.hasMultiplyAdd }

  func number(_ value: Double) -> Operand { .real(value, type, lanes) }
  func integer(_ value: Int) -> Operand { .integer(value, integerType, lanes) }

  mutating func add(_ a: Operand, _ b: Operand) -> Operand { real(.fadd, a, b) }
  mutating func sub(_ a: Operand, _ b: Operand) -> Operand { real(.fsub, a, b) }
  mutating func mul(_ a: Operand, _ b: Operand) -> Operand { real(.fmul, a, b) }
  mutating func div(_ a: Operand, _ b: Operand) -> Operand { real(.fdiv, a, b) }
  private func real(_ instruction: FunctionText.RealInstruction, _ a: Operand, _ b: Operand)
    -> Operand
  { text.real(instruction, a, b, ignoresZeroSign: true) }
  mutating func add(_ a: Operand, _ b: Double) -> Operand { add(a, number(b)) }
  mutating func sub(_ a: Operand, _ b: Double) -> Operand { sub(a, number(b)) }
  mutating func mul(_ a: Operand, _ b: Double) -> Operand { mul(a, number(b)) }
  mutating func negate(_ a: Operand) -> Operand { text.negate(a) }
  mutating func magnitude(_ a: Operand) -> Operand { text.intrinsic("fabs", [a]) }

  mutating func fma(_ a: Operand, _ b: Operand, _ c: Operand) -> Operand {
    if hasFMA { return text.intrinsic("fma", [a, b, c]) }
    return add(mul(a, b), c)
  }
  mutating func fma(_ a: Operand, _ b: Double, _ c: Operand) -> Operand { fma(a, number(b), c) }
  mutating func fma(_ a: Operand, _ b: Operand, _ c: Double) -> Operand { fma(a, b, number(c)) }

  /// Coefficients from the constant upward, by Horner's rule.
  mutating func polynomial(_ x: Operand, _ c: [Double]) -> Operand {
    var value = number(c[c.count - 1])
    for coefficient in c.dropLast().reversed() { value = fma(value, x, coefficient) }
    return value
  }

  /// The same by Estrin's scheme: a few products more, and half the latency. Long functions are bound
  /// by latency, as the processor sees only two or three of their iterations at a time.
  mutating func balancedPolynomial(_ x: Operand, _ c: [Double]) -> Operand {
    var terms: [Operand] = []
    for index in stride(from: 0, to: c.count, by: 2) {
      terms.append(
        index + 1 < c.count ? fma(number(c[index + 1]), x, number(c[index])) : number(c[index]))
    }
    var power = x
    while terms.count > 1 {
      power = mul(power, power)
      terms = stride(from: 0, to: terms.count, by: 2).map { index in
        index + 1 < terms.count ? fma(terms[index + 1], power, terms[index]) : terms[index]
      }
    }
    return terms[0]
  }

  mutating func compare(_ predicate: FunctionText.RealPredicate, _ a: Operand, _ b: Operand)
    -> Operand
  { text.compare(predicate, a, b) }
  mutating func compare(_ predicate: FunctionText.RealPredicate, _ a: Operand, _ b: Double)
    -> Operand
  { compare(predicate, a, number(b)) }
  mutating func select(_ condition: Operand, _ a: Operand, _ b: Operand) -> Operand {
    text.select(condition, a, b)
  }
  mutating func toBits(_ a: Operand) -> Operand { text.cast(.bitcast, a, to: integerType) }
  mutating func fromBits(_ a: Operand) -> Operand { text.cast(.bitcast, a, to: type) }
  mutating func copySign(_ a: Operand, _ sign: Operand) -> Operand {
    text.intrinsic("copysign", [a, sign])
  }

  private var fractionBits: Int { type == .double ? 52 : 23 }
  private var bias: Int { type == .double ? 1023 : 127 }

  /// 2^n for an integer in the range of normal exponents.
  mutating func powerOfTwo(_ n: Operand) -> Operand {
    let biased = text.integer(.add, n, integer(bias))
    return fromBits(text.integer(.shl, biased, integer(fractionBits)))
  }

  /// The nearest integer to a small number, as a number and as an integer; NaN gives any integer.
  mutating func round(_ x: Operand) -> (Operand, Operand) {
    let magic = type == .double ? 0x1.8p52 : 0x1.8p23
    let shifted = add(x, magic)
    let whole = sub(shifted, magic)
    let n = text.integer(.sub, toBits(shifted), toBits(number(magic)))
    return (whole, n)
  }

  /// x clipped to a range; NaN stays NaN.
  mutating func clip(_ x: Operand, _ low: Double, _ high: Double) -> Operand {
    let upper = select(compare(.ogt, x, high), number(high), x)
    return select(compare(.olt, upper, low), number(low), upper)
  }

  /// e^x. Range reduction by Cody and Waite, then a polynomial on |r| <= ln 2 / 2.
  /// Error: float 1 ulp, double 1 ulp; results in the subnormal range are rounded twice.
  mutating func exponential(_ x: Operand, _ range: ExponentialRange = .all) -> Operand {
    let double = type == .double
    // A product that vanishes takes the processor a hundred times as long as others, and masks of attention give many.
    var (clipped, vanishes): (Operand, Operand?) = (x, nil)
    if range == .all || range == .nonPositive {
      let highest: Double = double ? 710 : 89
      let below = compare(.olt, x, double ? -746 : -104)
      clipped =
        range == .all ? select(compare(.ogt, x, highest), number(highest), x) : x
      clipped = select(below, number(0), clipped)
      vanishes = below
    }
    let (whole, n) = round(mul(clipped, 1.4426950408889634))
    let r: Operand
    if double {
      let high = fma(whole, -6.93147180369123816490e-01, clipped)
      r = fma(whole, -1.90821492927058770002e-10, high)
    } else {
      let high = fma(whole, -0.693359375, clipped)
      r = fma(whole, 2.12194440e-4, high)
    }
    let high = double ? Self.exponentialDouble : Self.exponentialFloat
    let p = add(fma(mul(r, r), balancedPolynomial(r, high), r), 1)
    let value: Operand
    switch range {
    case .all:
      // 2^n in two factors: n reaches beyond the normal exponents on both sides.
      let half = text.integer(.ashr, n, integer(1))
      let rest = text.integer(.sub, n, half)
      value = mul(mul(p, powerOfTwo(half)), powerOfTwo(rest))
    case .nonPositive, .boundedNonPositive:
      // Below them alone: one factor that is far enough above, and one that never changes.
      let offset = double ? 512 : 64
      let scaled = mul(p, powerOfTwo(text.integer(.add, n, integer(offset))))
      value = mul(scaled, double ? 0x1p-512 : 0x1p-64)
    case .small: value = mul(p, powerOfTwo(n))
    }
    guard let vanishes else { return value }
    return select(vanishes, number(0), value)
  }

  /// The natural logarithm, after fdlibm: x = 2^k (1 + f), s = f / (2 + f).
  /// Error: below 1 ulp in both types.
  mutating func log(_ x: Operand) -> Operand {
    let double = type == .double
    let tiny = compare(.olt, x, double ? 0x1p-1022 : 0x1p-126)
    let scaled = select(tiny, mul(x, double ? 0x1p54 : 0x1p25), x)
    let bits = toBits(scaled)
    let offset = double ? 0x3fe6_a09e_0000_0000 : 0x3f35_04f3
    let k = text.integer(.ashr, text.integer(.sub, bits, integer(offset)), integer(fractionBits))
    let m = fromBits(text.integer(.sub, bits, text.integer(.shl, k, integer(fractionBits))))
    let correction = select(tiny, integer(double ? 54 : 25), integer(0))
    let exponent = text.integer(.sub, k, correction)
    let dk = text.cast(.sitofp, exponent, to: type)
    let f = sub(m, 1)
    let s = div(f, add(f, 2))
    let z = mul(s, s)
    let w = mul(z, z)
    let r: Operand
    if double {
      let t1 = mul(
        w,
        polynomial(
          w, [3.999999999940941908e-01, 2.222219843214978396e-01, 1.531383769920937332e-01]))
      let t2 = mul(
        z,
        polynomial(
          w,
          [
            6.666666666666735130e-01, 2.857142874366239149e-01, 1.818357216161805012e-01,
            1.479819860511658591e-01,
          ]))
      r = add(t2, t1)
    } else {
      let t1 = mul(w, polynomial(w, [0.40000972152, 0.24279078841]))
      let t2 = mul(z, polynomial(w, [0.66666662693, 0.28498786688]))
      r = add(t2, t1)
    }
    let half = mul(mul(f, f), 0.5)
    let (high, low) =
      double
      ? (6.93147180369123816490e-01, 1.90821492927058770002e-10)
      : (6.9313812256e-01, 9.0580006145e-06)
    let tail = fma(dk, low, mul(s, add(half, r)))
    let value = fma(dk, high, add(sub(tail, half), f))
    // 0, negative numbers, infinity and NaN.
    let atZero = select(compare(.oeq, x, 0), number(-.infinity), value)
    let negative = select(compare(.olt, x, 0), number(.nan), atZero)
    return select(compare(.olt, x, .infinity), negative, x)
  }

  /// e^x - 1. Error: 2 ulp (double).
  mutating func exponentialMinusOne(_ x: Operand) -> Operand {
    let clipped = clip(x, -45, 710)
    let (whole, n) = round(mul(clipped, 1.4426950408889634))
    let high = fma(whole, -6.93147180369123816490e-01, clipped)
    let r = fma(whole, -1.90821492927058770002e-10, high)
    let tail = polynomial(
      r,
      [
        0.5, 1 / 6.0, 1 / 24.0, 1 / 120.0, 1 / 720.0, 1 / 5040.0, 1 / 40320.0, 1 / 362880.0,
        1 / 3628800.0, 1 / 39916800.0, 1 / 479001600.0, 1 / 6227020800.0,
      ])
    let p = fma(mul(r, r), tail, r)
    // (2^(n-1) p + (2^(n-1) - 1/2)) 2 stays finite up to the largest argument.
    let scale = powerOfTwo(text.integer(.sub, n, integer(1)))
    let value = mul(fma(scale, p, sub(scale, 0.5)), 2)
    return select(compare(.oeq, x, 0), x, value)
  }

  /// ln(1 + x), by Kahan's correction of the rounded sum. Error: 3 ulp (double).
  mutating func logPlusOne(_ x: Operand) -> Operand {
    let u = add(x, 1)
    let corrected = mul(log(u), div(x, sub(u, 1)))
    let small = select(compare(.oeq, u, 1), x, corrected)
    return select(compare(.oeq, u, .infinity), u, small)
  }

  /// tanh. Float: an odd polynomial (Cephes) below 0.625, else 1 - 2 / (e^2x + 1); 2 ulp.
  /// Double: t / (t + 2) with t = e^2x - 1; 3 ulp.
  mutating func tanh(_ x: Operand) -> Operand {
    let size = magnitude(x)
    if type == .double {
      let bounded = select(compare(.ogt, size, 22), number(22), size)
      let t = exponentialMinusOne(add(bounded, bounded))
      return copySign(div(t, add(t, 2)), x)
    }
    let z = mul(x, x)
    let p = polynomial(
      z,
      [
        -3.33332819422e-1, 1.33314422036e-1, -5.37397155531e-2, 2.06390887954e-2, -5.70498872745e-3,
      ])
    let near = fma(mul(p, z), x, x)
    let bounded = select(compare(.ogt, size, 10), number(10), size)
    let e = exponential(add(bounded, bounded), .small)
    let far = sub(number(1), div(number(2), add(e, 1)))
    // The product with a zero of z has lost the sign of x.
    return copySign(select(compare(.olt, size, 0.625), near, far), x)
  }

  /// 1 / (1 + e^-x), from e^-|x| so that nothing overflows. Error: 3 ulp.
  mutating func logistic(_ x: Operand) -> Operand {
    let e = exponential(negate(magnitude(x)), .nonPositive)
    let numerator = select(compare(.oge, x, 0), number(1), e)
    return div(numerator, add(e, 1))
  }

  /// (1 + 2x) e^(x^2) erfc(x), a polynomial, times e^(-x^2) / (1 + 2x), for x >= 0; the square is split so that its rounding error does
  /// not grow in the exponential. Coefficients: Tools/fit-erfc.py.
  private mutating func erfcOfPositive(_ x: Operand) -> Operand {
    let double = type == .double
    let top = double ? 27.27 : 10.1
    let bounded = select(compare(.ogt, x, top), number(top), x)
    let t = div(sub(bounded, 2), add(bounded, 2))
    // The constant in two parts, so that its own rounding does not show in the result.
    var coefficients = double ? Self.erfcDouble : Self.erfcFloat
    let high = double ? coefficients[0] : Double(Float(coefficients[0]))
    coefficients[0] -= high
    let q = add(balancedPolynomial(t, coefficients), high)
    let square = mul(bounded, bounded)
    let rest = fma(bounded, bounded, negate(square))
    let e = exponential(negate(square), .boundedNonPositive)
    return div(mul(fma(negate(rest), e, e), q), add(add(bounded, bounded), 1))
  }

  /// erfc. Error: 4 ulp in the normal range, in the tail too.
  mutating func erfc(_ x: Operand) -> Operand {
    let positive = erfcOfPositive(magnitude(x))
    return select(compare(.olt, x, 0), sub(number(2), positive), positive)
  }

  /// erf: an odd polynomial up to 1, then 1 - erfc. Error: 2 ulp.
  mutating func erf(_ x: Operand) -> Operand {
    let double = type == .double
    let size = magnitude(x)
    let near = mul(x, polynomial(mul(x, x), double ? Self.erfDouble : Self.erfFloat))
    let far = sub(number(1), erfcOfPositive(size))
    let value = copySign(select(compare(.olt, size, 1), near, far), x)
    return select(compare(.uno, x, x), x, value)
  }

  /// The cube root of a double: e^(ln|x| / 3) and one Newton step. Error: 1 ulp.
  mutating func cubeRoot(_ x: Operand) -> Operand {
    let size = magnitude(x)
    let y = exponential(div(log(size), number(3)))
    let square = mul(y, y)
    let better = sub(y, div(fma(square, y, negate(size)), mul(square, 3)))
    let value = copySign(better, x)
    let special = select(compare(.oeq, size, .infinity), x, value)
    return select(compare(.oeq, x, 0), x, special)
  }

  /// x^y by e^(y ln|x|) in double. Error in float: 1 ulp; in double: about |y ln x| + 2 ulp.
  mutating func power(_ x: Operand, _ y: Operand) -> Operand {
    let size = magnitude(x)
    let value = exponential(mul(y, log(size)))
    let whole = text.intrinsic("trunc", [y])
    let isInteger = compare(.oeq, whole, y)
    let half = mul(y, 0.5)
    let isEven = compare(.oeq, text.intrinsic("trunc", [half]), half)
    // Bits of x decide the sign, so that -0 counts as negative.
    let sign = text.integer(.ashr, toBits(x), integer(type == .double ? 63 : 31))
    let negative = text.compare(.ne, sign, 0)
    let oddPower = select(isEven, value, negate(value))
    let ofNegative = select(isInteger, oddPower, select(compare(.oeq, x, 0), value, number(.nan)))
    let infinite = select(
      compare(.oeq, size, .infinity), select(isInteger, oddPower, value), ofNegative)
    let signed = select(negative, infinite, value)
    let minusOne = select(compare(.oeq, magnitude(y), .infinity), number(1), signed)
    let unit = select(compare(.oeq, size, 1), select(negative, minusOne, number(1)), signed)
    let one = select(compare(.oeq, x, 1), number(1), unit)
    return select(compare(.oeq, y, 0), number(1), one)
  }

  /// The angle of (x, y) by fdlibm's arc tangent on [0, tan(pi/8)] and identities. Error: 2 ulp (double).
  mutating func atan2(_ y: Operand, _ x: Operand) -> Operand {
    let (ax, ay) = (magnitude(x), magnitude(y))
    let swap = compare(.ogt, ay, ax)
    let top = select(swap, ax, ay)
    let bottom = select(swap, ay, ax)
    let both = compare(.oeq, top, bottom)  // equal sizes, infinities included
    let ratio = select(
      both, select(compare(.oeq, bottom, 0), number(0), number(1)), div(top, bottom))
    let steep = compare(.ogt, ratio, 0.41421356237309503)
    let t = select(steep, div(sub(ratio, 1), add(ratio, 1)), ratio)
    let z = mul(t, t)
    let p = polynomial(
      z,
      [
        3.33333333333329318027e-01, -1.99999999998764832476e-01, 1.42857142725034663711e-01,
        -1.11111104054623557880e-01, 9.09088713343650656196e-02, -7.69187620504482999495e-02,
        6.66107313738753120669e-02, -5.83357013379057348645e-02, 4.97687799461593236017e-02,
        -3.65315727442169155270e-02, 1.62858201153657823623e-02,
      ])
    let small = sub(t, mul(t, mul(z, p)))
    let angle = select(
      steep, add(add(small, 3.06161699786838301793e-17), 7.85398163397448278999e-01), small)
    let turned = select(
      swap, sub(number(1.57079632679489655800e+00), sub(angle, 6.12323399573676603587e-17)), angle)
    let sign = text.integer(.ashr, toBits(x), integer(type == .double ? 63 : 31))
    let negative = text.compare(.ne, sign, 0)
    let mirrored = select(
      negative, sub(number(3.14159265358979311600e+00), sub(turned, 1.22464679914735317720e-16)),
      turned)
    let value = copySign(mirrored, y)
    return select(compare(.uno, x, y), add(x, y), value)
  }

  /// Coefficients of (e^r - 1 - r) / r^2: Taylor's for double, a minimax fit (Cephes) for float.
  static let exponentialDouble: [Double] = (2...13).map { degree in
    1 / (1...degree).reduce(1.0) { $0 * Double($1) }
  }
  static let exponentialFloat: [Double] = [
    0.5, 1.6666665459e-1, 4.1665795894e-2, 8.3334519073e-3, 1.3981999507e-3, 1.9875691500e-4,
  ]

  static let erfcFloat: [Double] = [
    1.276978391144088037, -0.09276391693443339547, -0.1660312974926619379, 0.164053647443959893,
    -0.05420572169943864774, -0.008047965959318930391, 0.008639491471215020927,
    0.001282442497829831284, -0.001251374806816518224, -0.0003730590675364628407,
    0.00002166778931820729591,
  ]
  static let erfcDouble: [Double] = [
    1.276978381552528723, -0.09276382658574606075, -0.1660303976152909785, 0.1640512800334493804,
    -0.05422000099191957299, -0.008034015082716231231, 0.008722653872273489535,
    0.001271338971343116815, -0.001456813894301107031, -0.0004543408861898901098,
    0.0002063667281078617755, 0.0001510395098617160765, -1.507009289710648635e-6,
    -0.0000364245359750974216, -0.00001350390138300304953, 3.712982069483490899e-6,
    5.252521616903281975e-6, 1.503219947664483409e-6, -7.4507308993270255e-7,
    -8.414289739764616176e-7, -2.071399986244763509e-7, 1.537290812910793889e-7,
    1.245731637372214329e-7, 1.065382377917605032e-8, -1.959848862045555183e-8,
    -7.035231364522768258e-9, -4.791853521925722537e-10,
  ]
  static let erfFloat: [Double] = [
    1.128379167061543415, -0.376126384680287104, 0.1128378249523684454, -0.02686543072767024289,
    0.005221031807858022797, -0.0008484080405535106294, 0.0001126595902560660897,
    -9.667044571486996415e-6,
  ]
  static let erfDouble: [Double] = [
    1.128379167095512574, -0.3761263890318375246, 0.1128379167095512563, -0.02686617064513121852,
    0.005223977625441674014, -0.0008548327023403000609, 0.0001205533297887948387,
    -0.00001492565023696750174, 1.646211078201863639e-6, -1.636576864883207212e-7,
    1.480602714612875166e-8, -1.227773448679552385e-9, 9.323723518153026634e-11,
    -6.196736428787699983e-12, 2.806712819561126247e-13,
  ]
}
