import DLCKernel
import DLCTensor

/// What is known of the argument of an exponential; NaN may be among all of them.
enum ExponentialRange {
  case all
  case nonPositive
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
  mutating func fma(_ a: Operand, _ b: Double, _ c: Double) -> Operand { fma(a, b, number(c)) }

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

  /// The nearest integer to a small number, as a number and as an integer; NaN gives any integer.
  mutating func round(_ x: Operand) -> (Operand, Operand) {
    let magic = type == .double ? 0x1.8p52 : 0x1.8p23
    let shifted = add(x, magic)
    let whole = sub(shifted, magic)
    let n = text.integer(.sub, toBits(shifted), toBits(number(magic)))
    return (whole, n)
  }

  /// x less the nearest multiple n of ln 2, by Cody and Waite, and a number whose lowest bits are n plus the bias of
  /// exponents plus an offset: shifted to the place of the exponent they are 2^(n + offset). NaN gives NaN and any n.
  private mutating func reduced(_ x: Operand, offset: Int) -> (rest: Operand, bits: Operand) {
    let double = type == .double
    let magic = (double ? 0x1.8p52 : 0x1.8p23) + Double(bias + offset)
    let shifted = fma(x, 1.4426950408889634, magic)
    let whole = sub(shifted, magic)
    let high = fma(whole, double ? -6.93147180369123816490e-01 : -0.693359375, x)
    let rest = fma(whole, double ? -1.90821492927058770002e-10 : 2.12194440e-4, high)
    return (rest, toBits(shifted))
  }

  /// The number whose exponent has the bits.
  private mutating func power(exponent bits: Operand) -> Operand {
    fromBits(text.integer(.shl, bits, integer(fractionBits)))
  }

  /// x clipped to a range; NaN stays NaN.
  mutating func clip(_ x: Operand, _ low: Double, _ high: Double) -> Operand {
    let upper = select(compare(.ogt, x, high), number(high), x)
    return select(compare(.olt, upper, low), number(low), upper)
  }

  /// e^r of what `reduced` leaves; exactly: with one instruction more, and half the rounding error.
  private mutating func exponential(ofRest r: Operand, exactly: Bool = false) -> Operand {
    if type == .float && !exactly { return polynomial(r, [1, 1] + Self.exponentialFloat) }
    return add(exponentialMinusOne(ofRest: r), 1)
  }

  /// The same less 1.
  private mutating func exponentialMinusOne(ofRest r: Operand) -> Operand {
    let tail =
      type == .double
      ? balancedPolynomial(r, Self.exponentialDouble) : polynomial(r, Self.exponentialFloat)
    return fma(mul(r, r), tail, r)
  }

  /// How far `raisedExponential` is above: so that no result vanishes.
  private var lift: Int { type == .double ? 512 : 64 }
  /// 2^lift.
  private var raised: Double { type == .double ? 0x1p512 : 0x1p64 }
  /// Below, e^x is 0.
  private var lowest: Double { type == .double ? -746 : -104 }

  /// 2^lift e^x of a number from `lowest` to 0.
  private mutating func raisedExponential(_ x: Operand, exactly: Bool = false) -> Operand {
    let (r, bits) = reduced(x, offset: lift)
    return mul(exponential(ofRest: r, exactly: exactly), power(exponent: bits))
  }

  /// e^x: e^r of |r| <= ln 2 / 2, a polynomial, times a power of two.
  /// Error: float 1 ulp, double 1 ulp; results in the subnormal range are rounded twice.
  mutating func exponential(_ x: Operand, _ range: ExponentialRange = .all) -> Operand {
    // A product that vanishes takes the processor a hundred times as long as others, and masks of attention give many.
    let vanishes = compare(.olt, x, lowest)
    let value: Operand
    switch range {
    case .all:
      let highest: Double = type == .double ? 710 : 89
      let bounded = select(compare(.ogt, x, highest), number(highest), x)
      // n reaches beyond the normal exponents on both sides: two halves.
      let (r, bits) = reduced(select(vanishes, number(0), bounded), offset: bias)
      let half = text.integer(.lshr, bits, integer(1))
      let rest = text.integer(.sub, bits, half)
      value = mul(mul(exponential(ofRest: r), power(exponent: half)), power(exponent: rest))
    case .nonPositive:
      value = mul(raisedExponential(select(vanishes, number(0), x)), 1 / raised)
    }
    return select(vanishes, number(0), value)
  }

