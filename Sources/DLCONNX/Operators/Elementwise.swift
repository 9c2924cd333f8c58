import DLCGraph
import DLCTensor

/// Functions of elements. Before version 7 operands are broadcast by attributes, since then by NumPy's rule.
enum ElementwiseOperators {
  private typealias Unary = @Sendable (FunctionBuilder, Value) -> Value
  private typealias Binary = @Sendable (FunctionBuilder, Value, Value) -> Value

  static let all: [OperatorMapping] =
    unary + arithmetic + comparisons + bits + activations + various

  // MARK: One operand

  private static func unary(_ name: String, _ f: @escaping Unary) -> OperatorMapping {
    OperatorMapping(name, inputs: 1) { c throws(ImportStop) in [f(c.g, try c.operand(0))] }
  }

  private static func scalar(_ x: Value, _ number: Double, _ g: FunctionBuilder) -> Value {
    g.constant(Tensor(splat: number, x.dataType, []))
  }

  private static let unary: [OperatorMapping] = [
    unary("Abs") { $1.dataType.isSigned ? $0.abs($1) : $1 },
    unary("Neg") { $0.negate($1) },
    unary("Sign") { $0.sign($1) },
    unary("Ceil") { $1.dataType.isFloat ? $0.ceil($1) : $1 },
    unary("Floor") { $1.dataType.isFloat ? $0.floor($1) : $1 },
    unary("Round") { $1.dataType.isFloat ? $0.round($1) : $1 },
    unary("Exp") { $0.exponential($1) },
    unary("Log") { $0.log($1) },
    unary("Sqrt") { $0.sqrt($1) },
    unary("Reciprocal") { scalar($1, 1, $0) / $1 },
    unary("Sin") { $0.sine($1) },
    unary("Cos") { $0.cosine($1) },
    unary("Tan") { $0.unary(.tan, $1) },
    unary("Tanh") { $0.tanh($1) },
    unary("Sigmoid") { $0.logistic($1) },
    unary("Erf") { $0.erf($1) },
    unary("Relu") { $0.maximum($1, scalar($1, 0, $0)) },
    unary("Softsign") { $1 / ($0.abs($1) + scalar($1, 1, $0)) },
    unary("Softplus") { $0.softplus($1) },
    unary("Mish") { $1 * $0.tanh($0.softplus($1)) },
    unary("Not") { $0.unary(.not, $1) },
    unary("BitwiseNot") { $0.unary(.not, $1) },
    unary("IsNaN") { _, x in x .!= x },
    unary("Acos") {
      arc($0, $1) { g, x, one in g.binary(.atan2, g.sqrt((one - x) * (one + x)), x) }
    },
    unary("Asin") {
      arc($0, $1) { g, x, one in g.binary(.atan2, x, g.sqrt((one - x) * (one + x))) }
    },
    unary("Atan") { arc($0, $1) { g, x, one in g.binary(.atan2, x, one) } },
    unary("Sinh") {
      wide($0, $1) { g, x in
        // (e^x - e^-x) / 2 by e^x - 1, which keeps small numbers.
        let e = g.unary(.exponential_minus_one, x)
        return (e + e / (e + 1.0)) * 0.5
      }
    },
    unary("Cosh") { wide($0, $1) { g, x in (g.exponential(x) + g.exponential(-x)) * 0.5 } },
    unary("Asinh") {
      wide($0, $1) { g, x in
        let a = g.abs(x)
        return g.sign(x) * g.logPlusOne(a + a * a / (g.sqrt(a * a + 1.0) + 1.0))
      }
    },
    unary("Acosh") { wide($0, $1) { g, x in g.log(x + g.sqrt((x - 1.0) * (x + 1.0))) } },
    unary("Atanh") { wide($0, $1) { g, x in (g.logPlusOne(x) - g.logPlusOne(-x)) * 0.5 } },
  ]

  /// Done in float64, so that what float32 rounds on the way does not show.
  private static func wide(
    _ g: FunctionBuilder, _ x: Value, _ f: (FunctionBuilder, Value) -> Value
  ) -> Value { g.convert(f(g, g.convert(x, .float64)), x.dataType) }

  private static func arc(
    _ g: FunctionBuilder, _ x: Value, _ f: (FunctionBuilder, Value, Value) -> Value
  ) -> Value { wide(g, x) { f($0, $1, $0.constant(1, like: $1)) } }

  // MARK: Two operands

  /// The operands of an operator in one shape: by NumPy's rule, or as `axis` and `broadcast` say.
  private static func operands(_ c: NodeContext) throws(ImportStop) -> (Value, Value) {
    let (a, b) = (try c.operand(0), try c.operand(1))
    guard c.version < 7, b.rank < a.rank || a.shape != b.shape, let axis = try c.integer("axis")
    else {
      let list = try c.broadcast([a, b])
      return (list[0], list[1])
    }
    let first = try c.axis(axis, rank: a.rank)
    guard first + b.rank <= a.rank else {
      throw c.fail("\(b.type) does not fit into \(a.type) from axis \(axis)")
    }
    return (a, c.g.broadcast(b, to: a.shape, axes: Array(first..<first + b.rank)))
  }

