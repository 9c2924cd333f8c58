import DLCCompiler
import DLCGraph
import DLCRuntime
public import DLCTensor

/// The state of a run.
extension Trainer {
  /// All state: parameters, statistics, what the optimizer keeps.
  public var state: [String: Tensor] { holder.state }

  /// The parameters and statistics of the module that is trained.
  public var modelState: [String: Tensor] {
    state.filter { name, _ in step.module.state(name) != nil }
  }

  /// The same with the moving average in the place of each parameter that has one (see
  /// `UpdateRule.averaging`), rounded to the parameter's type.
  public var averagedState: [String: Tensor] {
    let all = state
    var result = all.filter { name, _ in step.module.state(name) != nil }
    // Before the first step there is nothing to average but what the module came with.
    if position.step == 0 {
      for name in step.module.currentState.keys where result[name] != nil {
        result[name] = step.module.state(name)?.value ?? result[name]
      }
      return result
    }
    for (name, parameter) in result {
      guard let average = all[TrainingStep.averageName(name)] else { continue }
      result[name] =
        average.dataType == parameter.dataType
        ? average : Tensor(parameter.dataType, average.shape, rounding: average.doubles)
    }
    return result
  }

  /// Sets state by name; the others keep their values. `modelState` of another trainer starts from its
  /// weights. A whole `state` holds the count of steps too, and with that the run goes on where it was
  /// taken: back to an earlier step of this run, or from where another one ended.
  /// - Throws: `.binding` for an unknown name, a value of another type, or a count of steps that no run
  ///   has; then nothing has changed.
  public func setState(
    _ values: [String: Tensor], file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      let steps = values[TrainingStep.counterName].flatMap { $0.problem == nil ? $0 : nil }
      let count = (steps?.integers.first).map { Int($0) }
      if let count, !(0..<Int(Int32.max)).contains(count) {
        throw DLCError(
          .binding, "state '\(TrainingStep.counterName)' is \(count): no run has so many steps")
      }
      try holder.setState(values)
      if let count, count != position.step {
        position = (count, count / stepsPerEpoch, count % stepsPerEpoch)
        saved = saved.map { min($0, count) }
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// The executable for a size of batch, with the state in it.
  func hold(_ executable: Executable) throws(DLCError) -> Executable {
    if holder !== executable {
      try executable.setState(holder.takeState())
      holder = executable
    }
    return executable
  }

  /// The state before the first step: initialisers, what the initialization makes of the data, and what
  /// the module has values of.
  func prepareState() throws(DLCError) {
    try holder.initializeState(seed: options.seed)
    if let name = step.initialization {
      let set = step.module.function(name)!.graph.updates.map(\.name)
      let kept = set.filter { step.module.state($0)?.value != nil }
      if !kept.isEmpty {
        said.append("'\(name)' does not set what has values: \(Spelling.list(kept))")
      }
      if kept.count < set.count { try initialize(by: name) }
    }
    // A trained module goes on from the last step's weights.
    let known = Set(holder.states.map(\.name))
    let current = step.module.currentState.filter { known.contains($0.key) }
    try holder.setState(current)
    if !current.isEmpty {
      said.append(
        "training goes on from the last step's weights, which the model keeps beside their averages"
      )
    }
  }

  /// Runs the function that sets state from all examples.
  private func initialize(by name: String) throws(DLCError) {
    let function = step.module.function(name)!
    var inputs: [String: Tensor] = [:]
    for (input, _) in function.inputs {
      inputs[input] =
        input == TrainingStep.seedName
        ? Tensor([], [Int64(bitPattern: options.seed)]) : try data.whole(input)
    }
    let declared = function.inputs.filter { $0.name != TrainingStep.seedName }
    var explicit = options.dimensions
    explicit[try step.batchDimension()] = nil
    let all = try step.module.bind(
      explicit: explicit, arrays: declared.map { ($0.name, $0.type, inputs[$0.name]!.shape) })
    let executable = try Compiler().load(
      step.module, function: name, dimensions: all, cache: .standard
    ).executable
    let known = Set(executable.states.map(\.name))
    try executable.setState(holder.state.filter { known.contains($0.key) })
    _ = try executable.run(inputs, threads: options.threads)
    // What the module has a value of is trained already.
    try holder.setState(executable.state.filter { step.module.state($0.key)?.value == nil })
  }
}
