#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Memory that a tensor's elements live in: owned, or kept alive by an owner such as a mapped file.
package final class TensorStorage: @unchecked Sendable {
  // Immutable once shared: only `Tensor.withUnsafeMutableBytes` writes, after ensuring uniqueness.
  package let bytes: UnsafeMutableRawBufferPointer
  /// Why a tensor could not be made; it then has no elements.
  let problem: DLCError?
  private let owner: AnyObject?

  package init(byteCount: Int) {
    let base = UnsafeMutableRawPointer.allocate(byteCount: max(byteCount, 1), alignment: 64)
    bytes = UnsafeMutableRawBufferPointer(start: base, count: byteCount)
    problem = nil
    owner = nil
  }

  /// Memory for elements of any number.
  /// - Throws: `.memory`, naming what it is for, when it cannot be had.
  package init(reserving byteCount: Int, for what: @autoclosure () -> String) throws(DLCError) {
    try AvailableMemory.require(byteCount, for: what())
    var base: UnsafeMutableRawPointer?
    guard posix_memalign(&base, 64, max(byteCount, 1)) == 0, let base else {
      throw AvailableMemory.shortage(byteCount, AvailableMemory.bytes, what())
    }
    bytes = UnsafeMutableRawBufferPointer(start: base, count: byteCount)
    problem = nil
    owner = nil
  }

  /// Borrows read-only memory that `owner` keeps alive.
  package init(borrowing memory: UnsafeRawBufferPointer, owner: AnyObject) {
    bytes = UnsafeMutableRawBufferPointer(mutating: memory)
    problem = nil
    self.owner = owner
  }

  init(_ problem: DLCError) {
    bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    self.problem = problem
    owner = nil
  }

  package var isOwned: Bool { owner == nil }

  deinit { if owner == nil { bytes.baseAddress?.deallocate() } }
}

/// A dense array in row-major order. A value: copies share storage until one is changed.
///
/// Making one does not throw and does not trap: a tensor of a wrong shape or of too few elements is
/// empty and knows its `problem`, which whatever is given it throws.
///
/// ```swift
/// let a = Tensor([[1, 2, 3], [4, 5, 6]], .float32)
/// let row = a[1].scalars(Float.self)  // [4, 5, 6]
/// let last = a[-1, -1].scalar  // 6
/// let b = Tensor([3, 2], a.doubles)  // float64
/// ```
public struct Tensor: Sendable {
  /// The element type.
  public let dataType: DataType
  /// The sizes, outermost axis first; none of a scalar.
  public let shape: [Int]
  package var storage: TensorStorage

  /// A tensor whose bytes are not yet set.
  package init(uninitialized dataType: DataType, _ shape: [Int]) {
    self.dataType = dataType
    self.shape = shape
    storage = TensorStorage(byteCount: shape.reduce(1, *) * dataType.byteCount)
  }

  /// A tensor whose bytes are not yet set.
  /// - Throws: `.memory`, naming what it is for, when there is not enough for it.
  package init(
    reserving dataType: DataType, _ shape: [Int], for what: @autoclosure () -> String
  ) throws(DLCError) {
    self.dataType = dataType
    self.shape = shape
    storage = try TensorStorage(
      reserving: shape.reduce(1, *) * dataType.byteCount,
      for: "\(what()), \(TensorType(dataType, sizes: shape))")
  }

  /// A tensor of zeros.
  public init(
    zeros dataType: DataType, _ shape: [Int], file: StaticString = #fileID, line: UInt = #line
  ) {
    do throws(DLCError) {
      try TensorType(dataType, sizes: shape).validate()
      try self.init(reserving: dataType, shape, for: "a tensor")
      storage.bytes.initializeMemory(as: UInt8.self, repeating: 0)
    } catch {
      self.init(dataType, error.within("\(file):\(line)"))
    }
  }

  package init(dataType: DataType, shape: [Int], storage: TensorStorage) {
    precondition(storage.bytes.count == shape.reduce(1, *) * dataType.byteCount)
    self.dataType = dataType
    self.shape = shape
    self.storage = storage
  }

