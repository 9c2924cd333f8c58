package import DLCGraph
package import DLCTensor

extension Function {
  /// The names of the results that training reports: floating-point scalars, but for derivatives.
  var metrics: [String] {
    outputs.filter { $0.type.rank == 0 && $0.type.dataType.isFloat && !$0.name.hasPrefix("d_") }
      .map(\.name)
  }
}

extension Module {
  /// The function that measures a trained module: that of the name, or the recipe's, else `loss_evaluation` or `loss`.
  package func evaluating(_ name: String?) throws(DLCError) -> Function {
    let measuring = functions.filter { !$0.metrics.isEmpty }.map(\.name)
    let usual = ["loss_evaluation", "loss"].first { function($0)?.metrics.isEmpty == false }
    guard let name = name ?? recipe?.evaluation ?? usual else {
      throw DLCError(
        .graph, "module '\(self.name)' says of no function that it evaluates",
        remedy: measuring.isEmpty
          ? "none gives a floating-point scalar to measure by"
          : "--function names one of \(measuring.joined(separator: ", "))")
    }
    return try self.measuring(name)
  }

  /// A function that measures.
  /// - Throws: `.graph` when there is none of that name, or it gives no floating-point scalar.
  package func measuring(_ name: String) throws(DLCError) -> Function {
    let function = try existing(name)
    guard !function.metrics.isEmpty else {
      throw DLCError(
        .graph, "function '\(name)' gives no floating-point scalar to measure by",
        remedy: "its outputs are "
          + function.outputs.map { "\($0.name) \($0.type)" }.joined(separator: ", "))
    }
    return function
  }
}

extension TrainingStep {
  /// Checks what a phase asks of its function.
  func validate(_ phase: Phase, _ function: Function) throws(DLCError) {
    let place = "phase \(phase.function)"
    try phase.rule.validate(place)
    if let seed = function.inputs.first(where: { $0.name == Self.seedName }),
      seed.type != TensorType(.int64)
    {
      throw DLCError(
        .graph, "input '\(Self.seedName)' is \(seed.type)", at: place,
        remedy: "training fills it with an int64 scalar: declare it as one, or name it otherwise")
    }
    let read = module.states.filter { $0.isParameter && function.stateNames.contains($0.name) }
    let list = read.map(\.name).joined(separator: ", ")
    guard !read.isEmpty else {
      throw DLCError(.graph, "function '\(phase.function)' has no parameters to train", at: place)
    }
    for prefix in phase.prefixes + phase.rule.groups.map(\.prefix)
    where !read.contains(where: { $0.name.hasPrefix(prefix) }) {
      throw DLCError(
        .graph, "no parameter of function '\(phase.function)' begins with '\(prefix)'", at: place,
        remedy: "its parameters are \(list)")
    }
    guard phase.rule.accumulation == accumulation else {
      throw DLCError(
        .graph,
        "the phases divide a batch into \(accumulation) and \(phase.rule.accumulation) parts",
        at: place, remedy: "give every phase the same accumulation")
    }
    let moved = parameters(phase)
    let results = Dictionary(
      function.outputs.map { ($0.name, $0.type) }, uniquingKeysWith: { a, _ in a })
    switch phase.kind {
    case .minimize, .maximize: return
    case .gradients:
      for parameter in moved where results["d_\(parameter.name)"] != parameter.type {
        throw DLCError(
          .graph,
          "function '\(phase.function)' gives no 'd_\(parameter.name)' of type \(parameter.type)",
          at: place)
      }
    case .replace:
      for parameter in moved {
        guard results[parameter.name] ?? parameter.type == parameter.type else {
          throw DLCError(
            .graph,
            "the next '\(parameter.name)' is \(results[parameter.name]!), not \(parameter.type)",
            at: place)
        }
      }
      guard moved.contains(where: { results[$0.name] != nil }) else {
        throw DLCError(
          .graph, "function '\(phase.function)' gives no next value of a parameter", at: place,
          remedy: "name results as the parameters are: \(list)")
      }
    }
    guard phase.rule.accumulation == 1 else {
      throw DLCError(
        .graph, "only a phase that minimises or maximises takes its batch in parts", at: place)
    }
  }

  /// Checks the function that sets state from the data.
  /// - Returns: the names of the state that it reads and sets.
  func validate(initialization name: String) throws(DLCError) -> Set<String> {
    let function = try module.existing(name)
    let place = "initialisation \(name)"
    guard !function.graph.updates.isEmpty else {
      throw DLCError(.graph, "function '\(name)' sets no state", at: place)
    }
    for (input, type) in function.inputs where input != Self.seedName {
      guard inputs.contains(where: { $0.name == input && $0.type == type }) else {
        let list = inputs.map { "\($0.name) \($0.type)" }.joined(separator: ", ")
        throw DLCError(
          .graph, "no phase has the input '\(input)', \(type)", at: place,
          remedy: "the phases' inputs are \(list)")
      }
    }
    return Set(function.stateNames + function.graph.updates.map(\.name))
  }

