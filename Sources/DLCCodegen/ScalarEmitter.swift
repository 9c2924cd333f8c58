import DLCTensor

/// The table from scalar operations to instructions: the only place that meets single functions.
struct ScalarEmitter {
  let text: FunctionText
  init(_ text: FunctionText) { self.text = text }

  /// Operands have equal lanes and are in registers as `type.llvmType`.
  mutating func apply(_ operation: ScalarOperation, _ type: DataType, _ x: [Operand]) -> Operand {
    switch operation {
    case .unary(let f): return type.isFloat ? real(f, x[0]) : integer(f, type, x[0])
    case .binary(let f):
      return type.isFloat ? real(f, x[0], x[1]) : integer(f, type, x[0], x[1])
    case .compare(let c): return compare(c, type, x[0], x[1])
    case .select:
      return text.select(x[0], x[1], x[2])
    case .clamp:
      let low = apply(.binary(.maximum), type, [x[1], x[0]])
      return apply(.binary(.minimum), type, [low, x[2]])
    case .convert(let target): return convert(x[0], type, target)
    case .reinterpret(let target):
      return x[0].type == target.llvmType ? x[0] : text.cast(.bitcast, x[0], to: target.llvmType)
    }
  }

  private mutating func math(_ x: Operand, _ body: (inout FloatMath) -> Operand) -> Operand {
    var math = FloatMath(text, x.type, x.lanes)
    return body(&math)
  }

  /// Functions that are computed in double for both types: float then is exact to 1 ulp.
  private mutating func inDouble(_ x: [Operand], _ body: (inout FloatMath, [Operand]) -> Operand)
    -> Operand
  {
    guard x[0].type == .float else { return math(x[0]) { body(&$0, x) } }
    let wide = x.map { text.cast(.fpext, $0, to: .double) }
    let result = math(wide[0]) { body(&$0, wide) }
    return text.cast(.fptrunc, result, to: .float)
  }

  private mutating func real(_ f: UnaryFunction, _ x: Operand) -> Operand {
    switch f {
    case .negate: return text.negate(x)
    case .abs: return text.intrinsic("fabs", [x])
    case .sign:
      return math(x) { m in
        let one = m.copySign(m.number(1), x)
        return m.select(m.compare(.une, x, 0), m.select(m.compare(.uno, x, x), x, one), x)
      }
    case .floor: return text.intrinsic("floor", [x])
    case .ceil: return text.intrinsic("ceil", [x])
    case .round_nearest_even: return text.intrinsic("roundeven", [x])
    case .exponential: return math(x) { $0.exponential(x) }
    case .exponential_minus_one: return math(x) { $0.exponentialMinusOne(x) }
    case .log: return math(x) { $0.log(x) }
    case .log_plus_one: return inDouble([x]) { $0.logPlusOne($1[0]) }
    case .sqrt: return text.intrinsic("sqrt", [x])
    case .rsqrt:
      let root = text.intrinsic("sqrt", [x])
      return text.real(.fdiv, .real(1, x.type, x.lanes), root)
    case .cbrt: return inDouble([x]) { $0.cubeRoot($1[0]) }
    case .tanh: return math(x) { $0.tanh(x) }
    case .logistic: return math(x) { $0.logistic(x) }
    case .sine: return inDouble([x]) { $0.sineCosine($1[0], cosine: false) }
    case .cosine: return inDouble([x]) { $0.sineCosine($1[0], cosine: true) }
    case .tan: return inDouble([x]) { $0.tangent($1[0]) }
    case .erf: return math(x) { $0.erf(x) }
    case .erfc: return math(x) { $0.erfc(x) }
    case .is_finite: return math(x) { $0.compare(.olt, $0.magnitude(x), .infinity) }
    case .stop_gradient: return x
    case .not: preconditionFailure("not is no real function")
    }
  }

