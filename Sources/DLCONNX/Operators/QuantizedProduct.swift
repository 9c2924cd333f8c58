import DLCGraph
import DLCTensor

/// The product of matrices of small integers, exactly, in int32.
struct QuantizedProduct {
  let c: NodeContext
  /// int32 [..., m, n].
  let value: Value

  /// - Parameter zeros: what stands for 0 in each: one number, or of the right operand one for each column.
  init(_ c: NodeContext, _ a: Value, _ b: Value, zeros: (Value?, Value?)) throws(ImportStop) {
    self.c = c
    let g = c.g
    for operand in [a, b] where operand.dataType.isFloat || operand.dataType.byteCount > 1 {
      throw c.fail("an operand is \(operand.type), not int8 or uint8")
    }
    if let zero = zeros.0, zero.shape.reduce(Size(1), *) != 1 {
      throw c.unsupported("a zero for each row")
    }
    let (zeroA, zeroB) = (
      try Quantization.parameter(c, zeros.0, axis: -1, rank: a.rank),
      try Quantization.parameter(c, zeros.1, axis: -1, rank: b.rank)
    )
    var whole = try LinearOperators.product(c, a, b, into: .int32)
    // (a - p) (b - q) = a b - p sum b - q sum a + p q k.
    if let zeroA {
      let sums = g.sum(g.convert(b, .int32), axes: [max(b.rank - 2, 0)], keepAxes: b.rank > 1)
      whole = whole - g.convert(zeroA, .int32) * sums
    }
    if let zeroB {
      let wide = g.convert(zeroB, .int32)
      var sums = g.sum(g.convert(a, .int32), axes: [a.rank - 1], keepAxes: a.rank > 1 && b.rank > 1)
      if a.rank == 1, b.rank > 1 { sums = g.reshape(sums, []) }
      whole = whole - wide * sums
      if let zeroA {
        let count = g.dimension(a.shape[a.rank - 1], .int32)
        whole = whole + g.convert(zeroA, .int32) * wide * count
      }
    }
    value = whole
  }

  /// As real numbers, with a bias.
  /// - Parameter right: one scale, or one for each column.
  func scaled(_ left: Value, _ right: Value, bias: Value?) throws(ImportStop) -> Value {
    let g = c.g
    let factor =
      try Quantization.parameter(c, left, axis: -1, rank: value.rank)!
      * Quantization.parameter(c, right, axis: -1, rank: value.rank)!
    let real = g.convert(value, left.dataType) * factor
    guard let bias else { return real }
    return real + bias
  }
}

/// Real numbers as small integers.
enum Quantization {
  /// A scale or zero as it broadcasts to an operand: one number, or one for each place along an axis.
  static func parameter(_ c: NodeContext, _ value: Value?, axis: Int, rank: Int)
    throws(ImportStop) -> Value?
  {
    guard let value else { return nil }
    if value.shape.reduce(Size(1), *) == 1 { return c.g.reshape(value, []) }
    guard value.rank == 1, rank > 0 else { return value }
    let axis = try c.axis(axis, rank: rank)
    return c.g.reshape(value, value.shape + [Size](repeating: 1, count: rank - 1 - axis))
  }

  /// scale (x - zero).
  static func real(_ c: NodeContext, _ x: Value, _ scale: Value, _ zero: Value?, axis: Int = 0)
    throws(ImportStop) -> Value
  {
    let g = c.g
    let factor = try parameter(c, scale, axis: axis, rank: x.rank)!
    var shifted = g.convert(x, .int32)
    if let zero = try parameter(c, zero, axis: axis, rank: x.rank) {
      shifted = shifted - g.convert(zero, .int32)
    }
    return g.convert(shifted, scale.dataType) * factor
  }

  /// x / scale + zero, to the nearest integer (half to even) that the type holds.
  static func quantized(
    _ c: NodeContext, _ x: Value, _ scale: Value, _ zero: Value?, _ type: DataType, axis: Int = 0
  ) throws(ImportStop) -> Value {
    let g = c.g
    let factor = try parameter(c, scale, axis: axis, rank: x.rank)!
    var level = g.round(x / factor)
    if let zero = try parameter(c, zero, axis: axis, rank: x.rank) {
      level = level + g.convert(zero, level.dataType)
    }
    let range = type.integerRange
    return g.convert(g.clamp(level, Double(range.lowerBound), Double(range.upperBound)), type)
  }

  /// A value by its own range as uint8, with scale and zero.
  static func dynamic(_ c: NodeContext, _ x: Value) throws(ImportStop) -> (
    value: Value, scale: Value, zero: Value
  ) {
    let g = c.g
    let axes = Array(0..<x.rank)
    let none = c.scalar(0, x.dataType)
    let low = g.minimum(g.min(x, axes: axes), none)
    let high = g.maximum(g.max(x, axes: axes), none)
    let width = (high - low) / 255
    let scale = g.select(width .== 0.0, c.scalar(1, x.dataType), width)
    let zero = g.convert(g.clamp(g.round((none - low) / scale), 0, 255), .uint8)
    return (try quantized(c, x, scale, zero, .uint8), scale, zero)
  }
}
