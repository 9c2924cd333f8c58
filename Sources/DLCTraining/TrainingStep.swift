import DLCAutodiff
public import DLCGraph
public import DLCTensor

/// How parameters follow their gradients.
public struct UpdateRule: Hashable, Sendable {
  public var optimizer: Optimizer
  public var learningRate: Double
  public var schedule = Schedule.constant
  /// Added to the gradient as this times the parameter (L2 regularisation).
  public var coupledDecay = 0.0
  /// Taken from the parameter as lr times this times the parameter.
  public var decoupledDecay = 0.0
  /// Every gradient element is moved into plus or minus this.
  public var clipValue: Double?
  /// All gradients together are scaled down to this Euclidean norm.
  public var clipNorm: Double?
  /// The mean of the gradients of so many parts of a batch; the batch dimension of the loss is then the
  /// size of a part.
  public var accumulation = 1
  /// Keeps `average/<name>`, an exponential moving average of each parameter with this decay.
  public var averaging: Double?
  /// Parameters whose names begin alike, with factors for their rate and decay.
  public var groups: [Group] = []

  public struct Group: Hashable, Sendable {
    public var prefix: String
    public var rateFactor: Double
    public var decayFactor: Double
    public init(prefix: String, rateFactor: Double = 1, decayFactor: Double = 1) {
      self.prefix = prefix
      self.rateFactor = rateFactor
      self.decayFactor = decayFactor
    }
  }

  public init(_ optimizer: Optimizer, learningRate: Double) {
    self.optimizer = optimizer
    self.learningRate = learningRate
  }
}

/// One part of a training step.
public struct Phase: Sendable {
  public enum Kind: Sendable {
    /// The function's `loss` is differentiated by the parameters.
    case minimize
    /// The function gives `d_<parameter>` itself.
    case gradients
    /// The function gives the next value of each parameter under its name.
    case replace
  }
  public var function: String
  public var kind: Kind
  /// The parameters that move are those whose names begin so.
  public var prefix: String
  public var rule: UpdateRule

  public init(
    _ function: String, _ kind: Kind = .minimize, prefix: String = "", rule: UpdateRule
  ) {
    self.function = function
    self.kind = kind
    self.prefix = prefix
    self.rule = rule
  }
}

/// A training step of a module: forward, backward, optimizer, schedule and state updates as one graph.
public struct TrainingStep {
  public let module: Module
  public let phases: [Phase]
  /// The state that a step reads and writes, in order: parameters, statistics, what the rules keep, and
  /// the number of steps taken.
  public private(set) var states: [State]
  /// Names and types of the data inputs of all phases; `seed` is not among them.
  public private(set) var inputs: [(name: String, type: TensorType)] = []
  /// What a step reports: `loss`, the phase functions' other scalar results, `learning_rate`.
  public private(set) var metrics: [String] = []
  /// The input that a step fills with a seed of its own, when a phase declares it.
  public static let seedName = "seed"
  static let counterName = "optimizer/step"

