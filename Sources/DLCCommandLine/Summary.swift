import DLCTensor

/// What is said of an array that is not written to a file.
struct Summary {
  let name: String
  let type: TensorType
  private let first: [String]
  private var least: (value: Double, text: String)?
  private var most: (value: Double, text: String)?
  private var sum = 0.0
  private let count: Int
  private(set) var nans = 0
  private(set) var infinities = (positive: 0, negative: 0)

  /// Reads the array in parts: the summary of a large one takes little memory.
  init(_ name: String, _ tensor: Tensor) {
    self.name = name
    type = tensor.type
    count = tensor.count
    let width = tensor.dataType.byteCount
    let part = 1 << 14
    var first: [String] = []
    for start in stride(from: 0, to: tensor.count, by: part) {
      let size = min(part, tensor.count - start)
      let piece = Tensor(
        dataType: tensor.dataType, shape: [size],
        storage: TensorStorage(
          borrowing: UnsafeRawBufferPointer(
            rebasing: tensor.storage.bytes[start * width..<(start + size) * width]),
          owner: tensor.storage))
      // 64-bit integers do not fit doubles: their text is made from the integers themselves.
      let whole = tensor.dataType.isFloat ? [] : piece.integers
      for (index, value) in piece.doubles.enumerated() {
        func text() -> String {
          if tensor.dataType.isFloat { return fixed(value, 6) }
          return tensor.dataType == .uint64
            ? "\(UInt64(bitPattern: whole[index]))" : "\(whole[index])"
        }
        if first.count < 5 { first.append(text()) }
        sum += value
        if value.isNaN {
          nans += 1
        } else {
          if value == .infinity { infinities.positive += 1 }
          if value == -.infinity { infinities.negative += 1 }
          if value < least?.value ?? .infinity || least == nil { least = (value, text()) }
          if value > most?.value ?? -.infinity || most == nil { most = (value, text()) }
        }
      }
    }
    self.first = first
  }

  private var mean: Double { count == 0 ? .nan : sum / Double(count) }

  /// How many elements are not finite, in words; empty when all are.
  private var oddities: String {
    [
      (nans, "nan"), (infinities.positive, "inf"), (infinities.negative, "-inf"),
    ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }.joined(separator: ", ")
  }

  private func extreme(_ value: (value: Double, text: String)?) -> String {
    nans > 0 ? "nan" : value?.text ?? "-"
  }

  static func table(_ summaries: [Summary]) -> String {
    let isOdd = summaries.contains { !$0.oddities.isEmpty }
    let head = ["output", "type", "min", "mean", "max"] + (isOdd ? ["not finite"] : [])
    return DLCCommandLine.table(
      [head + ["first values"]]
        + summaries.map { summary in
          [
            summary.name, "\(summary.type)", summary.extreme(summary.least),
            summary.count == 0 ? "-" : fixed(summary.mean, 6), summary.extreme(summary.most),
          ] + (isOdd ? [summary.oddities.isEmpty ? "-" : summary.oddities] : [])
            + [summary.first.joined(separator: " ")]
        })
  }

  /// Numbers that are not finite are null, and counted.
  var json: JSON {
    func number(_ value: Double?) -> JSON { .number(nans > 0 ? .nan : value ?? .nan) }
    return .object([
      ("name", .text(name)), ("dtype", .text(type.dataType.rawValue)),
      ("shape", .list(type.sizes.map { .integer($0) })), ("min", number(least?.value)),
      ("mean", .number(mean)), ("max", number(most?.value)), ("nan", .integer(nans)),
      ("infinite", .integer(infinities.positive + infinities.negative)),
    ])
  }
}
