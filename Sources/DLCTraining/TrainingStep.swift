public import DLCGraph
public import DLCTensor

/// A training step of a module: forward, backward, optimizer, schedule and state updates as one graph.
///
/// ```swift
/// let rule = UpdateRule(.gradientDescent, learningRate: 0.1)
/// let step = try TrainingStep(module, phases: [Phase("loss", rule: rule)])
/// let program = try Compiler().compile(
///   step.stepFunction(), function: "train_step", dimensions: ["n": 8])
/// try program.initializeState(seed: 1)
/// let before = try program.run(data)[0].value.scalar  // the loss
/// let after = try program.run(data)[0].value.scalar  // smaller: the parameters have moved
/// ```
public struct TrainingStep {
  /// The module that is trained.
  public package(set) var module: Module
  /// The parts of a step, in their order.
  public private(set) var phases: [Phase]
  /// The function that sets state from the data before the first step, if there is one.
  public let initialization: String?
  /// The state that a step reads and writes, in order: parameters, statistics, what the rules keep, and
  /// the number of steps taken.
  public private(set) var states: [State]
  /// Names and types of the data inputs of all phases; `seed` is not among them.
  public private(set) var inputs: [(name: String, type: TensorType)] = []
  /// What a step reports, in order: of each phase the scalar results of its function and the learning
  /// rate. A name that several phases have gets the function's name before it, as `generator.loss`.
  public var metrics: [String] { reports.map(\.name) }
  /// The input that a step fills with a seed of its own, when a phase declares it.
  package static let seedName = "seed"
  static let counterName = "optimizer/step"

  /// One number that a step reports.
  struct Report {
    var name: String
    var phase: Int
    /// The function's result; nil for the learning rate.
    var output: String?
    /// Whether it is what the phase is about: no step is taken on when it is not finite.
    var isLoss: Bool
  }
  private(set) var reports: [Report] = []

  /// The step of some phases of a module.
  /// - Throws: `.graph` when there is no phase, a phase's function is missing, lacks the scalar that it is
  ///   to minimise or maximise, or has no parameter whose name begins with a prefix of the phase; `.usage` when a number of a rule
  ///   cannot be.
  public init(
    _ module: Module, phases: [Phase], initialization: String? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      self.module = module
      self.phases = phases
      self.initialization = initialization
      states = []
      guard !phases.isEmpty else {
        throw DLCError(
          .graph, "a training step without phases", remedy: "give it the loss's function")
      }
      var read: Set<String> = []
      for phase in phases {
        let function = try module.function(of: phase)
        if let name = phase.evaluation { _ = try module.measuring(name) }
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
        try validate(phase, function)
      }
      if let initialization {
        read.formUnion(try validate(initialization: initialization))
      }
      reports = Self.reports(phases.map { module.function($0.function)!.metrics }, phases)
      var kept: [State] = []
      for phase in phases where phase.kind != .replace {
        for parameter in parameters(phase) {
          for slot in phase.rule.optimizer.slots(parameter.type.shape) {
            kept.append(
              State(
                name: Self.slotName(parameter.name, slot.name),
                type: TensorType(phase.rule.stateType(parameter.type.dataType), slot.shape),
                initializer: .zeros,
                isParameter: false))
          }
          if phase.rule.averaging != nil {
            kept.append(
              State(
                name: Self.averageName(parameter.name),
                type: TensorType(
                  phase.rule.stateType(parameter.type.dataType), parameter.type.shape),
                initializer: .zeros, isParameter: false))
          }
        }
      }
      kept.append(
        State(
          name: Self.counterName, type: TensorType(.int32), initializer: .zeros, isParameter: false)
      )
      try requireDistinct(kept)
      states = module.states.filter { read.contains($0.name) } + kept
    } catch {
      throw error.called(file, line)
    }
  }

  /// The step of the module's recipe.
  /// - Throws: `.graph` when it has none, or the recipe does not fit the module.
  public init(
    _ module: Module, file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      guard let recipe = module.recipe else {
        throw DLCError(
          .graph, "module '\(module.name)' has no recipe to train by",
          remedy: "set its 'recipe', or give the phases")
      }
      try module.verifyRecipe()
      try self.init(module, phases: recipe.phases, initialization: recipe.initialization)
    } catch {
      throw error.called(file, line)
    }
  }

  /// What the phases report, given the metrics of each.
  private static func reports(_ metrics: [[String]], _ phases: [Phase]) -> [Report] {
    var reports: [Report] = []
    let names = zip(metrics, phases).map { list, phase in
      list + (phase.kind == .replace ? [] : [rateName(list)])
    }
    for (index, phase) in phases.enumerated() {
      let function =
        phases.filter { $0.function == phase.function }.count > 1
        ? "\(phase.function).\(index + 1)" : phase.function
      for (position, name) in names[index].enumerated() {
        let isShared = names.filter { $0.contains(name) }.count > 1
        reports.append(
          Report(
            name: isShared ? "\(function).\(name)" : name, phase: index,
            output: position < metrics[index].count ? name : nil, isLoss: name == phase.output))
      }
    }
    return reports
  }

  /// `learning_rate`, unless a result has the name.
  private static func rateName(_ taken: [String]) -> String {
    var name = "learning_rate"
    while taken.contains(name) { name += "_" }
    return name
  }

  /// The functions that measure the phases.
  package var evaluationFunctions: [Function] { evaluations.map(\.function) }

  /// The functions that measure the phases, what their results are called, and whether they are other
  /// functions than those that are trained.
  var evaluations:
    [(
      function: Function, names: [(output: String, metric: String)], isSeparate: Bool
    )]
  {
    let functions = phases.map { phase in
      phase.evaluation.flatMap { module.function($0) }
        ?? module.function(Module.evaluationName(phase.function)) ?? module.function(
          phase.function)!
    }
    let reports = Self.reports(functions.map(\.metrics), phases)
    return phases.indices.map { index in
      let own = reports.filter { $0.phase == index && $0.output != nil }
      return (
        functions[index], own.map { ($0.output!, $0.name) },
        functions[index].name != phases[index].function
      )
    }
  }

  /// The same step in a run of so many epochs: all lengths of its schedules are in steps.
  func resolved(stepsPerEpoch: Int, epochs: Int) -> TrainingStep {
    var result = self
    for index in phases.indices {
      result.phases[index].rule.schedule = phases[index].rule.schedule.resolved(
        stepsPerEpoch: stepsPerEpoch, epochs: epochs)
    }
    return result
  }

  /// How many parts a batch has.
  package var accumulation: Int { phases.map(\.rule.accumulation).max() ?? 1 }

  /// The type of an input for a whole batch.
  func whole(_ type: TensorType) -> TensorType {
    guard accumulation > 1, let first = type.shape.first, first == inputs[0].type.shape.first else {
      return type
    }
    return TensorType(type.dataType, [first * Size(accumulation)] + type.shape.dropFirst())
  }

  static func averageName(_ parameter: String) -> String { "average/\(parameter)" }

  static func slotName(_ parameter: String, _ slot: String) -> String {
    "optimizer/\(parameter)/\(slot)"
  }

  /// The parameters that a phase moves.
  func parameters(_ phase: Phase) -> [State] {
    let read = module.function(phase.function)!.stateNames
    return module.states.filter {
      $0.isParameter && read.contains($0.name) && phase.moves($0.name)
    }
  }
}
