/// Swift types whose numbers are elements of tensors: the floating-point and integer types, and Bool.
/// `Int` is int64.
public protocol TensorScalar: NestedScalars, BitwiseCopyable, Sendable {
  /// The element type of tensors that are made of such numbers.
  static var dataType: DataType { get }
  /// The number nearest to a double, within the type's range; NaN is 0 where there is none.
  init(nearest value: Double)
  /// An integer of 64 bits, of which the low bits are kept.
  init(bits value: Int64)
}

/// Numbers, and arrays of arrays of them.
public protocol NestedScalars {
  /// The innermost numbers.
  associatedtype Scalar: TensorScalar
  /// Adds the sizes of what is inside, taken from the first of each, and says whether all are alike.
  func measure(_ depth: Int, _ shape: inout [Int]) -> Bool
  /// Adds the numbers inside in row-major order.
  func append(to elements: inout [Scalar])
}

extension TensorScalar {
  /// True: a number has no sizes.
  public func measure(_ depth: Int, _ shape: inout [Int]) -> Bool { true }
  /// Adds the number.
  public func append(to elements: inout [Self]) { elements.append(self) }
}

extension Array: NestedScalars where Element: NestedScalars {
  /// The innermost numbers.
  public typealias Scalar = Element.Scalar

  /// Adds the count and the sizes of the first part, and says whether all parts are alike.
  public func measure(_ depth: Int, _ shape: inout [Int]) -> Bool {
    if depth == shape.count { shape.append(count) }
    return shape[depth] == count && allSatisfy { $0.measure(depth + 1, &shape) }
  }

  /// Adds the numbers of all parts.
  public func append(to elements: inout [Scalar]) {
    for part in self { part.append(to: &elements) }
  }
}

extension TensorScalar where Self: BinaryFloatingPoint {
  /// The nearest number of the type.
  public init(nearest value: Double) { self.init(value) }
  /// The nearest number of the type.
  public init(bits value: Int64) { self.init(value) }
}

extension TensorScalar where Self: FixedWidthInteger {
  /// The nearest integer within the range, ties away from 0; NaN is 0.
  public init(nearest value: Double) {
    let rounded = value.rounded()
    if rounded.isNaN {
      self = 0
    } else {
      self = Self(exactly: rounded) ?? (rounded < 0 ? .min : .max)
    }
  }
  /// The low bits.
  public init(bits value: Int64) { self.init(truncatingIfNeeded: value) }
}

extension Float: TensorScalar { public static var dataType: DataType { .float32 } }
extension Double: TensorScalar { public static var dataType: DataType { .float64 } }
extension Int8: TensorScalar { public static var dataType: DataType { .int8 } }
extension Int16: TensorScalar { public static var dataType: DataType { .int16 } }
extension Int32: TensorScalar { public static var dataType: DataType { .int32 } }
extension Int64: TensorScalar { public static var dataType: DataType { .int64 } }
extension Int: TensorScalar { public static var dataType: DataType { .int64 } }
extension UInt8: TensorScalar { public static var dataType: DataType { .uint8 } }
extension UInt16: TensorScalar { public static var dataType: DataType { .uint16 } }
extension UInt32: TensorScalar { public static var dataType: DataType { .uint32 } }
extension UInt64: TensorScalar { public static var dataType: DataType { .uint64 } }
extension Bool: TensorScalar {
  /// bool.
  public static var dataType: DataType { .bool }
  /// Whether it is anything but 0.
  public init(nearest value: Double) { self = value != 0 }
  /// Whether it is anything but 0.
  public init(bits value: Int64) { self = value != 0 }
}

extension Tensor {
  /// A tensor of numbers in row-major order, as many as the shape says, of the type that they have.
  public init<Element: TensorScalar>(
    _ shape: [Int], _ elements: [Element], file: StaticString = #fileID, line: UInt = #line
  ) { self.init(copying: Element.dataType, shape, elements, file, line) }

  /// A tensor of arrays of arrays: `Tensor([[1, 2], [3, 4]], .float32)`.
  /// - Parameter type: the element type; nil: that of the numbers (Swift reads `1.5` as a Double, `1` as an Int).
  ///   Numbers are rounded to nearest.
  public init<Element: NestedScalars>(
    _ nested: [Element], _ type: DataType? = nil, file: StaticString = #fileID, line: UInt = #line
  ) {
    var shape: [Int] = []
    guard nested.measure(0, &shape) else {
      self.init(
        type ?? Element.Scalar.dataType,
        DLCError(
          .type, "the arrays inside of one another have different lengths",
          remedy: "give every row as many numbers"
        ).within("\(file):\(line)"))
      return
    }
    var elements: [Element.Scalar] = []
    nested.append(to: &elements)
    let made = Tensor(copying: Element.Scalar.dataType, shape, elements, file, line)
    guard let type, made.problem == nil, type != made.dataType else {
      self = made
      return
    }
    self =
      type.isFloat
      ? Tensor(type, shape, rounding: made.doubles)
      : Tensor(
        type, shape,
        truncating: made.dataType.isFloat
          ? made.doubles.map { Int64(truncatingWithin: $0.rounded()) } : made.integers)
  }

  /// The elements as numbers of a Swift type: floating-point ones rounded to nearest, integers of another
  /// width with their low bits.
  public func scalars<Element: TensorScalar>(_ type: Element.Type = Element.self) -> [Element] {
    if type.dataType == dataType, dataType != .bool {
      return withUnsafeBytes { bytes in
        (0..<count).map {
          bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.size, as: Element.self)
        }
      }
    }
    return dataType.isFloat || type.dataType.isFloat
      ? doubles.map(Element.init(nearest:)) : integers.map(Element.init(bits:))
  }

  /// The number of a tensor that has one; NaN otherwise.
  public var scalar: Double { count == 1 ? doubles[0] : .nan }

  /// The part at a position on the first axes; of all axes a tensor of one number (`t[1, 2].scalar`). Negative
  /// positions count from the end. A position that is none makes a tensor that knows its `problem`.
  public subscript(
    _ positions: Int..., file file: StaticString = #fileID, line line: UInt = #line
  ) -> Tensor {
    if problem != nil { return self }
    func wrong(_ what: String) -> Tensor {
      Tensor(dataType, DLCError(.type, what).within("\(file):\(line)"))
    }
    guard positions.count <= shape.count else {
      return wrong("\(type) has \(counted(shape.count, "axis", "axes")), not \(positions.count)")
    }
    var start = 0
    for (axis, position) in positions.enumerated() {
      let size = shape[axis]
      let place = position < 0 ? position + size : position
      guard place >= 0, place < size else {
        return wrong("axis \(axis) of \(type) has no position \(position)")
      }
      start = start * size + place
    }
    let rest = Array(shape.dropFirst(positions.count))
    var part = Tensor(uninitialized: dataType, rest)
    let length = part.byteCount
    withUnsafeBytes { source in
      part.withUnsafeMutableBytes {
        $0.copyMemory(
          from: UnsafeRawBufferPointer(rebasing: source[start * length..<(start + 1) * length]))
      }
    }
    return part
  }
}
