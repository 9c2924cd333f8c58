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
  fileprivate indirect enum Total {
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
    let work = work(builder.graph, parts, seeds)
    let cut = cut(builder.graph, work)
    let stacks = try stacks(cut.saved)
    let own = work.stacked.filter { stacks[$0] == nil }
    var writer = BackwardScan(scan, builder.graph)
    let operands = operands(&writer, work, cut, stacks)
    try writer.append(where: cut.visited)
    let backward = try writer.finish(work, own)
    // Nothing depends on it when every operand is whole in all iterations or needs no derivative.
    let made = backward.body.results.isEmpty ? [] : g.addAll(.scan(backward), operands)
    try g.requireSuccess(since: before)
    return cotangents(work, parts, made, stacks, own, from: backward.carried)
  }

  /// What the backward loop computes: the next cotangents of carried values, those of slices, and parts of
  /// totals.
  fileprivate struct Work {
    var seeds: [Int]
    /// Those of carried values.
    var carriedSeeds: [Int]
    var nextCotangents: [ValueID?]
    var sliceParts: [ValueID]
    /// How the cotangent of each captured value is summed, by its number among the operands.
    var totals: [Int: Total] = [:]
    /// Summed in the loop.
    var accumulated: [ValueID] = []
    /// Needed of all iterations, to be summed outside.
    var stacked: [ValueID] = []

    var wanted: Set<ValueID> {
      Set(nextCotangents.compactMap { $0 } + sliceParts + accumulated + stacked)
    }

    mutating func note(_ total: Total) {
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
  }

  private func work(_ combined: Graph, _ parts: [Value?], _ seeds: [Int]) -> Work {
    let carriedSeeds = seeds.filter { $0 < scan.carried }
    var work = Work(
      seeds: seeds, carriedSeeds: carriedSeeds,
      nextCotangents: carriedSeeds.map { parts[$0]?.id },
      sliceParts: inputs.compactMap { parts[$0]?.id })
    for index in inputs.upperBound..<parts.count {
      if let part = parts[index] { work.totals[index] = total(combined, part.id) }
    }
    for index in work.totals.keys.sorted() { work.note(work.totals[index]!) }
    return work
  }

  /// The forward values that come from the forward loop, and all that the work needs.
  private func cut(_ combined: Graph, _ work: Work) -> (saved: [ValueID], visited: Set<ValueID>) {
    let forwardCount = body.types.count
    var saved: [ValueID] = []
    var visited: Set<ValueID> = []
    func visit(_ value: ValueID) {
      guard visited.insert(value).inserted else { return }
      guard let node = combined.definition(value) else {
        if value.index < scan.carried { saved.append(value) }
        return
      }
      if value.index < forwardCount && !node.operation.isCheap {
        saved.append(value)
      } else {
        node.operands.forEach(visit)
      }
    }
    work.wanted.sorted { $0.index < $1.index }.forEach(visit)
    return (saved.sorted { $0.index < $1.index }, visited)
  }

  /// Values of all iterations: what the scan reads and gives, and what is saved, as results of a forward
  /// loop that gives them too.
  private func stacks(_ saved: [ValueID]) throws(DLCError) -> [ValueID: Value] {
    var stacks: [ValueID: Value] = [:]
    for index in inputs { stacks[body.argumentValues[index]] = p.operands[index] }
    for (number, result) in body.results.enumerated() where number >= scan.carried {
      if stacks[result.value] == nil { stacks[result.value] = p.results[number] }
    }
    let extra = saved.filter { stacks[$0] == nil }
    if extra.isEmpty { return stacks }
    var forward = scan
    for value in extra {
      forward.body.results.append(NamedValue("r\(forward.body.results.count)", value))
    }
    let results = g.addAll(.scan(forward), p.operands)
    try g.requireSuccess(since: before)
    for (value, result) in zip(extra, results.suffix(extra.count)) { stacks[value] = result }
    return stacks
  }

  /// Declares the arguments of the backward body.
  /// - Returns: what the backward scan gets for them.
  private func operands(
    _ writer: inout BackwardScan, _ work: Work,
    _ cut: (saved: [ValueID], visited: Set<ValueID>), _ stacks: [ValueID: Value]
  ) -> [Value] {
    var operands: [Value] = []
    let seedValues = writer.seedValues(work)
    for seed in work.carriedSeeds {
      let type = writer.carry(seedValues[seed]!)
      operands.append(p.cotangents[seed] ?? g.constant(0, type.dataType, type.shape))
    }
    for value in work.accumulated {
      let type = writer.sum(value)
      operands.append(g.constant(0, type.dataType, type.shape))
    }
    func stack(_ value: ValueID, _ whole: Value) {
      if writer.stack(value) { operands.append(whole) }
    }
    for seed in work.seeds where seed >= scan.carried {
      stack(seedValues[seed]!, p.cotangents[seed]!)
    }
    for value in cut.saved { stack(value, stacks[value]!) }
    for index in inputs where cut.visited.contains(body.argumentValues[index]) {
      stack(body.argumentValues[index], p.operands[index])
    }
    for index in inputs.upperBound..<body.arguments.count
    where cut.visited.contains(body.argumentValues[index]) {
      writer.capture(body.argumentValues[index])
      operands.append(p.operands[index])
    }
    return operands
  }

  /// The cotangents of the operands, from what the backward loop gave.
  private func cotangents(
    _ work: Work, _ parts: [Value?], _ made: [Value], _ stacks: [ValueID: Value],
    _ own: [ValueID], from carriedCount: Int
  ) -> [Value?] {
    var cotangents = [Value?](repeating: nil, count: p.operands.count)
    for (number, seed) in work.carriedSeeds.enumerated() { cotangents[seed] = made[number] }
    var sums: [ValueID: Value] = [:]
    for (number, value) in work.accumulated.enumerated() {
      sums[value] = made[work.carriedSeeds.count + number]
    }
    var stacks = stacks
    var position = carriedCount
    for index in inputs where parts[index] != nil {
      cotangents[index] = made[position]
      position += 1
    }
    for value in own {
      stacks[value] = made[position]
      position += 1
    }
    for index in work.totals.keys.sorted() {
      cotangents[index] = value(of: work.totals[index]!, sums, stacks)
    }
    return cotangents
  }

  private func value(of total: Total, _ sums: [ValueID: Value], _ stacks: [ValueID: Value]) -> Value
  {
    switch total {
    case .accumulated(let v): return sums[v]!
    case .product(let dot, let a, let b):
      var whole = dot
      whole.geometry.lhsBatch = dot.geometry.lhsBatch.map { $0 + 1 }
      whole.geometry.rhsBatch = dot.geometry.rhsBatch.map { $0 + 1 }
      whole.geometry.lhsContracting = [0] + dot.geometry.lhsContracting.map { $0 + 1 }
      whole.geometry.rhsContracting = [0] + dot.geometry.rhsContracting.map { $0 + 1 }
      return g.add(.dotGeneral(whole), [stacks[a]!, stacks[b]!])
    case .sum(let v, let axes): return g.sum(stacks[v]!, axes: [0] + axes.map { $0 + 1 })
    case .mapped(let operation, let inner):
      return g.add(operation, [value(of: inner, sums, stacks)])
    case .added(let a, let b): return value(of: a, sums, stacks) + value(of: b, sums, stacks)
    }
  }
}

