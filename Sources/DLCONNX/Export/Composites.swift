import DLCGraph
import DLCTensor

/// Operators of ONNX that stand for several operations of dlc, where a graph still has them together.
struct Composites {
  private let graph: Graph
  private let uses: [Int]
  private let producers: [ValueID: Int]
  /// Nodes that a composite stands for, and the composite by its last node.
  private var inside: Set<Int> = []
  private var found: [Int: Match] = [:]
  private var recurrences: [Int: RecurrentLayer] = [:]

  private struct Match {
    var type: String
    var operands: [ValueID]
    var attributes: [String: ONNXAttribute]
    /// The first version that has the operator.
    var since = 17
  }

  init(_ graph: Graph) {
    self.graph = graph
    uses = graph.useCounts
    var producers: [ValueID: Int] = [:]
    for (index, node) in graph.nodes.enumerated() {
      for result in node.results { producers[result] = index }
    }
    self.producers = producers
    for index in graph.nodes.indices {
      if let layer = RecurrentLayer(graph.nodes[index], graph) {
        recurrences[index] = layer
        inside.formUnion(unshared(layer, index).subtracting(inside))
        continue
      }
      var pattern = Pattern(graph, producers)
      guard
        let match = Self.kinds.lazy.compactMap({ kind -> Match? in
          pattern = Pattern(graph, producers)
          return kind(index, &pattern)
        }).first
      else { continue }
      let members = pattern.members.subtracting([index])
      guard members.isDisjoint(with: inside), isClosed(members, index) else { continue }
      inside.formUnion(members)
      found[index] = match
    }
  }

  private static let kinds: [@Sendable (Int, inout Pattern) -> Match?] = [
    softmax, logSoftmax, gelu, layerNorm, batchNorm, centredBatchNorm,
  ]

  func isInside(_ index: Int) -> Bool { inside.contains(index) }

  /// Whether what the members give is used by them and the last node alone.
  private func isClosed(_ members: Set<Int>, _ last: Int) -> Bool {
    closed(members, last).count == members.count
  }

  /// The members whose results are used by members and the last node alone.
  private func closed(_ members: Set<Int>, _ last: Int) -> Set<Int> {
    var counts: [ValueID: Int] = [:]
    for index in members.union([last]) {
      for operand in graph.nodes[index].operands { counts[operand, default: 0] += 1 }
    }
    return members.filter { index in
      graph.nodes[index].results.allSatisfy { uses[$0.index] == counts[$0, default: 0] }
    }
  }

  /// The nodes of a layer that nothing else uses; what is shared stays beside it.
  private func unshared(_ layer: RecurrentLayer, _ last: Int) -> Set<Int> {
    var members = layer.members.subtracting(layer.operands.compactMap { producers[$0] })
    while true {
      let kept = closed(members, last)
      if kept.count == members.count { return members }
      members = kept
    }
  }

  /// Adds the composite that ends in a node; gives the names of the node's results.
  func add(_ index: Int, _ exporter: GraphExporter, _ names: [ValueID: String])
    throws(DLCError) -> [String]?
  {
    if let layer = recurrences[index] { return try layer.add(graph.nodes[index], exporter, names) }
    guard let match = found[index] else { return nil }
    return [exporter.emit(match.type, match.operands.map { names[$0]! }, match.attributes)]
  }

  /// What a composite is matched with; collects its nodes.
  private struct Pattern {
    let graph: Graph
    let producers: [ValueID: Int]
    var members: Set<Int> = []

    init(_ graph: Graph, _ producers: [ValueID: Int]) {
      self.graph = graph
      self.producers = producers
    }

    private mutating func node(_ value: ValueID) -> Node? {
      guard let index = producers[value] else { return nil }
      members.insert(index)
      return graph.nodes[index]
    }

    mutating func binary(_ f: BinaryFunction, _ value: ValueID) -> (ValueID, ValueID)? {
      guard let node = node(value), case .binary(let b) = node.operation, b.function == f else {
        return nil
      }
      return (node.operands[0], node.operands[1])
    }