  /// - Throws: `.graph` when a phase's function is missing or has no scalar `loss`.
  public init(_ module: Module, phases: [Phase]) throws(DLCError) {
    self.module = module
    self.phases = phases
    states = []
    var read: Set<String> = []
    for phase in phases {
      guard let function = module.function(phase.function) else {
        throw DLCError(
          .graph, "module '\(module.name)' has no function '\(phase.function)'",
          remedy: "training needs a function with the output 'loss'")
      }
      guard let loss = function.outputs.first(where: { $0.name == "loss" }),
        loss.type.rank == 0, loss.type.dataType.isFloat
      else {
        throw DLCError(
          .graph, "function '\(phase.function)' has no floating-point scalar output 'loss'")
      }
      read.formUnion(function.stateNames)
      read.formUnion(function.graph.updates.map(\.name))
      for (name, type) in function.inputs where name != Self.seedName {
        if let known = inputs.first(where: { $0.name == name }) {
          guard known.type == type else {
            throw DLCError(.graph, "input '\(name)' is \(known.type) and \(type)")
          }
        } else {
          inputs.append((name, type))
        }
      }
      for (name, type) in function.outputs
      where type.rank == 0 && type.dataType.isFloat && !metrics.contains(name)
        && !name.hasPrefix("d_")
      { metrics.append(name) }
    }
    metrics.append("learning_rate")
    states = module.states.filter { read.contains($0.name) }
    for phase in phases where phase.kind != .replace {
      for parameter in parameters(phase) {
        for slot in phase.rule.optimizer.slots(parameter.type.shape) {
          states.append(
            State(
              name: Self.slotName(parameter.name, slot.name),
              type: TensorType(parameter.type.dataType, slot.shape), initializer: .zeros,
              isParameter: false))
        }
        if phase.rule.averaging != nil {
          states.append(
            State(
              name: "average/\(parameter.name)", type: parameter.type, initializer: .zeros,
              isParameter: false))
        }
      }
    }
    states.append(
      State(
        name: Self.counterName, type: TensorType(.int32), initializer: .zeros, isParameter: false))
  }

  /// How many parts a batch has.
  public var accumulation: Int { phases.map(\.rule.accumulation).max() ?? 1 }

  /// The type of an input for a whole batch.
  private func whole(_ type: TensorType) -> TensorType {
    guard accumulation > 1, let first = type.shape.first, first == inputs[0].type.shape.first else {
      return type
    }
    return TensorType(type.dataType, [first * Dimension(accumulation)] + type.shape.dropFirst())
  }

  static func slotName(_ parameter: String, _ slot: String) -> String {
    "optimizer/\(parameter)/\(slot)"
  }

  /// The parameters that a phase moves.
  private func parameters(_ phase: Phase) -> [State] {
    let read = module.function(phase.function)!.stateNames
    return module.states.filter {
      $0.isParameter && read.contains($0.name) && $0.name.hasPrefix(phase.prefix)
    }
  }

  // MARK: The graph

