import CProtobufSchema
import DLCFormats
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Reads stored tensors: raw or typed data, in the file or beside it.
struct TensorReader {
  /// Keeps the memory of what was decoded.
  let owner: AnyObject
  /// The model's file, beside which external data lies.
  let path: String

  func read(_ t: Onnx__Tensor) throws(DLCError) -> ONNXTensor {
    let name = text(t.name)
    do throws(DLCError) {
      guard let type = ElementType(rawValue: t.data_type), type != .undefined else {
        throw DLCError(.format, "element type \(t.data_type) is not known")
      }
      let shape = try shape(each(t.n_dims, t.dims))
      guard let dataType = type.dataType else {
        return ONNXTensor(name: name, elementType: type, value: nil)
      }
      let count = shape.reduce(1, *)
      let value =
        if t.data_location == 1 {
          try external(t, type, dataType, shape)
        } else if t.raw_data.len > 0 || typedCount(t, type) == 0 && count == 0 {
          try raw(
            UnsafeRawBufferPointer(start: t.raw_data.data, count: t.raw_data.len), owner, type,
            dataType, shape)
        } else {
          try typed(t, type, dataType, shape)
        }
      return ONNXTensor(name: name, elementType: type, value: value)
    } catch {
      throw error.within("tensor '\(name)'")
    }
  }

  /// A shape whose elements can be counted.
  func shape(_ dims: [Int64]) throws(DLCError) -> [Int] {
    var shape: [Int] = []
    for dim in dims {
      guard dim >= 0 else { throw DLCError(.format, "a dimension is \(dim)") }
      shape.append(Int(dim))
    }
    try TensorType(.float64, sizes: shape).validate()
    return shape
  }

  private func typedCount(_ t: Onnx__Tensor, _ type: ElementType) -> Int {
    switch type {
    case .float32: t.n_float_data
    case .float64: t.n_double_data
    case .int64: t.n_int64_data
    case .uint32, .uint64: t.n_uint64_data
    default: t.n_int32_data
    }
  }

  private func byteCount(_ type: ElementType, _ count: Int) -> Int {
    (count * type.bitCount! + 7) / 8
  }

  private func raw(
    _ bytes: UnsafeRawBufferPointer, _ owner: AnyObject, _ type: ElementType, _ dataType: DataType,
    _ shape: [Int]
  ) throws(DLCError) -> Tensor {
    let count = shape.reduce(1, *)
    guard bytes.count == byteCount(type, count) else {
      throw DLCError(
        .format,
        "\(shape) of \(type.text) are \(byteCount(type, count)) bytes, there are \(bytes.count)")
    }
    guard type.isPlain else {
      return unpacked(type, dataType, shape) { bytes[$0] }
    }
    let alignment = dataType.byteCount
    if count > 64, Int(bitPattern: bytes.baseAddress) % max(alignment, 16) == 0, dataType != .bool {
      return Tensor(
        dataType: dataType, shape: shape, storage: TensorStorage(borrowing: bytes, owner: owner))
    }
    let tensor = Tensor(uninitialized: dataType, shape)
    if !bytes.isEmpty { tensor.storage.bytes.copyMemory(from: bytes) }
    if dataType == .bool {
      for i in 0..<bytes.count { tensor.storage.bytes[i] = bytes[i] == 0 ? 0 : 1 }
    }
    return tensor
  }

  /// Elements of less than a byte, lowest bits first, and narrow floats.
  private func unpacked(
    _ type: ElementType, _ dataType: DataType, _ shape: [Int], _ byte: (Int) -> UInt8
  ) -> Tensor {
    let (bits, count) = (type.bitCount!, shape.reduce(1, *))
    func element(_ i: Int) -> UInt8 {
      byte(i * bits / 8) >> UInt8(i * bits % 8) & UInt8(truncatingIfNeeded: (1 << bits) - 1)
    }
    if type.isNarrowFloat {
      return Tensor(dataType, shape, rounding: (0..<count).map { type.number(element($0)) })
    }
    let isSigned = type == .int4 || type == .int2
    return Tensor(
      dataType, shape,
      truncating: (0..<count).map {
        let e = Int64(element($0))
        return isSigned && e >> Int64(bits - 1) & 1 == 1 ? e - (1 << Int64(bits)) : e
      })
  }

