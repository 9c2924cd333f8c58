import DLCGraph
import DLCTensor

/// Integers with a scale and a zero point. Sums of products are exact in int32; results are rounded half to even.
enum QuantizationOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("QuantizeLinear", since: 10, inputs: 3, quantize),
    OperatorMapping("DequantizeLinear", since: 10, inputs: 3, dequantize),
    OperatorMapping("QuantizeLinear", domain: "com.microsoft", inputs: 3, quantize),
    OperatorMapping("DequantizeLinear", domain: "com.microsoft", inputs: 3, dequantize),
    OperatorMapping("DynamicQuantizeLinear", since: 11, inputs: 1, dynamicQuantize),
    OperatorMapping("MatMulInteger", since: 10, inputs: 4) { c throws(ImportStop) in
      [try product(c, try c.operand(0), c.optional(2), try c.operand(1), c.optional(3))]
    },
    OperatorMapping("QLinearMatMul", since: 10, inputs: 8, linearProduct),
  ]

  /// Scales or zero points in the shape of what they belong to: one, one per entry of an axis, or one per block.
  static func spread(
    _ c: NodeContext, _ p: Value, over x: Value, axis: Int, block: Int = 0
  ) throws(ImportStop) -> Value {
    let g = c.g
    if p.shape.allSatisfy({ $0 == 1 }) { return g.broadcast(g.reshape(p, []), to: x.shape) }
    let axis = try c.axis(axis, rank: x.rank)
    if block > 0 {
      guard p.rank == x.rank else { throw c.fail("\(p.type) are no blocks of \(x.type)") }
      var (wide, flat, limits) = (p.shape, p.shape, p.shape)
      wide.insert(Size(block), at: axis + 1)
      flat[axis] = p.shape[axis] * Size(block)
      limits[axis] = x.shape[axis]
      let axes = (0...p.rank).filter { $0 != axis + 1 }
      let repeated = g.reshape(g.broadcast(p, to: wide, axes: axes), flat)
      return g.slice(repeated, from: flat.map { _ in 0 }, to: limits)
    }
    guard p.rank == 1, p.shape[0] == x.shape[axis] else {
      throw c.fail("\(p.type) does not fit axis \(axis) of \(x.type)")
    }
    return g.broadcast(p, to: x.shape, axes: [axis])
  }

  /// round(x / scale) + zero, saturated to the type.
  static func quantized(_ c: NodeContext, _ scaled: Value, _ zero: Value?, _ type: DataType)
    -> Value
  {
    let g = c.g
    let wide = scaled.dataType == .float64 ? DataType.float64 : .float32
    var y = g.round(g.convert(scaled, wide))
    if let zero { y = y + g.convert(zero, wide) }
    // Floats to integers saturate.
    return g.convert(y, type)
  }

  private static func quantize(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, scale) = (try c.operand(0), try c.operand(1))
    let g = c.g
    let type: DataType
    if let zero = c.optional(2) {
      type = zero.dataType
      guard type.isInteger else { throw c.unsupported("quantisation to narrow floats") }
    } else {
      type = try c.elementType("output_dtype") ?? .uint8
      guard type.isInteger else { throw c.unsupported("quantisation to narrow floats") }
    }
    let (axis, block) = (try c.integer("axis", 1), try c.integer("block_size", 0))
    let fits = scale.shape.allSatisfy { $0 == 1 } || axis < x.rank
    guard fits else { throw c.fail("axis \(axis) is out of range for \(x.type)") }
    // The division is done in the wider of the two types.
    let wide: DataType =
      x.dataType == .float64 || scale.dataType == .float64 ? .float64 : .float32
    let divisor = try spread(c, g.convert(scale, wide), over: x, axis: axis, block: block)
    var quotient = g.convert(x, wide) / divisor
    if x.dataType == scale.dataType, x.dataType != x.dataType.computeType {
      quotient = g.convert(quotient, x.dataType)
    }
    let zero = try c.optional(2).map { z throws(ImportStop) in
      try spread(c, z, over: x, axis: axis, block: block)
    }
    return [quantized(c, quotient, zero, type)]
  }

  private static func dequantize(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, scale) = (try c.operand(0), try c.operand(1))
    let g = c.g
    let (axis, block) = (try c.integer("axis", 1), try c.integer("block_size", 0))
    let type = try c.elementType("output_dtype") ?? scale.dataType
    var difference: Value
    if x.dataType.isFloat {
      difference = g.convert(x, .float32)
      if let zero = c.optional(2) {
        difference =
          difference - (try spread(c, g.convert(zero, .float32), over: x, axis: axis, block: block))
      }
    } else {
      var integer = g.convert(x, .int32)
      if let zero = c.optional(2) {
        integer =
          integer - (try spread(c, g.convert(zero, .int32), over: x, axis: axis, block: block))
      }
      difference = g.convert(integer, .float32)
    }
    let factor = try spread(c, g.convert(scale, .float32), over: x, axis: axis, block: block)
    return [g.convert(difference * factor, type)]
  }

  /// uint8 with the scale and the zero point that make the range of the input, and 0, fit.
  static func dynamicallyQuantized(_ c: NodeContext, _ x: Value) -> (
    y: Value, scale: Value, zero: Value
  ) {
    let g = c.g
    let axes = Array(0..<x.rank)
    let nothing = c.scalar(0, .float32)
    let low = g.minimum(g.reduce(.minimum, x, axes: axes), nothing)
    let high = g.maximum(g.reduce(.maximum, x, axes: axes), nothing)
    let span = (high - low) / c.scalar(255, .float32)
    let scale = g.select(span .== 0.0, c.scalar(1, .float32), span)
    let zero = g.convert(g.clamp(g.round(nothing - low / scale), 0, 255), .uint8)
    let y = quantized(
      c, x / g.broadcast(scale, to: x.shape), g.broadcast(zero, to: x.shape), .uint8)
    return (y, span, zero)
  }

  private static func dynamicQuantize(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let made = dynamicallyQuantized(c, try c.operand(0))
    return [made.y, made.scale, made.zero]
  }

  /// Matrices over the last two axes, of integers less their zero points, in int32.
  static func product(
    _ c: NodeContext, _ a: Value, _ aZero: Value?, _ b: Value, _ bZero: Value?
  ) throws(ImportStop) -> Value {
    let g = c.g
    guard a.rank >= 1, b.rank >= 1 else {
      throw c.fail("\(a.type) and \(b.type) cannot be multiplied")
    }
    // Vectors are matrices of one row or column.
    let left = a.rank == 1 ? c.unsqueezed(a, [0]) : a
    let right = b.rank == 1 ? c.unsqueezed(b, [1]) : b
    // (a - z)(b - w) = ab - z sum(b) - w sum(a) + k z w, so that the product is one of bytes.
    var result = try LinearOperators.product(c, left, right, into: .int32)
    let depth = g.dimension(left.shape[left.rank - 1], .int32)
    let rows = aZero.map { z in shifted(c, z, over: left, axis: left.rank - 2, result, row: true) }
    let columns = bZero.map { w in
      shifted(c, w, over: right, axis: right.rank - 1, result, row: false)
    }
    if let rows {
      let sums = g.sum(g.convert(right, .int32), axes: [-2], keepAxes: true)
      result = result - rows * g.broadcast(sums, to: result.shape)
    }
    if let columns {
      let sums = g.sum(g.convert(left, .int32), axes: [-1], keepAxes: true)
      result = result - columns * g.broadcast(sums, to: result.shape)
    }
    if let rows, let columns {
      result = result + rows * columns * g.broadcast(depth, to: result.shape)
    }
    var shape = result.shape
    if b.rank == 1 { shape.removeLast() }
    if a.rank == 1 { shape.remove(at: shape.count - (b.rank == 1 ? 1 : 2)) }
    return g.reshape(result, shape)
  }

  /// A zero point in the shape of the product: one, one per row of `a`, or one per column of `b`.
  private static func shifted(
    _ c: NodeContext, _ zero: Value, over x: Value, axis: Int, _ result: Value, row: Bool
  ) -> Value {
    let g = c.g
    let wide = g.convert(zero, .int32)
    if zero.shape.allSatisfy({ $0 == 1 }) {
      return g.broadcast(g.reshape(wide, []), to: result.shape)
    }
    if zero.rank == 1 {
      return g.broadcast(wide, to: result.shape, axes: [row ? result.rank - 2 : result.rank - 1])
    }
    // Given with the axes of the matrices, the contracted one of size 1.
    return g.broadcast(wide, to: result.shape)
  }

  private static func linearProduct(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let g = c.g
    let sum = try product(c, try c.operand(0), c.optional(2), try c.operand(3), c.optional(5))
    func scale(_ index: Int, row: Bool) throws(ImportStop) -> Value {
      let s = g.convert(try c.operand(index), .float32)
      if s.shape.allSatisfy({ $0 == 1 }) { return g.broadcast(g.reshape(s, []), to: sum.shape) }
      if s.rank == 1, sum.rank >= 1 {
        return g.broadcast(s, to: sum.shape, axes: [row ? max(sum.rank - 2, 0) : sum.rank - 1])
      }
      return g.broadcast(s, to: sum.shape)
    }
    let factor = try scale(1, row: true) * (try scale(4, row: false)) / (try scale(6, row: true))
    let zero = try c.operand(7)
    let spreadZero =
      zero.shape.allSatisfy { $0 == 1 }
      ? g.broadcast(g.reshape(zero, []), to: sum.shape)
      : g.broadcast(zero, to: sum.shape, axes: [max(sum.rank - 2, 0)])
    return [quantized(c, g.convert(sum, .float32) * factor, spreadZero, zero.dataType)]
  }
}
