package import DLCGraph
package import DLCKernel
import DLCTensor

/// Which values a region needs, and at which coordinates, in terms of its own loop variables.
package struct RequestTracer {
  private let graph: Graph
  private let region: Region
  package let domain: [Int]
  package let domainCoordinate: [IndexExpression]
  package private(set) var rowCoordinate: [IndexExpression] = []
  package private(set) var rowSizes: [Int] = []
  /// Coordinates at which values from outside are needed.
  package private(set) var requests: [ValueID: Set<[IndexExpression]>] = [:]
  private var visited: Set<Request> = []
  private var nextVariable: Int

  private struct Request: Hashable {
    var value: ValueID
    var coordinate: [IndexExpression]
  }

  package init(_ graph: Graph, _ region: Region) {
    self.graph = graph
    self.region = region
    domain = region.domain(graph)
    domainCoordinate = domain.enumerated().map {
      IndexExpression(LoopVariable(id: $0.offset, extent: $0.element))
    }
    nextVariable = domain.count
    var reduces = false
    if case .rows(_, let axes) = region.kind {
      reduces = !axes.isEmpty
      let kept = domain.indices.filter { !axes.contains($0) }
      rowCoordinate = kept.map { domainCoordinate[$0] }
      rowSizes = kept.map { domain[$0] }
    }
    if let frame = region.frame {
      trace(frame.inner, domainCoordinate)
      trace(frame.fill, [])
      return
    }
    for output in region.outputs {
      let sizes = graph.sizes(output.value)
      let place = reduces && sizes != domain ? nil : coordinate(in: sizes)
      trace(output.value, place ?? rowCoordinate)
    }
  }

  /// The coordinate of an element of the domain in a value of so many elements; nil where that has others.
  package func coordinate(in sizes: [Int]) -> [IndexExpression]? {
    if sizes == domain { return domainCoordinate }
    guard sizes.reduce(1, *) == domain.reduce(1, *) else { return nil }
    return delinearize(linearize(domainCoordinate, domain), sizes)
  }

  /// The coordinate of an element of the domain in a gate of a value that has several.
  package func coordinate(ofGate gate: Int) -> [IndexExpression] {
    var result = domainCoordinate
    result[result.count - 1] = result[result.count - 1] + gate * domain[domain.count - 1]
    return result
  }

  /// The values that the region loads from memory.
  package var loads: [ValueID] {
    requests.keys.filter { value in
      guard let node = graph.definition(value) else { return true }
      switch graph.structure(node) {
      case .iota: return false
      case .constant(let tensor): return tensor.count != 1
      default: return true
      }
    }.sorted { $0.index < $1.index }
  }

  private mutating func variable(_ extent: Int) -> IndexExpression {
    nextVariable += 1
    return IndexExpression(LoopVariable(id: nextVariable, extent: extent))
  }

  private mutating func trace(_ wanted: ValueID, _ at: [IndexExpression]) {
    let (value, coordinate) = graph.resolve(wanted, at)
    guard visited.insert(Request(value: value, coordinate: coordinate)).inserted else { return }
    guard let id = graph.definitions[value.index], region.members.contains(id) else {
      requests[value, default: []].insert(coordinate)
      return
    }
    let node = graph[id]
    switch graph.structure(node) {
    case .map: for operand in node.operands { trace(operand, coordinate) }
    case .randomBits: for operand in node.operands { trace(operand, []) }
    case .reduction(_, let axes):
      // The reduced axes run over the region's own variables where it has them.
      var position = coordinate.makeIterator()
      let sizes = graph.sizes(node.operands[0])
      let shared = sizes == domain
      let inner = sizes.indices.map { axis -> IndexExpression in
        if !axes.contains(axis) { return position.next()! }
        return shared ? domainCoordinate[axis] : variable(sizes[axis])
      }
      trace(node.operands[0], inner)
    case .argReduction(_, let axis):
      var inner = coordinate
      inner.insert(variable(graph.sizes(node.operands[0])[axis]), at: axis)
      trace(node.operands[0], inner)
    case .gather(let g):
      trace(node.operands[0], graph.sizes(node.operands[0]).map { variable($0) })
      for component in g.axes.startAxes.indices {
        trace(
          node.operands[1], g.axes.indexPlace(coordinate, component, graph.sizes(node.operands[1])))
      }
    case .dynamicSlice:
      trace(node.operands[0], graph.sizes(node.operands[0]).map { variable($0) })
      for start in node.operands.dropFirst() { trace(start, []) }
    case .window, .argWindow, .contraction, .convolution, .assembly, .scatter, .dynamicUpdate,
      .prefix, .routine, .control:
      for operand in node.operands {
        let sizes = graph.sizes(operand)
        let inner = sizes.map { variable($0) }
        trace(operand, inner)
      }
    case .view, .constant, .iota: break
    }
  }
}
