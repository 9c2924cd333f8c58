import DLCGraph
import DLCTensor

/// The pullback of a scan: a scan in the other direction over the cotangents.
///
/// What the backward body needs of the forward one is saved as stacked outputs of a forward scan with
/// more results (`merge-scans` unites it with the original) when it was expensive, and computed again
/// when it was not. Sums over the iterations that a product or a reduction can absorb (the gradients of
/// weights and biases) are taken outside, by one product over all iterations.
struct ScanPullback {
  private let scan: Scan
  private let p: Pullback
  private let g: FunctionBuilder
  private let active: [Bool]
  /// The mistakes that were there before.
  private let before: Int
  private var body: Graph { scan.body }
  private var inputs: Range<Int> { scan.carried..<scan.carried + scan.stacked }

  init(_ scan: Scan, _ p: Pullback, _ active: [Bool]) {
    self.scan = scan
    self.p = p
    g = p.g
    self.active = active
    before = p.g.failureCount
  }

  func run() throws(DLCError) -> [Value?] {
    let activeArguments = propagate()
    var seeds = p.cotangents.indices.filter { p.cotangents[$0] != nil }
    // Carried values whose cotangents come up in an iteration have them in all.
    var (builder, parts) = try combine(seeds, activeArguments)
    while true {
      let more = (0..<scan.carried).filter { parts[$0] != nil && !seeds.contains($0) }
      if more.isEmpty { break }
      seeds = (seeds + more).sorted()
      (builder, parts) = try combine(seeds, activeArguments)
    }
    return try assemble(builder, parts, seeds)
  }

  /// Arguments of the body that depend on an active operand.
  private func propagate() -> [Bool] {
    var flags = active
    while true {
      var reached = Set(body.argumentValues.filter { flags[$0.index] })
      for node in body.nodes where node.operands.contains(where: { reached.contains($0) }) {
        for result in node.results where body.type(result).dataType.isFloat {
          reached.insert(result)
        }
      }
      let next = flags.indices.map { index in
        flags[index] || index < scan.carried && reached.contains(body.results[index].value)
      }
      if next == flags { break }
      flags = next
    }
    return flags.indices.map { flags[$0] && body.arguments[$0].type.dataType.isFloat }
  }

  /// The body with its pullback behind it, and the cotangents of its arguments.
  private func combine(_ seeds: [Int], _ targets: [Bool]) throws(DLCError) -> (
    FunctionBuilder, [Value?]
  ) {
    var start = body
    start.results = []
    let b = FunctionBuilder(extending: start)
    let outputs = seeds.map { seed in
      let value = b.value(body.results[seed].value)
      return (
        value: value, cotangent: b.input("d\(b.graph.arguments.count)", value.dataType, value.shape)
      )
    }
    let chosen = targets.indices.filter { targets[$0] }
    let pulled = try ReverseMode.pullback(
      b, outputs: outputs, targets: chosen.map { b.value(body.argumentValues[$0]) })
    var parts = [Value?](repeating: nil, count: targets.count)
    for (index, part) in zip(chosen, pulled) { parts[index] = part }
    return (b, parts)
  }

  /// How the sum over all iterations of a captured value's cotangent is taken.
  private indirect enum Total {
    /// In the loop.
    case accumulated(ValueID)
    /// A product of stacks.
    case product(DotGeneral, ValueID, ValueID)
    case sum(ValueID, axes: [Int])
    case mapped(Operation, Total)
    case added(Total, Total)
  }

  private func total(_ graph: Graph, _ value: ValueID) -> Total {
    guard let node = graph.definition(value), node.results[0].index >= body.types.count else {
      return .accumulated(value)
    }
    switch node.operation {
    case .dotGeneral(let dot): return .product(dot, node.operands[0], node.operands[1])
    case .reduce(let reduce) where reduce.combiner == .sum:
      return .sum(node.operands[0], axes: reduce.axes)
    case .transpose, .reshape, .unary(Unary(.negate)):
      let inner = total(graph, node.operands[0])
      if case .accumulated = inner { return .accumulated(value) }
      return .mapped(node.operation, inner)
    case .binary(let binary) where binary.function == .add:
      return .added(total(graph, node.operands[0]), total(graph, node.operands[1]))
    default: return .accumulated(value)
    }
  }