  /// A tensor that could not be made.
  init(_ dataType: DataType, _ problem: DLCError) {
    self.dataType = dataType
    shape = [0]
    storage = TensorStorage(problem)
  }

  init<Element: BitwiseCopyable>(
    copying dataType: DataType, _ shape: [Int], _ elements: [Element], _ file: StaticString,
    _ line: UInt
  ) {
    do throws(DLCError) {
      let type = TensorType(dataType, sizes: shape)
      try type.validate()
      guard elements.count == type.elementCount else {
        throw DLCError(
          .type,
          "\(type) has \(type.elementCount) elements, not the \(elements.count) that are given")
      }
      self.init(uninitialized: dataType, shape)
      elements.withUnsafeBytes { storage.bytes.copyMemory(from: $0) }
    } catch {
      self.init(dataType, error.within("\(file):\(line)"))
    }
  }

  /// Why the tensor could not be made, with the line that tried to; nil for a sound one.
  public var problem: DLCError? { storage.problem }

  /// Throws what is wrong with the tensor, if something is. All that takes tensors asks this first.
  package func check() throws(DLCError) { if let problem { throw problem } }

  /// How many elements it has.
  public var count: Int { shape.reduce(1, *) }
  /// The size of all elements in bytes.
  public var byteCount: Int { count * dataType.byteCount }
  /// Element type and shape.
  public var type: TensorType { TensorType(dataType, sizes: shape) }