  /// (e^x - 1) / 2 of numbers that are not far below 0; half, so that it stays finite as far as e^x does.
  private mutating func halfExponentialMinusOne(_ x: Operand) -> Operand {
    let (r, bits) = reduced(x, offset: -1)
    let scale = power(exponent: bits)
    return fma(scale, exponentialMinusOne(ofRest: r), sub(scale, 0.5))
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

  /// e^x - 1. Error: 2 ulp.
  mutating func exponentialMinusOne(_ x: Operand) -> Operand {
    let value = mul(
      halfExponentialMinusOne(clip(x, -45, type == .double ? 710 : 89)), 2)
    return select(compare(.oeq, x, 0), x, value)
  }

  /// ln(1 + x), by Kahan's correction of the rounded sum. Error: 3 ulp (double).
  mutating func logPlusOne(_ x: Operand) -> Operand {
    let u = add(x, 1)
    let corrected = mul(log(u), div(x, sub(u, 1)))
    let small = select(compare(.oeq, u, 1), x, corrected)
    return select(compare(.oeq, u, .infinity), u, small)
  }

  /// tanh: t / (t + 1) with t = (e^(2|x|) - 1) / 2, and the sign of x. Error: 3 ulp.
  mutating func tanh(_ x: Operand) -> Operand {
    let highest: Double = type == .double ? 22 : 10
    let size = magnitude(x)
    let bounded = select(compare(.ogt, size, highest), number(highest), size)
    let t = halfExponentialMinusOne(add(bounded, bounded))
    return copySign(div(t, add(t, 1)), x)
  }

  /// 1 / (1 + e^-x), from e^-|x| so that nothing overflows, above and below times a power of two. Error: 3 ulp.
  mutating func logistic(_ x: Operand) -> Operand {
    let negative = negate(magnitude(x))
    let e = raisedExponential(select(compare(.olt, negative, lowest), number(lowest), negative))
    return div(select(compare(.oge, x, 0), number(raised), e), add(e, raised))
  }

  /// erfc of x >= 0: e^(-x^2) times a quotient of polynomials, for double over 1 + 2x one polynomial of (x - 2) / (x + 2).
  /// The square is split so that its rounding error does not grow in the exponential. Coefficients: Tools/fit-functions.py.
  private mutating func erfcOfPositive(_ x: Operand) -> Operand {
    let double = type == .double
    let highest = double ? 27.27 : 10.1
    let bounded = select(compare(.ogt, x, highest), number(highest), x)
    let square = mul(bounded, bounded)
    let rest = fma(bounded, bounded, negate(square))
    let e = raisedExponential(negate(square), exactly: true)
    let factor = fma(negate(rest), e, e)
    let (top, bottom): (Operand, Operand)
    if double {
      let t = div(sub(bounded, 2), add(bounded, 2))
      top = balancedPolynomial(t, Self.erfcDouble)
      bottom = fma(bounded, 2 * raised, raised)
    } else {
      // The constants are added last: near 0 all else is small, and so are its rounding errors.
      func ending(_ c: [Double]) -> Operand {
        fma(balancedPolynomial(bounded, Array(c.dropFirst())), bounded, c[0])
      }
      top = ending(Self.erfcFloat.top)
      bottom = ending(Self.erfcFloat.bottom.map { $0 * raised })
    }
    return div(mul(factor, top), bottom)
  }

  /// erfc. Error: 4 ulp in the normal range, in the tail too.
  mutating func erfc(_ x: Operand) -> Operand {
    let positive = erfcOfPositive(magnitude(x))
    return select(compare(.olt, x, 0), sub(number(2), positive), positive)
  }

  /// erf. Float: 1 - e^(-u) with u = -ln erfc |x|, |x| times a polynomial. Double: an odd polynomial up to 1, then
  /// 1 - erfc. Error: 2 ulp. Coefficients: Tools/fit-functions.py.
  mutating func erf(_ x: Operand) -> Operand {
    let size = magnitude(x)
    if type == .float {
      // Beyond, all but the sign is 1 in float.
      let bounded = select(compare(.ogt, size, 3.93), number(3.93), size)
      let u = mul(bounded, polynomial(bounded, Self.erfFloat))
      return copySign(mul(halfExponentialMinusOne(negate(u)), 2), x)
    }
    let near = mul(x, polynomial(mul(x, x), Self.erfDouble))
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

  /// Coefficients of (e^r - 1 - r) / r^2: Taylor's for double, a minimax fit for float.
  static let exponentialDouble: [Double] = (2...13).map { degree in
    1 / (1...degree).reduce(1.0) { $0 * Double($1) }
  }
  static let exponentialFloat: [Double] = [
    0.4999999345, 0.1666652068, 0.04166838747, 0.008368710296, 0.00138146083,
  ]

  /// Of e^(x^2) erfc(x); all are positive, so that no rounding error grows.
  static let erfcFloat: (top: [Double], bottom: [Double]) = (
    [1.000000006, 1.238449404, 0.7316450298, 0.2292382819, 0.03280057427],
    [1.0, 2.366829149, 2.402316392, 1.325444876, 0.4063406664, 0.05813680571]
  )
  static let erfcDouble: [Double] = [
    1.276978381552528724, -0.09276382658574599184, -0.1660303976152914102, 0.1640512800334403781,
    -0.05422000099189355019, -0.008034015082367130488, 0.008722653871675313155,
    0.001271338965039700073, -0.001456813887454877895, -0.0004543408221566551075,
    0.0002063666845226144005, 0.0001510391057606774859, -1.506852177414509398e-6,
    -0.00003642286178590005208, -0.00001350417684458773268, 3.708298244379912511e-6,
    5.252451579218793811e-6, 1.512133462358937818e-6, -7.436255017583765403e-7,
    -8.528069705184954072e-7, -2.103896874689356756e-7, 1.630551890452938356e-7,
    1.282078712324462427e-7, 6.217181416576769535e-9, -2.172105437105552985e-8,
    -6.103897885114281314e-9, 3.712221498588287853e-11,
  ]
  /// Of -ln erfc(x) / x.
  static let erfFloat: [Double] = [
    1.128379172, 0.636619382, 0.1027778305, -0.01915306309, -0.0001603993679, 0.00166703268,
    -0.0006328407454, 0.0001176426388, -9.256447213e-6,
  ]
  static let erfDouble: [Double] = [
    1.128379167095512574, -0.3761263890318375246, 0.1128379167095512562, -0.02686617064513121598,
    0.005223977625441640796, -0.0008548327023400393645, 0.0001205533297874666833,
    -0.00001492565023236727721, 1.646211067083793938e-6, -1.63657667539203977e-7,
    1.480600446351064256e-8, -1.227754787872815548e-9, 9.322718843977139363e-11,
    -6.193549237177581641e-12, 2.802196068401148714e-13,
  ]
}
