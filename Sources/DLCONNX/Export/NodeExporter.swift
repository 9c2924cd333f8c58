import DLCGraph
import DLCTensor

/// The form of one operation in ONNX.
struct NodeExporter {
  let exporter: GraphExporter
  let node: Node
  let operands: [String]
  let types: [TensorType]
  let results: [TensorType]

  var x: String { operands[0] }
  var type: DataType { types[0].dataType }
  var result: TensorType { results[0] }

  func emit(_ op: String, _ inputs: [String], _ attributes: [String: ONNXAttribute] = [:]) -> String
  {
    exporter.emit(op, inputs, attributes)
  }

  func refuse(_ why: String) -> DLCError {
    DLCError(.unsupported, "\(why) has no form in ONNX (opset \(exporter.opset))")
  }

  func add() throws(DLCError) -> [String] {
    switch node.operation {
    case .constant(let o): [exporter.constant(o.value)]
    case .dimension(let o):
      [exporter.cast(try exporter.reshape(try exporter.size(o.size), []), .int64, o.dataType)]
    case .iota(let o): [try iota(o.type, o.axis)]
    case .randomBits(let o): [try randomBits(o.shape)]
    case .unary(let o): [try unary(o.function)]
    case .binary(let o): [try binary(o.function, operands[0], operands[1], type)]
    case .compare(let o): [try compare(o.comparison, operands[0], operands[1], type)]
    case .select: [select(operands[0], operands[1], operands[2], types[1].dataType)]
    case .clamp: [try clamp()]
    case .convert(let o): [convert(o.target)]
    case .bitcast: throw refuse("a bitcast")
    case .reshape: [try exporter.reshape(x, result.shape)]
    case .transpose(let o): [exporter.transpose(x, o.permutation)]
    case .broadcast(let o): [try broadcast(x, types[0].shape, o.shape, o.axes)]
    case .slice(let o): [try slice(x, o.starts, o.limits, o.strides)]
    case .pad(let o): [try pad(o)]
    case .concatenate(let o): [emit("Concat", operands, ["axis": .integer(o.axis)])]
    case .reverse(let o): [reverse(x, o.axes)]
    case .reduce(let o): [try reduce(o)]
    case .argReduce(let o): [argReduce(o)]
    case .dotGeneral(let o): [try dotGeneral(o)]
    case .convolution(let o): [try convolution(o)]
    case .reduceWindow(let o): [try reduceWindow(o.geometry)]
    case .argWindow(let o): [try argWindow(o.geometry)]
    case .gather(let o): [try gather(o)]
    case .scatter(let o): [try scatter(o)]
    case .dynamicSlice(let o): [try dynamicSlice(o.sizes)]
    case .dynamicUpdate: [try dynamicUpdate()]
    case .cumulative(let o): [try cumulative(o.geometry)]
    case .sort(let o): try sort(o)
    case .cholesky: [try cholesky()]
    case .triangularSolve(let o): [try triangularSolve(o)]
    case .lu: try lu()
    case .cond, .whileLoop, .scan, .call: try control()
    }
  }

  // MARK: Elements

  /// A float value through an operator that has kernels for float32 alone.
  private func single(_ op: String, _ value: String) -> String {
    let wide = type == .float32 ? value : exporter.cast(value, type, .float32)
    return exporter.cast(emit(op, [wide]), .float32, type)
  }

  private func number(_ v: Double) -> String { exporter.scalar(v, type) }

