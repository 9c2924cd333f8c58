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
    text.define(Self.longQuarterTurns)
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
    text.define(Self.longRemainder)
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
  private static let longQuarterTurns: String = {
    let words = twoOverPi.map { "i64 \(Int64(bitPattern: $0))" }.joined(separator: ", ")
    let halfPi = Int64(bitPattern: 0xc90f_daa2_2168_c235)  // times 2^-63
    let loads = (0..<4).map { index in
      """
        %at\(index) = add i64 %word, \(index)
        %from\(index) = getelementptr inbounds i64, ptr @dlc_two_over_pi, i64 %at\(index)
        %w\(index) = load i64, ptr %from\(index), align 8
      """
    }.joined(separator: "\n")
    return """
      @dlc_two_over_pi = internal unnamed_addr constant [\(twoOverPi.count) x i64] [\(words)], align 64
      declare i64 @llvm.fshl.i64(i64, i64, i64)
      declare i128 @llvm.ctlz.i128(i128, i1)
      define internal { double, i64 } @dlc_quarter_turns(double %x) noinline #0 {
        %bits = bitcast double %x to i64
        %field = lshr i64 %bits, 52
        %exponent = and i64 %field, 2047
        %fraction = and i64 %bits, \((1 << 52) - 1)
        %m = or i64 %fraction, \(1 << 52)
        %first = sub i64 %exponent, 1013
        %word = lshr i64 %first, 6
        %shift = and i64 %first, 63
      \(loads)
        %a = call i64 @llvm.fshl.i64(i64 %w0, i64 %w1, i64 %shift)
        %b = call i64 @llvm.fshl.i64(i64 %w1, i64 %w2, i64 %shift)
        %c = call i64 @llvm.fshl.i64(i64 %w2, i64 %w3, i64 %shift)
        %mw = zext i64 %m to i128
        %bw = zext i64 %b to i128
        %cw = zext i64 %c to i128
        %mc = mul i128 %mw, %cw
        %carry = lshr i128 %mc, 64
        %mb = mul i128 %mw, %bw
        %low = add i128 %mb, %carry
        %ma = mul i64 %m, %a
        %maw = zext i64 %ma to i128
        %high = shl i128 %maw, 64
        %angle = add i128 %high, %low
        %eighths = lshr i128 %angle, 125
        %rounded = add i128 %eighths, 1
        %nearest = lshr i128 %rounded, 1
        %turns = trunc i128 %nearest to i64
        %rest = shl i128 %angle, 2
        %below = icmp slt i128 %rest, 0
        %opposite = sub i128 0, %rest
        %size = select i1 %below, i128 %opposite, i128 %rest
        %zeros = call i128 @llvm.ctlz.i128(i128 %size, i1 false)
        %normal = shl i128 %size, %zeros
        %topw = lshr i128 %normal, 64
        %product = mul i128 %topw, \(UInt64(bitPattern: halfPi))
        %productw = lshr i128 %product, 64
        %digits = trunc i128 %productw to i64
        %number = uitofp i64 %digits to double
        %count = trunc i128 %zeros to i64
        %biased = sub i64 \(1023 - 63), %count
        %scaleBits = shl i64 %biased, 52
        %scale = bitcast i64 %scaleBits to double
        %r = fmul double %number, %scale
        %negative = icmp slt i64 %bits, 0
        %flip = xor i1 %negative, %below
        %minus = fneg double %r
        %signed = select i1 %flip, double %minus, double %r
        %back = sub i64 0, %turns
        %n = select i1 %negative, i64 %back, i64 %turns
        %first2 = insertvalue { double, i64 } poison, double %signed, 0
        %both = insertvalue { double, i64 } %first2, i64 %n, 1
        ret { double, i64 } %both
      }
      """
  }()

  /// The remainder of x >= y > 0, both finite: long division of the whole mantissas, 11 bits at a time.
  private static let longRemainder: String = {
    func decode(_ v: String) -> String {
      """
        %\(v)bits = bitcast double %\(v) to i64
        %\(v)field = lshr i64 %\(v)bits, 52
        %\(v)fraction = and i64 %\(v)bits, \((1 << 52) - 1)
        %\(v)tiny = icmp eq i64 %\(v)field, 0
        %\(v)full = or i64 %\(v)fraction, \(1 << 52)
        %\(v)m = select i1 %\(v)tiny, i64 %\(v)fraction, i64 %\(v)full
        %\(v)e = select i1 %\(v)tiny, i64 1, i64 %\(v)field
      """
    }
    return """
      define internal double @dlc_long_remainder(double %x, double %y) noinline #0 {
      entry:
      \(decode("x"))
      \(decode("y"))
        %steps = sub i64 %xe, %ye
        %start = urem i64 %xm, %ym
        br label %head
      head:
        %r = phi i64 [ %start, %entry ], [ %next, %body ]
        %d = phi i64 [ %steps, %entry ], [ %left, %body ]
        %more = icmp sgt i64 %d, 0
        br i1 %more, label %body, label %done
      body:
        %some = icmp slt i64 %d, 11
        %k = select i1 %some, i64 %d, i64 11
        %shifted = shl i64 %r, %k
        %next = urem i64 %shifted, %ym
        %left = sub i64 %d, %k
        br label %head
      done:
        %number = uitofp i64 %r to double
        %e = sub i64 %ye, 1075
        %half = ashr i64 %e, 1
        %other = sub i64 %e, %half
        %b0 = add i64 %half, 1023
        %b1 = add i64 %other, 1023
        %s0 = shl i64 %b0, 52
        %s1 = shl i64 %b1, 52
        %f0 = bitcast i64 %s0 to double
        %f1 = bitcast i64 %s1 to double
        %v0 = fmul double %number, %f0
        %v1 = fmul double %v0, %f1
        ret double %v1
      }
      """
  }()
}