  private func typed(_ t: Onnx__Tensor, _ type: ElementType, _ dataType: DataType, _ shape: [Int])
    throws(DLCError) -> Tensor
  {
    let count = shape.reduce(1, *)
    let given = typedCount(t, type)
    let wanted =
      type.isPlain || type.isNarrowFloat && type.bitCount == 8 ? count : byteCount(type, count)
    guard given == wanted else {
      throw DLCError(.format, "\(shape) are \(count) elements, there are \(given)")
    }
    guard type.isPlain else {
      return unpacked(type, dataType, shape) { UInt8(truncatingIfNeeded: t.int32_data[$0]) }
    }
    switch type {
    case .float32:
      return Tensor(dataType, shape, rounding: each(given, t.float_data).map(Double.init))
    case .float64: return Tensor(dataType, shape, rounding: each(given, t.double_data))
    case .int64: return Tensor(dataType, shape, truncating: each(given, t.int64_data))
    case .uint32, .uint64:
      return Tensor(
        dataType, shape, truncating: each(given, t.uint64_data).map { Int64(bitPattern: $0) })
    case .float16, .bfloat16:
      // The bits of each are in the low half of an int32.
      let tensor = Tensor(uninitialized: dataType, shape)
      for i in 0..<given {
        tensor.storage.bytes.storeBytes(
          of: UInt16(truncatingIfNeeded: t.int32_data[i]), toByteOffset: 2 * i, as: UInt16.self)
      }
      return tensor
    default:
      return Tensor(dataType, shape, truncating: each(given, t.int32_data).map(Int64.init))
    }
  }

  /// Data in a file beside the model's.
  private func external(
    _ t: Onnx__Tensor, _ type: ElementType, _ dataType: DataType, _ shape: [Int]
  ) throws(DLCError) -> Tensor {
    let entries = Dictionary(
      each(t.n_external_data, t.external_data).map { (text($0.key), text($0.value)) },
      uniquingKeysWith: { a, _ in a })
    guard let location = entries["location"], !location.isEmpty else {
      throw DLCError(.format, "external data name no file")
    }
    let parts = location.split(separator: "/", omittingEmptySubsequences: false)
    guard !location.hasPrefix("/"), !parts.contains("..") else {
      throw DLCError(
        .format, "external data at '\(location)' are not beside the model",
        remedy: "put the file into the model's directory")
    }
    let directory = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "./"
    let file = directory + location
    guard let real = realPath(file), let base = realPath(directory),
      real.hasPrefix(base + "/") || base == "/"
    else {
      throw DLCError(
        .file, "external data '\(location)' are missing or lie outside of the model's directory")
    }
    let mapped = try MappedFile(file)
    func number(_ key: String) throws(DLCError) -> Int? {
      guard let text = entries[key] else { return nil }
      guard let value = Int(text), value >= 0 else {
        throw DLCError(.format, "external data have \(key) '\(text)'")
      }
      return value
    }
    let offset = try number("offset") ?? 0
    let size = byteCount(type, shape.reduce(1, *))
    let length = try number("length") ?? size
    guard offset <= mapped.bytes.count, length <= mapped.bytes.count - offset, length >= size else {
      throw DLCError(
        .format,
        "external data are \(length) bytes from \(offset) of '\(location)', which has \(mapped.bytes.count)"
      )
    }
    return try raw(
      UnsafeRawBufferPointer(rebasing: mapped.bytes[offset..<offset + size]), mapped, type,
      dataType,
      shape)
  }

  private func realPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  /// A sparse tensor, filled with zeros.
  func read(_ s: Onnx__SparseTensor) throws(DLCError) -> ONNXTensor {
    guard let values = s.values, let indices = s.indices else {
      throw DLCError(.format, "a sparse tensor has no values or no indices")
    }
    let (filled, places) = (try read(values.pointee), try read(indices.pointee))
    let shape = try shape(each(s.n_dims, s.dims))
    guard let data = filled.value, data.shape.count == 1, let index = places.value,
      index.dataType == .int64
    else {
      throw DLCError(
        .format, "sparse tensor '\(filled.name)' has no list of values and int64 indices")
    }
    let (count, rank) = (data.shape[0], shape.count)
    let isFlat = index.shape == [count]
    guard isFlat || index.shape == [count, rank] else {
      throw DLCError(.format, "sparse tensor '\(filled.name)' has indices \(index.shape)")
    }
    let tensor = Tensor(zeros: data.dataType, shape)
    let size = data.dataType.byteCount
    let numbers = index.integers
    for i in 0..<count {
      var place = isFlat ? Int(numbers[i]) : 0
      var isInside = isFlat ? place >= 0 && place < tensor.count : true
      if !isFlat {
        for axis in 0..<rank {
          let at = Int(numbers[i * rank + axis])
          isInside = isInside && at >= 0 && at < shape[axis]
          place = place &* shape[axis] &+ at
        }
      }
      guard isInside else {
        throw DLCError(.format, "sparse tensor '\(filled.name)' has an element outside of \(shape)")
      }
      data.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(
          rebasing: tensor.storage.bytes[place * size..<(place + 1) * size]
        )
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[i * size..<(i + 1) * size]))
      }
    }
    return ONNXTensor(name: filled.name, elementType: filled.elementType, value: tensor)
  }
}
