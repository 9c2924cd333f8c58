/// The type of a tensor: element type and shape, whose dimensions may still be named.
public struct TensorType: Hashable, Sendable, CustomStringConvertible {
  /// The element type.
  public var dataType: DataType
  /// The sizes, outermost axis first.
  public var shape: [Size]

  /// A type; a scalar's without a shape.
  public init(_ dataType: DataType, _ shape: [Size] = []) {
    self.dataType = dataType
    self.shape = shape
  }

  package init(_ dataType: DataType, sizes: [Int]) {
    self.init(dataType, sizes.map { Size($0) })
  }

  /// How many axes it has; 0 for a scalar.
  public var rank: Int { shape.count }

  /// The sizes; only for types whose names are all bound.
  package var sizes: [Int] {
    shape.map {
      guard let size = $0.constant else { preconditionFailure("dimension '\($0)' is not bound") }
      return size
    }
  }

  package var isStatic: Bool { shape.allSatisfy { $0.constant != nil } }
  package var elementCount: Int { sizes.reduce(1, *) }
  package var byteCount: Int { elementCount * dataType.byteCount }

  /// The largest tensor, in elements, that dlc accepts.
  package static let maximumElementCount = 1 << 40

  package static let maximumRank = 16

  /// Checks that every bound size is in range and that their product is.
  package func validate() throws(DLCError) {
    guard shape.count <= Self.maximumRank else {
      throw DLCError(.type, "a tensor of rank \(shape.count) is not supported (at most \(Self.maximumRank))")
    }
    var count = 1
    for dimension in shape {
      guard let size = dimension.constant else {
        guard let problem = dimension.problem else { continue }
        throw DLCError(.dimension, problem.isEmpty ? "a size is not known" : problem)
      }
      guard size >= 0 else { throw DLCError(.type, "type \(self) has a negative size") }
      let (product, overflow) = count.multipliedReportingOverflow(by: max(size, 1))
      guard !overflow, product <= Self.maximumElementCount else {
        throw DLCError(.type, "type \(self) is too large")
      }
      count = product
    }
  }

  package func substitute(_ bindings: [String: Int]) throws(DLCError) -> TensorType {
    try mappingDimensions { (size) throws(DLCError) in try size.substitute(bindings) }
  }

  package func mappingDimensions(
    _ body: (Size) throws(DLCError) -> Size
  ) throws(DLCError) -> TensorType {
    var result: [Size] = []
    for dimension in shape { result.append(try body(dimension)) }
    let type = TensorType(dataType, result)
    try type.validate()
    return type
  }

  /// As `float32[n, 3]`.
  public var description: String {
    "\(dataType)[\(shape.map(\.description).joined(separator: ", "))]"
  }
}

/// Row-major strides, in elements.
package func rowMajorStrides(_ sizes: [Int]) -> [Int] {
  var strides = [Int](repeating: 1, count: sizes.count)
  for axis in sizes.indices.dropLast().reversed() {
    strides[axis] = strides[axis + 1] &* sizes[axis + 1]
  }
  return strides
}