  private mutating func integer(_ f: UnaryFunction, _ type: DataType, _ x: Operand) -> Operand {
    let zero = Operand.integer(0, x.type, x.lanes)
    switch f {
    case .negate: return text.integer(.sub, zero, x)
    case .abs:
      if !type.isSigned { return x }
      let negative = text.compare(.slt, x, zero)
      return text.select(negative, text.integer(.sub, zero, x), x)
    case .sign:
      let one = text.cast(.zext, text.compare(.ne, x, zero), to: x.type)
      if !type.isSigned { return one }
      return text.integer(.or, text.integer(.ashr, x, type.bitCount - 1), one)
    case .stop_gradient: return x
    case .not: return text.integer(.xor, x, type == .bool ? 1 : -1)
    default: preconditionFailure("\(f) is no integer function")
    }
  }

  private mutating func real(_ f: BinaryFunction, _ a: Operand, _ b: Operand) -> Operand {
    switch f {
    case .add: return text.real(.fadd, a, b)
    case .subtract: return text.real(.fsub, a, b)
    case .multiply: return text.real(.fmul, a, b)
    case .divide: return text.real(.fdiv, a, b)
    case .maximum, .minimum:
      if a.isNaN || b.isNaN { return a.isNaN ? a : b }
      return math(a) { m in
        // Of a literal no comparison but an unordered one is needed, which takes a when it is NaN.
        if b.isLiteral { return m.select(m.compare(f == .maximum ? .ugt : .ult, a, b), a, b) }
        // An ordered comparison takes b when either is NaN; a NaN in a is put back.
        let best = m.select(m.compare(f == .maximum ? .ogt : .olt, a, b), a, b)
        return a.isLiteral ? best : m.select(m.compare(.uno, a, a), a, best)
      }
    case .power: return inDouble([a, b]) { $0.power($1[0], $1[1]) }
    case .remainder: return inDouble([a, b]) { $0.remainder($1[0], $1[1]) }
    case .atan2: return inDouble([a, b]) { $0.atan2($1[0], $1[1]) }
    default: preconditionFailure("\(f) is no real function")
    }
  }

  private mutating func integer(_ f: BinaryFunction, _ type: DataType, _ a: Operand, _ b: Operand)
    -> Operand
  {
    switch f {
    case .add: return text.integer(.add, a, b)
    case .subtract: return text.integer(.sub, a, b)
    case .multiply: return text.integer(.mul, a, b)
    case .and: return text.integer(.and, a, b)
    case .or: return text.integer(.or, a, b)
    case .xor: return text.integer(.xor, a, b)
    case .maximum:
      if type == .bool { return text.integer(.or, a, b) }
      return text.select(text.compare(type.isSigned ? .sgt : .ugt, a, b), a, b)
    case .minimum:
      if type == .bool { return text.integer(.and, a, b) }
      return text.select(text.compare(type.isSigned ? .slt : .ult, a, b), a, b)
    case .divide: return quotient(type, a, b, isRemainder: false)
    case .remainder: return quotient(type, a, b, isRemainder: true)
    case .shift_left: return shift(.shl, type, a, b)
    case .shift_right_logical: return shift(.lshr, type, a, b)
    case .shift_right_arithmetic: return shift(.ashr, type, a, b)
    case .power: return power(type, a, b)
    case .atan2: preconditionFailure("atan2 is no integer function")
    }
  }

  /// A zero divisor becomes 1 before the instruction and decides after it; so does -1, whose quotient of
  /// the smallest integer would trap.
  private mutating func quotient(
    _ type: DataType, _ a: Operand, _ b: Operand, isRemainder: Bool
  ) -> Operand {
    func literal(_ value: Int) -> Operand { .integer(value, a.type, a.lanes) }
    let byZero = text.compare(.eq, b, 0)
    var safe = text.select(byZero, literal(1), b)
    let whenZero = isRemainder ? a : literal(-1)
    guard type.isSigned else {
      return text.select(byZero, whenZero, text.integer(isRemainder ? .urem : .udiv, a, safe))
    }
    let byMinusOne = text.compare(.eq, b, -1)
    safe = text.select(byMinusOne, literal(1), safe)
    let value = text.integer(isRemainder ? .srem : .sdiv, a, safe)
    let opposite = isRemainder ? literal(0) : text.integer(.sub, literal(0), a)
    return text.select(byZero, whenZero, text.select(byMinusOne, opposite, value))
  }

