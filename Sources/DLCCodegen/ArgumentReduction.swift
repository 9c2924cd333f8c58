/// Reduction of arguments of any size: sine, cosine and tangent, and the remainder of a division.
///
/// The usual sizes take a few vector instructions. What lies beyond is rare, and exact in integers:
/// it runs lane by lane in a block of its own, entered when a lane asks for it. A lane's result never
/// depends on which way its neighbours go.
extension FloatMath {
  /// Where `isRare` holds in a lane, what `slow` computes from that lane's operands instead of `fast`.
  private mutating func replacing(
    _ fast: [Operand], where isRare: Operand, _ operands: [Operand],
    _ slow: ([Operand]) -> [Operand]
  ) -> [Operand] {
    let any = text.any(isRare)
    let (rare, done, before) = (text.label("rare"), text.label("reduced"), text.block)
    text.branch(if: any, rare, else: done, isRare: true)
    text.start(rare)
    var results = fast.map { Operand.poison($0.type, lanes) }
    if lanes == 0 {
      results = slow(operands)
    } else {
      for lane in 0..<lanes {
        let single = operands.map { text.extract($0, lane) }
        for (index, value) in slow(single).enumerated() {
          results[index] = text.insert(value, into: results[index], lane)
        }
      }
      results = zip(results, fast).map { select(isRare, $0, $1) }
    }
    let after = text.block
    text.branch(to: done)
    text.start(done)
    return zip(fast, results).map { text.phi([($0, before), ($1, after)]) }
  }

  /// x - n pi/2 for the nearest whole n, and n modulo 4, of a finite double of any size.
  ///
  /// Up to 2^20 by three parts of pi/2 (Cody and Waite; fdlibm's parts), whose products with n are
  /// exact; beyond by the bits of 2/pi that matter (Payne and Hanek). Error: 1/2 ulp of the difference,
  /// and as much again below 2^20.
  mutating func quarterTurns(_ x: Operand) -> (rest: Operand, turns: Operand) {
    let (whole, n) = round(mul(x, 0.63661977236758134308))
    let r1 = fma(whole, -1.57079632673412561417e+00, x)
    let r2 = fma(whole, -6.07710050630396597660e-11, r1)
    let r = fma(whole, -2.02226624879595063154e-21, r2)
    let isLarge = compare(.ogt, magnitude(x), 0x1p20)
    // The lanes that do not ask for it take part with a number that the table serves.
    let argument = select(isLarge, x, number(0x1p30))
    let text = text
    Self.defineQuarterTurns(text)
    let reduced = replacing([r, n], where: isLarge, [argument]) { x in
      let (rest, turns) = text.call("dlc_quarter_turns", x, gives: (.double, .i64))
      return [rest, turns]
    }
    return (reduced[0], reduced[1])
  }

  /// Sine and cosine of a difference of at most pi/4, by fdlibm's polynomials.
  private mutating func sineCosine(reduced r: Operand) -> (sine: Operand, cosine: Operand) {
    let z = mul(r, r)
    let s = fma(
      mul(
        polynomial(
          z,
          [
            -1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
            2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10,
          ]), z), r, r)
    let tail = mul(
      mul(z, z),
      polynomial(
        z,
        [
          4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
          -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11,
        ]))
    let halved = mul(z, 0.5)
    let w = sub(number(1), halved)
    let c = add(w, add(sub(sub(number(1), w), halved), tail))
    return (s, c)
  }

  private mutating func bit(_ turns: Operand, _ place: Int) -> Operand {
    text.compare(.ne, text.integer(.and, turns, 1 << place), 0)
  }

  /// What a function of an angle is at infinities, and at zeros, whose sign an odd function keeps.
  private mutating func atEnds(_ x: Operand, _ value: Operand, isOdd: Bool) -> Operand {
    let finite = select(compare(.oeq, magnitude(x), .infinity), number(.nan), value)
    return isOdd ? select(compare(.oeq, x, 0), x, finite) : finite
  }

  /// Sine or cosine of a double of any size. Error: 1 ulp.
  mutating func sineCosine(_ x: Operand, cosine: Bool) -> Operand {
    let (r, n) = quarterTurns(x)
    let (s, c) = sineCosine(reduced: r)
    let quadrant = cosine ? text.integer(.add, n, integer(1)) : n
    let value = select(bit(quadrant, 0), c, s)
    let signed = select(bit(quadrant, 1), negate(value), value)
    return atEnds(x, signed, isOdd: !cosine)
  }