    mutating func unary(_ f: UnaryFunction, _ value: ValueID) -> ValueID? {
      guard let node = node(value), case .unary(let u) = node.operation, u.function == f else {
        return nil
      }
      return node.operands[0]
    }

    mutating func reduced(_ c: Combiner, _ value: ValueID) -> (operand: ValueID, axis: Int)? {
      guard let node = node(value), case .reduce(let r) = node.operation, r.combiner == c,
        r.axes.count == 1
      else { return nil }
      return (node.operands[0], r.axes[0])
    }

    /// The operand of a broadcast that puts an axis back.
    mutating func restored(_ value: ValueID, axis: Int) -> ValueID? {
      guard let node = node(value), case .broadcast(let b) = node.operation,
        b.axes == b.shape.indices.filter({ $0 != axis })
      else { return nil }
      return node.operands[0]
    }

    /// Whether a value is the maximum of another along an axis, put back; that no derivative goes through it does not matter.
    mutating func isMaximum(_ value: ValueID, of x: ValueID, axis: Int) -> Bool {
      guard let peak = restored(value, axis: axis),
        let (operand, at) = reduced(.maximum, unary(.stop_gradient, peak) ?? peak)
      else { return false }
      return operand == x && at == axis
    }

    /// The first axis that a broadcast puts in.
    func missingAxis(_ value: ValueID) -> Int? {
      guard let index = producers[value], case .broadcast(let b) = graph.nodes[index].operation
      else { return nil }
      return b.shape.indices.first { !b.axes.contains($0) }
    }

    /// The operand of a broadcast along the axis of channels.
    mutating func channel(_ value: ValueID) -> ValueID? {
      guard let node = node(value), case .broadcast(let b) = node.operation, b.axes == [1] else {
        return nil
      }
      return node.operands[0]
    }

    /// A number that a value is everywhere.
    mutating func splat(_ value: ValueID) -> Double? {
      guard let node = node(value) else { return nil }
      switch node.operation {
      case .constant(let c) where c.value.count == 1 && c.value.dataType.isFloat:
        return c.value.doubles[0]
      case .broadcast, .reshape: return splat(node.operands[0])
      default: return nil
      }
    }

    /// The operand of a broadcast along leading axes; a value that is no broadcast itself.
    mutating func vector(_ value: ValueID) -> ValueID {
      if let index = producers[value], case .broadcast(let b) = graph.nodes[index].operation,
        b.axes == Array(b.shape.count - b.axes.count..<b.shape.count)
      {
        members.insert(index)
        return graph.nodes[index].operands[0]
      }
      return value
    }
  }

  private static func softmax(_ index: Int, _ p: inout Pattern) -> Match? {
    guard let last = p.graph.nodes[index].results.first, let (e, total) = p.binary(.divide, last),
      let difference = p.unary(.exponential, e), let (x, shift) = p.binary(.subtract, difference)
    else { return nil }
    guard let axis = p.missingAxis(total), let sum = p.restored(total, axis: axis),
      let (summed, at) = p.reduced(.sum, sum), at == axis,
      summed == e, p.isMaximum(shift, of: x, axis: axis)
    else { return nil }
    return Match(type: "Softmax", operands: [x], attributes: ["axis": .integer(axis)])
  }

  private static func logSoftmax(_ index: Int, _ p: inout Pattern) -> Match? {
    guard let last = p.graph.nodes[index].results.first,
      let (centred, total) = p.binary(.subtract, last),
      let (x, shift) = p.binary(.subtract, centred), let axis = p.missingAxis(total),
      let logarithm = p.restored(total, axis: axis), let sum = p.unary(.log, logarithm),
      let (e, at) = p.reduced(.sum, sum), at == axis, p.unary(.exponential, e) == centred,
      p.isMaximum(shift, of: x, axis: axis)
    else { return nil }
    return Match(type: "LogSoftmax", operands: [x], attributes: ["axis": .integer(axis)])
  }