/// Writes the body of a backward scan: nodes of the body with its pullback behind it, over other arguments.
private struct BackwardScan {
  private let scan: Scan
  private let combined: Graph
  private var graph = Graph()
  /// Values of the combined graph, in the new one.
  private var map: [ValueID: ValueID] = [:]
  private var sums: [ValueID] = []
  private var (carried, stacked, names) = (0, 0, 0)

  init(_ scan: Scan, _ combined: Graph) {
    self.scan = scan
    self.combined = combined
  }

  /// Where the cotangents of the body's results come in: arguments behind those of the body.
  func seedValues(_ work: ScanPullback.Work) -> [Int: ValueID] {
    Dictionary(
      uniqueKeysWithValues: zip(
        work.seeds, combined.argumentValues[scan.body.arguments.count...]))
  }

  private mutating func argument(_ kind: Argument.Kind, _ type: TensorType) -> ValueID {
    names += 1
    return graph.addArgument(Argument(kind, "\(kind == .captured ? "k" : "a")\(names)", type))
  }

  mutating func carry(_ value: ValueID) -> TensorType {
    let type = combined.type(value)
    map[value] = argument(.input, type)
    carried += 1
    return type
  }

  /// Carries the sum of a value over the iterations.
  mutating func sum(_ value: ValueID) -> TensorType {
    let type = combined.type(value)
    sums.append(argument(.input, type))
    carried += 1
    return type
  }

  /// Takes a value from a stack, unless it is there.
  mutating func stack(_ value: ValueID) -> Bool {
    guard map[value] == nil else { return false }
    map[value] = argument(.input, combined.type(value))
    stacked += 1
    return true
  }

  mutating func capture(_ value: ValueID) {
    map[value] = argument(.captured, combined.type(value))
  }

  /// The nodes that give wanted values.
  mutating func append(where wanted: Set<ValueID>) throws(DLCError) {
    for node in combined.nodes
    where node.results.contains(where: { wanted.contains($0) && map[$0] == nil }) {
      guard node.operands.allSatisfy({ map[$0] != nil }) else { continue }
      let results = try graph.append(
        node.operation, node.operands.map { map[$0]! }, name: node.name, location: node.location)
      for (old, new) in zip(node.results, results) where map[old] == nil { map[old] = new }
    }
  }

  /// - Parameter own: stacks that this loop makes.
  mutating func finish(_ work: ScanPullback.Work, _ own: [ValueID]) throws(DLCError) -> Scan {
    let seeds = seedValues(work)
    var results: [ValueID] = []
    for (seed, next) in zip(work.carriedSeeds, work.nextCotangents) {
      if let next {
        results.append(map[next]!)
      } else {
        results.append(try zero(combined.type(seeds[seed]!)))
      }
    }
    for (sum, value) in zip(sums, work.accumulated) {
      results.append(try graph.append(.binary(Binary(.add)), [sum, map[value]!])[0])
    }
    for value in work.sliceParts + own { results.append(map[value]!) }
    graph.results = results.enumerated().map { NamedValue("r\($0.offset)", $0.element) }
    return Scan(
      body: graph, length: scan.length, carried: carried, stacked: stacked,
      reverse: !scan.reverse)
  }

  private mutating func zero(_ type: TensorType) throws(DLCError) -> ValueID {
    let scalar = try graph.append(
      .constant(Constant(Tensor(splat: 0, type.dataType, []))), [])[0]
    if type.rank == 0 { return scalar }
    return try graph.append(.broadcast(Broadcast(type.shape, axes: [])), [scalar])[0]
  }
}