  /// The tangent of a double of any size. Error: 3 ulp.
  mutating func tangent(_ x: Operand) -> Operand {
    let (r, n) = quarterTurns(x)
    let (s, c) = sineCosine(reduced: r)
    let isOdd = bit(n, 0)
    let value = div(select(isOdd, negate(c), s), select(isOdd, s, c))
    return atEnds(x, value, isOdd: true)
  }

  /// a - b trunc(a / b), with the sign of a. Exact.
  mutating func remainder(_ a: Operand, _ b: Operand) -> Operand {
    let (x, y) = (magnitude(a), magnitude(b))
    // A quotient below 2^53 is off by one at most.
    let q = text.intrinsic("trunc", [div(x, y)])
    let r = fusedRemainder(q, y, x)
    let up = select(compare(.olt, r, 0), add(r, y), r)
    let down = select(compare(.oge, up, y), sub(up, y), up)
    let isSmall = compare(.olt, x, y)
    let short = select(isSmall, x, down)
    let isFinite = compare(.olt, x, .infinity)
    let isPositive = compare(.ogt, y, 0)
    let exceeds = compare(.oge, x, mul(y, hasFMA ? 0x1p52 : 1))
    let isLong = text.integer(.and, text.integer(.and, isFinite, isPositive), exceeds)
    let (dividend, divisor) = (select(isLong, x, number(1)), select(isLong, y, number(1)))
    let text = text
    Self.defineLongRemainder(text)
    let reduced = replacing([short], where: isLong, [dividend, divisor]) { v in
      [text.call("dlc_long_remainder", v, gives: .double)]
    }
    let valid = select(compare(.oeq, x, .infinity), number(.nan), reduced[0])
    let defined = select(compare(.oeq, y, 0), number(.nan), valid)
    return select(compare(.uno, a, b), add(a, b), copySign(defined, a))
  }

  /// x - q y, rounded once; without the instruction, every quotient takes the long way.
  private mutating func fusedRemainder(_ q: Operand, _ y: Operand, _ x: Operand) -> Operand {
    hasFMA ? fma(negate(q), y, x) : x
  }

  /// 2/pi, 64 bits before the point and 1216 behind it.
  private static let twoOverPi: [UInt64] = [
    0x0000_0000_0000_0000, 0xa2f9_836e_4e44_1529, 0xfc27_57d1_f534_ddc0, 0xdb62_9599_3c43_9041,
    0xfe51_63ab_debb_c561, 0xb724_6e3a_424d_d2e0, 0x0649_2eea_09d1_921c, 0xfe1d_eb1c_b129_a73e,
    0xe882_35f5_2ebb_4484, 0xe99c_7026_b45f_7e41, 0x3991_d639_8353_39f4, 0x9c84_5f8b_bdf9_283b,
    0x1ff8_97ff_de05_980f, 0xef2f_118b_5a0a_6d1f, 0x6d36_7ecf_27cb_09b7, 0x4f46_3f66_9e5f_ea2d,
    0x7527_bac7_ebe5_f17b, 0x3d07_39f7_8a52_92ea, 0x6bfb_5fb1_1f8d_5d08, 0x5603_3046_fc7b_6bab,
  ]

