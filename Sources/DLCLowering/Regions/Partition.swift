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
    joinAttention()
    // Values that no node computes (arguments, constants, views) and second ports need copies.
    for value in ports.keys.sorted(by: { $0.index < $1.index }) {
      let computed = graph.definitions[value.index].flatMap { regionOf[$0] }
      for port in computed != nil ? Array(ports[value]!.dropFirst()) : ports[value]! {
        if let computed, storesTwice(computed) {
          regions[computed]!.outputs.append(Region.Destination(value: value, port: port))
          continue
        }
        regions.append(
          Region(
            .rows(domain: graph.sizes(value), axes: []), members: [],
            outputs: [Region.Destination(value: value, port: port)],
            reason: "a copy of what leaves the graph twice, or is not computed"))
      }
    }
    return ordered()
  }

  /// Whether a region can store a value at several places: what computes elements one by one.
  private func storesTwice(_ number: Int) -> Bool {
    let region = regions[number]!
    if region.frame != nil { return false }
    return switch region.kind {
    case .rows: true
    case .contraction, .convolution, .attention: region.members.count > 1
    default: false
    }
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
    case .scatter, .dynamicUpdate, .prefix, .routine:
      openAlone(id, .routine(id), because: "an algorithm of its own")
    case .control: openAlone(id, .control(id), because: "it runs graphs")
    case .map, .randomBits, .gather, .dynamicSlice: placeElements(id, home(of: value))
    case .reduction(_, let axes): placeReduction(id, axes)
    case .argReduction, .window, .argWindow: placeElements(id, home(of: value, onlyAsIs: true))
    case .contraction:
      placeProduct(id, isTiled: ContractionPlan(graph, node, target) != nil, .contraction(id))
    case .convolution:
      placeProduct(id, isTiled: ConvolutionPlan(graph, node, target) != nil, .convolution(id))
    case .assembly: open(id, .assembly(id), because: "boxes are copied into its result")
    }
  }

  private mutating func open(_ id: NodeID, _ kind: Region.Kind, because reason: String) {
    regions.append(Region(kind, members: [], outputs: [], reason: reason))
    join(id, regions.count - 1)
  }

  /// A region of one node that stores all of its results.
  private mutating func openAlone(_ id: NodeID, _ kind: Region.Kind, because reason: String) {
    let outputs = graph[id].results.map { Region.Destination(value: $0, port: ports[$0]?.first) }
    regionOf[id] = regions.count
    regions.append(Region(kind, members: [id], outputs: outputs, reason: reason))
  }

  /// Where a value can be computed: in the region of its users, or why not there.
  private enum Home {
    case region(Int, escapes: Bool)
    case none(because: String)
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

  private mutating func placeElements(_ id: NodeID, _ home: Home) {
    switch home {
    case .region(let region, _): join(id, region)
    case .none(let reason):
      open(id, .rows(domain: graph.sizes(graph[id].results[0]), axes: []), because: reason)
    }
  }

  /// The one region that all users are in, if it can compute the value inside.
  private func soleRegion(_ value: ValueID) -> Home {
    let (nodes, escapes) = consumers(value)
    guard let first = nodes.first, let region = regionOf[first] else {
      return .none(because: escapes ? "it leaves the graph" : "nothing uses it")
    }
    guard nodes.allSatisfy({ regionOf[$0] == region }) else {
      return .none(because: "several regions use it")
    }
    guard regions[region]!.members.count < Self.memberLimit else {
      return .none(because: "the region that uses it has \(Self.memberLimit) members")
    }
    // A tiled product reads its operands from memory, and so does what copies boxes of a box.
    for user in nodes {
      let name = graph[user].operation.mnemonic
      switch regions[region]!.kind {
      case .contraction(user), .convolution(user), .routine(user), .control(user):
        return .none(because: "\(name) reads it from memory")
      default: break
      }
      switch structures[user.index] {
      case .contraction(let g) where readsOnce(value, graph[user], g): break
      case .window, .argWindow, .contraction, .convolution:
        return .none(because: "\(name) reads each element several times")
      // What is sliced at positions that data give must be in memory; the positions need not be.
      case .gather, .dynamicSlice:
        if graph.base(graph[user].operands[0]) == value {
          return .none(because: "\(name) reads it at positions that data give")
        }
      default: break
      }
    }
    return .region(region, escapes: escapes)
  }

  /// Whether a product reads each element of what a map computes one time: it is the operand beside a single row, or a
  /// single column.
  private func readsOnce(_ value: ValueID, _ product: Node, _ g: ContractionGeometry) -> Bool {
    guard let node = graph.definition(value), case .map = graph.structure(node) else {
      return false
    }
    let sizes = product.operands.map { graph.sizes($0) }
    let isOperand = product.operands.map { graph.base($0) == value }
    let free = [g.lhsFree(sizes[0].count), g.rhsFree(sizes[1].count)]
    guard let side = isOperand.firstIndex(of: true), isOperand.count(where: { $0 }) == 1 else {
      return false
    }
    // Broadcasts in between repeat elements.
    return free[1 - side].allSatisfy { sizes[1 - side][$0] == 1 }
      && sizes[side].reduce(1, *) == graph.sizes(value).reduce(1, *)
  }

  private func home(of value: ValueID, onlyAsIs: Bool = false) -> Home {
    let home = soleRegion(value)
    guard case .region(let region, let escapes) = home else { return home }
    let info = regions[region]!
    let tracer = RequestTracer(graph, info)
    guard let wanted = tracer.requests[value], !wanted.isEmpty else {
      return .none(because: "the region that uses it does not ask for its elements")
    }
    let identity = Set([tracer.domainCoordinate])
    let sizes = graph.sizes(value)
    if escapes || onlyAsIs {
      // It is stored where the region computes it, so it must be computed for exactly its elements.
      if wanted == identity, sizes == tracer.domain { return .region(region, escapes: escapes) }
      if !onlyAsIs, case .rows(_, let axes) = info.kind, !axes.isEmpty,
        wanted == Set([tracer.rowCoordinate]),
        sizes == tracer.rowSizes
      {
        return .region(region, escapes: escapes)
      }
      return .none(
        because: escapes
          ? "it leaves the graph, and its user computes other elements"
          : "its user wants it elsewhere than at its own elements")
    }
    if wanted.count > 1 {
      // Each of its elements one time, or few of them again.
      let isCheap = cost(value) <= 2 && wanted.count <= 2
      return isCheap || areGates(of: value, tracer, wanted)
        ? .region(region, escapes: escapes)
        : .none(because: "it is wanted at \(wanted.count) places at a time")
    }
    // Computing it again for every element that it is broadcast to must not cost much.
    let evaluations = evaluations(wanted.first!, info, tracer.domain)
    if evaluations > 2 * max(graph.type(value).elementCount, 1), cost(value) > 4 {
      return .none(because: "it is too dear to compute \(evaluations) times")
    }
    return .region(region, escapes: escapes)
  }

  /// How often a region computes what it wants at a coordinate: in the innermost loop whose variable that has, so that
  /// those outside of it repeat it.
  private func evaluations(_ coordinate: [IndexExpression], _ region: Region, _ domain: [Int])
    -> Int
  {
    var loops = Array(domain.indices)
    if case .rows(_, let axes) = region.kind {
      loops = loops.filter { !axes.contains($0) } + axes.sorted()
    }
    let variables = Set(coordinate.flatMap(\.variables))
    let innermost = loops.lastIndex { loop in variables.contains { $0.id == loop } }
    let inner = variables.filter { !domain.indices.contains($0.id) }.reduce(1) { $0 * $1.extent }
    return inner * loops[...(innermost ?? -1)].reduce(1) { $0 * domain[$1] }
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
    if axes.isEmpty { return open(id, whole, because: "it reduces no axis") }
    let region: Int
    switch soleRegion(value) {
    case .none(let reason): return open(id, whole, because: reason)
    case .region(let found, _): region = found
    }
    guard case .rows(let domain, let present) = regions[region]!.kind else {
      return open(id, whole, because: "its user is no row or map")
    }
    let tracer = RequestTracer(graph, regions[region]!)
    guard let wanted = tracer.requests[value], wanted.count == 1 else {
      return open(id, whole, because: "it is wanted at several places at a time")
    }
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
    open(id, whole, because: "its user does not walk the rows that it reduces")
  }

  /// A product takes its users as an epilogue when they are a pure map over its result.
  private mutating func placeProduct(_ id: NodeID, isTiled: Bool, _ kind: Region.Kind) {
    let value = graph[id].results[0]
    let alone = isTiled ? kind : .rows(domain: graph.sizes(value), axes: [])
    let (region, escapes): (Int, Bool)
    switch soleRegion(value) {
    case .none(let reason): return open(id, alone, because: reason)
    case .region(let found, let out): (region, escapes) = (found, out)
    }
    if isTiled, !escapes, let frame = frame(region, around: value) {
      regions[region]!.kind = kind
      regions[region]!.frame = frame
      return join(id, region)
    }
    if isTiled, !escapes, let gates = gates(region, of: value, id) {
      regions[region]!.kind = kind
      regions[region]!.gates = gates
      return join(id, region)
    }
    let tracer = RequestTracer(graph, regions[region]!)
    guard case .rows(let domain, let axes) = regions[region]!.kind, axes.isEmpty,
      let place = tracer.coordinate(in: graph.sizes(value)),
      isTiled || domain == graph.sizes(value)
    else { return open(id, alone, because: "its users are no map over its elements") }
    guard tracer.requests[value] == Set([place]),
      regions[region]!.members.allSatisfy({ isMap($0) })
    else { return open(id, alone, because: "its users are not elementwise") }
    if isTiled { regions[region]!.kind = kind }
    join(id, region)
  }

  /// The pad that a region is, if all it computes is elementwise in a value that it asks for once.
  private func frame(_ number: Int, around value: ValueID) -> Region.Frame? {
    let region = regions[number]!
    guard case .assembly(let id) = region.kind, region.outputs.count == 1,
      let frame = Region.Frame(graph, id), graph.sizes(frame.inner) == graph.sizes(value),
      region.members.allSatisfy({ $0 == id || isMap($0) })
    else { return nil }
    var inside = region
    inside.kind = .rows(domain: graph.sizes(value), axes: [])
    inside.frame = frame
    let tracer = RequestTracer(graph, inside)
    return tracer.requests[value] == Set([tracer.domainCoordinate]) ? frame : nil
  }

  /// How many gates of a product a map takes, if it takes all of its users' elements from them.
  private func gates(_ number: Int, of value: ValueID, _ id: NodeID) -> Int? {
    let region = regions[number]!
    guard case .rows(let domain, let axes) = region.kind, axes.isEmpty,
      region.members.allSatisfy({ isMap($0) }),
      let plan = ContractionPlan(graph, graph[id], target), plan.columns.count == 1
    else { return nil }
    let tracer = RequestTracer(graph, region)
    guard let wanted = tracer.requests[value], areGates(of: value, tracer, wanted) else {
      return nil
    }
    return plan.columnCount / domain[domain.count - 1]
  }

  /// Whether places that are wanted at a time are those of an element in gates of a value.
  private func areGates(
    of value: ValueID, _ tracer: RequestTracer, _ wanted: Set<[IndexExpression]>
  ) -> Bool {
    let sizes = graph.sizes(value)
    guard let whole = sizes.last, let part = tracer.domain.last, part > 0, whole > part,
      whole % part == 0, sizes.dropLast() == tracer.domain.dropLast()
    else { return false }
    let gates = Set((0..<whole / part).map { tracer.coordinate(ofGate: $0) })
    return wanted.isSubset(of: gates)
  }

  /// Rows between two products of batches, such as a softmax of scores, become one region with both. Without batches
  /// right operands are the weights of layers: few rows would leave workers idle, and each block would go over all
  /// weights again.
  private mutating func joinAttention() {
    for number in regions.indices {
      guard let region = regions[number], case .contraction(let weighted) = region.kind,
        region.gates == 1, region.frame == nil, let found = attention(before: weighted)
      else { continue }
      regions[number]!.kind = .attention(found.attention)
      for part in [found.rows, found.scores] {
        for id in regions[part]!.members { regionOf[id] = number }
        regions[number]!.members.formUnion(regions[part]!.members)
        regions[part] = nil
      }
    }
    var places: [Int: Int] = [:]
    for number in regions.indices where regions[number] != nil { places[number] = places.count }
    regions.removeAll { $0 == nil }
    regionOf = regionOf.mapValues { places[$0]! }
  }

  /// The regions of rows that are a product's left operand and of the product that the rows are of.
  private func attention(before weighted: NodeID) -> (
    attention: Region.Attention, rows: Int, scores: Int
  )? {
    let value = graph.base(graph[weighted].operands[0])
    func isUsed(_ value: ValueID, by known: (NodeID) -> Bool) -> Bool {
      let (nodes, escapes) = consumers(value)
      return !escapes && nodes.allSatisfy(known)
    }
    guard let id = graph.definitions[value.index], let number = regionOf[id],
      let rows = regions[number], case .rows(let domain, let axes) = rows.kind,
      axes == [domain.count - 1], graph.sizes(value) == domain,
      rows.outputs == [Region.Destination(value: value, port: nil)],
      isUsed(value, by: { $0 == weighted }),
      let after = ContractionPlan(graph, graph[weighted], target), after.takesRows(value, graph)
    else { return nil }
    let tracer = RequestTracer(graph, rows)
    let place = linearize(tracer.domainCoordinate, domain)
    for source in tracer.loads {
      let sizes = graph.sizes(source)
      guard sizes.suffix(2) == domain.suffix(2),
        tracer.requests[source] == [delinearize(place, sizes)],
        let id = graph.definitions[source.index], let before = regionOf[id],
        let product = regions[before], case .contraction(let scores) = product.kind,
        product.gates == 1, product.frame == nil,
        product.outputs == [Region.Destination(value: source, port: nil)],
        isUsed(source, by: { regionOf[$0] == number }),
        let plan = ContractionPlan(graph, graph[scores], target), plan.gives(sizes, graph),
        !plan.batch.isEmpty, plan.batch == after.batch, plan.types == after.types,
        plan.types.isUniform
      else { continue }
      return (
        Region.Attention(
          scores: scores, weighted: weighted,
          between: rows.members.union(product.members.subtracting([scores]))), number, before
      )
    }
    return nil
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
