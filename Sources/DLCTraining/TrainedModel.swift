import DLCCompiler
public import DLCGraph
public import DLCRuntime
public import DLCTensor

/// What a trainer is used for besides training: measuring, using and keeping what was learnt.
extension Trainer {
  /// The names of states that keep the last step's value of a parameter whose moving average stands
  /// under its own name.
  static let currentPrefix = "current/"

  /// Trains until the last epoch is done.
  /// - Throws: as `run` with a report does.
  public func run(file: StaticString = #fileID, line: UInt = #line) throws(DLCError) {
    do throws(DLCError) { try run { _ in true } } catch { throw error.called(file, line) }
  }

  /// Trains until the last epoch is done.
  /// - Parameter epochEnd: called after every epoch; its `metrics` are means over the epoch then.
  public func runEpochs(
    file: StaticString = #fileID, line: UInt = #line,
    _ epochEnd: (Progress) throws(DLCError) -> Void
  ) throws(DLCError) {
    do throws(DLCError) {
      try run { (progress) throws(DLCError) in
        guard progress.isEpochEnd else { return true }
        var whole = progress
        whole.metrics = progress.epochMetrics
        try epochEnd(whole)
        return true
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// Measures the weights of now, averaged ones where the rule keeps them: by the recipe's function that
  /// evaluates, else by the phases' own (see `Module.phase`).
  /// - Parameter data: one array [rows, ...] for each data input.
  /// - Returns: means over the rows.
  public func evaluate(
    _ data: [String: Tensor], file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> [(name: String, value: Double)] {
    do throws(DLCError) {
      var options = options
      options.validation = data
      return try Self.validator(step, options)!.run(completeState, threads: options.threads)
    } catch {
      throw error.called(file, line)
    }
  }

  static func validator(_ step: TrainingStep, _ options: Options) throws(DLCError) -> Evaluator? {
    guard let data = options.validation else { return nil }
    do throws(DLCError) {
      if let name = step.module.recipe?.evaluation {
        return try Evaluator(
          step.module, function: name, data: data, batch: options.batch,
          dimensions: options.dimensions)
      }
      return try Evaluator(
        step, data: data, batch: options.batch, dimensions: options.dimensions)
    } catch {
      guard error.code == .binding, let place = options.validationPlace else { throw error }
      throw error.within(place)
    }
  }

  /// The state that the module is used with: `averagedState`, and what no step reads as it begins. Parameters
  /// that nothing trains have the value that the module stores, or none.
  var completeState: [String: Tensor] {
    get throws(DLCError) {
      var all = averagedState
      for state in step.module.states where all[state.name] == nil {
        if state.isParameter && state.value == nil { continue }
        all[state.name] = try state.initial(options.dimensions, in: step.module, seed: options.seed)
      }
      return all
    }
  }

  /// The trained module: it stores the values of its state, and sizes that training bound are its defaults.
  /// Where the run looks for the best epoch they are that epoch's, averaged ones where the rule keeps
  /// averages. Without a best epoch the last step's value stands beside each average (as a state
  /// `current/<name>`), and training of the module goes on from there.
  public func module(file: StaticString = #fileID, line: UInt = #line) throws(DLCError) -> Module {
    do throws(DLCError) {
      var module = step.module.withoutCurrent
      let batch = try step.batchDimension()
      for (name, size) in sizes where name != batch { module.dimension(name, default: size) }
      var values = try completeState
      if let best { values.merge(best.state, uniquingKeysWith: { $1 }) }
      for (name, value) in values where module.state(name) != nil {
        try module.setValue(value, of: name)
      }
      // What an average belongs to; the best epoch's are weights by themselves.
      let current = best == nil ? modelState : [:]
      for state in module.states {
        guard let value = current[state.name], value != module.state(state.name)?.value else {
          continue
        }
        module.add(
          State(
            name: Self.currentPrefix + state.name, type: state.type, initializer: .zeros,
            isParameter: false, value: value))
      }
      return module
    } catch {
      throw error.called(file, line)
    }
  }

  /// A function of the trained module, compiled, with the state in it.
  /// - Parameter dimensions: sizes of named dimensions, the batch among them.
  /// - Throws: `.binding` when it reads parameters that no phase trains and the module stores no values for.
  public func model(
    _ function: String? = nil, dimensions: [String: Int] = [:], file: StaticString = #fileID,
    line: UInt = #line
  ) throws(DLCError) -> Executable {
    do throws(DLCError) {
      let module = try module()
      let untrained = module.untrained(by: try module.selectFunction(function))
      guard untrained.isEmpty else {
        throw DLCError(
          .binding,
          "the function reads parameters that no phase trains: \(Spelling.list(untrained))",
          remedy:
            "parameters are shared by their names: give those of the trained function the same ones"
        )
      }
      let executable = try Compiler().load(
        module, function: function, dimensions: dimensions, cache: .standard
      ).executable
      try executable.initializeState(seed: options.seed)
      return executable
    } catch {
      throw error.called(file, line)
    }
  }
}

extension Module {
  /// The parameters that a function reads and the module stores no values for.
  package func untrained(by function: Function) -> [String] {
    let read = Set(function.stateNames)
    return states.filter { $0.isParameter && $0.value == nil && read.contains($0.name) }.map(\.name)
  }

  /// The values that the states have, by name.
  var storedValues: [String: Tensor] {
    Dictionary(
      states.compactMap { state in state.value.map { (state.name, $0) } },
      uniquingKeysWith: { a, _ in a })
  }

  /// Without what `Trainer.module` adds.
  package var withoutCurrent: Module {
    var result = self
    result.removeStates { $0.name.hasPrefix(Trainer.currentPrefix) }
    return result
  }

  /// What training of a trained module begins with: the last step's values.
  package var currentState: [String: Tensor] {
    var result: [String: Tensor] = [:]
    for state in states where state.name.hasPrefix(Trainer.currentPrefix) {
      result[String(state.name.dropFirst(Trainer.currentPrefix.count))] = state.value
    }
    return result
  }
}

extension State {
  /// The value that the state begins with.
  fileprivate func initial(_ sizes: [String: Int], in module: Module, seed: UInt64) throws(DLCError)
    -> Tensor
  {
    if let value { return value }
    let bound = try module.bind(explicit: sizes)
    var shape: [Size] = []
    for size in type.shape { shape.append(Size(try size.evaluate(bound))) }
    return initializer.value(TensorType(type.dataType, shape), name: name, seed: seed)
  }
}