  private func unary(_ f: UnaryFunction) throws(DLCError) -> String {
    switch f {
    case .negate where !type.isSigned:
      return try binary(.subtract, exporter.scalar(0, type), x, type)
    case .negate, .abs, .sign:
      let name = f == .negate ? "Neg" : f == .abs ? "Abs" : "Sign"
      return exporter.narrow(emit(name, [exporter.widened(x, type)]), type)
    case .floor: return emit("Floor", [x])
    case .ceil: return emit("Ceil", [x])
    case .round_nearest_even: return emit("Round", [x])
    case .exponential: return emit("Exp", [x])
    case .log: return emit("Log", [x])
    case .sqrt: return emit("Sqrt", [x])
    case .rsqrt: return emit("Div", [number(1), emit("Sqrt", [x])])
    case .tanh: return emit("Tanh", [x])
    case .logistic: return emit("Sigmoid", [x])
    case .sine: return emit("Sin", [x])
    case .cosine: return emit("Cos", [x])
    case .tan: return emit("Div", [emit("Sin", [x]), emit("Cos", [x])])
    case .erf: return single("Erf", x)
    case .erfc: return emit("Sub", [number(1), single("Erf", x)])
    case .cbrt:
      let root = emit("Pow", [emit("Abs", [x]), number(1.0 / 3)])
      return emit("Mul", [emit("Sign", [x]), root])
    case .exponential_minus_one:
      // tanh(x/2) (e^x + 1), which keeps small numbers.
      let sum = emit("Add", [emit("Exp", [x]), number(1)])
      return emit("Mul", [emit("Tanh", [emit("Mul", [x, number(0.5)])]), sum])
    case .log_plus_one:
      // log(u) x / (u - 1) with u = 1 + x as it is rounded; x itself where that is 1.
      let u = emit("Add", [x, number(1)])
      let rest = emit("Sub", [u, number(1)])
      let isSmall = emit("Equal", [rest, number(0)])
      let safe = emit("Where", [isSmall, number(1), rest])
      let scaled = emit("Mul", [emit("Log", [u]), emit("Div", [x, safe])])
      let isLarge = emit("Greater", [u, number(1e30)])
      let large = emit("Where", [isLarge, emit("Log", [u]), scaled])
      return emit("Where", [isSmall, x, large])
    case .not:
      if type == .bool { return emit("Not", [x]) }
      guard exporter.opset >= 18 else { throw refuse("not, of integers,") }
      return emit("BitwiseNot", [x])
    case .is_finite:
      // x - x is 0 for numbers alone.
      return emit("Equal", [emit("Sub", [x, x]), number(0)])
    case .stop_gradient: return x
    }
  }

  func binary(_ f: BinaryFunction, _ a: String, _ b: String, _ type: DataType) throws(DLCError)
    -> String
  {
    if type == .bool { return try logical(f, a, b) }
    switch f {
    case .and, .or, .xor:
      guard exporter.opset >= 18 else { throw refuse("a function of bits") }
      return emit(f == .and ? "BitwiseAnd" : f == .or ? "BitwiseOr" : "BitwiseXor", [a, b])
    case .shift_left, .shift_right_logical, .shift_right_arithmetic: return try shift(f, a, b, type)
    case .atan2: return atan2(a, b)
    default: break
    }
    if type == .uint64, [.divide, .remainder, .maximum, .minimum, .power].contains(f) {
      return try unsigned(f, a, b)
    }
    let (p, q) = (exporter.widened(a, type), exporter.widened(b, type))
    let made: String
    switch f {
    case .add: made = emit("Add", [p, q])
    case .subtract: made = emit("Sub", [p, q])
    case .multiply: made = emit("Mul", [p, q])
    case .divide: made = emit("Div", [p, q])
    case .maximum: made = emit("Max", [p, q])
    case .minimum: made = emit("Min", [p, q])
    case .power: made = emit("Pow", [p, q])
    default: made = emit("Mod", [p, q], ["fmod": .integer(1)])
    }
    return exporter.narrow(made, type)
  }

  private func logical(_ f: BinaryFunction, _ a: String, _ b: String) throws(DLCError) -> String {
    switch f {
    case .and, .minimum, .multiply: return emit("And", [a, b])
    case .or, .maximum, .add: return emit("Or", [a, b])
    case .xor: return emit("Xor", [a, b])
    default: throw refuse("'\(f.rawValue)' of bool")
    }
  }

  /// Shifts by the width or more give 0, or the sign.
  private func shift(_ f: BinaryFunction, _ a: String, _ b: String, _ type: DataType)
    throws(DLCError) -> String
  {
    let bits = type.bitCount
    let amount = exporter.cast(b, type, .int64)
    let isFar = emit(
      "Or",
      [
        emit("Less", [amount, exporter.scalar(0, .int64)]),
        emit("GreaterOrEqual", [amount, exporter.scalar(Double(bits), .int64)]),
      ])
    let near = exporter.cast(
      emit("Where", [isFar, exporter.scalar(0, .int64), amount]), .int64, .uint64)
    func shifted(_ value: String, _ direction: String) -> String {
      emit("BitShift", [value, near], ["direction": .text(Array(direction.utf8))])
    }
    let wide = exporter.cast(exporter.cast(a, type, .int64), .int64, .uint64)
    func back(_ value: String) -> String {
      exporter.narrow(exporter.cast(value, .uint64, .int64), type, from: .int64)
    }
    switch f {
    case .shift_left:
      return select(isFar, exporter.scalar(0, type), back(shifted(wide, "LEFT")), type)
    case .shift_right_logical:
      var pattern = wide
      if type.isSigned && bits < 64 {
        // The bits of a negative number as they are without a sign.
        let size = exporter.scalar(Double(1 << bits), .int64)
        let low = emit(
          "Mod", [exporter.cast(a, type, .int64), size])
        pattern = exporter.cast(low, .int64, .uint64)
      }
      return select(isFar, exporter.scalar(0, type), back(shifted(pattern, "RIGHT")), type)
    default:
      // Of a negative number the complement is shifted.
      guard exporter.opset >= 18 else { throw refuse("an arithmetic shift") }
      let isNegative = try compare(.less, a, exporter.scalar(0, type), type)
      let complement = emit("BitwiseNot", [a])
      let other = exporter.cast(exporter.cast(complement, type, .int64), .int64, .uint64)
      let low = emit("BitwiseNot", [back(shifted(other, "RIGHT"))])
      let value = select(isNegative, low, back(shifted(wide, "RIGHT")), type)
      let far = select(isNegative, exporter.scalar(-1, type), exporter.scalar(0, type), type)
      return select(isFar, far, value, type)
    }
  }

