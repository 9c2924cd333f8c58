/// Functions of one element. Names follow StableHLO where it has them.
package enum UnaryFunction: String, Hashable, Sendable, CaseIterable {
  case negate, abs, sign, floor, ceil, round_nearest_even
  case exponential, exponential_minus_one, log, log_plus_one, sqrt, rsqrt, cbrt
  case tanh, logistic, sine, cosine, tan, erf, erfc
  case not, is_finite
  /// The identity, with derivative zero.
  case stop_gradient

  /// Whether the function is only defined on floating-point elements.
  package var needsFloat: Bool {
    switch self {
    case .negate, .abs, .sign, .not, .stop_gradient: false
    default: true
    }
  }
}

/// Functions of two elements of one type.
package enum BinaryFunction: String, Hashable, Sendable, CaseIterable {
  case add, subtract, multiply, divide, maximum, minimum, power, remainder, atan2
  case and, or, xor, shift_left, shift_right_logical, shift_right_arithmetic

  package var isCommutative: Bool {
    switch self {
    case .add, .multiply, .maximum, .minimum, .and, .or, .xor: true
    default: false
    }
  }
}

package enum Comparison: String, Hashable, Sendable, CaseIterable {
  case equal, not_equal, less, less_equal, greater, greater_equal
}

/// How the elements of a reduction are combined.
package enum Combiner: String, Hashable, Sendable, CaseIterable {
  case sum, product, maximum, minimum, and, or

  package func supports(_ type: DataType) -> Bool {
    switch self {
    case .and, .or: type == .bool || type.isInteger
    case .sum, .product: type != .bool
    case .maximum, .minimum: true
    }
  }

  /// The value that changes nothing, as a double (`and` uses the all-ones pattern).
  package func identity(_ type: DataType) -> ScalarConstant {
    switch self {
    case .sum: type.isFloat ? .float(0) : .integer(0)
    case .product: type.isFloat ? .float(1) : .integer(1)
    case .or: .integer(0)
    case .and: .integer(type == .bool ? 1 : -1)
    case .maximum: type.isFloat ? .float(-.infinity) : .integer(type.integerRange.lowerBound)
    case .minimum:
      type.isFloat
        ? .float(.infinity) : .integer(type == .uint64 ? -1 : type.integerRange.upperBound)
    }
  }
}

/// A scalar literal: floats as doubles, integers and bools as 64-bit patterns.
package enum ScalarConstant: Hashable, Sendable {
  case float(Double)
  case integer(Int64)

  /// Equal bits, so that zero and minus zero differ and NaN equals itself.
  package static func == (a: ScalarConstant, b: ScalarConstant) -> Bool {
    switch (a, b) {
    case (.float(let x), .float(let y)): x.bitPattern == y.bitPattern
    case (.integer(let x), .integer(let y)): x == y
    default: false
    }
  }
}

extension DataType {
  /// The patterns of an integer type in order (of uint64 those below 2^63, as Int64 orders them).
  package var integerRange: ClosedRange<Int64> {
    switch self {
    case .bool: 0...1
    case .int8: -128...127
    case .int16: -32768...32767
    case .int32: Int64(Int32.min)...Int64(Int32.max)
    case .uint8: 0...255
    case .uint16: 0...65535
    case .uint32: 0...Int64(UInt32.max)
    case .int64: Int64.min...Int64.max
    case .uint64: 0...Int64.max
    default: 0...0
    }
  }
}

/// What an elementwise operation computes for each element.
package enum ScalarOperation: Hashable, Sendable {
  case unary(UnaryFunction)
  case binary(BinaryFunction)
  case compare(Comparison)
  case select
  case clamp
  case convert(DataType)
  /// The same bits as another type of as many.
  case reinterpret(DataType)

  package var name: String {
    switch self {
    case .unary(let f): f.rawValue
    case .binary(let f): f.rawValue
    case .compare(let c): "compare_\(c.rawValue)"
    case .select: "select"
    case .clamp: "clamp"
    case .convert(let type): "convert_\(type)"
    case .reinterpret(let type): "reinterpret_\(type)"
    }
  }
}

extension Combiner {
  /// The scalar operation that combines two elements.
  package var operation: ScalarOperation {
    switch self {
    case .sum: .binary(.add)
    case .product: .binary(.multiply)
    case .maximum: .binary(.maximum)
    case .minimum: .binary(.minimum)
    case .and: .binary(.and)
    case .or: .binary(.or)
    }
  }
}
