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

  init(_ graph: Graph, weight: @escaping (ValueID) -> ValueID?) {
    self.graph = graph
    self.weight = weight
  }

  /// The terms of some columns.
  mutating func terms(_ value: ValueID, _ columns: Range<Int>) -> [Term] {
    guard let id = graph.definitions[value.index] else { return [.value(value, columns)] }
    let node = graph[id]
    let last = graph.type(value).rank - 1
    switch node.operation {
    case .binary(let o) where o.function == .add:
      members.insert(id.index)
      return terms(node.operands[0], columns) + terms(node.operands[1], columns)
    case .slice(let o):
      guard let first = start(o, graph.type(node.operands[0]), axis: last) else { break }
      members.insert(id.index)
      return terms(
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
    guard let id = graph.definitions[value.index] else { return nil }
    let node = graph[id]
    var number: Double?
    switch node.operation {
    case .constant(let c) where c.value.dataType.isFloat:
      let first = c.value.count > 0 && c.value.count <= 4096 ? c.value.doubles[0] : nil
      if let first, c.value.count == 1 || c.value.doubles.allSatisfy({ $0 == first }) {
        number = first
      }
    case .broadcast, .reshape: number = splat(node.operands[0])
    default: break
    }
    if number != nil { members.insert(id.index) }
    return number
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
  private func block(_ value: ValueID, axis: Int, of rank: Int) -> WeightBlock? {
    let type = graph.type(value)
    guard type.rank == rank, let size = type.shape[axis].constant else { return nil }
    if let name = weight(value) {
      return WeightBlock(value: name, outputs: 0..<size, count: size, isTransposed: axis == 1)
    }
    guard let node = graph.definition(value), case .slice(let o) = node.operation,
      let first = start(o, graph.type(node.operands[0]), axis: axis),
      var whole = block(node.operands[0], axis: axis, of: rank)
    else { return nil }
    whole.outputs = Self.part(whole.outputs, first..<first + size)
    return whole
  }
}
