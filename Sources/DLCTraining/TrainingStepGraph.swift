import DLCAutodiff
public import DLCGraph
public import DLCTensor

/// The graph of a step: losses, their derivatives, and what the rules make of them.
extension TrainingStep {
  /// The module with a function of one step: inputs are the data (and `seed`), outputs the metrics;
  /// all state is updated.
  public func stepFunction(
    _ name: String = "train_step", file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> Module {
    do throws(DLCError) {
      var result = module
      for state in states where result.state(state.name) == nil { result.add(state) }
      return try adding(name, to: result)
    } catch {
      throw error.called(file, line)
    }
  }

  private func adding(_ name: String, to module: Module) throws(DLCError) -> Module {
    var result = module
    try result.function(name) { g in
      var data: [String: Value] = [:]
      for (name, type) in inputs {
        data[name] = g.input(name, type.dataType, whole(type).shape)
      }
      let seed = usesSeed ? g.input(Self.seedName, .int64) : nil
      var values = read(g)
      for (name, value) in step(g, data, seed, &values) { g.output(name, value) }
      for state in states {
        if let value = values[state.name] { g.update(state.name, value) }
      }
    }
    return result
  }

  package var usesSeed: Bool {
    phases.contains {
      module.function($0.function)!.inputs.contains { $0.name == Self.seedName }
    }
  }

  /// The module's dimensions and all state of a step, without functions.
  private var frame: Module {
    var result = Module(module.name)
    for dimension in module.dimensions {
      result.dimension(dimension.name, default: dimension.size)
    }
    for state in states { result.add(module.state(state.name) ?? state) }
    return result
  }

  /// A module with the function of one step alone.
  func single() throws(DLCError) -> Module { try adding("step", to: frame) }

  /// The name of the dimension that all data inputs begin with.
  /// - Throws: `.graph` when there is none.
  func batchDimension() throws(DLCError) -> String {
    let list = inputs.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
    guard let batch = inputs.first?.type.shape.first?.name else {
      throw DLCError(
        .graph, "the loss has no data input with a named first axis",
        remedy: inputs.isEmpty ? "it has no inputs" : "its inputs are \(list)")
    }
    for (name, type) in inputs where type.shape.first?.name != batch {
      throw DLCError(
        .graph, "input '\(name)' is \(type): its first axis is not the batch '\(batch)'")
    }
    return batch
  }

  /// The function that takes several steps in one call.
  /// - Parameters:
  ///   - batch: the dimension that all inputs begin with.
  ///   - types: those of the data sets, where they are narrower than the inputs'.
  func loop(batch: String, types: [String: DataType]) throws(DLCError) -> TrainingLoop {
    var loop = TrainingLoop(frame, inputs: inputs.map(\.name))
    let size = Size(name: batch) * Size(accumulation)
    try loop.module.function(loop.name) { g in
      var sets: [(name: String, value: Value)] = []
      for (name, type) in inputs {
        sets.append(
          (
            name,
            g.input(
              name, types[name] ?? type.dataType,
              [Size(name: loop.examples)] + type.shape.dropFirst())
          ))
      }
      let order = g.input(loop.order, .int32, [Size(name: loop.steps), size])
      let seed = g.input(loop.seed, .int64)
      let values = read(g)
      let names = states.map(\.name)
      let (carried, outputs) = g.scan(
        carried: names.map { values[$0]! }, inputs: [order]
      ) { g, carried, rows in
        var values = Dictionary(uniqueKeysWithValues: zip(names, carried))
        var data: [String: Value] = [:]
        for ((name, type), (_, set)) in zip(inputs, sets) {
          data[name] = g.convert(g.embedding(set, rows[0]), type.dataType)
        }
        let report = step(g, data, seed, &values)
        return (names.map { values[$0]! }, report.map(\.value))
      }
      for (name, value) in zip(metrics, outputs) { g.output(name, value) }
      for (name, value) in zip(names, carried) { g.update(name, value) }
    }
    return loop
  }

  private func read(_ g: FunctionBuilder) -> [String: Value] {
    var values: [String: Value] = [:]
    for state in states {
      values[state.name] =
        state.isParameter
        ? g.parameter(state.name, state.type.shape, state.initializer, state.type.dataType)
        : g.state(state.name, state.type.dataType, state.type.shape, state.initializer)
    }
    return values
  }

  /// One step on values of the state; gives the metrics in their order.
  func step(
    _ g: FunctionBuilder, _ data: [String: Value], _ seed: Value?, _ values: inout [String: Value]
  ) -> [(name: String, value: Value)] {
    let one = g.constant(1, .int32)
    let t = g.binary(.add, values[Self.counterName]!, one)
    values[Self.counterName] = t
    var report = [Value?](repeating: nil, count: reports.count)
    for (index, phase) in phases.enumerated() {
      // Every step and phase draws from a key of its own.
      let own = seed.map { seed -> Value in
        let number =
          g.convert(t, .int64) * Double(phases.count) + g.constant(Double(index), .int64)
        let stride = g.constant(Tensor(.int64, [], truncating: [0x9E37_79B9_7F4A_7C1]))
        return g.binary(.xor, seed, g.binary(.multiply, number, stride))
      }
      let rate = phase.rule.schedule.rate(g, base: phase.rule.learningRate, t)
      let outcome = run(g, phase, data, own, values, rate)
      for (position, entry) in reports.enumerated() where entry.phase == index {
        report[position] = entry.output.map { outcome.results[$0] } ?? rate
      }
      // State is rounded in every step, in a loop of many as in one alone.
      func stored(_ x: Value) -> Value {
        g.convert(g.convert(x, x.dataType.computeType), x.dataType)
      }
      for (name, value) in outcome.updates { values[name] = stored(value) }
      if phase.kind == .replace {
        for parameter in parameters(phase) {
          if let value = outcome.results[parameter.name] { values[parameter.name] = stored(value) }
        }
      } else {
        apply(g, phase, outcome.gradients, rate, t, &values)
      }
    }
    return zip(metrics, report).map { name, value in
      let value = value ?? g.constant(.nan, .float32)
      return (name, g.convert(value, value.dataType.computeType))
    }
  }

  private struct Outcome {
    var results: [String: Value]
    var updates: [String: Value]
    var gradients: [String: Value]
  }

  /// The phase's function, with the gradients of what it moves.
  private func run(
    _ g: FunctionBuilder, _ phase: Phase, _ data: [String: Value], _ seed: Value?,
    _ values: [String: Value], _ rate: Value
  ) -> Outcome {
    let moved = parameters(phase).map(\.name)
    if phase.rule.accumulation > 1 && phase.kind.differentiates {
      return accumulate(g, phase, data, seed, values, rate)
    }
    let graph = module.function(phase.function)!.graph
    var point = values
    // A phase that gives next values has no rule that could keep anything.
    for name in moved where phase.kind != .replace {
      let slots = slotValues(phase, name, values)
      let scaled = rate * group(phase, name).rateFactor
      if let probe = phase.rule.optimizer.probe(values[name]!, slots, lr: scaled) {
        point[name] = probe
      }
    }
    // Gradients are taken by values that stand for nothing else.
    var leaves: [String: Value] = [:]
    let arguments = graph.arguments.map { argument -> Value in
      if argument.kind == .input {
        return argument.name == Self.seedName ? seed ?? g.constant(0, .int64) : data[argument.name]!
      }
      guard moved.contains(argument.name) else { return point[argument.name]! }
      let leaf = g.unary(.stop_gradient, point[argument.name]!)
      leaves[argument.name] = leaf
      return leaf
    }
    let (results, updates) = g.inline(graph, arguments)
    var gradients: [String: Value] = [:]
    guard g.failure == nil else { return Outcome(results: [:], updates: [:], gradients: [:]) }
    switch phase.kind {
    case .minimize, .maximize:
      let targets = moved.compactMap { leaves[$0] }
      let output = results[phase.output]!
      let parts = g.gradient(of: phase.kind == .minimize ? output : -output, by: targets)
      for (name, part) in zip(moved, parts) { gradients[name] = part }
    case .gradients: for name in moved { gradients[name] = results["d_\(name)"] }
    case .replace: break
    }
    return Outcome(results: results, updates: updates, gradients: gradients)
  }

  /// The means over equal parts of the batch, one after the other.
  private func accumulate(
    _ g: FunctionBuilder, _ phase: Phase, _ data: [String: Value], _ seed: Value?,
    _ values: [String: Value], _ rate: Value
  ) -> Outcome {
    let count = phase.rule.accumulation
    var single = phase
    single.rule.accumulation = 1
    let moved = parameters(phase).map(\.name)
    let batch = inputs[0].type.shape.first
    let names = inputs.filter { $0.type.shape.first == batch && data[$0.name] != nil }
    let parts = names.map { name, type in
      g.reshape(data[name]!, [Size(count)] + type.shape)
    }
    let function = module.function(phase.function)!
    let statistics = function.graph.updates.map(\.name).sorted()
    let scalars = function.metrics
    let zeros = moved.map { g.constant(0, like: values[$0]!) }
    let (carried, outputs) = g.scan(
      carried: zeros + statistics.map { values[$0]! },
      inputs: parts + [g.iota(.int64, [Size(count)], axis: 0)]
    ) { g, carried, slices in
      var inner = values
      for (name, value) in zip(statistics, carried[moved.count...]) { inner[name] = value }
      var piece = data
      for ((name, _), slice) in zip(names, slices) { piece[name] = slice }
      let own = seed.map { g.binary(.add, $0, slices.last!) }
      let outcome = run(g, single, piece, own, inner, rate)
      guard g.failure == nil else { return (carried, []) }
      let sums = zip(moved, carried).map { name, sum in sum + outcome.gradients[name]! }
      return (
        sums + statistics.map { outcome.updates[$0]! }, scalars.map { outcome.results[$0]! }
      )
    }
    guard g.failure == nil else { return Outcome(results: [:], updates: [:], gradients: [:]) }
    var outcome = Outcome(results: [:], updates: [:], gradients: [:])
    for (name, sum) in zip(moved, carried) { outcome.gradients[name] = sum / Double(count) }
    for (name, value) in zip(statistics, carried[moved.count...]) { outcome.updates[name] = value }
    for (scalar, stack) in zip(scalars, outputs) {
      outcome.results[scalar] = g.mean(stack, axes: [0])
    }
    return outcome
  }

  private func group(_ phase: Phase, _ name: String) -> UpdateRule.Group {
    phase.rule.groups.first { name.hasPrefix($0.prefix) } ?? UpdateRule.Group(prefix: "")
  }

  private func slotValues(_ phase: Phase, _ name: String, _ values: [String: Value]) -> [String:
    Value]
  {
    var slots: [String: Value] = [:]
    for slot in phase.rule.optimizer.slots(values[name]!.shape) {
      slots[slot.name] = values[Self.slotName(name, slot.name)]!
    }
    return slots
  }

  private func apply(
    _ g: FunctionBuilder, _ phase: Phase, _ gradients: [String: Value], _ rate: Value, _ t: Value,
    _ values: inout [String: Value]
  ) {
    guard g.failure == nil else { return }
    let rule = phase.rule
    let names = parameters(phase).map(\.name)
    var scale: Value?
    if let limit = rule.clipNorm {
      let type: DataType =
        names.contains { gradients[$0]!.dataType == .float64 } ? .float64 : .float32
      var total = g.constant(0, type)
      for name in names {
        let d = g.convert(gradients[name]!, type)
        total = total + g.sum(d * d, axes: Array(d.shape.indices))
      }
      let norm = g.sqrt(total)
      scale = g.minimum(g.constant(1, type), g.constant(limit, type) / (norm + 1e-12))
    }
    let isFirst = g.compare(.equal, t, g.constant(1, .int32))
    for name in names {
      // Parameters of half floats move in float32 and are rounded once.
      let stored = values[name]!
      let type = stored.dataType.computeType
      let theta = g.convert(stored, type)
      let group = group(phase, name)
      var d = g.convert(gradients[name]!, type)
      if let scale { d = d * g.convert(scale, d.dataType) }
      if let limit = rule.clipValue { d = g.clamp(d, -limit, limit) }
      if rule.coupledDecay != 0 { d = d + theta * (rule.coupledDecay * group.decayFactor) }
      var slots = slotValues(phase, name, values)
      for slot in rule.optimizer.slots(theta.shape) where slot.startsAsParameter {
        let kept = slots[slot.name]!
        slots[slot.name] = g.select(
          g.broadcast(isFirst, to: theta.shape), g.convert(theta, kept.dataType), kept)
      }
      let lr = g.convert(rate, theta.dataType) * group.rateFactor
      var (next, after) = rule.optimizer.step(theta, gradient: d, slots, lr: lr, t: t)
      if rule.decoupledDecay != 0 {
        next = next - lr * (rule.decoupledDecay * group.decayFactor) * theta
      }
      for (slot, value) in after { values[Self.slotName(name, slot)] = value }
      if let decay = rule.averaging {
        let kept = values[Self.averageName(name)]!
        let old = g.select(
          g.broadcast(isFirst, to: theta.shape), next, g.convert(kept, type))
        values[Self.averageName(name)] = g.convert(old * decay + next * (1 - decay), kept.dataType)
      }
      values[name] = g.convert(next, stored.dataType)
    }
  }
}