  /// Gives the elements' bytes in row-major order, in the machine's order of bytes, for the length of the call.
  public func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try body(UnsafeRawBufferPointer(storage.bytes))
  }

  /// Gives the bytes to be written, for the length of the call; what is shared with another tensor is copied first.
  public mutating func withUnsafeMutableBytes<Result, Failure: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    if !isKnownUniquelyReferenced(&storage) || !storage.isOwned {
      let copy = TensorStorage(byteCount: byteCount)
      copy.bytes.copyMemory(from: UnsafeRawBufferPointer(storage.bytes))
      storage = copy
    }
    return try body(storage.bytes)
  }

  /// The elements as doubles: exact for every type but the 64-bit integers beyond 2^53.
  public var doubles: [Double] {
    let raw = UnsafeRawBufferPointer(storage.bytes)
    func read<T: BitwiseCopyable>(_: T.Type, _ convert: (T) -> Double) -> [Double] {
      (0..<count).map {
        convert(raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self))
      }
    }
    return switch dataType {
    case .float32: read(Float.self) { Double($0) }
    case .float64: read(Double.self) { $0 }
    case .float16: read(UInt16.self) { Double(Float(float16Bits: $0)) }
    case .bfloat16: read(UInt16.self) { Double(Float(bfloat16Bits: $0)) }
    case .int8: read(Int8.self) { Double($0) }
    case .int16: read(Int16.self) { Double($0) }
    case .int32: read(Int32.self) { Double($0) }
    case .int64: read(Int64.self) { Double($0) }
    case .uint8: read(UInt8.self) { Double($0) }
    case .uint16: read(UInt16.self) { Double($0) }
    case .uint32: read(UInt32.self) { Double($0) }
    case .uint64: read(UInt64.self) { Double($0) }
    case .bool: read(UInt8.self) { $0 == 0 ? 0 : 1 }
    }
  }

  /// The elements as 64-bit integers (uint64 wraps). Those of a floating-point tensor are rounded
  /// towards zero; what is beyond the range becomes its end, and NaN becomes 0.
  public var integers: [Int64] {
    let raw = UnsafeRawBufferPointer(storage.bytes)
    func read<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) -> [Int64] {
      (0..<count).map {
        Int64(
          truncatingIfNeeded: raw.loadUnaligned(
            fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self))
      }
    }
    return switch dataType {
    case .int8: read(Int8.self)
    case .int16: read(Int16.self)
    case .int32: read(Int32.self)
    case .int64: read(Int64.self)
    case .uint8: read(UInt8.self)
    case .uint16: read(UInt16.self)
    case .uint32: read(UInt32.self)
    case .uint64: read(UInt64.self)
    case .bool: read(UInt8.self).map { $0 == 0 ? 0 : 1 }
    default: doubles.map(Int64.init(truncatingWithin:))
    }
  }

  /// A floating-point tensor from doubles, each rounded to nearest.
  package init(_ dataType: DataType, _ shape: [Int], rounding values: [Double]) {
    precondition(dataType.isFloat && values.count == shape.reduce(1, *))
    self.init(uninitialized: dataType, shape)
    for (index, value) in values.enumerated() {
      switch dataType {
      case .float64: storage.bytes.storeBytes(of: value, toByteOffset: index * 8, as: Double.self)
      case .float32:
        storage.bytes.storeBytes(of: Float(value), toByteOffset: index * 4, as: Float.self)
      case .float16:
        storage.bytes.storeBytes(of: value.float16Bits, toByteOffset: index * 2, as: UInt16.self)
      default:
        storage.bytes.storeBytes(
          of: value.bfloat16Bits, toByteOffset: index * 2, as: UInt16.self)
      }
    }
  }

  /// An integer or bool tensor from 64-bit patterns, each truncated to the type's width.
  package init(_ dataType: DataType, _ shape: [Int], truncating values: [Int64]) {
    precondition(!dataType.isFloat && values.count == shape.reduce(1, *))
    self.init(uninitialized: dataType, shape)
    let size = dataType.byteCount
    for (index, value) in values.enumerated() {
      var pattern = (dataType == .bool ? (value == 0 ? 0 : 1) : value).littleEndian
      Swift.withUnsafeBytes(of: &pattern) {
        UnsafeMutableRawBufferPointer(rebasing: storage.bytes[index * size..<(index + 1) * size])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[0..<size]))
      }
    }
  }

  /// A tensor in which every element is `value`, converted to the element type.
  package init(splat value: Double, _ dataType: DataType, _ shape: [Int]) {
    let count = shape.reduce(1, *)
    if count > 1 {
      // One element, repeated.
      let one = Tensor(splat: value, dataType, [1])
      self.init(uninitialized: dataType, shape)
      let width = dataType.byteCount
      for index in 0..<count {
        (storage.bytes.baseAddress! + index * width)
          .copyMemory(from: one.storage.bytes.baseAddress!, byteCount: width)
      }
    } else if dataType.isFloat {
      self.init(dataType, shape, rounding: [Double](repeating: value, count: count))
    } else {
      self.init(
        dataType, shape,
        truncating: [Int64](repeating: Int64(truncatingWithin: value), count: count))
    }
  }
}

extension Tensor {
  /// A scalar.
  package init(_ number: ScalarConstant, _ type: DataType) {
    switch number {
    case .float(let v): self.init(type, [], rounding: [v])
    case .integer(let v): self.init(type, [], truncating: [v])
    }
  }
}

extension Int64 {
  /// The number rounded towards zero; the end of the range that it is beyond, and 0 for NaN.
  package init(truncatingWithin value: Double) {
    if value.isNaN {
      self = 0
    } else if value >= 0x1p63 {
      self = .max
    } else {
      self = value <= -0x1p63 ? .min : Int64(value)
    }
  }
}

extension Tensor: Hashable {
  /// Equal type and equal bits.
  public static func == (a: Tensor, b: Tensor) -> Bool {
    a.dataType == b.dataType && a.shape == b.shape && a.problem == b.problem
      && (a.storage === b.storage || a.storage.bytes.elementsEqual(b.storage.bytes))
  }

  /// Hashes the type and the first bytes.
  public func hash(into hasher: inout Hasher) {
    hasher.combine(dataType)
    hasher.combine(shape)
    hasher.combine(bytes: UnsafeRawBufferPointer(rebasing: storage.bytes.prefix(256)))
  }
}
