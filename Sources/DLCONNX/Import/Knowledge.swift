import DLCGraph
import DLCReference
import DLCTensor

/// What is known of a value before the graph runs: its elements, as numbers or as sizes over named dimensions.
enum Known {
  case array(ReferenceArray)
  /// Integers of that type; `shape` is theirs.
  case sizes(DataType, shape: [Int], [Size])

  var type: DataType {
    switch self {
    case .array(let a): a.type
    case .sizes(let type, _, _): type
    }
  }

  var shape: [Int] {
    switch self {
    case .array(let a): a.shape
    case .sizes(_, let shape, _): shape
    }
  }

  /// The elements as sizes; nil for floating-point ones.
  var sizes: [Size]? {
    switch self {
    case .array(let a): a.type.isFloat ? nil : a.integers.map { Size(Int($0)) }
    case .sizes(_, _, let list): list
    }
  }

  /// An array, when every size is a number.
  var simplified: Known {
    guard case .sizes(let type, let shape, let list) = self else { return self }
    let numbers = list.compactMap(\.constant)
    guard numbers.count == list.count else { return self }
    var array = ReferenceArray(type, shape)
    array.integers = numbers.map { wrap(Int64($0), type) }
    return .array(array)
  }
}

/// Evaluates values of the graph that is being built as far as they depend on constants, on stored tensors and on
/// sizes alone. It follows the graph's own operations, so that a shape that an ONNX model computes needs no second
/// definition of its operators.
final class Knowledge {
  /// Larger values are not looked at.
  static let maximumCount = 4096

  /// It keeps the builder: that of a graph that is given up must not be taken for the next one at its address.
  private struct Key: Hashable {
    var builder: FunctionBuilder
    var id: ValueID

    static func == (a: Key, b: Key) -> Bool { a.builder === b.builder && a.id == b.id }

    func hash(into hasher: inout Hasher) {
      hasher.combine(ObjectIdentifier(builder))
      hasher.combine(id)
    }
  }

  private var memo: [Key: Known?] = [:]
  /// Values of the states that are read.
  var stored: [String: Tensor] = [:]

  /// The elements of a value; nil when they depend on the run.
  func known(_ value: Value) -> Known? {
    guard !value.isPoisoned else { return nil }
    var shape: [Int] = []
    for size in value.shape {
      guard let number = size.constant else { return nil }
      shape.append(number)
    }
    guard TensorType(value.dataType, sizes: shape).isCountable(Self.maximumCount) else {
      return nil
    }
    let key = Key(builder: value.builder, id: value.id)
    if let result = memo[key] { return result }
    let result = evaluate(value)?.simplified
    memo[key] = .some(result)
    return result
  }

  private func evaluate(_ value: Value) -> Known? {
    guard let node = value.builder.graph.definition(value.id) else {
      if let outer = value.builder.outside(value) { return known(outer) }
      let argument = value.builder.graph.argument(value.id)
      guard argument?.kind == .state, let tensor = stored[argument!.name] else { return nil }
      return .array(ReferenceArray(tensor))
    }
    let types = node.results.map { value.builder.graph.type($0) }
    if case .dimension(let d) = node.operation, d.dataType.isInteger {
      return .sizes(d.dataType, shape: [], [d.size])
    }
    guard node.operation.flow == nil, types.allSatisfy({ $0.isCountable(Self.maximumCount) }) else {
      return nil
    }
    var operands: [Known] = []
    for operand in node.operands {
      guard let known = known(value.builder.value(operand)) else { return nil }
      operands.append(known)
    }
    let arrays = operands.compactMap { if case .array(let a) = $0 { a } else { nil } }
    if arrays.count == operands.count {
      guard node.operation.sizes.allSatisfy({ $0.constant != nil }) else { return nil }
      let results = node.operation.definition.evaluate(arrays, types)
      let index = node.results.firstIndex(of: value.id)!
      return .array(results[index].rounded(to: types[index].dataType.computeType))
    }
    return SymbolicEvaluation(node.operation, operands, types[0])?.result
  }
}

extension TensorType {
  /// Whether every size is a number, and there are at most so many elements.
  func isCountable(_ limit: Int) -> Bool {
    var count = 1
    for size in shape {
      guard let number = size.constant, number <= limit else { return false }
      count *= max(number, 1)
      if count > limit { return false }
    }
    return true
  }
}

/// One operation on sizes that name dimensions.
private struct SymbolicEvaluation {
  var result: Known

  init?(_ operation: Operation, _ operands: [Known], _ type: TensorType) {
    let known: Known? =
      switch operation {
      case .reshape, .transpose, .broadcast, .slice, .concatenate, .reverse:
        Self.moved(operation, operands, type, data: operands.indices)
      case .gather: Self.moved(operation, operands, type, data: 0..<1)
      case .pad: Self.moved(operation, operands, type, data: operands.indices)
      case .convert(let convert): Self.converted(operands[0], convert.target)
      case .binary(let binary): Self.binary(binary.function, operands, type)
      case .unary(let unary): Self.unary(unary.function, operands[0], type)
      case .compare(let compare): Self.compare(compare.comparison, operands, type)
      case .select: Self.select(operands, type)
      case .reduce(let reduce): Self.reduce(reduce, operands[0], type)
      default: nil
      }
    guard let known else { return nil }
    result = known
  }

