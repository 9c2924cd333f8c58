package import DLCGraph
package import DLCKernel
package import DLCTensor

/// Splits a bound graph into regions, each of which becomes one kernel.
///
/// Nodes are visited from the last to the first; a node joins the region of its users when all of
/// them are in one region and that region can compute it where it needs it. Since every user is then
/// inside, joining never makes a cycle. Views, iotas and scalar constants belong to no region: they
/// are read through.
package struct Partition {
  private let graph: Graph
  private let target: Target
  private var regions: [Region?] = []
  private var regionOf: [NodeID: Int] = [:]
  private var users: [[NodeID]]
  private var ports: [ValueID: [GraphPort]] = [:]
  /// Of each node; what has many operands has a long one.
  private let structures: [IterationStructure]

  private static let memberLimit = 96

  private init(_ graph: Graph, _ target: Target) {
    self.graph = graph
    self.target = target
    structures = graph.nodes.map { graph.structure($0) }
    users = [[NodeID]](repeating: [], count: graph.types.count)
    for id in graph.nodeIDs {
      for operand in graph[id].operands { users[operand.index].append(id) }
    }
    for (index, result) in graph.results.enumerated() {
      ports[result.value, default: []].append(.result(index))
    }
    for (index, update) in graph.updates.enumerated() {
      ports[update.value, default: []].append(.update(index))
    }
  }

  package static func run(_ graph: Graph, _ target: Target) -> [Region] {
    var partition = Partition(graph, target)
    return partition.run()
  }

  private mutating func run() -> [Region] {
    for id in graph.nodeIDs.reversed() { place(id) }
    // Values that no node computes (arguments, constants, views) and second ports need copies.
    for value in ports.keys.sorted(by: { $0.index < $1.index }) {
      let computed = graph.definitions[value.index].flatMap { regionOf[$0] } != nil
      for port in computed ? Array(ports[value]!.dropFirst()) : ports[value]! {
        regions.append(
          Region(
            .rows(domain: graph.sizes(value), axes: []), members: [],
            outputs: [Region.Destination(value: value, port: port)]))
      }
    }
    return ordered()
  }

  // MARK: Where a node goes

  /// The nodes that need a value's elements, looking through views.
  private func consumers(_ value: ValueID) -> (nodes: [NodeID], escapes: Bool) {
    var (nodes, escapes) = ([NodeID](), false)
    var pending = [value]
    while let next = pending.popLast() {
      escapes = escapes || ports[next] != nil
      for user in users[next.index] {
        if case .view = structures[user.index] {
          pending.append(graph[user].results[0])
        } else {
          nodes.append(user)
        }
      }
    }
    return (nodes, escapes)
  }

  private mutating func place(_ id: NodeID) {
    let node = graph[id]
    guard let value = node.results.first else { return }
    switch structures[id.index] {
    case .view, .constant, .iota: return
    case .scatter, .dynamicUpdate, .prefix, .routine: openAlone(id, .routine(id))
    case .control: openAlone(id, .control(id))
    case .map, .randomBits, .gather, .dynamicSlice:
      if let region = home(of: value) {
        join(id, region)
      } else {
        open(id, .rows(domain: graph.sizes(value), axes: []))
      }
    case .reduction(_, let axes): placeReduction(id, axes)
    case .argReduction, .window, .argWindow:
      if let region = home(of: value, onlyAsIs: true) {
        join(id, region)
      } else {
        open(id, .rows(domain: graph.sizes(value), axes: []))
      }
    case .contraction:
      placeProduct(id, isTiled: ContractionPlan(graph, node, target) != nil, .contraction(id))
    case .convolution:
      placeProduct(id, isTiled: ConvolutionPlan(graph, node, target) != nil, .convolution(id))
    case .assembly: open(id, .assembly(id))
    }
  }

  private mutating func open(_ id: NodeID, _ kind: Region.Kind) {
    regions.append(Region(kind, members: [], outputs: []))
    join(id, regions.count - 1)
  }

  /// A region of one node that stores all of its results.
  private mutating func openAlone(_ id: NodeID, _ kind: Region.Kind) {
    let outputs = graph[id].results.map { Region.Destination(value: $0, port: ports[$0]?.first) }
    regionOf[id] = regions.count
    regions.append(Region(kind, members: [id], outputs: outputs))
  }

  private mutating func join(_ id: NodeID, _ region: Int) {
    regions[region]!.members.insert(id)
    regionOf[id] = region
    let value = graph[id].results[0]
    let (nodes, escapes) = consumers(value)
    if escapes || nodes.isEmpty || nodes.contains(where: { regionOf[$0] != region }) {
      regions[region]!.outputs.append(Region.Destination(value: value, port: ports[value]?.first))
    }
  }

  /// The one region that all users are in, if it can compute the value inside.
  private func soleRegion(_ value: ValueID) -> (region: Int, escapes: Bool)? {
    let (nodes, escapes) = consumers(value)
    guard let first = nodes.first, let region = regionOf[first],
      nodes.allSatisfy({ regionOf[$0] == region }),
      regions[region]!.members.count < Self.memberLimit
    else { return nil }
    // A tiled product reads its operands from memory, and so does what copies boxes of a box.
    for user in nodes {
      switch regions[region]!.kind {
      case .contraction(user), .convolution(user), .routine(user), .control(user): return nil
      default: break
      }
      switch structures[user.index] {
      case .window, .argWindow, .contraction, .convolution: return nil
      // What is sliced at positions that data give must be in memory; the positions need not be.
      case .gather, .dynamicSlice:
        if graph.base(graph[user].operands[0]) == value { return nil }
      default: break
      }
    }
    return (region, escapes)
  }

  private func home(of value: ValueID, onlyAsIs: Bool = false) -> Int? {
    guard let (region, escapes) = soleRegion(value) else { return nil }
    let info = regions[region]!
    let tracer = RequestTracer(graph, info)
    guard let wanted = tracer.requests[value], !wanted.isEmpty else { return nil }
    let identity = Set([tracer.domainCoordinate])
    let sizes = graph.sizes(value)
    if escapes || onlyAsIs {
      // It is stored where the region computes it, so it must be computed for exactly its elements.
      if wanted == identity, sizes == tracer.domain { return region }
      if !onlyAsIs, case .rows(_, let axes) = info.kind, !axes.isEmpty,
        wanted == Set([tracer.rowCoordinate]),
        sizes == tracer.rowSizes
      {
        return region
      }
      return nil
    }
    if wanted.count > 1 { return cost(value) <= 2 && wanted.count <= 2 ? region : nil }
    // Computing it again for every element that it is broadcast to must not cost much.
    let coordinate = wanted.first!
    let evaluations = Set(coordinate.flatMap(\.variables)).reduce(1) { $0 * $1.extent }
    if evaluations > 2 * max(graph.type(value).elementCount, 1), cost(value) > 4 { return nil }
    return region
  }

  private func cost(_ value: ValueID) -> Int {
    guard let node = graph.definition(value), case .map(let operation) = graph.structure(node)
    else { return 20 }
    return InstructionCost.of(operation)
  }

  private mutating func placeReduction(_ id: NodeID, _ axes: [Int]) {
    let node = graph[id]
    let value = node.results[0]
    let axes = axes.sorted()
    let operand = graph.sizes(node.operands[0])
    let whole = Region.Kind.rows(domain: operand, axes: axes)
    guard !axes.isEmpty, let (region, _) = soleRegion(value),
      case .rows(let domain, let present) = regions[region]!.kind
    else { return open(id, whole) }
    let tracer = RequestTracer(graph, regions[region]!)
    guard let wanted = tracer.requests[value], wanted.count == 1 else { return open(id, whole) }
    let coordinate = wanted.first!
    let kept = operand.indices.filter { !axes.contains($0) }
    if domain == operand, present.isEmpty || present == axes,
      coordinate == kept.map({ tracer.domainCoordinate[$0] })
    {
      regions[region]!.kind = whole
      return join(id, region)
    }
    if present.isEmpty, domain == graph.sizes(value), coordinate == tracer.domainCoordinate {
      regions[region]!.kind = whole
      return join(id, region)
    }
    open(id, whole)
  }

  /// A product takes its users as an epilogue when they are a pure map over its result.
  private mutating func placeProduct(_ id: NodeID, isTiled: Bool, _ kind: Region.Kind) {
    let value = graph[id].results[0]
    let alone = isTiled ? kind : .rows(domain: graph.sizes(value), axes: [])
    guard let (region, _) = soleRegion(value),
      case .rows(let domain, let axes) = regions[region]!.kind,
      axes.isEmpty, domain == graph.sizes(value)
    else { return open(id, alone) }
    let tracer = RequestTracer(graph, regions[region]!)
    guard tracer.requests[value] == Set([tracer.domainCoordinate]),
      regions[region]!.members.allSatisfy({ isMap($0) })
    else { return open(id, alone) }
    if isTiled { regions[region]!.kind = kind }
    join(id, region)
  }

  private func isMap(_ id: NodeID) -> Bool {
    switch structures[id.index] {
    case .map, .randomBits: true
    default: false
    }
  }

  // MARK: Order

  /// Regions in an order in which each comes after those it reads from.
  private func ordered() -> [Region] {
    var producer: [ValueID: Int] = [:]
    for (index, region) in regions.enumerated() {
      for output in region!.outputs
      where output.port == nil
        || region!.members.contains(graph.definitions[output.value.index] ?? NodeID(-1))
      {
        producer[output.value] = index
      }
    }
    var (begun, result) = (Set<Int>(), [Region]())
    func visit(_ index: Int) {
      // Regions that are begun, each with the ones that it still waits for.
      var open: [(region: Int, sources: [Int])] = []
      func begin(_ index: Int) {
        guard begun.insert(index).inserted else { return }
        let loads = RequestTracer(graph, regions[index]!).loads
        open.append((index, loads.compactMap { producer[$0] }.reversed()))
      }
      begin(index)
      while let last = open.indices.last {
        if let source = open[last].sources.popLast() {
          begin(source)
        } else {
          result.append(regions[open[last].region]!)
          open.removeLast()
        }
      }
    }
    // Early nodes first, so that the order follows the graph where it is free.
    let first = regions.map { $0!.members.map(\.index).min() ?? Int.max }
    regions.indices.sorted { (first[$0], $0) < (first[$1], $1) }.forEach(visit)
    return result
  }
}

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
    switch region.kind {
    case .rows(let domain, _): self.domain = domain
    case .contraction(let id), .convolution(let id), .assembly(let id), .routine(let id),
      .control(let id):
      domain = graph.sizes(graph[id].results[0])
    }
    domainCoordinate = domain.enumerated().map {
      IndexExpression(LoopVariable(id: $0.offset, extent: $0.element))
    }
    nextVariable = domain.count
    if case .rows(_, let axes) = region.kind {
      let kept = domain.indices.filter { !axes.contains($0) }
      rowCoordinate = kept.map { domainCoordinate[$0] }
      rowSizes = kept.map { domain[$0] }
    }
    for output in region.outputs {
      let sizes = graph.sizes(output.value)
      let coordinate = sizes == domain ? domainCoordinate : rowCoordinate
      trace(output.value, coordinate)
    }
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
