package import DLCTensor

/// The format of the MNIST files: two zero bytes, a code of the element type, the number of axes, the
/// sizes as big-endian 32-bit numbers, then the elements, big-endian too (Y. LeCun, C. Cortes, C. Burges).
package enum IDX {
  private static let types: [UInt8: DataType] = [
    8: .uint8, 9: .int8, 11: .int16, 12: .int32, 13: .float32, 14: .float64,
  ]

  /// Reads a file, compressed by gzip or not. Bytes stay in the mapped file.
  /// - Throws: `.file` when it cannot be read, `.format` when it is no such file or its size is not what
  ///   its header says.
  package static func read(_ path: String) throws(DLCError) -> Tensor {
    let file = try InputBytes(path)
    let bytes = file.bytes
    func bad(_ what: String, _ remedy: String = "") -> DLCError {
      DLCError(.format, what, at: path, remedy: remedy)
    }
    guard bytes.count >= 4, bytes[0] == 0, bytes[1] == 0, let type = types[bytes[2]],
      bytes[3] >= 1
    else {
      throw bad(
        "this is not an IDX file: it does not begin with 0, 0, a type and a number of axes")
    }
    let rank = Int(bytes[3])
    let start = 4 + 4 * rank
    guard rank <= 8, bytes.count >= start else {
      throw bad(
        "the header of the IDX file has \(counted(rank, "axis", "axes")), which do not fit into it")
    }
    var shape: [Int] = []
    var size = type.byteCount
    for axis in 0..<rank {
      let count = Int(
        UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4 + 4 * axis, as: UInt32.self)))
      let (product, overflow) = size.multipliedReportingOverflow(by: count)
      guard !overflow else { throw bad("the header of the IDX file gives sizes beyond any file") }
      shape.append(count)
      size = product
    }
    guard bytes.count - start == size else {
      throw bad(
        "the header says \(shape.map(String.init).joined(separator: " x ")) elements of \(type), "
          + "\(size) bytes; there are \(bytes.count - start)",
        bytes.count - start < size
          ? "the file is cut short, or its count is wrong"
          : "something follows the elements, or the count is wrong")
    }
    do throws(DLCError) { try TensorType(type, sizes: shape).validate() } catch {
      throw error.within(path)
    }
    let data = UnsafeRawBufferPointer(rebasing: bytes[start...])
    let width = type.byteCount
    if width == 1 {
      return Tensor(
        dataType: type, shape: shape, storage: TensorStorage(borrowing: data, owner: file))
    }
    var result = try Tensor(reserving: type, shape, for: "'\(path)'")
    result.withUnsafeMutableBytes { target in
      for index in target.indices { target[index] = data[index ^ (width - 1)] }
    }
    return result
  }
}
