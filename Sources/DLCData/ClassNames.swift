public import DLCTensor

/// Names of classes in an archive of numbers: a uint8 array with a row for each class, the name in UTF-8
/// with zeros behind it. NumPy reads one as `bytes(row).rstrip(b"\0").decode()`.
public enum ClassNames {
  /// The rows of names; a name stands at the number that stands for it.
  public static func array(_ names: [String]) -> Tensor {
    let width = max(1, names.map(\.utf8.count).max() ?? 1)
    var rows = Tensor(zeros: .uint8, [names.count, width])
    rows.withUnsafeMutableBytes { bytes in
      guard bytes.count == names.count * width else { return }
      for (index, name) in names.enumerated() {
        for (offset, byte) in name.utf8.enumerated() { bytes[index * width + offset] = byte }
      }
    }
    return rows
  }

  /// The names in rows.
  /// - Throws: `.format` unless it is a uint8 array of two axes.
  public static func names(_ array: Tensor) throws(DLCError) -> [String] {
    try array.check()
    guard array.dataType == .uint8, array.shape.count == 2 else {
      throw DLCError(
        .format, "names of classes are a uint8 array of two axes, not \(array.type)")
    }
    let width = array.shape[1]
    return array.withUnsafeBytes { bytes in
      (0..<array.shape[0]).map { row in
        let name = bytes[row * width..<(row + 1) * width].prefix { $0 != 0 }
        return String(decoding: name, as: UTF8.self)
      }
    }
  }
}
