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
      return text.make(x[1].type, x[1].lanes, "select \(x[0].text), \(x[1].text), \(x[2].text)")
    case .clamp:
      let low = apply(.binary(.maximum), type, [x[1], x[0]])
      return apply(.binary(.minimum), type, [low, x[2]])
    case .convert(let target): return convert(x[0], type, target)
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
    guard x[0].type == "float" else { return math(x[0]) { body(&$0, x) } }
    let lanes = x[0].lanes
    let doubleType = Operand(name: "", type: "double", lanes: lanes).fullType
    let wide = x.map { text.make("double", lanes, "fpext \($0.text) to \(doubleType)") }
    let result = math(wide[0]) { body(&$0, wide) }
    return text.make("float", lanes, "fptrunc \(result.text) to \(x[0].fullType)")
  }

  private mutating func real(_ f: UnaryFunction, _ x: Operand) -> Operand {
    switch f {
    case .negate: return text.make(x.type, x.lanes, "fneg \(x.text)")
    case .abs: return text.intrinsic("fabs", [x])
    case .sign:
      return math(x) { m in
        let one = m.copySign(m.number(1), x)
        return m.select(m.compare("une", x, 0), m.select(m.compare("uno", x, x), x, one), x)
      }
    case .floor: return text.intrinsic("floor", [x])
    case .ceil: return text.intrinsic("ceil", [x])
    case .round_nearest_even: return text.intrinsic("roundeven", [x])
    case .exponential: return math(x) { $0.exponential(x) }
    case .exponential_minus_one: return inDouble([x]) { $0.exponentialMinusOne($1[0]) }
    case .log: return math(x) { $0.log(x) }
    case .log_plus_one: return inDouble([x]) { $0.logPlusOne($1[0]) }
    case .sqrt: return text.intrinsic("sqrt", [x])
    case .rsqrt:
      let root = text.intrinsic("sqrt", [x])
      let one = FunctionText.literal(FunctionText.floating(1, x.type), x.type, x.lanes)
      return text.make(x.type, x.lanes, "fdiv \(one.text), \(root.name)")
    case .cbrt: return inDouble([x]) { $0.cubeRoot($1[0]) }
    case .tanh: return math(x) { $0.tanh(x) }
    case .logistic: return math(x) { $0.logistic(x) }
    case .sine: return inDouble([x]) { $0.sineCosine($1[0], cosine: false) }
    case .cosine: return inDouble([x]) { $0.sineCosine($1[0], cosine: true) }
    case .tan: return inDouble([x]) { $0.tangent($1[0]) }
    case .erf: return math(x) { $0.erf(x) }
    case .erfc: return math(x) { $0.erfc(x) }
    case .is_finite: return math(x) { $0.compare("olt", $0.magnitude(x), .infinity) }
    case .stop_gradient: return x
    case .not: preconditionFailure("not is no real function")
    }
  }

  private mutating func integer(_ f: UnaryFunction, _ type: DataType, _ x: Operand) -> Operand {
    let zero = FunctionText.literal("0", x.type, x.lanes).name
    func boolType() -> String { Operand(name: "", type: "i1", lanes: x.lanes).fullType }
    switch f {
    case .negate: return text.make(x.type, x.lanes, "sub \(x.fullType) \(zero), \(x.name)")
    case .abs:
      if !type.isSigned { return x }
      let negative = text.make("i1", x.lanes, "icmp slt \(x.text), \(zero)")
      let opposite = text.make(x.type, x.lanes, "sub \(x.fullType) \(zero), \(x.name)")
      return text.make(x.type, x.lanes, "select \(negative.text), \(opposite.text), \(x.text)")
    case .sign:
      let nonzero = text.make("i1", x.lanes, "icmp ne \(x.text), \(zero)")
      let one = text.make(x.type, x.lanes, "zext \(nonzero.text) to \(x.fullType)")
      if !type.isSigned { return one }
      let sign = text.integer("ashr", x, type.bitCount - 1)
      return text.make(x.type, x.lanes, "or \(sign.text), \(one.name)")
    case .stop_gradient: return x
    case .not: return text.integer("xor", x, type == .bool ? 1 : -1)
    default: preconditionFailure("\(f) is no integer function")
    }
  }

  private mutating func real(_ f: BinaryFunction, _ a: Operand, _ b: Operand) -> Operand {
    switch f {
    case .add: return text.make(a.type, a.lanes, "fadd \(a.text), \(b.name)")
    case .subtract: return text.make(a.type, a.lanes, "fsub \(a.text), \(b.name)")
    case .multiply: return text.make(a.type, a.lanes, "fmul \(a.text), \(b.name)")
    case .divide: return text.make(a.type, a.lanes, "fdiv \(a.text), \(b.name)")
    case .maximum, .minimum:
      return math(a) { m in
        // An ordered comparison takes b when either is NaN; a NaN in a is put back.
        let best = m.select(m.compare(f == .maximum ? "ogt" : "olt", a, b), a, b)
        let literal = !a.name.hasPrefix("%")
        return literal ? best : m.select(m.compare("uno", a, a), a, best)
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
    let (t, n) = (a.type, a.lanes)
    func literal(_ value: Int) -> Operand { FunctionText.literal("\(value)", t, n) }
    func simple(_ instruction: String) -> Operand {
      text.make(t, n, "\(instruction) \(a.text), \(b.name)")
    }
    func choose(_ condition: Operand, _ x: Operand, _ y: Operand) -> Operand {
      text.make(t, n, "select \(condition.text), \(x.text), \(y.text)")
    }
    let signed = type.isSigned
    switch f {
    case .add: return simple("add")
    case .subtract: return simple("sub")
    case .multiply: return simple("mul")
    case .and: return simple("and")
    case .or: return simple("or")
    case .xor: return simple("xor")
    case .maximum, .minimum:
      if type == .bool { return simple(f == .maximum ? "or" : "and") }
      let predicate = (signed ? "s" : "u") + (f == .maximum ? "gt" : "lt")
      return choose(text.make("i1", n, "icmp \(predicate) \(a.text), \(b.name)"), a, b)
    case .divide, .remainder:
      // A zero divisor becomes 1 before the instruction and decides after it; so does -1, whose
      // quotient of the smallest integer would trap.
      let zero = text.make("i1", n, "icmp eq \(b.text), \(literal(0).name)")
      var safe = choose(zero, literal(1), b)
      var minusOne: Operand?
      if signed {
        let matches = text.make("i1", n, "icmp eq \(b.text), \(literal(-1).name)")
        safe = choose(matches, literal(1), safe)
        minusOne = matches
      }
      let instruction = (signed ? "s" : "u") + (f == .divide ? "div" : "rem")
      var value = text.make(t, n, "\(instruction) \(a.text), \(safe.name)")
      if let minusOne {
        let opposite =
          f == .divide
          ? text.make(t, n, "sub \(a.fullType) \(literal(0).name), \(a.name)") : literal(0)
        value = choose(minusOne, opposite, value)
      }
      return choose(zero, f == .divide ? literal(-1) : a, value)
    case .shift_left, .shift_right_logical, .shift_right_arithmetic:
      let width = type.bitCount
      let inside = text.make("i1", n, "icmp ult \(b.text), \(literal(width).name)")
      if f == .shift_right_arithmetic {
        let amount = choose(inside, b, literal(width - 1))
        return text.make(t, n, "ashr \(a.text), \(amount.name)")
      }
      let amount = choose(inside, b, literal(0))
      let value = text.make(t, n, "\(f == .shift_left ? "shl" : "lshr") \(a.text), \(amount.name)")
      return choose(inside, value, literal(0))
    case .power:
      var (result, base) = (literal(1), a)
      for bit in 0..<type.bitCount - (signed ? 1 : 0) {
        let shifted = text.integer("lshr", b, bit)
        let set = text.make(
          "i1", n, "trunc \(shifted.text) to \(Operand(name: "", type: "i1", lanes: n).fullType)")
        result = choose(set, text.make(t, n, "mul \(result.text), \(base.name)"), result)
        base = text.make(t, n, "mul \(base.text), \(base.name)")
      }
      guard signed else { return result }
      let negative = text.make("i1", n, "icmp slt \(b.text), \(literal(0).name)")
      let one = text.make("i1", n, "icmp eq \(a.text), \(literal(1).name)")
      let minus = text.make("i1", n, "icmp eq \(a.text), \(literal(-1).name)")
      let odd = text.make(
        "i1", n, "trunc \(b.text) to \(Operand(name: "", type: "i1", lanes: n).fullType)")
      let ofMinus = choose(odd, literal(-1), literal(1))
      return choose(negative, choose(one, literal(1), choose(minus, ofMinus, literal(0))), result)
    case .atan2: preconditionFailure("atan2 is no integer function")
    }
  }

  private mutating func compare(_ c: Comparison, _ type: DataType, _ a: Operand, _ b: Operand)
    -> Operand
  {
    if type.isFloat {
      let predicate =
        switch c {
        case .equal: "oeq"
        case .not_equal: "une"
        case .less: "olt"
        case .less_equal: "ole"
        case .greater: "ogt"
        case .greater_equal: "oge"
        }
      return text.make("i1", a.lanes, "fcmp \(predicate) \(a.text), \(b.name)")
    }
    let s = type.isSigned ? "s" : "u"
    let predicate =
      switch c {
      case .equal: "eq"
      case .not_equal: "ne"
      case .less: s + "lt"
      case .less_equal: s + "le"
      case .greater: s + "gt"
      case .greater_equal: s + "ge"
      }
    return text.make("i1", a.lanes, "icmp \(predicate) \(a.text), \(b.name)")
  }

  /// Every conversion rounds once. Half floats are float in registers, so that conversion to them goes
  /// through their storage.
  private mutating func convert(_ x: Operand, _ type: DataType, _ target: DataType) -> Operand {
    let n = x.lanes
    let to = Operand(name: "", type: target.llvmType, lanes: n)
    func cast(_ instruction: String) -> Operand {
      text.make(to.type, n, "\(instruction) \(x.text) to \(to.fullType)")
    }
    switch (type.isFloat, target.isFloat) {
    case (true, true):
      if target != target.computeType {
        return roundThroughStorage(x.type == "double" ? oddFloat(x) : x, target)
      }
      return x.type == to.type ? x : cast(x.type == "float" ? "fpext" : "fptrunc")
    case (true, false):
      if target == .bool {
        return text.make(
          "i1", n, "fcmp une \(x.text), \(FunctionText.literal("0.0", x.type, n).name)")
      }
      let name = target.isSigned ? "fptosi.sat" : "fptoui.sat"
      let symbol = "@llvm.\(name).\(FunctionText.mangle(to)).\(FunctionText.mangle(x))"
      text.declare("declare \(to.fullType) \(symbol)(\(x.fullType))")
      return text.make(to.type, n, "call \(to.fullType) \(symbol)(\(x.text))")
    case (false, true):
      let instruction = type.isSigned ? "sitofp" : "uitofp"
      guard target != target.computeType else { return cast(instruction) }
      if type.bitCount <= 16 { return roundThroughStorage(cast(instruction), target) }
      // Wider integers are exact in double, once 64 bits have lost those that only break ties.
      let exact = type.bitCount == 64 ? sticky(x, type) : x
      let wide = Operand(name: "", type: "double", lanes: n)
      let real = text.make("double", n, "\(instruction) \(exact.text) to \(wide.fullType)")
      return roundThroughStorage(oddFloat(real), target)
    case (false, false):
      if target == type { return x }
      if target == .bool {
        return text.make("i1", n, "icmp ne \(x.text), \(FunctionText.literal("0", x.type, n).name)")
      }
      if target.bitCount == type.bitCount { return x }
      if target.bitCount < type.bitCount { return cast("trunc") }
      return cast(type.isSigned ? "sext" : "zext")
    }
  }

  /// The float beside a double whose last bit is set, unless the double is a float: rounding it on to a
  /// half float rounds the double once.
  private mutating func oddFloat(_ x: Operand) -> Operand {
    let n = x.lanes
    func full(_ type: String) -> String { Operand(name: "", type: type, lanes: n).fullType }
    let near = text.make("float", n, "fptrunc \(x.text) to \(full("float"))")
    let back = text.make("double", n, "fpext \(near.text) to \(full("double"))")
    let (size, backSize) = (text.intrinsic("fabs", [x]), text.intrinsic("fabs", [back]))
    // Neither holds for NaN.
    let isAbove = text.make("i1", n, "fcmp ogt \(backSize.text), \(size.name)")
    let isInexact = text.make("i1", n, "fcmp one \(back.text), \(x.name)")
    let bits = text.make("i32", n, "bitcast \(near.text) to \(full("i32"))")
    let step = text.make("i32", n, "zext \(isAbove.text) to \(full("i32"))")
    let last = text.make("i32", n, "zext \(isInexact.text) to \(full("i32"))")
    let below = text.make("i32", n, "sub \(bits.text), \(step.name)")
    let odd = text.make("i32", n, "or \(below.text), \(last.name)")
    return text.make("float", n, "bitcast \(odd.text) to \(full("float"))")
  }

  /// A 64-bit integer with its 11 lowest bits as one, when it has more than a double holds: what is left
  /// is exact in a double.
  private mutating func sticky(_ x: Operand, _ type: DataType) -> Operand {
    let n = x.lanes
    let zero = FunctionText.literal("0", "i64", n)
    let low = text.integer("and", x, 0x7ff)
    let some = text.make("i1", n, "icmp ne \(low.text), \(zero.name)")
    let one = text.make(
      "i64", n, "zext \(some.text) to \(Operand(name: "", type: "i64", lanes: n).fullType)")
    let bit = text.integer("shl", one, 11)
    let high = text.integer("and", x, ~0x7ff)
    let joined = text.make("i64", n, "or \(high.text), \(bit.name)")
    // -2^53 <= x < 2^53 is exact as it is.
    let shifted = type.isSigned ? text.integer("add", x, 1 << 53) : x
    let limit = FunctionText.literal("\(type.isSigned ? 1 << 54 : 1 << 53)", "i64", n)
    let small = text.make("i1", n, "icmp ult \(shifted.text), \(limit.name)")
    return text.make("i64", n, "select \(small.text), \(x.text), \(joined.text)")
  }

  private mutating func roundThroughStorage(_ x: Operand, _ type: DataType) -> Operand {
    let stored = toStorage(x, type)
    return fromStorage(stored, type)
  }

  /// From registers to memory: bools to bytes, half floats rounded to nearest even.
  mutating func toStorage(_ x: Operand, _ type: DataType) -> Operand {
    let n = x.lanes
    let to = Operand(name: "", type: type.llvmStorage, lanes: n).fullType
    switch type {
    case .bool: return text.make("i8", n, "zext \(x.text) to \(to)")
    case .float16: return text.make("half", n, "fptrunc \(x.text) to \(to)")
    case .bfloat16:
      let wide = Operand(name: "", type: "i32", lanes: n).fullType
      let bits = text.make("i32", n, "bitcast \(x.text) to \(wide)")
      let upper = text.integer("lshr", bits, 16)
      let odd = text.integer("and", upper, 1)
      let bias = text.integer("add", odd, 0x7fff)
      let rounded = text.make("i32", n, "add \(bits.text), \(bias.name)")
      let shifted = text.integer("lshr", rounded, 16)
      let quiet = text.integer("or", upper, 0x40)
      let isNaN = text.make("i1", n, "fcmp uno \(x.text), \(x.name)")
      let chosen = text.make("i32", n, "select \(isNaN.text), \(quiet.text), \(shifted.text)")
      return text.make("i16", n, "trunc \(chosen.text) to \(to)")
    default: return x
    }
  }

  mutating func fromStorage(_ x: Operand, _ type: DataType) -> Operand {
    let n = x.lanes
    let to = Operand(name: "", type: type.llvmType, lanes: n).fullType
    switch type {
    case .bool:
      return text.make("i1", n, "icmp ne \(x.text), \(FunctionText.literal("0", "i8", n).name)")
    case .float16: return text.make("float", n, "fpext \(x.text) to \(to)")
    case .bfloat16:
      let wide = Operand(name: "", type: "i32", lanes: n).fullType
      let extended = text.make("i32", n, "zext \(x.text) to \(wide)")
      let shifted = text.integer("shl", extended, 16)
      return text.make("float", n, "bitcast \(shifted.text) to \(to)")
    default: return x
    }
  }
}