  /// Shifts by the width or more leave zeros, or signs.
  private mutating func shift(
    _ instruction: FunctionText.IntegerInstruction, _ type: DataType, _ a: Operand, _ b: Operand
  ) -> Operand {
    func literal(_ value: Int) -> Operand { .integer(value, a.type, a.lanes) }
    let inside = text.compare(.ult, b, type.bitCount)
    if instruction == .ashr {
      return text.integer(.ashr, a, text.select(inside, b, literal(type.bitCount - 1)))
    }
    let value = text.integer(instruction, a, text.select(inside, b, literal(0)))
    return text.select(inside, value, literal(0))
  }

  /// By squaring; a negative power is what 1 / a^-b rounds to towards zero.
  private mutating func power(_ type: DataType, _ a: Operand, _ b: Operand) -> Operand {
    func literal(_ value: Int) -> Operand { .integer(value, a.type, a.lanes) }
    var (result, base) = (literal(1), a)
    for bit in 0..<type.bitCount - (type.isSigned ? 1 : 0) {
      let set = text.cast(.trunc, text.integer(.lshr, b, bit), to: .i1)
      result = text.select(set, text.integer(.mul, result, base), result)
      base = text.integer(.mul, base, base)
    }
    guard type.isSigned else { return result }
    let negative = text.compare(.slt, b, 0)
    let one = text.compare(.eq, a, 1)
    let minus = text.compare(.eq, a, -1)
    let odd = text.cast(.trunc, b, to: .i1)
    let ofMinus = text.select(odd, literal(-1), literal(1))
    let ofOthers = text.select(minus, ofMinus, literal(0))
    return text.select(negative, text.select(one, literal(1), ofOthers), result)
  }

  private mutating func compare(_ c: Comparison, _ type: DataType, _ a: Operand, _ b: Operand)
    -> Operand
  {
    if type.isFloat {
      return switch c {
      case .equal: text.compare(.oeq, a, b)
      case .not_equal: text.compare(.une, a, b)
      case .less: text.compare(.olt, a, b)
      case .less_equal: text.compare(.ole, a, b)
      case .greater: text.compare(.ogt, a, b)
      case .greater_equal: text.compare(.oge, a, b)
      }
    }
    let isSigned = type.isSigned
    return switch c {
    case .equal: text.compare(.eq, a, b)
    case .not_equal: text.compare(.ne, a, b)
    case .less: text.compare(isSigned ? .slt : .ult, a, b)
    case .less_equal: text.compare(isSigned ? .sle : .ule, a, b)
    case .greater: text.compare(isSigned ? .sgt : .ugt, a, b)
    case .greater_equal: text.compare(isSigned ? .sge : .uge, a, b)
    }
  }

  /// Every conversion rounds once. Half floats are float in registers, so that conversion to them goes
  /// through their storage.
  private mutating func convert(_ x: Operand, _ type: DataType, _ target: DataType) -> Operand {
    let to = target.llvmType
    switch (type.isFloat, target.isFloat) {
    case (true, true):
      if target != target.computeType {
        return roundThroughStorage(x.type == .double ? oddFloat(x) : x, target)
      }
      return x.type == to ? x : text.cast(x.type == .float ? .fpext : .fptrunc, x, to: to)
    case (true, false):
      if target == .bool { return text.compare(.une, x, .real(0, x.type, x.lanes)) }
      return text.saturating(x, to: to, isSigned: target.isSigned)
    case (false, true):
      let instruction: FunctionText.Cast = type.isSigned ? .sitofp : .uitofp
      guard target != target.computeType else { return text.cast(instruction, x, to: to) }
      if type.bitCount <= 16 {
        return roundThroughStorage(text.cast(instruction, x, to: to), target)
      }
      // Wider integers are exact in double, once 64 bits have lost those that only break ties.
      let exact = type.bitCount == 64 ? sticky(x, type) : x
      return roundThroughStorage(oddFloat(text.cast(instruction, exact, to: .double)), target)
    case (false, false):
      if target == type { return x }
      if target == .bool { return text.compare(.ne, x, 0) }
      if target.bitCount == type.bitCount { return x }
      if target.bitCount < type.bitCount { return text.cast(.trunc, x, to: to) }
      return text.cast(type.isSigned ? .sext : .zext, x, to: to)
    }
  }

