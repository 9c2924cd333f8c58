import DLCGraph
import DLCTensor

/// A place of a graph where elements of an input are positions among others: they must lie in
/// 0..<limit.
struct IndexUse {
  /// The places of an axis that are used.
  struct Part {
    var start: Size
    var limit: Size
    var stride: Int
  }

  var input: String
  /// The axes of the input that are not used whole.
  var parts: [Int: Part]
  /// The largest of these is the limit.
  var limits: [Size]
  /// The node, in words.
  var place: String
}

/// Finds what a graph uses as positions: indices of gathers and scatters (embeddings, cross-entropies),
/// starts of dynamic slices, and what is compared with 0, 1, 2 and so on (one-hot codes).
///
/// Positions are followed back to inputs through what keeps elements as they are: conversions,
/// reshapes, transposes, broadcasts, slices, concatenations, and into regions. What a graph moves into
/// its bounds itself (by a clamp or a select) is not found, nor what it computes.
struct IndexUses {
  private(set) var uses: [IndexUse] = []

  /// Where the elements of a value come from.
  private struct Origin {
    var input: String
    /// The input's axis that each axis of the value is; nil once they are mixed.
    var axes: [Int]?
    var parts: [Int: IndexUse.Part] = [:]
  }

  init(_ graph: Graph) {
    let arguments = graph.arguments.map { argument -> [Origin] in
      guard argument.kind == .input else { return [] }
      return [Origin(input: argument.name, axes: Array(argument.type.shape.indices))]
    }
    _ = walk(graph, arguments)
  }

  private mutating func walk(_ graph: Graph, _ arguments: [[Origin]]) -> [[Origin]] {
    var origins: [ValueID: [Origin]] = [:]
    /// How many numbers from 0 on lie along an axis of a value.
    var extents: [ValueID: Size] = [:]
    for (value, origin) in zip(graph.argumentValues, arguments) { origins[value] = origin }
    for node in graph.nodes {
      let given = node.operands.map { origins[$0] ?? [] }
      let types = node.operands.map { graph.type($0) }
      var results = [[Origin]](repeating: [], count: node.results.count)
      switch node.operation {
      case .iota(let iota):
        extents[node.results[0]] = iota.type.shape[iota.axis]
      case .convert, .unary(Unary(.stop_gradient)):
        results[0] = given[0]
        extents[node.results[0]] = extents[node.operands[0]]
      case .broadcast(let broadcast):
        results[0] = given[0].map {
          mixed($0, unless: broadcast.axes.count == broadcast.shape.count)
        }
        extents[node.results[0]] = extents[node.operands[0]]
      case .reshape:
        results[0] = given[0].map { mixed($0, unless: false) }
        extents[node.results[0]] = extents[node.operands[0]]
      case .pad, .reverse: results[0] = given[0].map { mixed($0, unless: false) }
      case .transpose(let transpose):
        results[0] = given[0].map { origin in
          var turned = origin
          turned.axes = origin.axes.map { axes in transpose.permutation.map { axes[$0] } }
          return turned
        }
        extents[node.results[0]] = extents[node.operands[0]]
      case .slice(let slice):
        results[0] = given[0].compactMap { sliced($0, slice, types[0]) }
      case .concatenate:
        results[0] = given.flatMap { $0 }.map { mixed($0, unless: false) }
      case .dynamicUpdate:
        results[0] = (given[0] + given[1]).map { mixed($0, unless: false) }
        for (axis, size) in types[1].shape.enumerated() {
          add(given[2 + axis], [types[0].shape[axis] - size + 1], node)
        }
      case .compare(let compare):
        guard compare.comparison == .equal || compare.comparison == .not_equal else { break }
        for (own, other) in [(0, 1), (1, 0)] {
          if let extent = extents[node.operands[other]] { add(given[own], [extent], node) }
        }
      case .gather(let gather):
        add(given[1], gather.axes, types[0], gather.sliceSizes, types[1], node)
      case .scatter(let scatter):
        let sizes = scatter.sliceSizes(types[0].rank, types[2].shape)
        add(given[1], scatter.axes, types[0], sizes, types[1], node)
      case .dynamicSlice(let slice):
        for (axis, size) in slice.sizes.enumerated() {
          add(given[1 + axis], [types[0].shape[axis] - size + 1], node)
        }
      case let operation where operation.flow != nil:
        results = operation.flow!.results(given, facts) { walk($0, $1) }
      default: break
      }
      for (value, origin) in zip(node.results, results) where !origin.isEmpty {
        origins[value] = origin
      }
    }
    return graph.results.map { origins[$0.value] ?? [] }
  }

  /// A carried value comes from anywhere.
  private var facts: FlowFacts<[Origin]> {
    FlowFacts(
      unknown: [], join: { $0 + $1 },
      slice: { list in
        list.map { origin in
          var slice = origin
          slice.axes = origin.axes.map { Array($0.dropFirst()) }
          return slice
        }
      }, stack: { list in list.map { mixed($0, unless: false) } })
  }

  private func mixed(_ origin: Origin, unless keeps: Bool) -> Origin {
    var copy = origin
    if !keeps { copy.axes = nil }
    return copy
  }

  private func sliced(_ origin: Origin, _ slice: Slice, _ type: TensorType) -> Origin? {
    var result = origin
    for axis in type.shape.indices {
      let isWhole =
        slice.starts[axis] == 0 && slice.limits[axis] == type.shape[axis]
        && slice.strides[axis] == 1
      if isWhole { continue }
      guard let source = origin.axes?[axis] else { return nil }
      let base = origin.parts[source]
      guard base?.stride ?? 1 == 1 else { return nil }
      let start = base?.start ?? 0
      result.parts[source] = IndexUse.Part(
        start: start + slice.starts[axis], limit: start + slice.limits[axis],
        stride: slice.strides[axis])
    }
    return result
  }

  private mutating func add(_ origins: [Origin], _ limits: [Size], _ node: Node) {
    let name = node.name.isEmpty ? "" : "'\(node.name)' "
    let place = node.location.isEmpty ? "" : " at \(node.location)"
    for origin in origins {
      uses.append(
        IndexUse(
          input: origin.input, parts: origin.parts, limits: limits,
          place: "\(name)\(node.operation.mnemonic)\(place)"))
    }
  }

  /// Index vectors: each component has a limit of its own where the components can be told apart.
  private mutating func add(
    _ origins: [Origin], _ axes: IndexAttributes, _ operand: TensorType, _ sizes: [Size],
    _ indices: TensorType, _ node: Node
  ) {
    let limits = axes.startAxes.map { operand.shape[$0] - sizes[$0] + 1 }
    for origin in origins {
      guard axes.vectorAxis < indices.rank, let source = origin.axes?[axes.vectorAxis],
        origin.parts[source] == nil
      else {
        add([origin], limits, node)
        continue
      }
      for (component, limit) in limits.enumerated() {
        var part = origin
        part.parts[source] = IndexUse.Part(
          start: Size(component), limit: Size(component + 1), stride: 1)
        add([part], [limit], node)
      }
    }
  }
}

extension Function {
  /// The named dimension that an input's elements are positions in; nil when there is none.
  package func alphabetDimension(of input: String) -> String? {
    IndexUses(graph).uses.filter { $0.input == input }.lazy.flatMap(\.limits).compactMap(\.name)
      .first
  }
}