  private func atan2(_ y: String, _ x: String) -> String {
    let zero = number(0)
    let ratio = single("Atan", emit("Div", [y, x]))
    let half = emit("Where", [emit("Less", [y, zero]), number(-Double.pi), number(.pi)])
    let turned = emit("Where", [emit("Less", [x, zero]), emit("Add", [ratio, half]), ratio])
    let isOrigin = emit("And", [emit("Equal", [x, zero]), emit("Equal", [y, zero])])
    return emit("Where", [isOrigin, zero, turned])
  }

  func compare(_ c: Comparison, _ a: String, _ b: String, _ type: DataType) throws(DLCError)
    -> String
  {
    var (p, q) = (exporter.widened(a, type), exporter.widened(b, type))
    if type == .uint64, c != .equal, c != .not_equal {
      guard exporter.opset >= 18 else { throw refuse("an order of uint64") }
      // The order of unsigned numbers is that of signed ones with the other sign.
      let sign = exporter.constant(Tensor(.int64, [], truncating: [Int64.min]))
      (p, q) = (emit("BitwiseXor", [p, sign]), emit("BitwiseXor", [q, sign]))
    }
    switch c {
    case .equal: return emit("Equal", [p, q])
    case .not_equal: return emit("Not", [emit("Equal", [p, q])])
    case .less: return emit("Less", [p, q])
    case .less_equal: return emit("LessOrEqual", [p, q])
    case .greater: return emit("Greater", [p, q])
    case .greater_equal: return emit("GreaterOrEqual", [p, q])
    }
  }

  func select(_ predicate: String, _ a: String, _ b: String, _ type: DataType) -> String {
    exporter.narrow(
      emit("Where", [predicate, exporter.widened(a, type), exporter.widened(b, type)]), type)
  }

  private func clamp() throws(DLCError) -> String {
    let type = types[1].dataType
    return try binary(
      .minimum, try binary(.maximum, operands[1], operands[0], type), operands[2], type)
  }

  /// Floats to integers saturate, and NaN becomes 0.
  private func convert(_ target: DataType) -> String {
    guard type.isFloat, target.isInteger else {
      if target == .bool && type.isFloat {
        return emit(
          "Not",
          [
            emit(
              "Equal", [exporter.widened(x, type), exporter.scalar(0, GraphExporter.wide(type))])
          ])
      }
      return exporter.cast(x, type, target)
    }
    let wide = exporter.cast(x, type, .float64)
    let isNumber = emit("Equal", [wide, wide])
    let range = target.integerRange
    let (low, high) = (Double(range.lowerBound), Double(range.upperBound))
    let number = emit("Where", [isNumber, wide, exporter.scalar(0, .float64)])
    let whole = emit(
      "Where",
      [
        emit("Less", [number, exporter.scalar(0, .float64)]), emit("Ceil", [number]),
        emit("Floor", [number]),
      ])
    let inside = emit(
      "Min",
      [emit("Max", [whole, exporter.scalar(low, .float64)]), exporter.scalar(high, .float64)])
    if target.byteCount < 8 { return exporter.cast(inside, .float64, target) }
    // The largest int64 is no float64.
    let isLarge = emit("GreaterOrEqual", [whole, exporter.scalar(0x1p63, .float64)])
    let safe = emit("Where", [isLarge, exporter.scalar(0, .float64), inside])
    let largest = exporter.constant(Tensor(.int64, [], truncating: [Int64.max]))
    return exporter.cast(
      emit("Where", [isLarge, largest, exporter.cast(safe, .float64, .int64)]), .int64, target)
  }
}
