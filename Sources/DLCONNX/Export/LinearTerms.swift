import DLCGraph
import DLCTensor

/// Rows or columns of a matrix, or elements of a vector, by the outputs of a product.
struct WeightBlock: Hashable {
  var value: ValueID
  /// Of the outputs that the value has, in order.
  var outputs: Range<Int>
  /// How many outputs the value has.
  var count: Int
  /// Whether outputs are the second axis of a matrix.
  var isTransposed = false
}

/// What a value is the sum of, by columns of its last axis.
struct LinearTerms {
  enum Term {
    /// Columns of a value that is no sum.
    case value(ValueID, Range<Int>)
    /// Rows of numbers, multiplied with weights.
    case product(ValueID, WeightBlock)
    case bias(WeightBlock)
  }

  let graph: Graph
  /// What a value is called by whoever asks; nil for one that is not to be a weight.
  let weight: (ValueID) -> ValueID?
  /// The nodes that were looked through.
  private(set) var members: Set<Int> = []
  /// How many more nodes are looked through for one value: files may have sums of any depth, also of a value with itself.
  private var budget = 0
  private static let limit = 256

  init(_ graph: Graph, weight: @escaping (ValueID) -> ValueID?) {
    self.graph = graph
    self.weight = weight
  }

  /// The terms of some columns.
  mutating func terms(_ value: ValueID, _ columns: Range<Int>) -> [Term] {
    budget = Self.limit
    return expanded(value, columns)
  }

  private mutating func expanded(_ value: ValueID, _ columns: Range<Int>) -> [Term] {
    budget -= 1
    guard budget > 0, let id = graph.definitions[value.index] else {
      return [.value(value, columns)]
    }
    let node = graph[id]
    let last = graph.type(value).rank - 1
    switch node.operation {
    case .binary(let o) where o.function == .add:
      members.insert(id.index)
      return expanded(node.operands[0], columns) + expanded(node.operands[1], columns)
    case .slice(let o):
      guard let first = start(o, graph.type(node.operands[0]), axis: last) else { break }
      members.insert(id.index)
      return expanded(
        node.operands[0], first + columns.lowerBound..<first + columns.upperBound)
    case .dotGeneral(let o):
      guard o.geometry.lhsBatch.isEmpty, o.geometry.lhsContracting == [last],
        let axis = o.geometry.rhsContracting.first, o.geometry.rhsContracting.count == 1,
        o.sumType == nil || o.sumType == graph.type(value).dataType,
        var block = block(node.operands[1], axis: 1 - axis, of: 2)
      else { break }
      members.insert(id.index)
      block.outputs = Self.part(block.outputs, columns)
      return [.product(node.operands[0], block)]
    case .broadcast(let o):
      if splat(value) == 0 { return [] }
      guard o.axes == [last], var block = block(node.operands[0], axis: 0, of: 1),
        o.shape[last].constant == block.outputs.count
      else { break }
      members.insert(id.index)
      block.outputs = Self.part(block.outputs, columns)
      return [.bias(block)]
    default: break
    }
    return [.value(value, columns)]
  }

  /// The number that a value is everywhere; its nodes are members then.
  mutating func splat(_ value: ValueID) -> Double? {
    var (value, views) = (value, [Int]())
    while let id = graph.definitions[value.index] {
      let node = graph[id]
      views.append(id.index)
      switch node.operation {
      case .broadcast, .reshape: value = node.operands[0]
      case .constant(let c) where c.value.dataType.isFloat && 1...4096 ~= c.value.count:
        let first = c.value.doubles[0]
        guard c.value.count == 1 || c.value.doubles.allSatisfy({ $0 == first }) else { return nil }
        members.formUnion(views)
        return first
      default: return nil
      }
    }
    return nil
  }

  private static func part(_ whole: Range<Int>, _ columns: Range<Int>) -> Range<Int> {
    whole.lowerBound + columns.lowerBound..<whole.lowerBound + columns.upperBound
  }

  /// Where a slice that takes all of the other axes begins on one.
  private func start(_ o: Slice, _ type: TensorType, axis: Int) -> Int? {
    let others = type.shape.indices.filter { $0 != axis }
    guard o.strides.allSatisfy({ $0 == 1 }),
      others.allSatisfy({ o.starts[$0] == 0 && o.limits[$0] == type.shape[$0] })
    else { return nil }
    return o.starts[axis].constant
  }

  /// A value as weights whose outputs are along an axis.
  private mutating func block(_ value: ValueID, axis: Int, of rank: Int) -> WeightBlock? {
    budget -= 1
    let type = graph.type(value)
    guard type.rank == rank, let size = type.shape[axis].constant else { return nil }
    if let name = weight(value) {
      return WeightBlock(value: name, outputs: 0..<size, count: size, isTransposed: axis == 1)
    }
    guard budget > 0, let node = graph.definition(value), case .slice(let o) = node.operation,
      let first = start(o, graph.type(node.operands[0]), axis: axis),
      var whole = block(node.operands[0], axis: axis, of: rank)
    else { return nil }
    whole.outputs = Self.part(whole.outputs, first..<first + size)
    return whole
  }
}
