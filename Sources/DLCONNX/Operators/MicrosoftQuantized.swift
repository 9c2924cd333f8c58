import DLCGraph
import DLCTensor

/// Operators of ONNX Runtime on small integers.
enum MicrosoftQuantizedOperators {
  private typealias Unary = @Sendable (NodeContext, Value) throws(ImportStop) -> Value
  private typealias Binary = @Sendable (Value, Value) -> Value

  private static let domain = MicrosoftOperators.domain

  static let all: [OperatorMapping] = [
    OperatorMapping("DynamicQuantizeMatMul", domain: domain, inputs: 5) { c throws(ImportStop) in
      let (value, scale, zero) = QuantizationOperators.dynamicallyQuantized(c, try c.operand(0))
      let product = try QuantizedProduct(
        c, value, try c.operand(1), zeros: (zero, c.optional(3)))
      return [try product.scaled(scale, try c.operand(2), bias: c.optional(4))]
    },
    OperatorMapping("MatMulIntegerToFloat", domain: domain, inputs: 7) { c throws(ImportStop) in
      let product = try QuantizedProduct(
        c, try c.operand(0), try c.operand(1), zeros: (c.optional(4), c.optional(5)))
      return [try product.scaled(try c.operand(2), try c.operand(3), bias: c.optional(6))]
    },
    OperatorMapping("QGemm", domain: domain, inputs: 9, gemm),
    binary("QLinearAdd") { $0 + $1 },
    binary("QLinearMul") { $0 * $1 },
    unary("QLinearSigmoid") { c, x throws(ImportStop) in c.g.logistic(x) },
    unary("QLinearLeakyRelu") { c, x throws(ImportStop) in
      c.g.select(x < 0.0, x * (try c.real("alpha", 0.01)), x)
    },
    unary("QLinearGlobalAveragePool") { c, x throws(ImportStop) in
      guard x.rank >= 2 else { throw c.fail("the input is \(x.type), which has no channels") }
      let last = try c.flag("channels_last")
      return c.g.mean(x, axes: last ? Array(1..<x.rank - 1) : Array(2..<x.rank), keepAxes: true)
    },
    unary("QLinearSoftmax") { c, x throws(ImportStop) in
      let isOld = try c.integer("opset", 13) < 13
      let axis = try c.axis(try c.integer("axis", isOld ? 1 : -1), rank: x.rank)
      if !isOld || axis == x.rank - 1 { return c.g.softmax(x, axis: axis) }
      return c.g.reshape(c.g.softmax(c.flattened(x, at: axis), axis: 1), x.shape)
    },
    unary("QLinearAveragePool") { c, x throws(ImportStop) in
      guard try c.flag("channels_last") else { return try PoolingOperators.averaged(c, x) }
      let axes = Array(x.shape.indices)
      let first = c.g.transpose(x, [0, x.rank - 1] + axes[1..<x.rank - 1])
      return c.g.transpose(
        try PoolingOperators.averaged(c, first), [0] + axes[2...] + [1])
    },
    OperatorMapping("QLinearWhere", domain: domain, inputs: 9, choose),
    OperatorMapping("QLinearConcat", domain: domain, inputs: nil, concatenate),
  ]

  /// scale (x - zero).
  private static func real(_ c: NodeContext, _ x: Value, _ scale: Value, _ zero: Value?)
    throws(ImportStop) -> Value
  {
    let g = c.g
    var whole = g.convert(x, .int32)
    if let zero {
      whole =
        whole - (try QuantizationOperators.spread(c, g.convert(zero, .int32), over: x, axis: 0))
    }
    return g.convert(whole, scale.dataType)
      * (try QuantizationOperators.spread(c, scale, over: x, axis: 0))
  }

  /// The integers that stand for real numbers.
  private static func levels(
    _ c: NodeContext, _ x: Value, _ scale: Value, _ zero: Value?, _ type: DataType
  ) throws(ImportStop) -> Value {
    let spread = try zero.map { zero throws(ImportStop) in
      try QuantizationOperators.spread(c, zero, over: x, axis: 0)
    }
    let quotient = x / (try QuantizationOperators.spread(c, scale, over: x, axis: 0))
    return QuantizationOperators.quantized(c, quotient, spread, type)
  }

  /// x, its scale and zero, and those of the result.
  private static func unary(_ name: String, _ f: @escaping Unary) -> OperatorMapping {
    OperatorMapping(name, domain: domain, inputs: 5) { c throws(ImportStop) in
      let x = try c.operand(0)
      let y = try f(c, try real(c, x, try c.operand(1), c.optional(2)))
      return [try levels(c, y, try c.operand(3), c.optional(4), x.dataType)]
    }
  }

  private static func binary(_ name: String, _ f: @escaping Binary) -> OperatorMapping {
    OperatorMapping(name, domain: domain, inputs: 8) { c throws(ImportStop) in
      let (a, b) = (try c.operand(0), try c.operand(3))
      let list = try c.broadcast([
        try real(c, a, try c.operand(1), c.optional(2)),
        try real(c, b, try c.operand(4), c.optional(5)),
      ])
      return [
        try levels(
          c, f(list[0], list[1]), try c.operand(6), c.optional(7), a.dataType)
      ]
    }
  }

  /// A condition, then both operands and the result with scales and zeros.
  private static func choose(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (condition, x) = (try c.operand(0), try c.operand(1))
    let list = try c.broadcast([
      condition, try real(c, x, try c.operand(2), c.optional(3)),
      try real(c, try c.operand(4), try c.operand(5), c.optional(6)),
    ])
    let chosen = c.g.select(list[0], list[1], list[2])
    return [try levels(c, chosen, try c.operand(7), c.optional(8), x.dataType)]
  }

  private static func concatenate(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (scale, zero) = (try c.operand(0), try c.operand(1))
    guard c.operandCount >= 5, c.operandCount % 3 == 2 else {
      throw c.fail("it wants a scale and a zero with each operand")
    }
    var parts: [Value] = []
    for index in stride(from: 2, to: c.operandCount, by: 3) {
      let part = try real(
        c, try c.operand(index), try c.operand(index + 1), c.optional(index + 2))
      parts.append(try levels(c, part, scale, zero, zero.dataType))
    }
    let axis = try c.axis(try c.integer("axis", 0), rank: parts[0].rank)
    return [c.g.concatenate(parts, axis: axis)]
  }

  /// alpha A B + C, of matrices that are transposed as attributes say; C is in the product's scale.
  private static func gemm(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let g = c.g
    func matrix(_ index: Int, _ attribute: String) throws(ImportStop) -> Value {
      let x = try c.operand(index)
      guard x.rank == 2 else { throw c.fail("an operand is \(x.type), not a matrix") }
      return try c.flag(attribute) ? g.transpose(x, [1, 0]) : x
    }
    let product = try QuantizedProduct(
      c, try matrix(0, "transA"), try matrix(3, "transB"), zeros: (c.optional(2), c.optional(5)))
    var whole = product.value
    if let bias = c.optional(6) { whole = whole + bias }
    let factor = try product.factor(try c.operand(1), try c.operand(4))
    let alpha = try c.real("alpha", 1)
    let sum = g.convert(whole, factor.dataType) * factor * alpha
    guard let scale = c.optional(7) else { return [sum] }
    let own = try c.operand(0).dataType
    let type = c.optional(8)?.dataType ?? own
    return [try levels(c, sum, scale, c.optional(8), type)]
  }
}
