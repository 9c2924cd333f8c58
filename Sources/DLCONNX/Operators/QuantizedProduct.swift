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
    for operand in [a, b] where operand.dataType.isFloat || operand.dataType.byteCount > 1 {
      throw c.fail("an operand is \(operand.type), not int8 or uint8")
    }
    value = try QuantizationOperators.product(c, a, zeros.0, b, zeros.1)
  }

  /// As real numbers, with a bias.
  /// - Parameter right: one scale, or one for each column.
  func scaled(_ left: Value, _ right: Value, bias: Value?) throws(ImportStop) -> Value {
    let real = c.g.convert(value, left.dataType) * (try factor(left, right))
    guard let bias else { return real }
    return real + bias
  }

  /// The product of both scales, as it is broadcast to the value.
  func factor(_ left: Value, _ right: Value) throws(ImportStop) -> Value {
    guard left.shape.allSatisfy({ $0 == 1 }) else { throw c.unsupported("a scale for each row") }
    let column = right.shape.allSatisfy { $0 == 1 } ? c.g.reshape(right, []) : right
    return c.g.reshape(left, []) * column
  }
}