  private static func binary(
    _ name: String, domain: String = "", since: Int = 1, _ f: @escaping Binary
  ) -> OperatorMapping {
    OperatorMapping(name, domain: domain, since: since, inputs: 2) { c throws(ImportStop) in
      let (a, b) = try operands(c)
      guard a.dataType == b.dataType else {
        throw c.fail("the operands are \(a.type) and \(b.type)")
      }
      return [f(c.g, a, b)]
    }
  }

  private static let arithmetic: [OperatorMapping] = [
    binary("Add") { $1 + $2 },
    binary("Sub") { $1 - $2 },
    binary("Mul") { $1 * $2 },
    binary("Div") { $1 / $2 },
    OperatorMapping("Pow", inputs: 2) { c throws(ImportStop) in
      let (x, y) = try operands(c)
      let g = c.g
      if x.dataType == y.dataType { return [g.power(x, y)] }
      // The result has the type of the base; the power is taken where both fit.
      guard x.dataType.isFloat || y.dataType.isFloat else {
        return [g.convert(g.power(g.convert(x, .int64), g.convert(y, .int64)), x.dataType)]
      }
      let type: DataType = x.dataType == .float32 && y.dataType.byteCount <= 4 ? .float32 : .float64
      if !x.dataType.isFloat {
        // A power that is a whole number but for rounding is that number.
        let value = g.power(g.convert(x, .float64), g.convert(y, .float64))
        let whole = g.round(value)
        let isWhole = g.abs(value - whole) <= g.abs(whole) * 1e-12
        return [g.convert(g.select(isWhole, whole, value), x.dataType)]
      }
      return [g.convert(g.power(g.convert(x, type), g.convert(y, type)), x.dataType)]
    },
    OperatorMapping("Mod", since: 10, inputs: 2) { c throws(ImportStop) in
      let (a, b) = try operands(c)
      let g = c.g
      let rest = g.binary(.remainder, a, b)
      if try c.flag("fmod") || !a.dataType.isSigned { return [rest] }
      // The sign of the divisor.
      let zero = scalar(rest, 0, g)
      let differs = g.binary(.and, rest .!= zero, (rest < zero) .!= (b < zero))
      return [g.select(differs, rest + b, rest)]
    },
    variadic("Sum") { g, a, b in a + b },
    variadic("Max") { g, a, b in g.maximum(a, b) },
    variadic("Min") { g, a, b in g.minimum(a, b) },
    OperatorMapping("Mean", inputs: nil) { c throws(ImportStop) in
      let list = try c.broadcast(c.all)
      let total = list.dropFirst().reduce(list[0]) { $0 + $1 }
      return [total / scalar(total, Double(list.count), c.g)]
    },
  ]

  private static func variadic(_ name: String, _ f: @escaping Binary) -> OperatorMapping {
    OperatorMapping(name, inputs: nil) { c throws(ImportStop) in
      let list = try c.broadcast(c.all)
      guard let first = list.first else { throw c.fail("it has no inputs") }
      return [list.dropFirst().reduce(first) { f(c.g, $0, $1) }]
    }
  }

  private static let comparisons: [OperatorMapping] = [
    binary("Equal") { $1 .== $2 },
    binary("Less") { $1 < $2 },
    binary("LessOrEqual") { $1 <= $2 },
    binary("Greater") { $1 > $2 },
    binary("GreaterOrEqual") { $1 >= $2 },
  ]

  private static let bits: [OperatorMapping] = [
    binary("And") { $0.binary(.and, $1, $2) },
    binary("Or") { $0.binary(.or, $1, $2) },
    binary("Xor") { $0.binary(.xor, $1, $2) },
    binary("BitwiseAnd") { $0.binary(.and, $1, $2) },
    binary("BitwiseOr") { $0.binary(.or, $1, $2) },
    binary("BitwiseXor") { $0.binary(.xor, $1, $2) },
    OperatorMapping("BitShift", inputs: 2) { c throws(ImportStop) in
      let (a, b) = try operands(c)
      let direction = try c.text("direction", "")
      guard direction == "LEFT" || direction == "RIGHT" else {
        throw c.fail("attribute 'direction' is '\(direction)', not LEFT or RIGHT")
      }
      return [
        c.g.binary(
          direction == "LEFT"
            ? .shift_left : a.dataType.isSigned ? .shift_right_arithmetic : .shift_right_logical, a,
          b)
      ]
    },
  ]

  // MARK: Activations with attributes

  private static func activation(
    _ name: String, domain: String = "",
    _ f: @escaping @Sendable (NodeContext, Value) throws(ImportStop) -> Value
  ) -> OperatorMapping {
    OperatorMapping(name, domain: domain, inputs: 1) { c throws(ImportStop) in
      [try f(c, try c.operand(0))]
    }
  }

