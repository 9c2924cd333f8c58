import DLCGraph
import DLCTensor

/// Derivatives of operations that hold graphs.
enum ControlPullback {
  /// Cotangents of the operands; nil where there is none.
  static func pullback(_ operation: Operation, _ p: Pullback, active: [Bool]) throws(DLCError)
    -> [Value?]
  {
    switch operation {
    case .call(let call): return try pullback(call, p, active)
    case .cond(let cond): return try pullback(cond, p, active)
    case .whileLoop(let loop): return try pullback(loop, p, active)
    case .scan(let scan): return try ScanPullback(scan, p, active).run()
    default: preconditionFailure("\(operation.mnemonic) holds no graph")
    }
  }

  /// The graph that takes the arguments of `body` and cotangents of the chosen results, and gives
  /// cotangents of the chosen arguments.
  private static func pullbackGraph(_ body: Graph, seeds: [Int], targets: [Int]) throws(DLCError)
    -> (builder: FunctionBuilder, parts: [Value?])
  {
    var start = body
    start.results = []
    let b = FunctionBuilder(extending: start)
    var outputs: [(value: Value, cotangent: Value)] = []
    for seed in seeds {
      let value = b.value(body.results[seed].value)
      outputs.append((value, b.input("d\(b.graph.arguments.count)", value.dataType, value.shape)))
    }
    let parts = try ReverseMode.pullback(
      b, outputs: outputs, targets: targets.map { b.value(body.argumentValues[$0]) })
    return (b, parts)
  }

  private static func seeds(_ p: Pullback) -> [Int] {
    p.cotangents.indices.filter { p.cotangents[$0] != nil }
  }

  private static func pullback(_ call: Call, _ p: Pullback, _ active: [Bool]) throws(DLCError)
    -> [Value?]
  {
    let (seeds, targets) = (seeds(p), active.indices.filter { active[$0] })
    let (b, parts) = try pullbackGraph(call.body, seeds: seeds, targets: targets)
    var given: [Int] = []
    for (target, part) in zip(targets, parts) {
      guard let part else { continue }
      given.append(target)
      b.output("r\(target)", part)
    }
    let body = try b.graph.normalized()
    let results = p.g.addAll(
      .call(Call(call.name + "_pullback", body: body)),
      p.operands + seeds.map { p.cotangents[$0]! })
    var cotangents = [Value?](repeating: nil, count: p.operands.count)
    for (target, result) in zip(given, results) { cotangents[target] = result }
    return cotangents
  }

  /// Each branch is computed again inside its pullback; the other branch's captured values get zeros.
  private static func pullback(_ cond: Cond, _ p: Pullback, _ active: [Bool]) throws(DLCError)
    -> [Value?]
  {
    let seeds = seeds(p)
    let split = 1 + cond.then.arguments.count
    let ranges = [1..<split, split..<p.operands.count]
    var branches: [(builder: FunctionBuilder, given: [Int: Value])] = []
    for (graph, range) in zip([cond.then, cond.otherwise], ranges) {
      let targets = range.filter { active[$0] }
      let (b, parts) = try pullbackGraph(
        graph, seeds: seeds, targets: targets.map { $0 - range.lowerBound })
      var given: [Int: Value] = [:]
      for (target, part) in zip(targets, parts) { if let part { given[target] = part } }
      branches.append((b, given))
    }
    let order = Set(branches.flatMap(\.given.keys)).sorted()
    var parts = [Value?](repeating: nil, count: p.operands.count)
    if order.isEmpty { return parts }
    var graphs: [Graph] = []
    for (b, given) in branches {
      for target in order {
        let type = p.operands[target].type
        b.output("r\(target)", given[target] ?? b.constant(0, type.dataType, type.shape))
      }
      if let failure = b.failure { throw failure }
      graphs.append(try b.graph.normalized())
    }
    let cotangents = seeds.map { p.cotangents[$0]! }
    let operands =
      [p.operands[0]] + p.operands[ranges[0]] + cotangents + p.operands[ranges[1]] + cotangents
    let results = p.g.addAll(
      .cond(Cond(then: graphs[0], otherwise: graphs[1])), operands)
    for (target, result) in zip(order, results) { parts[target] = result }
    return parts
  }

  /// A loop of at most `bound` iterations is a scan of that length whose body stops having effect.
  private static func pullback(_ loop: While, _ p: Pullback, _ active: [Bool]) throws(DLCError)
    -> [Value?]
  {
    guard loop.bound != 0 else {
      throw DLCError(
        .unsupported, "a while loop without a bound on its iterations has no derivative",
        remedy: "give whileLoop a bound")
    }
    let g = p.g
    let before = g.failureCount
    let tested = loop.condition.arguments.count
    func inlined(_ b: FunctionBuilder, _ graph: Graph, _ arguments: [Value]) -> [Value] {
      b.addAll(.call(Call("loop", body: graph)), arguments)
    }
    let (carried, _) = g.scan(
      carried: Array(p.operands[..<loop.carried]) + [g.constant(1, .bool)], length: loop.bound
    ) { b, values, _ in
      let (state, running) = (Array(values.dropLast()), values.last!)
      let test = inlined(b, loop.condition, state + p.operands[loop.carried..<tested])
      guard let test = test.first else { return (values, []) }
      let goes = running & test
      let next = b.cond(
        goes, then: { inlined($0, loop.body, state + p.operands[tested...]) },
        otherwise: { _ in state })
      return (next + [goes], [])
    }
    try g.requireSuccess(since: before)
    guard let node = g.graph.definition(carried[0].id), case .scan(let scan) = node.operation else {
      return p.operands.map { _ in nil }
    }
    // The scan's operands: the carried values, the flag, and what it captured.
    let operands = node.operands.map { g.value($0) }
    let activeIDs = Set(zip(p.operands, active).filter(\.1).map(\.0.id))
    let inner = Pullback(
      g: g, operands: operands, results: node.results.map { g.value($0) },
      cotangents: p.cotangents + [nil])
    let parts = try ScanPullback(
      scan, inner, node.operands.map { activeIDs.contains($0) }
    ).run()
    var cotangents = [Value?](repeating: nil, count: p.operands.count)
    for (operand, part) in zip(operands, parts) {
      guard let part, let index = p.operands.firstIndex(where: { $0.id == operand.id }) else {
        continue
      }
      cotangents[index] = cotangents[index].map { $0 + part } ?? part
    }
    return cotangents
  }
}
