package import DLCTensor

/// An array as the reference interpreter sees it: doubles for every floating-point type, 64-bit
/// patterns for integers and bools.
package struct ReferenceArray: Sendable {
  package var type: DataType
  package var shape: [Int]
  package var reals: [Double]
  package var integers: [Int64]

  package init(_ type: DataType, _ shape: [Int]) {
    self.type = type
    self.shape = shape
    let count = shape.reduce(1, *)
    reals = type.isFloat ? [Double](repeating: 0, count: count) : []
    integers = type.isFloat ? [] : [Int64](repeating: 0, count: count)
  }

  package init(_ tensor: Tensor) {
    type = tensor.dataType
    shape = tensor.shape
    reals = type.isFloat ? tensor.doubles : []
    integers = type.isFloat ? [] : tensor.integers
  }

  package var tensor: Tensor {
    type.isFloat
      ? Tensor(type, shape, rounding: reals) : Tensor(type, shape, truncating: integers)
  }

  package var count: Int { shape.reduce(1, *) }

  package subscript(_ index: Int) -> ScalarConstant {
    get { type.isFloat ? .float(reals[index]) : .integer(integers[index]) }
    set {
      switch newValue {
      case .float(let value): reals[index] = value
      case .integer(let value): integers[index] = value
      }
    }
  }

  /// The element at a coordinate.
  package subscript(at coordinate: [Int]) -> ScalarConstant {
    self[flatten(coordinate, shape)]
  }

  /// Reals rounded to a floating-point type (nil: left as they are), integers to their width.
  package func rounded(to real: DataType?) -> ReferenceArray {
    var copy = self
    if !type.isFloat {
      copy.integers = integers.map { wrap($0, type) }
    } else if let real, real != .float64 {
      copy.reals = reals.map { real.rounded($0) }
    }
    return copy
  }

  /// An element as a position along an axis: beyond every axis where it is beyond an Int.
  package func position(_ index: Int) -> Int {
    type == .uint64
      ? Int(clamping: UInt64(bitPattern: integers[index])) : Int(integers[index])
  }
}

/// A 64-bit pattern reduced to the type's width, sign- or zero-extended.
package func wrap(_ value: Int64, _ type: DataType) -> Int64 {
  switch type {
  case .bool: value == 0 ? 0 : 1
  case .int8: Int64(Int8(truncatingIfNeeded: value))
  case .int16: Int64(Int16(truncatingIfNeeded: value))
  case .int32: Int64(Int32(truncatingIfNeeded: value))
  case .uint8: Int64(UInt8(truncatingIfNeeded: value))
  case .uint16: Int64(UInt16(truncatingIfNeeded: value))
  case .uint32: Int64(UInt32(truncatingIfNeeded: value))
  default: value
  }
}

package func flatten(_ coordinate: [Int], _ shape: [Int]) -> Int {
  zip(coordinate, shape).reduce(0) { $0 * $1.1 + $1.0 }
}

package func unflatten(_ index: Int, _ shape: [Int]) -> [Int] {
  var rest = index
  var coordinate = [Int](repeating: 0, count: shape.count)
  for axis in shape.indices.reversed() {
    coordinate[axis] = rest % shape[axis]
    rest /= shape[axis]
  }
  return coordinate
}

/// Calls `body` with every coordinate of a box, in row-major order.
package func forEachCoordinate(_ shape: [Int], _ body: ([Int]) -> Void) {
  for index in 0..<shape.reduce(1, *) { body(unflatten(index, shape)) }
}