  /// x = m 2^e with a whole m: bits of 2/pi that give multiples of four turns are left out, 192 bits
  /// are taken from there, and the product with m modulo 2^192 is the angle in quarter turns, two bits before
  /// the point. At most 62 bits behind it cancel, of 126.
  private static func defineQuarterTurns(_ text: FunctionText) {
    let table = text.table("dlc_two_over_pi", twoOverPi)
    text.helper(
      "dlc_quarter_turns", [.init(name: "x", type: .double)], gives: [.double, .i64]
    ) { x in
      func wide(_ word: Operand) -> Operand { text.cast(.zext, word, to: .i128) }
      let (bits, fraction, field) = parts(x[0], text)
      let m = text.integer(.or, fraction, 1 << 52)
      let first = text.integer(.sub, text.integer(.and, field, 2047), 1013)
      let (word, shift) = (text.integer(.lshr, first, 6), text.integer(.and, first, 63))
      let words = (0..<4).map { index in
        let at = text.offset(table, text.integer(.add, word, index), of: .i64)
        return text.load(.i64, 0, from: at, align: 8)
      }
      let digits = (0..<3).map { text.intrinsic("fshl", [words[$0], words[$0 + 1], shift]) }
      let carry = text.integer(.lshr, text.integer(.mul, wide(m), wide(digits[2])), 64)
      let low = text.integer(.add, text.integer(.mul, wide(m), wide(digits[1])), carry)
      let high = text.integer(.shl, wide(text.integer(.mul, m, digits[0])), 64)
      let angle = text.integer(.add, high, low)
      let eighths = text.integer(.lshr, angle, 125)
      let nearest = text.integer(.lshr, text.integer(.add, eighths, 1), 1)
      let turns = text.cast(.trunc, nearest, to: .i64)

      let rest = text.integer(.shl, angle, 2)
      let isBelow = text.compare(.slt, rest, 0)
      let opposite = text.integer(.sub, .integer(0, .i128, 0), rest)
      let size = text.select(isBelow, opposite, rest)
      let zeros = text.leadingZeros(size)
      let top = text.integer(.lshr, text.integer(.shl, size, zeros), 64)
      // pi/2, times 2^63.
      let product = text.integer(.mul, top, .unsigned(0xc90f_daa2_2168_c235, .i128))
      let whole = text.cast(.trunc, text.integer(.lshr, product, 64), to: .i64)
      let exponent = text.integer(
        .sub, .index(-63), text.cast(.trunc, zeros, to: .i64))
      let r = text.real(
        .fmul, text.cast(.uitofp, whole, to: .double), powerOfTwo(exponent, text))
      let isNegative = text.compare(.slt, bits, 0)
      let flips = text.integer(.xor, isNegative, isBelow)
      return [
        text.select(flips, text.negate(r), r),
        text.select(isNegative, text.integer(.sub, .index(0), turns), turns),
      ]
    }
  }

  /// The bits of a double, its fraction, and what is above it.
  private static func parts(_ x: Operand, _ text: FunctionText) -> (
    bits: Operand, fraction: Operand, field: Operand
  ) {
    let bits = text.cast(.bitcast, x, to: .i64)
    return (bits, text.integer(.and, bits, (1 << 52) - 1), text.integer(.lshr, bits, 52))
  }

  /// 2^n for an integer in the range of normal exponents.
  private static func powerOfTwo(_ n: Operand, _ text: FunctionText) -> Operand {
    let bits = text.integer(.shl, text.integer(.add, n, 1023), 52)
    return text.cast(.bitcast, bits, to: .double)
  }

  /// The remainder of x >= y > 0, both finite: long division of the whole mantissas, 11 bits at a time.
  private static func defineLongRemainder(_ text: FunctionText) {
    /// A mantissa and the exponent that belongs to it.
    func whole(_ x: Operand) -> (mantissa: Operand, exponent: Operand) {
      let (_, fraction, field) = parts(x, text)
      let isTiny = text.compare(.eq, field, 0)
      return (
        text.select(isTiny, fraction, text.integer(.or, fraction, 1 << 52)),
        text.select(isTiny, .index(1), field)
      )
    }
    text.helper(
      "dlc_long_remainder",
      [.init(name: "x", type: .double), .init(name: "y", type: .double)], gives: [.double]
    ) { arguments in
      let (x, y) = (whole(arguments[0]), whole(arguments[1]))
      let bits = text.subtract(x.exponent, y.exponent)
      let rest = text.loop(
        from: .index(0), to: bits, step: 11,
        carried: [text.integer(.urem, x.mantissa, y.mantissa)]
      ) { done, rest in
        let count = text.smaller(text.subtract(bits, done), .index(11))
        return [text.integer(.urem, text.integer(.shl, rest[0], count), y.mantissa)]
      }[0]
      // The power in two factors, as it may be below the normal ones.
      let exponent = text.integer(.sub, y.exponent, 1075)
      let half = text.integer(.ashr, exponent, 1)
      let other = text.integer(.sub, exponent, half)
      let number = text.cast(.uitofp, rest, to: .double)
      return [
        text.real(
          .fmul, text.real(.fmul, number, powerOfTwo(half, text)), powerOfTwo(other, text))
      ]
    }
  }
}