  /// What the rules keep must not have the names of the module's state, nor of another phase's.
  func requireDistinct(_ kept: [State]) throws(DLCError) {
    var names: Set<String> = []
    for state in kept {
      guard module.state(state.name) == nil else {
        throw DLCError(
          .graph,
          "module '\(module.name)' has a state '\(state.name)', which training keeps itself",
          remedy: "name it otherwise")
      }
      guard names.insert(state.name).inserted else {
        throw DLCError(
          .graph, "two phases move the same parameter: both would keep '\(state.name)'",
          remedy: "give the phases prefixes that tell their parameters apart")
      }
    }
  }
}

extension UpdateRule {
  /// - Throws: `.usage` for a number that cannot be.
  func validate(_ place: String) throws(DLCError) {
    func require(_ holds: Bool, _ what: String, _ value: Double, _ range: String) throws(DLCError) {
      let text = value.magnitude < 1e15 && value == value.rounded() ? "\(Int(value))" : "\(value)"
      if !holds { throw DLCError(.usage, "\(what) is \(text): it must be \(range)", at: place) }
    }
    try require(
      learningRate.isFinite && learningRate >= 0, "the learning rate", learningRate,
      "a number from 0 on")
    for (what, decay) in [
      ("the coupled decay", coupledDecay), ("the decoupled decay", decoupledDecay),
    ] { try require(decay.isFinite && decay >= 0, what, decay, "a number from 0 on") }
    for (what, limit) in [
      ("the limit of gradient elements", clipValue), ("the limit of the gradients' norm", clipNorm),
    ] { if let limit { try require(limit > 0, what, limit, "positive") } }
    if let averaging {
      try require(
        averaging >= 0 && averaging < 1, "the decay of the averages", averaging,
        "at least 0 and less than 1")
    }
    if let halfStateType, !halfStateType.isFloat {
      throw DLCError(
        .usage, "what is kept for half floats is \(halfStateType): it must be floating-point",
        at: place)
    }
    try require(accumulation >= 1, "the accumulation", Double(accumulation), "positive")
    for group in groups {
      try require(
        group.rateFactor.isFinite && group.rateFactor >= 0,
        "the rate factor of '\(group.prefix)'", group.rateFactor, "a number from 0 on")
      try require(
        group.decayFactor.isFinite && group.decayFactor >= 0,
        "the decay factor of '\(group.prefix)'", group.decayFactor, "a number from 0 on")
    }
    if case .lookahead(let inner, let k, let alpha) = optimizer {
      if case .lookahead = inner {
        throw DLCError(.usage, "a lookahead is around a lookahead", at: place, remedy: "use one")
      }
      try require(k >= 1, "k of the lookahead", Double(k), "positive")
      try require(alpha >= 0 && alpha <= 1, "alpha of the lookahead", alpha, "from 0 to 1")
    }
    for (what, value, isShare) in optimizer.numbers {
      try require(
        isShare ? value >= 0 && value < 1 : value.isFinite && value >= 0,
        "\(what) of the optimizer", value,
        isShare ? "at least 0 and less than 1" : "a number from 0 on")
    }
    try schedule.validate(place)
  }
}

extension Optimizer {
  /// The numbers of the rule, and whether each is a share: less than 1.
  fileprivate var numbers: [(what: String, value: Double, isShare: Bool)] {
    switch self {
    case .gradientDescent: []
    case .momentum(let beta, let dampening):
      [("beta", beta, true), ("the dampening", dampening, true)]
    case .nesterov(let beta): [("beta", beta, true)]
    case .adagrad(let epsilon): [("epsilon", epsilon, false)]
    case .rmsprop(let rho, let epsilon), .adadelta(let rho, let epsilon):
      [("rho", rho, true), ("epsilon", epsilon, false)]
    case .adam(let beta1, let beta2, let epsilon), .amsgrad(let beta1, let beta2, let epsilon),
      .nadam(let beta1, let beta2, let epsilon):
      [("beta1", beta1, true), ("beta2", beta2, true), ("epsilon", epsilon, false)]
    case .adamW(let beta1, let beta2, let epsilon, let decay),
      .lamb(let beta1, let beta2, let epsilon, let decay, _):
      [
        ("beta1", beta1, true), ("beta2", beta2, true), ("epsilon", epsilon, false),
        ("the decay", decay, false),
      ]
    case .lion(let beta1, let beta2): [("beta1", beta1, true), ("beta2", beta2, true)]
    case .adafactor(let decay, let epsilon, let divisor):
      [("the decay", decay, true), ("epsilon", epsilon, false), ("the divisor", divisor, false)]
    case .lookahead(let inner, _, _): inner.numbers
    }
  }
}