  private static let activations: [OperatorMapping] = [
    activation("LeakyRelu") { c, x throws(ImportStop) in
      c.g.select(x < scalar(x, 0, c.g), x * scalar(x, try c.real("alpha", 0.01), c.g), x)
    },
    activation("ThresholdedRelu") { c, x throws(ImportStop) in
      c.g.select(x > scalar(x, try c.real("alpha", 1), c.g), x, scalar(x, 0, c.g))
    },
    activation("Elu") { c, x throws(ImportStop) in
      let zero = scalar(x, 0, c.g)
      let low = c.g.unary(.exponential_minus_one, x) * scalar(x, try c.real("alpha", 1), c.g)
      return c.g.select(x < zero, low, x)
    },
    activation("Celu") { c, x throws(ImportStop) in
      let (zero, alpha) = (scalar(x, 0, c.g), scalar(x, try c.real("alpha", 1), c.g))
      let low = alpha * c.g.unary(.exponential_minus_one, x / alpha)
      return c.g.maximum(zero, x) + c.g.minimum(zero, low)
    },
    activation("Selu") { c, x throws(ImportStop) in
      let alpha = scalar(x, try c.real("alpha", 1.6732631921768188), c.g)
      let gamma = scalar(x, try c.real("gamma", 1.0507010221481323), c.g)
      let low = alpha * c.g.unary(.exponential_minus_one, x)
      return gamma * c.g.select(x <= scalar(x, 0, c.g), low, x)
    },
    activation("HardSigmoid") { c, x throws(ImportStop) in
      let y = x * scalar(x, try c.real("alpha", 0.2), c.g) + scalar(x, try c.real("beta", 0.5), c.g)
      return c.g.clamp(y, 0, 1)
    },
    activation("HardSwish") { c, x throws(ImportStop) in
      x * c.g.clamp(x * scalar(x, 1.0 / 6, c.g) + scalar(x, 0.5, c.g), 0, 1)
    },
    activation("Swish") { c, x throws(ImportStop) in
      x * c.g.logistic(x * scalar(x, try c.real("alpha", 1), c.g))
    },
    activation("Shrink") { c, x throws(ImportStop) in
      let (bias, lambda) = (try c.real("bias", 0), try c.real("lambd", 0.5))
      let shift = scalar(x, bias, c.g)
      return c.g.select(
        x < scalar(x, -lambda, c.g), x + shift,
        c.g.select(x > scalar(x, lambda, c.g), x - shift, scalar(x, 0, c.g)))
    },
    activation("Gelu") { c, x throws(ImportStop) in
      switch try c.text("approximate", "none") {
      case "none": return c.g.gelu(x)
      case "tanh": return c.g.geluTanh(x)
      case let other: throw c.fail("attribute 'approximate' is '\(other)', not none or tanh")
      }
    },
    OperatorMapping("PRelu", inputs: 2) { c throws(ImportStop) in
      let (x, slope) = (try c.operand(0), try c.operand(1))
      var spread = slope
      if c.version < 7, slope.rank == 1, x.rank > 1, slope.shape[0] != 1 {
        // One slope per channel.
        spread = c.g.broadcast(slope, to: x.shape, axes: [1])
      }
      let list = try c.broadcast([x, spread])
      return [c.g.select(list[0] < scalar(x, 0, c.g), list[0] * list[1], list[0])]
    },
  ]

  // MARK: Others

  private static let various: [OperatorMapping] = [
    OperatorMapping("Where", inputs: 3) { c throws(ImportStop) in
      let list = try c.broadcast([try c.operand(0), try c.operand(1), try c.operand(2)])
      return [c.g.select(list[0], list[1], list[2])]
    },
    OperatorMapping("Clip", inputs: 1) { c throws(ImportStop) in
      var x = try c.operand(0)
      if let low = try c.real("min") { x = c.g.maximum(x, scalar(x, low, c.g)) }
      if let high = try c.real("max") { x = c.g.minimum(x, scalar(x, high, c.g)) }
      return [x]
    },
    OperatorMapping("Clip", since: 11, inputs: 3) { c throws(ImportStop) in
      var x = try c.operand(0)
      if let low = c.optional(1) { x = c.g.maximum(x, c.g.reshape(low, [])) }
      if let high = c.optional(2) { x = c.g.minimum(x, c.g.reshape(high, [])) }
      return [x]
    },
    OperatorMapping("IsInf", inputs: 1) { c throws(ImportStop) in
      let x = try c.operand(0)
      let (low, high) = (try c.flag("detect_negative", true), try c.flag("detect_positive", true))
      let (isLow, isHigh) = (x .== scalar(x, -.infinity, c.g), x .== scalar(x, .infinity, c.g))
      if low && high { return [c.g.binary(.or, isLow, isHigh)] }
      if low || high { return [low ? isLow : isHigh] }
      return [c.g.constant(0, .bool, x.shape)]
    },
    OperatorMapping("BitCast", since: 26, inputs: 1) { c throws(ImportStop) in
      let x = try c.operand(0)
      guard let type = try c.elementType("to") else { throw c.fail("attribute 'to' is missing") }
      // Bytes of bool are 0 and 1.
      if x.dataType == .bool && type.byteCount == 1 { return [c.g.convert(x, type)] }
      return [c.g.bitcast(x, type)]
    },
  ]
}