  /// The float beside a double whose last bit is set, unless the double is a float: rounding it on to a
  /// half float rounds the double once.
  private mutating func oddFloat(_ x: Operand) -> Operand {
    let near = text.cast(.fptrunc, x, to: .float)
    let back = text.cast(.fpext, near, to: .double)
    let (size, backSize) = (text.intrinsic("fabs", [x]), text.intrinsic("fabs", [back]))
    // Neither holds for NaN.
    let isAbove = text.compare(.ogt, backSize, size)
    let isInexact = text.compare(.one, back, x)
    let bits = text.cast(.bitcast, near, to: .i32)
    let step = text.cast(.zext, isAbove, to: .i32)
    let last = text.cast(.zext, isInexact, to: .i32)
    let odd = text.integer(.or, text.integer(.sub, bits, step), last)
    return text.cast(.bitcast, odd, to: .float)
  }

  /// A 64-bit integer with its 11 lowest bits as one, when it has more than a double holds: what is left
  /// is exact in a double.
  private mutating func sticky(_ x: Operand, _ type: DataType) -> Operand {
    let low = text.integer(.and, x, 0x7ff)
    let one = text.cast(.zext, text.compare(.ne, low, 0), to: .i64)
    let bit = text.integer(.shl, one, 11)
    let high = text.integer(.and, x, ~0x7ff)
    let joined = text.integer(.or, high, bit)
    // -2^53 <= x < 2^53 is exact as it is.
    let shifted = type.isSigned ? text.integer(.add, x, 1 << 53) : x
    let small = text.compare(.ult, shifted, type.isSigned ? 1 << 54 : 1 << 53)
    return text.select(small, x, joined)
  }

  private mutating func roundThroughStorage(_ x: Operand, _ type: DataType) -> Operand {
    let stored = toStorage(x, type)
    return fromStorage(stored, type)
  }

  /// From registers to memory: bools to bytes, half floats rounded to nearest even.
  mutating func toStorage(_ x: Operand, _ type: DataType) -> Operand {
    switch type {
    case .bool: return text.cast(.zext, x, to: .i8)
    case .float16: return text.cast(.fptrunc, x, to: .half)
    case .bfloat16:
      let bits = text.cast(.bitcast, x, to: .i32)
      let upper = text.integer(.lshr, bits, 16)
      let odd = text.integer(.and, upper, 1)
      let bias = text.integer(.add, odd, 0x7fff)
      let rounded = text.integer(.lshr, text.integer(.add, bits, bias), 16)
      let quiet = text.integer(.or, upper, 0x40)
      let chosen = text.select(text.compare(.uno, x, x), quiet, rounded)
      return text.cast(.trunc, chosen, to: .i16)
    default: return x
    }
  }

  mutating func fromStorage(_ x: Operand, _ type: DataType) -> Operand {
    switch type {
    case .bool: return text.compare(.ne, x, 0)
    case .float16: return text.cast(.fpext, x, to: .float)
    case .bfloat16:
      let bits = text.integer(.shl, text.cast(.zext, x, to: .i32), 16)
      return text.cast(.bitcast, bits, to: .float)
    default: return x
    }
  }
}
