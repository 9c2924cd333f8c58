import DLCGraph
import DLCTensor

/// The arrays that a step is fed from, one row for each example: complete, and with every element that is
/// used as a position inside its bounds. An array whose type is narrower than the input's stays as it is, so
/// that a mapped file is not copied: its rows are converted when they are used.
struct DataSet {
  let arrays: [String: Tensor]
  /// The types of the inputs.
  private let types: [String: DataType]
  /// How many examples there are.
  let count: Int
  /// What is to be said of the arrays.
  let notes: [String]

  /// - Parameter what: what the arrays are called in messages.
  /// - Throws: `.binding` when an array is missing, or does not fit its input.
  init(
    _ given: [String: Tensor], for inputs: [(name: String, type: TensorType)], _ what: String
  ) throws(DLCError) {
    let names = inputs.map(\.name).joined(separator: ", ")
    if let absent = inputs.first(where: { given[$0.name] == nil }) {
      throw DLCError(
        .binding, "\(what) has no array '\(absent.name)'",
        remedy: given.isEmpty
          ? "the inputs are \(names)" : "it has \(given.keys.sorted().joined(separator: ", "))")
    }
    let known = Set(inputs.map(\.name))
    let extra = given.keys.filter { !known.contains($0) }.sorted()
    notes =
      extra.isEmpty
      ? [] : ["\(what): ignored, because no input has the name: \(Spelling.list(extra))"]
    for (name, _) in inputs { try given[name]!.check() }
    guard let first = inputs.first, let count = given[first.name]?.shape.first, count > 0 else {
      throw DLCError(.binding, "\(what) has no examples")
    }
    var arrays: [String: Tensor] = [:]
    for (name, type) in inputs {
      let array = given[name]!
      let fits = zip(type.shape, array.shape).dropFirst().allSatisfy { $0.constant ?? $1 == $1 }
      guard array.shape.count == type.rank, array.shape.first == count, fits else {
        throw DLCError(
          .binding,
          "array '\(name)' is \(array.type): \(type) is wanted"
            + (name == first.name
              ? "" : ", with \(counted(count, "example")) as '\(first.name)' has")
        )
      }
      arrays[name] =
        array.dataType.widens(to: type.dataType)
        ? array : try array.fitted(to: type.dataType, name: name)
    }
    self.arrays = arrays
    types = Dictionary(
      inputs.map { ($0.name, $0.type.dataType) }, uniquingKeysWith: { a, _ in a })
    self.count = count
  }

  /// Rows of an array as the input takes them.
  func rows(_ name: String, _ numbers: [Int]) throws(DLCError) -> Tensor {
    try arrays[name]!.rows(numbers).fitted(to: types[name]!, name: name)
  }

  /// A whole array as the input takes it.
  func whole(_ name: String) throws(DLCError) -> Tensor {
    try arrays[name]!.fitted(to: types[name]!, name: name)
  }

  /// Throws `.binding` for the first element that is used as a position and is none.
  func check(_ uses: [IndexUse], _ sizes: [String: Int]) throws(DLCError) {
    var seen: Set<String> = []
    for use in uses {
      guard let array = arrays[use.input] else { continue }
      var limit = 0
      for dimension in use.limits { limit = max(limit, try dimension.evaluate(sizes)) }
      // The same array is often used against the same size in several places.
      let key = "\(use.input) \(limit) \(use.parts.sorted { $0.key < $1.key })"
      if !seen.insert(key).inserted { continue }
      let isUsed = try membership(use, array.shape, sizes)
      if let bad = array.firstOutside(limit, isUsed) {
        throw DLCError(
          .binding,
          "element \(array.coordinate(bad)) of '\(use.input)' is \(array.text(bad)), which is "
            + (array.isWhole(bad) ? "outside" : "not a whole number in") + " 0..<\(limit)",
          at: use.place, remedy: "'\(use.input)' is used as positions among \(limit)")
      }
    }
  }

  /// Whether the element with a number is one that is used; nil when all are.
  private func membership(_ use: IndexUse, _ shape: [Int], _ sizes: [String: Int])
    throws(DLCError) -> ((Int) -> Bool)?
  {
    var tests: [(stride: Int, size: Int, used: Set<Int>)] = []
    // Parts of the batch are taken from every batch, so that all rows are used.
    for (axis, part) in use.parts where axis > 0 && axis < shape.count {
      let start = try part.start.evaluate(sizes)
      let limit = try part.limit.evaluate(sizes)
      let inner = shape[(axis + 1)...].reduce(1, *)
      tests.append(
        (inner, shape[axis], Set(stride(from: start, to: max(start, limit), by: part.stride))))
    }
    if tests.isEmpty { return nil }
    return { index in tests.allSatisfy { $0.used.contains(index / $0.stride % $0.size) } }
  }
}

extension Tensor {
  /// The first element that is used and is no whole number in 0..<limit.
  fileprivate func firstOutside(_ limit: Int, _ isUsed: ((Int) -> Bool)?) -> Int? {
    // In parts, so that a mapped array is not held in memory.
    let part = 1 << 16
    for start in stride(from: 0, to: count, by: part) {
      let piece = slice(start, Swift.min(part, count - start))
      func first<T>(_ values: [T], _ isInside: (T) -> Bool) -> Int? {
        values.indices.first { !isInside(values[$0]) && (isUsed?(start + $0) ?? true) }
      }
      let found =
        dataType.isFloat
        ? first(piece.doubles) { $0 >= 0 && $0 < Double(limit) && $0 == $0.rounded() }
        : first(piece.integers) { $0 >= 0 && $0 < limit }
      if let found { return start + found }
    }
    return nil
  }

  fileprivate func isWhole(_ index: Int) -> Bool {
    guard dataType.isFloat else { return true }
    let value = slice(index, 1).doubles[0]
    return value == value.rounded()
  }

  /// An element in words.
  fileprivate func text(_ index: Int) -> String {
    let one = slice(index, 1)
    if dataType.isFloat { return "\(one.doubles[0])" }
    let value = one.integers[0]
    return dataType == .uint64 ? "\(UInt64(bitPattern: value))" : "\(value)"
  }

  /// The rows of the first axis with these numbers.
  func rows(_ numbers: [Int]) -> Tensor {
    let inner = shape.dropFirst().reduce(1, *) * dataType.byteCount
    var result = Tensor(zeros: dataType, [numbers.count] + shape.dropFirst())
    withUnsafeBytes { source in
      result.withUnsafeMutableBytes { target in
        for (index, number) in numbers.enumerated() where inner > 0 {
          target.baseAddress!.advanced(by: index * inner).copyMemory(
            from: source.baseAddress!.advanced(by: number * inner), byteCount: inner)
        }
      }
    }
    return result
  }
}
