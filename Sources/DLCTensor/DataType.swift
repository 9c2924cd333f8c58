/// The element types of tensors.
public enum DataType: String, Hashable, Sendable, CaseIterable, CustomStringConvertible {
  case float32, float64, float16, bfloat16
  case int8, int16, int32, int64
  case uint8, uint16, uint32, uint64
  case bool

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

  public var isFloat: Bool {
    switch self {
    case .float32, .float64, .float16, .bfloat16: true
    default: false
    }
  }

  /// True for signed and unsigned integers; bool is neither integer nor float.
  public var isInteger: Bool { !isFloat && self != .bool }

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