  /// The module with a function of one step: inputs are the data (and `seed`), outputs the metrics;
  /// all state is updated.
  public func stepFunction(_ name: String = "train_step") throws(DLCError) -> Module {
    var result = module
    for state in states where result.state(state.name) == nil { result.add(state) }
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

  public var usesSeed: Bool {
    phases.contains {
      module.function($0.function)!.inputs.contains { $0.name == Self.seedName }
    }
  }

  /// The module with a function that takes `steps` steps in one call: inputs are whole data sets
  /// [examples, ...], `order` [steps, batch] int32 with the rows of each step, and `seed`; outputs are
  /// the metrics of every step, [steps].
  public func loopFunction(_ name: String = "train", batchName: String) throws(DLCError) -> Module {
    var result = module
    result.dimension("examples", default: 1024)
    result.dimension("steps", default: 1)
    for state in states where result.state(state.name) == nil { result.add(state) }
    for (name, type) in inputs {
      guard type.shape.first == Dimension(stringLiteral: batchName) else {
        throw DLCError(
          .graph, "input '\(name)' is \(type): its first axis is not the batch '\(batchName)'")
      }
    }
    let batch = Dimension(stringLiteral: batchName)
    try result.function(name) { g in
      var sets: [(name: String, value: Value)] = []
      for (name, type) in inputs {
        sets.append(
          (name, g.input(name, type.dataType, ["examples"] + type.shape.dropFirst())))
      }
      let order = g.input("order", .int32, ["steps", batch * Dimension(accumulation)])
      let seed = g.input(Self.seedName, .int64)
      let values = read(g)
      let names = states.map(\.name)
      let (carried, outputs) = g.scan(
        carried: names.map { values[$0]! }, inputs: [order]
      ) { g, carried, rows in
        var values = Dictionary(uniqueKeysWithValues: zip(names, carried))
        var data: [String: Value] = [:]
        for (name, set) in sets { data[name] = g.embedding(set, rows[0]) }
        let report = step(g, data, seed, &values)
        return (names.map { values[$0]! }, report.map(\.value))
      }
      for (name, value) in zip(metrics, outputs) { g.output(name, value) }
      for (name, value) in zip(names, carried) { g.update(name, value) }
    }
    return result
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
    var report: [String: Value] = [:]
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
      for (name, value) in outcome.results where metrics.contains(name) { report[name] = value }
      report["learning_rate"] = rate
      for (name, value) in outcome.updates { values[name] = value }
      if phase.kind == .replace {
        for parameter in parameters(phase) {
          if let value = outcome.results[parameter.name] { values[parameter.name] = value }
        }
      } else {
        apply(g, phase, outcome.gradients, rate, t, &values)
      }
    }
    return metrics.map { name in (name, report[name] ?? g.constant(.nan, .float32)) }
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
    if phase.rule.accumulation > 1 && phase.kind == .minimize {
      return accumulate(g, phase, data, seed, values, rate)
    }
    let graph = module.function(phase.function)!.graph
    var point = values
    for name in moved {
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
    case .minimize:
      let targets = moved.compactMap { leaves[$0] }
      let parts = g.gradient(of: results["loss"]!, by: targets)
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
      g.reshape(data[name]!, [Dimension(count)] + type.shape)
    }
    let function = module.function(phase.function)!
    let statistics = function.graph.updates.map(\.name).sorted()
    let scalars = function.outputs.filter { metrics.contains($0.name) }
    let zeros = moved.map { g.constant(0, like: values[$0]!) }
    let (carried, outputs) = g.scan(
      carried: zeros + statistics.map { values[$0]! },
      inputs: parts + [g.iota(.int64, [Dimension(count)], axis: 0)]
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
        sums + statistics.map { outcome.updates[$0]! }, scalars.map { outcome.results[$0.name]! }
      )
    }
    guard g.failure == nil else { return Outcome(results: [:], updates: [:], gradients: [:]) }
    var outcome = Outcome(results: [:], updates: [:], gradients: [:])
    for (name, sum) in zip(moved, carried) { outcome.gradients[name] = sum / Double(count) }
    for (name, value) in zip(statistics, carried[moved.count...]) { outcome.updates[name] = value }
    for (scalar, stack) in zip(scalars, outputs) {
      outcome.results[scalar.name] = g.mean(stack, axes: [0])
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
      var total = g.constant(0, .float32)
      for name in names {
        let d = gradients[name]!
        total = total + g.convert(g.sum(d * d, axes: Array(d.shape.indices)), .float32)
      }
      let norm = g.sqrt(total)
      scale = g.minimum(g.constant(1, .float32), g.constant(limit, .float32) / (norm + 1e-12))
    }
    let isFirst = g.compare(.equal, t, g.constant(1, .int32))
    for name in names {
      let theta = values[name]!
      let group = group(phase, name)
      var d = gradients[name]!
      if let scale { d = d * g.convert(scale, d.dataType) }
      if let limit = rule.clipValue { d = g.clamp(d, -limit, limit) }
      if rule.coupledDecay != 0 { d = d + theta * (rule.coupledDecay * group.decayFactor) }
      var slots = slotValues(phase, name, values)
      for slot in rule.optimizer.slots(theta.shape) where slot.startsAsParameter {
        slots[slot.name] = g.select(
          g.broadcast(isFirst, to: theta.shape), theta, slots[slot.name]!)
      }
      let lr = g.convert(rate, theta.dataType) * group.rateFactor
      var (next, after) = rule.optimizer.step(theta, gradient: d, slots, lr: lr, t: t)
      if rule.decoupledDecay != 0 {
        next = next - lr * (rule.decoupledDecay * group.decayFactor) * theta
      }
      for (slot, value) in after { values[Self.slotName(name, slot)] = value }
      if let decay = rule.averaging {
        let old = g.select(
          g.broadcast(isFirst, to: theta.shape), next, values["average/\(name)"]!)
        values["average/\(name)"] = old * decay + next * (1 - decay)
      }
      values[name] = next
    }
  }
}
