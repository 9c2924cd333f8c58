extension Tensor {
  /// The array in the element type that an input or a state has. Numbers stay what they are, but for
  /// floating-point elements in a narrower floating-point type, which are rounded to nearest.
  /// - Throws: `.binding`, naming the first element that the type cannot hold: a fraction, a NaN or a
  ///   number out of range for an integer or bool, an integer that a floating-point type would round, a
  ///   finite number that would become infinite. `.memory` when there is not enough for the copy.
  package func fitted(to type: DataType, name: String) throws(DLCError) -> Tensor {
    if type == dataType { return self }
    var result = try Tensor(reserving: type, shape, for: "array '\(name)'")
    let part = 1 << 14
    for start in stride(from: 0, to: count, by: part) {
      let size = min(part, count - start)
      let piece = slice(start, size)
      let converted = piece.approximated(in: type)
      if let bad = piece.firstUnlike(converted) {
        throw DLCError(
          .binding,
          "element \(coordinate(start + bad.index)) of '\(name)' is \(bad.value), which "
            + (bad.isWhole ? "\(type) does not hold" : "is not a whole number for \(type)"))
      }
      result.withUnsafeMutableBytes { target in
        converted.withUnsafeBytes {
          UnsafeMutableRawBufferPointer(rebasing: target[(start * type.byteCount)...])
            .copyMemory(from: $0)
        }
      }
    }
    return result
  }

  /// A run of elements, in place.
  package func slice(_ start: Int, _ size: Int) -> Tensor {
    let width = dataType.byteCount
    return Tensor(
      dataType: dataType, shape: [size],
      storage: TensorStorage(
        borrowing: UnsafeRawBufferPointer(
          rebasing: storage.bytes[start * width..<(start + size) * width]), owner: storage))
  }

  /// Where an element is, in words: [1, 0, 3].
  package func coordinate(_ position: Int) -> String {
    var rest = position
    let places = shape.reversed().map { size in
      defer { rest /= size }
      return rest % size
    }.reversed()
    return "[\(places.map(String.init).joined(separator: ", "))]"
  }

  /// The nearest numbers in another type, whatever becomes of them.
  private func approximated(in type: DataType) -> Tensor {
    if type.isFloat { return Tensor(type, shape, rounding: doubles) }
    return Tensor(
      type, shape,
      truncating: dataType.isFloat
        ? doubles.map { Int64(exactly: $0) ?? UInt64(exactly: $0).map { Int64(bitPattern: $0) } ?? 0 }
        : integers)
  }

  /// The first element that the converted array does not hold, in words.
  private func firstUnlike(_ converted: Tensor) -> (
    index: Int, value: String, isWhole: Bool
  )? {
    if dataType.isFloat {
      let (old, new) = (doubles, converted.doubles)
      let rounds = converted.dataType.isFloat
      // 64-bit integers are compared as such: a double would round them.
      let wide = rounds ? [] : converted.numbers
      for index in old.indices {
        let same =
          rounds
          ? old[index].isFinite == new[index].isFinite
          : Int128(exactly: old[index]) == wide[index]
        if !same {
          return (index, "\(old[index])", rounds || old[index].rounded() == old[index])
        }
      }
      return nil
    }
    let old = numbers
    if converted.dataType.isFloat {
      let new = converted.doubles
      for index in old.indices where Int128(exactly: new[index]) != old[index] {
        return (index, "\(old[index])", true)
      }
      return nil
    }
    let new = converted.numbers
    for index in old.indices where old[index] != new[index] {
      return (index, "\(old[index])", true)
    }
    return nil
  }

  /// The elements of an integer or bool array, whatever their width and sign.
  private var numbers: [Int128] {
    dataType == .uint64
      ? integers.map { Int128(UInt64(bitPattern: $0)) } : integers.map { Int128($0) }
  }
}

extension DataType {
  /// Whether every number of this type is one of the other type too.
  package func widens(to other: DataType) -> Bool {
    if self == other { return true }
    return switch self {
    case .uint8:
      [.int16, .int32, .int64, .uint16, .uint32, .uint64, .float32, .float64].contains(other)
    case .int8: [.int16, .int32, .int64, .float32, .float64].contains(other)
    case .uint16: [.int32, .int64, .uint32, .uint64, .float32, .float64].contains(other)
    case .int16: [.int32, .int64, .float32, .float64].contains(other)
    case .int32: [.int64, .float64].contains(other)
    case .uint32: [.int64, .uint64, .float64].contains(other)
    case .float16, .bfloat16: [.float32, .float64].contains(other)
    case .float32: other == .float64
    case .float64, .int64, .uint64, .bool: false
    }
  }
}