  /// x scale + (beta - mean scale), with scale = gamma / sqrt(variance + epsilon) of each channel.
  private static func batchNorm(_ index: Int, _ p: inout Pattern) -> Match? {
    guard let last = p.graph.nodes[index].results.first,
      let (scaled, offset) = p.binary(.add, last), let (x, factor) = p.binary(.multiply, scaled),
      let scale = p.channel(factor), let shift = p.channel(offset),
      let (beta, part) = p.binary(.subtract, shift),
      let (mean, other) = p.binary(.multiply, part), other == scale
    else { return nil }
    return batchNorm(x, scale, beta, mean, &p)
  }

  /// (x - mean) scale + beta
  private static func centredBatchNorm(_ index: Int, _ p: inout Pattern) -> Match? {
    guard let last = p.graph.nodes[index].results.first,
      let (scaled, offset) = p.binary(.add, last),
      let (centred, factor) = p.binary(.multiply, scaled),
      let (x, shift) = p.binary(.subtract, centred), let scale = p.channel(factor),
      let beta = p.channel(offset), let mean = p.channel(shift)
    else { return nil }
    return batchNorm(x, scale, beta, mean, &p)
  }

  private static func batchNorm(
    _ x: ValueID, _ scale: ValueID, _ beta: ValueID, _ mean: ValueID, _ p: inout Pattern
  ) -> Match? {
    guard let (a, b) = p.binary(.multiply, scale) else { return nil }
    for (root, gamma) in [(a, b), (b, a)] {
      var attempt = p
      if let stable = attempt.unary(.rsqrt, root),
        let (variance, e) = attempt.binary(.add, stable), let epsilon = attempt.splat(e)
      {
        p = attempt
        return Match(
          type: "BatchNormalization", operands: [x, gamma, beta, mean, variance],
          attributes: ["epsilon": .float(epsilon)])
      }
    }
    return nil
  }

  private static func gelu(_ index: Int, _ p: inout Pattern) -> Match? {
    guard let last = p.graph.nodes[index].results.first,
      let (half, tail) = p.binary(.multiply, last),
      let (x, factor) = p.binary(.multiply, half), p.splat(factor) == 0.5,
      let scaled = p.unary(.erfc, tail), let (y, root) = p.binary(.multiply, scaled), y == x,
      let r = p.splat(root), abs(r + 0.5.squareRoot()) < 1e-6
    else { return nil }
    return Match(type: "Gelu", operands: [x], attributes: [:], since: 20)
  }

  private static func layerNorm(_ index: Int, _ p: inout Pattern) -> Match? {
    guard let last = p.graph.nodes[index].results.first, let (scaled, beta) = p.binary(.add, last),
      let (normal, gamma) = p.binary(.multiply, scaled),
      let (centred, spread) = p.binary(.multiply, normal),
      let (x, shift) = p.binary(.subtract, centred)
    else { return nil }
    let axis = p.graph.type(x).rank - 1
    guard axis >= 0, let inverse = p.restored(spread, axis: axis),
      let stable = p.unary(.rsqrt, inverse),
      let (variance, e) = p.binary(.add, stable), let epsilon = p.splat(e),
      let squares = mean(variance, axis, &p), let (a, b) = p.binary(.multiply, squares),
      a == centred,
      b == centred, let average = p.restored(shift, axis: axis), mean(average, axis, &p) == x
    else { return nil }
    let (g, o) = (p.vector(gamma), p.vector(beta))
    guard p.graph.type(g).rank == 1, p.graph.type(o).rank == 1 else { return nil }
    return Match(
      type: "LayerNormalization", operands: [x, g, o],
      attributes: ["axis": .integer(-1), "epsilon": .float(epsilon)])
  }

  /// The operand of a mean over the last axis.
  private static func mean(_ value: ValueID, _ axis: Int, _ p: inout Pattern) -> ValueID? {
    guard let (sum, count) = p.binary(.divide, value), let (operand, at) = p.reduced(.sum, sum),
      at == axis
    else { return nil }
    var source = count
    if let index = p.producers[source], case .broadcast = p.graph.nodes[index].operation {
      p.members.insert(index)
      source = p.graph.nodes[index].operands[0]
    }
    guard let index = p.producers[source], case .dimension(let d) = p.graph.nodes[index].operation,
      d.size == p.graph.type(operand).shape[axis]
    else { return nil }
    p.members.insert(index)
    return operand
  }
}
