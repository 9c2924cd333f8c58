import DLCGraph
import DLCTensor

/// Branches and loops: `cond`, `while` and `scan` where shapes allow it, unrolled or cut out where not.
enum ControlOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("If", inputs: 1, branch),
    OperatorMapping("Loop", inputs: nil, statics: ["M", "cond"], loop),
    OperatorMapping("Scan", since: 8, inputs: nil, scanOfBatch),
    OperatorMapping("Scan", since: 9, inputs: nil, scan),
  ]

  /// So many iterations are written out when a body is no graph of its own.
  private static let unrollLimit = 256

  // MARK: If

  /// The nodes of the branch that runs, when the condition is known; nil for other nodes.
  static func decidedBranch(_ node: ONNXNode, _ importer: GraphImporter, _ scope: ImportScope)
    throws(ImportStop) -> [ONNXNode]?
  {
    guard node.type == "If", node.domain.isEmpty, node.inputs.count == 1,
      let name = node.inputs.first,
      !name.isEmpty
    else {
      return nil
    }
    let condition = try importer.value(name, scope)
    let context = NodeContext(node, importer, scope, [condition])
    let which: String
    if case .array(let array)? = importer.knowledge.known(condition), array.count == 1 {
      which = array.integers.first != 0 ? "then_branch" : "else_branch"
    } else if try isSqueeze(context), !dependsOnInputs(condition) {
      which = "then_branch"
    } else {
      return nil
    }
    let graph = try context.graph(which)
    let list = try attempt { () throws(DLCError) in
      try NodeList(graph, of: importer.model, outside: graph.freeNames)
    }
    let mine = graph.definedNames
    let prefix = "\(node.name)/\(node.outputs.first ?? "")/"
    func renamed(_ name: String) -> String { mine.contains(name) ? prefix + name : name }
    for (name, tensor) in list.initializers { scope.initializers[prefix + name] = tensor }
    var nodes = list.nodes.map { $0.renamed(renamed) }
    guard graph.outputs.count >= node.outputs.count else {
      throw context.fail(
        "the branch gives \(graph.outputs.count) results, not \(node.outputs.count)")
    }
    for (output, name) in zip(graph.outputs, node.outputs) where !name.isEmpty {
      nodes.append(
        ONNXNode(
          name: node.name, domain: "", type: "Identity", overload: "",
          inputs: [renamed(output.name)], outputs: [name], attributes: [:], opsets: node.opsets))
    }
    return nodes
  }

  /// Whether it is what PyTorch writes for a squeeze of an axis of unknown size: a squeeze when the size is 1, else nothing.
  private static func isSqueeze(_ c: NodeContext) throws(ImportStop) -> Bool {
    let (then, otherwise) = (try c.graph("then_branch"), try c.graph("else_branch"))
    return then.nodes.last?.type == "Squeeze"
      && then.nodes.dropLast().allSatisfy { $0.type == "Constant" }
      && otherwise.nodes.count == 1 && otherwise.nodes[0].type == "Identity"
  }

  /// Whether anything but sizes decides a value.
  private static func dependsOnInputs(_ value: Value) -> Bool {
    let graph = value.builder.graph
    var seen: Set<ValueID> = []
    var open = [value.id]
    while let id = open.popLast() {
      guard seen.insert(id).inserted else { continue }
      guard let node = graph.definition(id) else { return true }
      open += node.operands
    }
    return false
  }

  private static func branch(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let condition = try c.operand(0)
    if case .array(let known)? = c.known(condition), known.count == 1 {
      let side = try c.graph(known.integers[0] != 0 ? "then_branch" : "else_branch")
      return SequenceOperators.give(
        c, outputs: try c.importer.values(of: side, [], in: c.scope))
    }
    let undecided = ImportStop.needs(condition, operand: c.node.inputs[0], of: c.node.title)
    let predicate = c.g.reshape(condition, [])
    let isChecked = c.importer.checks(try c.graph("then_branch"), try c.graph("else_branch"))
    var stop: ImportStop?
    var types: [[TensorType]] = []
    var checks: [IndexCheck] = []
    let before = c.g.failureCount
    func side(_ name: String) -> [Value] {
      do throws(ImportStop) {
        let made = try c.importer.separately { () throws(ImportStop) in
          try c.importer.results(of: try c.graph(name), [], in: c.scope)
        }
        types.append(made.result.map(\.type))
        let first = checks.reduce(0) { $0 + $1.ranges.count }
        checks += made.checks.map(\.check)
        return made.result
          + (isChecked ? [c.importer.verdict(made.checks, first: first)] : [])
      } catch {
        stop = error
        return []
      }
    }
    var results = c.g.cond(
      predicate, then: { _ in side("then_branch") },
      otherwise: { g in
        if stop != nil { return [] }
        let values = side("else_branch")
        return types.count == 2 && types[0] == types[1]
          ? values
          : types.first.map { stub(g, $0) + (isChecked ? [c.importer.innocent] : []) } ?? []
      })
    if let stop {
      if case .failed(let error) = stop, error.code == .unsupported { throw stop }
      // The side that is not taken may be none for these shapes.
      c.g.forgetFailures(since: before)
      throw undecided
    }
    guard types.count == 2, types[0] == types[1] else { throw undecided }
    if isChecked, let verdict = results.popLast() { c.importer.check(verdict, of: checks) }
    return results
  }

  /// Values of given types, of graphs that are given up.
  private static func stub(_ g: FunctionBuilder, _ types: [TensorType]) -> [Value] {
    types.map { g.broadcast(g.constant(Tensor(splat: 0, $0.dataType, [])), to: $0.shape) }
  }

  // MARK: Loop

  private struct LoopParts {
    let body: ONNXGraph
    /// Number of iterations, when it is known; nil for no limit.
    var trips: Value?
    var condition: Value?
    var carried: [Value]
    var scanCount: Int
  }

  /// - Throws: for the body of a loop that has not the inputs and results for what it carries.
  static func require(_ body: ONNXGraph, carries count: Int, _ c: NodeContext) throws(ImportStop) {
    guard body.inputs.count == count + 2, body.outputs.count >= count + 1 else {
      throw c.fail(
        "the body has \(body.inputs.count) inputs and \(body.outputs.count) outputs for \(count) carried values"
      )
    }
  }

  private static func loop(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    if SequenceLoops.isOne(c) { return try SequenceLoops.loop(c) }
    let body = try c.graph("body")
    let carried = Array(c.node.inputs.indices.dropFirst(2).compactMap { c.optional($0) })
    try require(body, carries: carried.count, c)
    let g = c.g
    let parts = LoopParts(
      body: body, trips: c.optional(0).map { g.reshape(g.convert($0, .int64), []) },
      condition: c.optional(1).map { g.reshape($0, []) }, carried: carried,
      scanCount: body.outputs.count - carried.count - 1)
    // What the body would do is not asked where it never runs.
    if case .array(let known)? = c.known(0), known.integers.first ?? 0 <= 0 {
      return try counted(c, parts, 0)
    }
    let isCounted = try isAlwaysTrue(c, body)
    if let condition = parts.condition, isCounted {
      guard case .array(let known)? = c.known(condition) else {
        throw .needs(try c.operand(1), operand: c.node.inputs[1], of: c.node.title)
      }
      if known.integers[0] == 0 { return try counted(c, parts, 0) }
    }
    if isCounted {
      guard c.has(0) else { throw c.fail("the loop has no limit and no condition that ends it") }
      if c.known(0) == nil, parts.scanCount == 0,
        let results = try uncounted(c, parts)
      {
        return results
      }
      return try counted(c, parts, try trips(c))
    }
    return try conditional(c, parts)
  }

  /// A loop whose limit is not known, where it needs none; nil when its body must be built for each iteration.
  private static func uncounted(_ c: NodeContext, _ parts: LoopParts) throws(ImportStop)
    -> [Value?]?
  {
    let before = c.g.failureCount
    do throws(ImportStop) { return try conditional(c, parts) } catch {
      if case .failed(let mistake) = error, mistake.code == .unsupported { throw error }
      c.g.forgetFailures(since: before)
      return nil
    }
  }

  /// The most iterations; exporters write the largest number there is for "no limit".
  private static func trips(_ c: NodeContext) throws(ImportStop) -> Int {
    max(0, try c.wideIntegers(0).first ?? 0)
  }

  /// Whether the body's condition is the one that it gets, or true.
  private static func isAlwaysTrue(_ c: NodeContext, _ body: ONNXGraph) throws(ImportStop) -> Bool {
    var name = body.outputs[0].name
    for _ in 0..<8 {
      if name == body.inputs[1].name { return true }
      if let tensor = body.initializers[name]?.value { return tensor.integers.first == 1 }
      guard let node = body.nodes.first(where: { $0.outputs.contains(name) }) else {
        guard !body.definedNames.contains(name),
          case .array(let known)? = c.known(try c.importer.value(name, c.scope))
        else { return false }
        return known.count == 1 && known.integers[0] != 0
      }
      switch node.type {
      case "Identity": name = node.inputs.first ?? ""
      case "Cast": name = node.inputs.first ?? ""
      case "Constant":
        guard case .tensor(let tensor)? = node.attributes["value"] else { return false }
        return tensor.value?.integers.first == 1
      default: return false
      }
    }
    return false
  }

  private static func counted(_ c: NodeContext, _ parts: LoopParts, _ count: Int) throws(ImportStop)
    -> [Value?]
  {
    var stop: ImportStop?
    var isSame = true
    let before = c.g.failureCount
    var body = CheckedBody(c, parts.body)
    if count > 0 {
      let states = 1 + parts.carried.count
      let made = c.g.scan(
        carried: [c.g.constant(Tensor(splat: 0, .int64, []))] + parts.carried + body.start,
        length: Size(count)
      ) { g, carried, _ in
        do throws(ImportStop) {
          let (results, verdict) = try body.results(
            [carried[0], always(g)] + carried[1..<states], carried[states...])
          let next = Array(results[1..<states])
          isSame = zip(next, parts.carried).allSatisfy { $0.type == $1.type }
          guard isSame else { return (carried, []) }
          return ([carried[0] + 1.0] + next + verdict, Array(results[states...]))
        } catch {
          stop = error
          return (carried, [])
        }
      }
      if stop == nil && isSame {
        body.finish(made.carried[states...])
        return made.carried[1..<states] + made.outputs
      }
      if case .failed(let error)? = stop, error.code == .unsupported { throw stop! }
      // What is wrong with the body for values that it carries need not be wrong for those of one iteration.
      c.g.forgetFailures(since: before)
    }
    return try unrolled(c, parts, count)
  }

  static func always(_ g: FunctionBuilder) -> Value {
    g.constant(Tensor(splat: 1, .bool, []))
  }

  /// The iterations one after the other, where shapes change or must be known.
  private static func unrolled(_ c: NodeContext, _ parts: LoopParts, _ count: Int)
    throws(ImportStop)
    -> [Value?]
  {
    let hosted = ImportStop.hosted("the body of \(c.node.title) is no graph of fixed shapes")
    guard count <= unrollLimit else { throw hosted }
    var carried = parts.carried
    var stacks = [[Value]](repeating: [], count: parts.scanCount)
    for number in 0..<count {
      let iteration = c.g.constant(Tensor(.int64, [], truncating: [Int64(number)]))
      let results: [Value]
      do throws(ImportStop) {
        results = try c.importer.results(
          of: parts.body, [iteration, always(c.g)] + carried, in: c.scope)
      } catch {
        if case .failed = error { throw error }
        throw hosted
      }
      carried = Array(results[1..<1 + parts.carried.count])
      for (index, value) in results[(parts.carried.count + 1)...].enumerated() {
        stacks[index].append(value)
      }
    }
    var outputs: [Value?] = carried
    for (index, stack) in stacks.enumerated() {
      if stack.isEmpty {
        outputs.append(try emptyStack(c, parts, index))
        continue
      }
      guard Set(stack.map(\.type)).count == 1 else { throw hosted }
      outputs.append(c.g.concatenate(stack.map { c.unsqueezed($0, [0]) }, axis: 0))
    }
    return outputs
  }

  /// What is stacked by a loop that does not run: its shape is that of the body's results.
  private static func emptyStack(_ c: NodeContext, _ parts: LoopParts, _ index: Int)
    throws(ImportStop)
    -> Value
  {
    let hosted = ImportStop.hosted("the body of \(c.node.title) is no graph of fixed shapes")
    let types: [TensorType]
    do throws(ImportStop) { types = try resultTypes(c, parts, isFirst: true) } catch {
      throw hosted
    }
    guard parts.carried.count + 1 + index < types.count else { throw hosted }
    let type = types[parts.carried.count + 1 + index]
    return stub(c.g, [TensorType(type.dataType, [0] + type.shape)])[0]
  }

  /// The types of a body's results, found by building it in a graph that is given up, for an iteration of any number.
  /// - Parameter isFirst: whether it gets what is carried into the loop, else any values of those types.
  private static func resultTypes(_ c: NodeContext, _ parts: LoopParts, isFirst: Bool)
    throws(ImportStop) -> [TensorType]
  {
    var stop: ImportStop?
    var types: [TensorType] = []
    let before = c.g.failureCount
    _ = c.g.current.region(
      [TensorType(.int64), TensorType(.bool)] + parts.carried.map(\.type)
    ) { g, values in
      do throws(ImportStop) {
        types = try c.importer.separately { () throws(ImportStop) in
          try c.importer.results(
            of: parts.body, isFirst ? values[..<2] + parts.carried : values, in: c.scope)
        }.result.map(\.type)
      } catch { stop = error }
      return []
    }
    if let stop {
      c.g.forgetFailures(since: before)
      throw stop
    }
    return types
  }

  /// A loop that its condition ends. What it stacks is written into memory for the most iterations there can be.
  private static func conditional(_ c: NodeContext, _ parts: LoopParts) throws(ImportStop)
    -> [Value?]
  {
    let hosted = ImportStop.hosted("the body of \(c.node.title) is no graph of fixed shapes")
    let g = c.g
    let types: [TensorType]
    do throws(ImportStop) { types = try resultTypes(c, parts, isFirst: false) } catch {
      if case .failed = error { throw error }
      throw hosted
    }
    let states = Array(types[1..<1 + parts.carried.count])
    let stacked = Array(types[(parts.carried.count + 1)...])
    guard states == parts.carried.map(\.type) else { throw hosted }
    var most = 0
    if !stacked.isEmpty {
      // The memory for what is stacked needs a limit.
      guard parts.trips != nil else { throw hosted }
      most = try trips(c)
      guard most < 1 << 16 else { throw hosted }
      if most == 0 { return try unrolled(c, parts, 0) }
    }
    let zero = g.constant(Tensor(splat: 0, .int64, []))
    let buffers = stub(g, stacked.map { TensorType($0.dataType, [Size(most)] + $0.shape) })
    var body = CheckedBody(c, parts.body)
    let start = [zero, parts.condition ?? always(g)] + parts.carried + buffers
    var stop: ImportStop?
    let results = g.whileLoop(start + body.start) { _, values in
      guard let trips = parts.trips else { return values[1] }
      return g.binary(.and, values[1], values[0] < trips)
    } body: { g, values in
      do throws(ImportStop) {
        let count = parts.carried.count
        let (results, verdict) = try body.results(
          [values[0], values[1]] + values[2..<2 + count], values[start.count...])
        let buffers = values[(2 + count)..<start.count]
        let written = zip(buffers, results[(count + 1)...]).map { buffer, value in
          g.dynamicUpdate(
            buffer, c.unsqueezed(value, [0]), at: [values[0]] + value.shape.map { _ in zero })
        }
        return [values[0] + 1.0, g.reshape(results[0], [])] + results[1..<1 + count] + written
          + verdict
      } catch {
        stop = error
        return values
      }
    }
    if let stop { throw stop }
    body.finish(results[start.count...])
    for index in stacked.indices { c.bounds[parts.carried.count + index] = (0, results[0]) }
    return Array(results[2..<start.count])
  }

  // MARK: Scan

  private static func scan(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    try scan(c, c.all, firstAxis: 0)
  }

  private static func scan(_ c: NodeContext, _ operands: [Value], firstAxis: Int) throws(ImportStop)
    -> [Value?]
  {
    let body = try c.graph("body")
    guard let count = try c.integer("num_scan_inputs"), count >= 1, count <= operands.count else {
      throw c.fail(
        "attribute 'num_scan_inputs' is missing or does not fit \(operands.count) inputs")
    }
    let states = operands.count - count
    guard body.outputs.count >= states else { throw c.fail("the body gives too few results") }
    let g = c.g
    let axes = try c.integers("scan_input_axes") ?? [Int](repeating: 0, count: count)
    let directions =
      try c.integers(firstAxis == 0 ? "scan_input_directions" : "directions")
      ?? [Int](repeating: 0, count: count)
    guard axes.count == count, directions.count == count else {
      throw c.fail("scan inputs, their axes and directions are of different numbers")
    }
    var inputs: [Value] = []
    for (index, value) in operands[states...].enumerated() {
      let axis = try c.axis(axes[index], rank: value.rank)
      let moved = g.transpose(value, [axis] + (0..<value.rank).filter { $0 != axis })
      inputs.append(directions[index] == 1 ? g.reverse(moved, axes: [0]) : moved)
    }
    var stop: ImportStop?
    var checked = CheckedBody(c, body)
    let made = g.scan(carried: operands[..<states] + checked.start, inputs: inputs) {
      _, carried, slices in
      do throws(ImportStop) {
        let (results, verdict) = try checked.results(
          carried[..<states] + slices, carried[states...])
        return (results[..<states] + verdict, Array(results[states...]))
      } catch {
        stop = error
        return (carried, [])
      }
    }
    if let stop { throw stop }
    checked.finish(made.carried[states...])
    let outAxes = try c.integers("scan_output_axes") ?? made.outputs.map { _ in 0 }
    let outDirections = try c.integers("scan_output_directions") ?? made.outputs.map { _ in 0 }
    guard outAxes.count == made.outputs.count, outDirections.count == made.outputs.count else {
      throw c.fail("scan outputs, their axes and directions are of different numbers")
    }
    var results: [Value?] = Array(made.carried[..<states])
    for (index, value) in made.outputs.enumerated() {
      let ordered = outDirections[index] == 1 ? g.reverse(value, axes: [0]) : value
      let axis = try c.axis(outAxes[index], rank: value.rank)
      var order = Array(1..<value.rank)
      order.insert(0, at: axis)
      results.append(g.transpose(ordered, order))
    }
    return results
  }

  /// Version 8: every operand has a batch axis before its own, and sequences may be of different lengths.
  private static func scanOfBatch(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    guard !c.has(0) else { throw c.unsupported("sequence_lens of Scan 8") }
    let operands = Array(c.all)
    guard let first = operands.first else { throw c.fail("it has no inputs") }
    let g = c.g
    let batch = try c.number(first.shape[0])
    guard batch > 0, batch <= unrollLimit else { throw c.unsupported("a batch of \(batch)") }
    var rows: [[Value]] = []
    for number in 0..<batch {
      let part = operands.map { v in
        g.reshape(
          g.slice(v, axis: 0, from: Size(number), to: Size(number + 1)), Array(v.shape[1...]))
      }
      rows.append(try scan(c, part, firstAxis: 1).compactMap(\.self))
    }
    return rows[0].indices.map { index in
      g.concatenate(rows.map { c.unsqueezed($0[index], [0]) }, axis: 0)
    }
  }
}
