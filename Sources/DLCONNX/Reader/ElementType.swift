package import DLCTensor

/// The element types of ONNX, under the numbers that the standard gives them.
package enum ElementType: Int32, Hashable, Sendable {
  case undefined = 0
  case float32 = 1
  case uint8, int8, uint16, int16, int32, int64, string, bool, float16, float64, uint32, uint64
  case complex64, complex128, bfloat16
  case float8e4m3fn, float8e4m3fnuz, float8e5m2, float8e5m2fnuz
  case uint4, int4, float4e2m1, float8e8m0, uint2, int2

  /// The type that elements have in a graph; narrower ones are unpacked into the next that holds them. nil for
  /// strings and complex numbers.
  package var dataType: DataType? {
    switch self {
    case .float32, .float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz, .float4e2m1,
      .float8e8m0:
      .float32
    case .float64: .float64
    case .float16: .float16
    case .bfloat16: .bfloat16
    case .int8, .int4, .int2: .int8
    case .int16: .int16
    case .int32: .int32
    case .int64: .int64
    case .uint8, .uint4, .uint2: .uint8
    case .uint16: .uint16
    case .uint32: .uint32
    case .uint64: .uint64
    case .bool: .bool
    case .undefined, .string, .complex64, .complex128: nil
    }
  }

  package init(_ type: DataType) {
    self =
      switch type {
      case .float32: .float32
      case .float64: .float64
      case .float16: .float16
      case .bfloat16: .bfloat16
      case .int8: .int8
      case .int16: .int16
      case .int32: .int32
      case .int64: .int64
      case .uint8: .uint8
      case .uint16: .uint16
      case .uint32: .uint32
      case .uint64: .uint64
      case .bool: .bool
      }
  }

  /// The bits of an element in raw data.
  var bitCount: Int? {
    switch self {
    case .uint2, .int2: 2
    case .uint4, .int4, .float4e2m1: 4
    case .float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz, .float8e8m0: 8
    default: dataType.map { $0.byteCount * 8 }
    }
  }

  /// Whether an element is stored as it is in memory.
  var isPlain: Bool { dataType != nil && bitCount == dataType!.byteCount * 8 && !isNarrowFloat }

  var isNarrowFloat: Bool {
    switch self {
    case .float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz, .float4e2m1, .float8e8m0:
      true
    default: false
    }
  }

  /// How many bits of exponent and of fraction a narrow float has, and what its exponent is offset by.
  var narrowFloat: (exponent: Int, fraction: Int, bias: Int)? {
    switch self {
    case .float8e4m3fn: (4, 3, 7)
    case .float8e4m3fnuz: (4, 3, 8)
    case .float8e5m2: (5, 2, 15)
    case .float8e5m2fnuz: (5, 2, 16)
    case .float4e2m1: (2, 1, 1)
    default: nil
    }
  }

  /// The number that the bits of a narrow float stand for.
  func number(_ bits: UInt8) -> Double {
    if self == .float8e8m0 {
      return bits == 255 ? .nan : Double(sign: .plus, exponent: Int(bits) - 127, significand: 1)
    }
    guard let format = narrowFloat else { return .nan }
    let width = 1 + format.exponent + format.fraction
    let negative = bits >> (width - 1) & 1 == 1
    let magnitude = bits & UInt8((1 << (width - 1)) - 1)
    switch self {
    case .float8e4m3fn where magnitude == 0x7f: return .nan
    case .float8e4m3fnuz where bits == 0x80, .float8e5m2fnuz where bits == 0x80: return .nan
    case .float8e5m2 where magnitude >= 0x7c:
      return magnitude == 0x7c ? (negative ? -.infinity : .infinity) : .nan
    default: break
    }
    let exponent = Int(magnitude >> UInt8(format.fraction))
    let fraction = Double(magnitude & UInt8((1 << format.fraction) - 1))
    let scale = Double(sign: .plus, exponent: -format.fraction, significand: 1)
    let value =
      exponent == 0
      ? Double(sign: .plus, exponent: 1 - format.bias, significand: 1) * fraction * scale
      : Double(sign: .plus, exponent: exponent - format.bias, significand: 1)
        * (1 + fraction * scale)
    return negative ? -value : value
  }

  package var text: String { "\(self)" }
}