  private func assemble(_ builder: FunctionBuilder, _ parts: [Value?], _ seeds: [Int])
    throws(DLCError) -> [Value?]
  {
    let combined = builder.graph
    let forwardCount = body.types.count
    var totals: [Int: Total] = [:]
    for index in inputs.upperBound..<parts.count {
      if let part = parts[index] { totals[index] = total(combined, part.id) }
    }
    // What the backward loop computes: next carried cotangents, those of slices, parts of totals.
    let carriedSeeds = seeds.filter { $0 < scan.carried }
    var accumulated: [ValueID] = []
    var stacked: [ValueID] = []
    func isForward(_ value: ValueID) -> Bool { value.index < forwardCount }
    func note(_ total: Total) {
      switch total {
      case .accumulated(let v): if !accumulated.contains(v) { accumulated.append(v) }
      case .product(_, let a, let b):
        for v in [a, b] where !stacked.contains(v) { stacked.append(v) }
      case .sum(let v, _): if !stacked.contains(v) { stacked.append(v) }
      case .mapped(_, let inner): note(inner)
      case .added(let a, let b):
        note(a)
        note(b)
      }
    }
    for index in totals.keys.sorted() { note(totals[index]!) }
    let sliceParts = inputs.compactMap { parts[$0]?.id }
    let nextCotangents = carriedSeeds.map { parts[$0]?.id }
    let wanted = Set(nextCotangents.compactMap { $0 } + sliceParts + accumulated + stacked)

    // The cut: forward values that come from the forward loop.
    var saved: [ValueID] = []
    var visited: Set<ValueID> = []
    func visit(_ value: ValueID) {
      guard visited.insert(value).inserted else { return }
      guard let node = combined.definition(value) else {
        if value.index < scan.carried { saved.append(value) }
        return
      }
      if isForward(value) && !node.operation.isCheap {
        saved.append(value)
      } else {
        node.operands.forEach(visit)
      }
    }
    wanted.sorted { $0.index < $1.index }.forEach(visit)
    saved.sort { $0.index < $1.index }

    // The forward loop with what is saved.
    var forward = scan
    var stacks: [ValueID: Value] = [:]
    for index in inputs { stacks[body.argumentValues[index]] = p.operands[index] }
    for (number, result) in body.results.enumerated() where number >= scan.carried {
      if stacks[result.value] == nil { stacks[result.value] = p.results[number] }
    }
    let extra = saved.filter { stacks[$0] == nil }
    if !extra.isEmpty {
      for value in extra {
        forward.body.results.append(NamedValue("r\(forward.body.results.count)", value))
      }
      let results = g.addAll(.scan(forward), p.operands)
      try g.requireSuccess(since: before)
      for (value, result) in zip(extra, results.suffix(extra.count)) { stacks[value] = result }
    }

    // The backward body.
    var graph = Graph()
    var map: [ValueID: ValueID] = [:]
    var operands: [Value] = []
    var names = 0
    func argument(_ kind: Argument.Kind, _ type: TensorType) -> ValueID {
      names += 1
      return graph.addArgument(Argument(kind, "\(kind == .captured ? "k" : "a")\(names)", type))
    }
    // Arguments of the combined graph behind those of the body are the seeds.
    let seedValues = Dictionary(
      uniqueKeysWithValues: zip(seeds, combined.argumentValues[body.arguments.count...]))
    for seed in carriedSeeds {
      let type = combined.type(seedValues[seed]!)
      map[seedValues[seed]!] = argument(.input, type)
      operands.append(p.cotangents[seed] ?? g.constant(0, type.dataType, type.shape))
    }
    var sums: [ValueID] = []
    for value in accumulated {
      let type = combined.type(value)
      sums.append(argument(.input, type))
      operands.append(g.constant(0, type.dataType, type.shape))
    }
    let carriedCount = operands.count
    func stack(_ value: ValueID, _ whole: Value) {
      guard map[value] == nil else { return }
      map[value] = argument(.input, combined.type(value))
      operands.append(whole)
    }
    for seed in seeds where seed >= scan.carried { stack(seedValues[seed]!, p.cotangents[seed]!) }
    for value in saved { stack(value, stacks[value]!) }
    for index in inputs where visited.contains(body.argumentValues[index]) {
      stack(body.argumentValues[index], p.operands[index])
    }
    let stackedCount = operands.count - carriedCount
    for index in inputs.upperBound..<body.arguments.count
    where visited.contains(body.argumentValues[index]) {
      map[body.argumentValues[index]] = argument(.captured, body.arguments[index].type)
      operands.append(p.operands[index])
    }
    for node in combined.nodes
    where node.results.contains(where: { visited.contains($0) && map[$0] == nil }) {
      guard node.operands.allSatisfy({ map[$0] != nil }) else { continue }
      let results = try graph.append(
        node.operation, node.operands.map { map[$0]! }, name: node.name, location: node.location)
      for (old, new) in zip(node.results, results) where map[old] == nil { map[old] = new }
    }
    var results: [ValueID] = []
    for (seed, next) in zip(carriedSeeds, nextCotangents) {
      if let next {
        results.append(map[next]!)
      } else {
        results.append(try zero(&graph, combined.type(seedValues[seed]!)))
      }
    }
    for (sum, value) in zip(sums, accumulated) {
      results.append(try graph.append(.binary(Binary(.add)), [sum, map[value]!])[0])
    }
    let ownStacks = stacked.filter { stacks[$0] == nil }
    let outputs = sliceParts + ownStacks
    for value in outputs { results.append(map[value]!) }
    graph.results = results.enumerated().map { NamedValue("r\($0.offset)", $0.element) }
    let backward = Scan(
      body: graph, length: scan.length, carried: carriedCount, stacked: stackedCount,
      reverse: !scan.reverse)
    // Nothing depends on it when every operand is whole in all iterations or needs no derivative.
    let made = results.isEmpty ? [] : g.addAll(.scan(backward), operands)
    try g.requireSuccess(since: before)

    // Cotangents of the operands.
    var cotangents = [Value?](repeating: nil, count: p.operands.count)
    for (number, seed) in carriedSeeds.enumerated() { cotangents[seed] = made[number] }
    var sumValues: [ValueID: Value] = [:]
    for (number, value) in accumulated.enumerated() {
      sumValues[value] = made[carriedSeeds.count + number]
    }
    var stackValues = stacks
    var position = carriedCount
    for index in inputs where parts[index] != nil {
      cotangents[index] = made[position]
      position += 1
    }
    for value in ownStacks {
      stackValues[value] = made[position]
      position += 1
    }
    func resolve(_ total: Total) -> Value {
      switch total {
      case .accumulated(let v): return sumValues[v]!
      case .product(let dot, let a, let b):
        var whole = dot
        whole.geometry.lhsBatch = dot.geometry.lhsBatch.map { $0 + 1 }
        whole.geometry.rhsBatch = dot.geometry.rhsBatch.map { $0 + 1 }
        whole.geometry.lhsContracting = [0] + dot.geometry.lhsContracting.map { $0 + 1 }
        whole.geometry.rhsContracting = [0] + dot.geometry.rhsContracting.map { $0 + 1 }
        return g.add(.dotGeneral(whole), [stackValues[a]!, stackValues[b]!])
      case .sum(let v, let axes): return g.sum(stackValues[v]!, axes: [0] + axes.map { $0 + 1 })
      case .mapped(let operation, let inner):
        return g.add(operation, [resolve(inner)])
      case .added(let a, let b): return resolve(a) + resolve(b)
      }
    }
    for index in totals.keys.sorted() { cotangents[index] = resolve(totals[index]!) }
    return cotangents
  }

  private func zero(_ graph: inout Graph, _ type: TensorType) throws(DLCError) -> ValueID {
    let scalar = try graph.append(
      .constant(Constant(Tensor(splat: 0, type.dataType, []))), [])[0]
    if type.rank == 0 { return scalar }
    return try graph.append(.broadcast(Broadcast(type.shape, axes: [])), [scalar])[0]
  }
}