  /// An operation that only moves elements, done on their numbers.
  private static func moved(
    _ operation: Operation, _ operands: [Known], _ type: TensorType, data: Range<Int>
  ) -> Known? {
    guard operation.sizes.allSatisfy({ $0.constant != nil }) else { return nil }
    var pool: [Size] = []
    var tags: [ReferenceArray] = []
    for (index, operand) in operands.enumerated() {
      guard data.contains(index) else {
        guard case .array(let array) = operand else { return nil }
        tags.append(array)
        continue
      }
      guard let sizes = operand.sizes else { return nil }
      var array = ReferenceArray(.int64, operand.shape)
      array.integers = sizes.indices.map { Int64(pool.count + $0) }
      pool += sizes
      tags.append(array)
    }
    let moved = operation.definition.evaluate(tags, [TensorType(.int64, type.shape)])[0]
    return .sizes(type.dataType, shape: type.sizes, moved.integers.map { pool[Int($0)] })
  }

  private static func converted(_ operand: Known, _ target: DataType) -> Known? {
    guard case .sizes(_, let shape, let list) = operand, target.isInteger else { return nil }
    return .sizes(target, shape: shape, list)
  }

  private static func elements(_ operands: [Known]) -> [[Size]]? {
    let lists = operands.compactMap(\.sizes)
    return lists.count == operands.count ? lists : nil
  }

  private static func binary(_ f: BinaryFunction, _ operands: [Known], _ type: TensorType) -> Known?
  {
    guard let lists = elements(operands) else { return nil }
    var result: [Size] = []
    for (a, b) in zip(lists[0], lists[1]) {
      switch f {
      case .add: result.append(a + b)
      case .subtract: result.append(a - b)
      case .multiply: result.append(a * b)
      // Sizes are not negative, where division towards zero is that towards minus infinity.
      case .divide where b.isPositive && a.isNonNegative: result.append(a / b)
      case .remainder where b.isPositive && a.isNonNegative: result.append(a - a / b * b)
      case .maximum:
        guard let larger = larger(a, b) else { return nil }
        result.append(larger ? a : b)
      case .minimum:
        guard let larger = larger(a, b) else { return nil }
        result.append(larger ? b : a)
      default: return nil
      }
    }
    return .sizes(type.dataType, shape: type.sizes, result)
  }

  /// Whether a >= b, where that is so or not whatever the dimensions are.
  private static func larger(_ a: Size, _ b: Size) -> Bool? {
    if (a - b).isNonNegative { return true }
    return (b - a).isNonNegative ? false : nil
  }

  private static func unary(_ f: UnaryFunction, _ operand: Known, _ type: TensorType) -> Known? {
    guard let list = operand.sizes else { return nil }
    switch f {
    case .negate: return .sizes(type.dataType, shape: type.sizes, list.map { 0 - $0 })
    case .abs where list.allSatisfy(\.isNonNegative):
      return .sizes(type.dataType, shape: type.sizes, list)
    default: return nil
    }
  }

  private static func compare(_ c: Comparison, _ operands: [Known], _ type: TensorType) -> Known? {
    guard let lists = elements(operands) else { return nil }
    var array = ReferenceArray(.bool, type.sizes)
    for (i, (a, b)) in zip(lists[0], lists[1]).enumerated() {
      let difference = a - b
      let isPositive = (difference - 1).isNonNegative
      let isNegative = (0 - difference - 1).isNonNegative
      let decided: Bool? =
        switch c {
        case .equal: difference == 0 ? true : isPositive || isNegative ? false : nil
        case .not_equal: difference == 0 ? false : isPositive || isNegative ? true : nil
        case .greater: isPositive ? true : (0 - difference).isNonNegative ? false : nil
        case .greater_equal: difference.isNonNegative ? true : isNegative ? false : nil
        case .less: isNegative ? true : difference.isNonNegative ? false : nil
        case .less_equal: (0 - difference).isNonNegative ? true : isPositive ? false : nil
        }
      guard let decided else { return nil }
      array.integers[i] = decided ? 1 : 0
    }
    return .array(array)
  }

  private static func select(_ operands: [Known], _ type: TensorType) -> Known? {
    guard case .array(let predicate) = operands[0], let lists = elements(Array(operands[1...]))
    else {
      return nil
    }
    return .sizes(
      type.dataType, shape: type.sizes,
      predicate.integers.indices.map { predicate.integers[$0] != 0 ? lists[0][$0] : lists[1][$0] })
  }

  private static func reduce(_ reduce: Reduce, _ operand: Known, _ type: TensorType) -> Known? {
    guard let list = operand.sizes, type.rank == 0, !list.isEmpty else { return nil }
    switch reduce.combiner {
    case .sum: return .sizes(type.dataType, shape: [], [list.reduce(0) { $0 + $1 }])
    case .product: return .sizes(type.dataType, shape: [], [list.reduce(1) { $0 * $1 }])
    default: return nil
    }
  }
}

extension Size {
  /// Whether it is at least 0 for all sizes of the dimensions that it names: no term is subtracted.
  var isNonNegative: Bool { constant.map { $0 >= 0 } ?? terms.allSatisfy(\.isNonNegative) }
  /// Whether it is at least 1 for all sizes.
  var isPositive: Bool { constant.map { $0 > 0 } ?? (self - 1).isNonNegative }
}
