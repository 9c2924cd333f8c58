extension Tensor {
  /// One element as text that reads back exactly.
  package func element(_ index: Int) -> String {
    let one = slice(index, 1)
    if dataType.isFloat {
      let value = one.doubles[0]
      if value.isNaN { return "nan" }
      return dataType == .float64 ? "\(value)" : "\(Float(value))"
    }
    let value = one.integers[0]
    return dataType == .uint64 ? "\(UInt64(bitPattern: value))" : "\(value)"
  }
}

extension Tensor: CustomStringConvertible {
  /// The type and the elements, of long axes the first and last three.
  public var description: String {
    if let problem { return "a tensor that could not be made: \(problem)" }
    return "\(type) \(text(0, 0, count > 64))"
  }

  private func text(_ axis: Int, _ start: Int, _ isShort: Bool) -> String {
    if axis == shape.count { return element(start) }
    let stride = shape[(axis + 1)...].reduce(1, *)
    let size = shape[axis]
    let shown = (0..<size).filter { !isShort || size <= 6 || $0 < 3 || $0 >= size - 3 }
    var parts = shown.map {
      text(axis + 1, start + $0 * stride, isShort)
    }
    if isShort && size > 6 { parts.insert("...", at: 3) }
    return "[\(parts.joined(separator: ", "))]"
  }
}
