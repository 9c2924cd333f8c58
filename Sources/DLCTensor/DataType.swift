/// The element types of tensors: floating-point numbers, signed and unsigned integers of the width in bits that the
/// name says, and bool.
public enum DataType: String, Hashable, Sendable, CaseIterable, CustomStringConvertible {
  /// IEEE 754 in 32, 64 and 16 bits, and the upper half of float32. Half floats are computed with in float32.
  case float32, float64, float16, bfloat16
  /// Signed integers in two's complement; sums and products wrap.
  case int8, int16, int32, int64
  /// Unsigned integers; sums and products wrap.
  case uint8, uint16, uint32, uint64
  /// One byte, 0 or 1.
  case bool

  /// The name, as `float32`.
  public var description: String { rawValue }

  /// The size of one element in bytes.
  public var byteCount: Int {
    switch self {
    case .bool, .int8, .uint8: 1
    case .float16, .bfloat16, .int16, .uint16: 2
    case .float32, .int32, .uint32: 4
    case .float64, .int64, .uint64: 8
    }
  }

  /// True for float16, bfloat16, float32 and float64.
  public var isFloat: Bool {
    switch self {
    case .float32, .float64, .float16, .bfloat16: true
    default: false
    }
  }

  /// True for signed and unsigned integers; bool is neither integer nor float.
  public var isInteger: Bool { !isFloat && self != .bool }

  /// True for floating-point types and signed integers.
  public var isSigned: Bool {
    switch self {
    case .int8, .int16, .int32, .int64: true
    default: isFloat
    }
  }

  package var bitCount: Int { self == .bool ? 1 : byteCount * 8 }

  /// The type that arithmetic on this type is done in: half floats compute in float32.
  package var computeType: DataType { self == .float16 || self == .bfloat16 ? .float32 : self }
}
