import DLCCompiler
public import DLCGraph
import DLCReference
import DLCRuntime
public import DLCTensor
import Foundation

/// Trains a module on arrays: data in, batches in random order, state out.
///
/// A trainer is one run: all references to it see the same state and position. It is used by one thread
/// at a time.
///
/// ```swift
/// let rule = UpdateRule(.adam(), learningRate: 0.1)
/// let step = try TrainingStep(module, phases: [Phase("loss", rule: rule)])
/// let options = Trainer.Options(batch: 16, epochs: 5)
/// let trainer = try Trainer(step, data: arrays, options: options)
/// try trainer.runEpochs { losses.append($0.metrics[0].value) }
/// let weights = trainer.modelState
/// ```
public final class Trainer {
  /// What a call of the loop reports.
  public struct Progress: Sendable {
    /// Counts from 1.
    public var epoch: Int
    /// Steps taken, of the whole run.
    public var step: Int
    /// Steps of the whole run.
    public var totalSteps: Int
    /// Means over the examples of the call's steps.
    public var metrics: [(name: String, value: Double)]
    /// Means over the examples of the epoch so far; of those since a run was resumed inside of it.
    public var epochMetrics: [(name: String, value: Double)]
    /// Of the last call of the loop.
    public var examplesPerSecond: Double
    /// Whether the call was the last one of its epoch.
    public var isEpochEnd: Bool
    /// What was measured on the validation data, at the end of an epoch.
    public var validation: [(name: String, value: Double)] = []
  }

  /// The best epoch by the metric that the run watches.
  public struct Best: Sendable, CustomStringConvertible {
    /// Counts from 1.
    public var epoch: Int
    /// What the metric was then.
    public var value: Double
    /// As `averagedState` then.
    public var state: [String: Tensor]

    /// The epoch and its value.
    public var description: String { "epoch \(epoch): \(value)" }
  }

  /// What the trainer was made with.
  public let options: Options
  /// The epochs that the run has in all. Raise it to train on after the last one.
  public var epochs: Int
  /// Steps taken, epochs done, and steps done of the present epoch.
  public private(set) var position: (step: Int, epoch: Int, cursor: Int) = (0, 0, 0)
  /// What has changed since the checkpoint that the run was resumed from, in words; none of it hinders.
  public private(set) var changes: [String] = []

  /// The epochs that were done when the run, or its continuation, began to look for the best.
  private var watchedFrom = 0

  /// The best epoch so far, when the options say what to watch.
  public private(set) var best: Best?

  /// What is to be said of the run: arrays that belong to no input, where it begins, and what keeps the
  /// validation's numbers from being what they seem (see `Evaluator.notes`).
  public var notes: [String] { said + (validator?.notes ?? []) }
  private var said: [String] = []

  let step: TrainingStep
  private let validator: Evaluator?
  private let loop: TrainingLoop
  private let data: DataSet
  /// Of the named dimensions, the batch among them.
  let sizes: [String: Int]
  /// For whole batches, and for the last smaller one; each when there is one.
  private let whole: Executable?
  private let rest: Executable?
  private let restSize: Int
  /// The one of the two that holds the state.
  private var holder: Executable
  private let shuffle: Executable
  private let stepsPerCall: Int
  private let description: RunDescription
  /// Tells the run apart, in its checkpoints.
  private var identity = UUID().uuidString
  /// The step of the last checkpoint that was read or written, and all that there were then.
  private var saved: Int?
  private var seen: [String] = []

  /// Steps in one pass over the data.
  public let stepsPerEpoch: Int

  /// Compiles the training loop and initialises the state: stored values, else initialisers with the seed.
  /// - Parameter data: one array [examples, ...] for each data input of the step.
  /// - Throws: `.usage` for an option that cannot be, `.graph` when an input has no batch axis,
  ///   `.binding` when an array is missing, does not fit, or holds what is no
  ///   position where positions are wanted (a label out of range, say).
  public init(
    _ step: TrainingStep, data: [String: Tensor], options: Options, file: StaticString = #fileID,
    line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try options.validate()
      self.options = options
      epochs = options.epochs
      let batch = try step.batchDimension()
      let parts = step.accumulation
      let set = try DataSet(data, for: step.inputs, "the data")
      said = set.notes
      let (perEpoch, rest) = try options.steps(set.count)
      let step = step.resolved(stepsPerEpoch: perEpoch, epochs: options.epochs)
      self.step = step
      for size in [options.batch, rest] where size % parts != 0 {
        throw DLCError(.binding, "a batch of \(size) has no \(parts) equal parts")
      }
      if let given = options.dimensions[batch], given != options.batch / parts {
        throw DLCError(
          .binding,
          "dimension '\(batch)' is given as \(given), but the batch makes it \(options.batch / parts)"
        )
      }
      let loop = try step.loop(batch: batch, types: set.arrays.mapValues(\.dataType))
      /// Sizes of all dimensions for a batch.
      func bind(_ size: Int) throws(DLCError) -> [String: Int] {
        var explicit = options.dimensions
        explicit[batch] = size / parts
        return try step.module.bind(
          explicit: explicit,
          arrays: step.inputs.map {
            ($0.name, $0.type, [size / parts] + set.arrays[$0.name]!.shape.dropFirst())
          })
      }
      sizes = try bind(rest > 0 && perEpoch == 1 ? rest : options.batch)
      for phase in step.phases {
        try set.check(IndexUses(step.module.function(phase.function)!.graph).uses, sizes)
      }
      func compiled(_ size: Int, _ steps: Int) throws(DLCError) -> Executable {
        var all = try bind(size)
        all[loop.examples] = set.count
        all[loop.steps] = steps
        return try Compiler().load(
          loop.module, function: loop.name, dimensions: all, cache: .standard
        ).executable
      }
      let full = perEpoch - (rest > 0 ? 1 : 0)
      stepsPerCall = max(1, min(options.stepsPerCall, full))
      whole = full > 0 ? try compiled(options.batch, stepsPerCall) : nil
      self.rest = rest > 0 ? try compiled(rest, 1) : nil
      restSize = rest
      holder = whole ?? self.rest!
      shuffle = try Self.compileOrder(of: set.count, options)
      stepsPerEpoch = perEpoch
      validator = try Self.validator(step, options)
      if let watch = options.watch, let names = validator?.metrics, !names.contains(watch.metric) {
        throw DLCError(
          .usage, "the validation has no metric '\(watch.metric)' to watch",
          remedy: Spelling.remedy(for: watch.metric, among: names))
      }
      self.loop = loop
      self.data = set
      description = RunDescription(
        computation: options.checkpoints == nil ? "" : try step.computationDigest(sizes),
        rules: step.ruleTexts, batch: options.batch, seed: options.seed, shuffles: options.shuffles,
        shuffleBlock: options.shuffleBlock,
        lastBatch: options.lastBatch.rawValue,
        learningRates: step.phases.map(\.rule.learningRate),
        schedules: step.phases.map { "\($0.rule.schedule)" }, epochs: options.epochs,
        examples: set.count, stepsPerEpoch: perEpoch,
        data: options.checkpoints == nil ? "" : set.digest,
        watch: options.watch.map { "\($0.goal) \($0.metric)" },
        validation: options.checkpoints == nil || options.watch == nil ? nil : validator?.digest)
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
    } catch {
      throw error.called(file, line)
    }
  }

  /// Trains by the module's recipe.
  /// - Parameter configure: changes what the recipe leaves open: the seed, checkpoints, the epochs.
  /// - Throws: as the other initialiser does, and `.graph` when the module has no recipe.
  public convenience init(
    _ module: Module, data: [String: Tensor], file: StaticString = #fileID, line: UInt = #line,
    _ configure: (inout Options) -> Void = { _ in }
  ) throws(DLCError) {
    do throws(DLCError) {
      let step = try TrainingStep(module)
      var options = Options(batch: module.recipe!.batch, epochs: module.recipe!.epochs)
      configure(&options)
      try self.init(step, data: data, options: options)
    } catch {
      throw error.called(file, line)
    }
  }

  /// The order of the examples in an epoch: all orders alike, that of the arrays, or, in blocks, a random order
  /// of the blocks, of which a few in turn are mixed.
  private static func compileOrder(of count: Int, _ options: Options) throws(DLCError) -> Executable
  {
    var module = Module("order")
    module.dimension("examples", default: count)
    try module.function("order") { g in
      let random = RandomStream(
        g, key: g.input("seed", .int64), step: g.input("epoch", .int32))
      let number = g.iota(.int32, ["examples"], axis: 0)
      guard options.shuffles else { return g.output("order", number) }
      guard let block = options.shuffleBlock, block < count else {
        return g.output("order", random.permutation("examples"))
      }
      let size = g.constant(Double(block), .int32)
      let place = g.iota(.int32, [Size((count + block - 1) / block)], axis: 0)
      // The place of each block in the order, and the group that it is mixed with.
      let ranks = g.sort([random.permutation(place.shape[0]), place], axis: 0, keys: 1)[1]
      let group = g.embedding(ranks, number / size) / g.constant(Double(blocksMixed), .int32)
      let keys = [group, random.bits(["examples"]), random.bits(["examples"]), number]
      g.output("order", g.sort(keys, axis: 0, keys: 3)[3])
    }
    return try Compiler().load(
      module, function: "order", dimensions: ["examples": count], cache: .standard
    ).executable
  }

  /// Blocks that are mixed with one another.
  private static let blocksMixed = 8

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

  // MARK: State

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
  private func hold(_ executable: Executable) throws(DLCError) -> Executable {
    if holder !== executable {
      try executable.setState(holder.takeState())
      holder = executable
    }
    return executable
  }

  // MARK: Checkpoints

  /// Continues from the newest checkpoint, if there is one. The rate, the schedule, the epochs and the
  /// data may be others than before, and `changes` says which are; with other data the epoch that was
  /// under way begins again.
  /// - Returns: whether there was.
  /// - Throws: `.usage` when `options.checkpoints` is nil, `.file` when another run uses it, `.binding` when the checkpoint belongs to
  ///   another run, `.format` when it is damaged.
  public func resume(file: StaticString = #fileID, line: UInt = #line) throws(DLCError) -> Bool {
    do throws(DLCError) {
      guard let directory = options.checkpoints else {
        throw DLCError(.usage, "the run has no directory of checkpoints to resume from")
      }
      // Not while another run adds to it.
      let held = try access(directory, F_OK) == 0 ? CheckpointDirectory(directory) : nil
      defer { withExtendedLifetime(held) {} }
      seen = CheckpointDirectory.checkpoints(in: directory).map { $0.path }
      guard let (checkpoint, skipped) = try Checkpoint.newest(in: directory) else { return false }
      let before = checkpoint.description
      if let obstacle = description.obstacle(from: before) {
        throw DLCError(
          .binding, "the checkpoint belongs to another run: it has \(obstacle)",
          at: directory, remedy: "start it as that one was, or choose another directory")
      }
      let wanted = Dictionary(
        holder.states.map { ($0.name, $0.type) }, uniquingKeysWith: { a, _ in a })
      guard checkpoint.state.count == wanted.count,
        checkpoint.state.allSatisfy({ wanted[$0.key] == $0.value.type })
      else {
        throw DLCError(.format, "the checkpoint does not hold the state of this run", at: directory)
      }
      try holder.setState(checkpoint.state)
      position = (checkpoint.step, checkpoint.epoch, checkpoint.cursor)
      best = checkpoint.best
      identity = checkpoint.run
      saved = checkpoint.step
      changes = description.changes(from: before)
      if best != nil, !description.watches(as: before) {
        best = nil
        if options.watch != nil {
          changes.append(
            "the best epoch is looked for by another metric or on other data: those before do not count"
          )
        }
      }
      watchedFrom = position.epoch
      if before.data != description.data, position.cursor > 0 {
        position.cursor = 0
        changes.append("epoch \(position.epoch + 1) begins again")
      }
      if let skipped { changes.append("a newer checkpoint is passed over: \(skipped)") }
      return true
    } catch {
      throw error.called(file, line)
    }
  }

  /// The directory, for this run alone.
  /// - Throws: `.file` when another run is using it, or it holds another one's checkpoints.
  private func openCheckpoints() throws(DLCError) -> CheckpointDirectory? {
    guard let path = options.checkpoints else { return nil }
    let directory = try CheckpointDirectory(path)
    if let saved {
      guard directory.checkpoints.map({ $0.path }) == seen else {
        throw DLCError(
          .file, "the directory of checkpoints is in use: another run has changed it since",
          at: path)
      }
      // Damaged ones that were passed over: the run goes on before them.
      try directory.remove(after: saved)
    } else {
      try Self.requireFree(options)
      try directory.remove(after: -1)
    }
    return directory
  }

  /// Checks that a run may begin anew in its directory of checkpoints.
  /// - Throws: `.file` when that holds a run that is not to be overwritten.
  package static func requireFree(_ options: Options) throws(DLCError) {
    guard let path = options.checkpoints, !options.overwritesCheckpoints,
      let newest = CheckpointDirectory.checkpoints(in: path).last
    else { return }
    throw DLCError(
      .file, "the directory of checkpoints holds another run already, up to step \(newest.step)",
      at: path,
      remedy:
        "go on with that (--resume, Trainer.resume), remove it (--overwrite, overwritesCheckpoints), or choose another directory"
    )
  }

  private func save(_ directory: CheckpointDirectory?) throws(DLCError) {
    guard let directory, saved ?? 0 != position.step else { return }
    var checkpoint = Checkpoint(
      step: position.step, epoch: position.epoch, cursor: position.cursor, state: state,
      run: identity, description: description, best: options.watch == nil ? nil : best)
    checkpoint.description.epochs = epochs
    // Those of steps that were gone back on.
    try directory.remove(after: position.step)
    try directory.write(checkpoint, keep: options.keep)
    saved = position.step
    seen = directory.checkpoints.map { $0.path }
  }

  // MARK: Running

  /// Whether all epochs are done, or too many have passed without a better one.
  public var isDone: Bool { position.epoch >= epochs || isStalled }

  /// Whether so many epochs as the options have patience for have brought nothing better.
  public var isStalled: Bool {
    guard let patience = options.watch?.patience else { return false }
    return position.epoch - (best?.epoch ?? watchedFrom) >= patience
  }

  /// Trains until the last epoch is done. A run that was stopped goes on where it was; one that is done
  /// goes on when `epochs` is raised.
  /// - Parameter report: called after every call of the loop; false stops the run, with a checkpoint.
  /// - Throws: `.usage` when the run is done already. `.file` when the directory of checkpoints is in
  ///   use by another run, or holds one. `.check` when the loss of a phase is not finite, naming the
  ///   node where that begins; state and checkpoints are then those before the call.
  public func run(
    file: StaticString = #fileID, line: UInt = #line, _ report: (Progress) throws(DLCError) -> Bool
  ) throws(DLCError) {
    do throws(DLCError) {
      guard !isDone else {
        throw DLCError(
          .usage, "the run is done: \(position.epoch) of \(epochs) epochs",
          remedy: isStalled
            ? "the metric that it watches has not improved: give it more patience"
            : "raise the trainer's 'epochs' to train on")
      }
      var all = options
      all.epochs = epochs
      _ = try all.steps(data.count)
      let directory = try openCheckpoints()
      // So that another run can follow at once.
      defer { withExtendedLifetime(directory) {} }
      while !isDone {
        let order = try shuffle.run(
          [
            "seed": Tensor([], [Int64(bitPattern: options.seed)]),
            "epoch": Tensor([], [Int32(position.epoch + 1)]),
          ], threads: options.threads)[0].value
        let rows = order.integers.map { Int32($0) }
        let epoch = position.epoch
        var sums: [(name: String, value: Double)] = []
        var counted = 0
        var isEnd = false
        // A report may set the state of another epoch.
        while !isEnd, position.epoch == epoch {
          let start = ContinuousClock.now
          let (metrics, steps, examples) = try advance(rows)
          sums = metrics.enumerated().map { index, metric in
            let before = sums.isEmpty ? 0 : sums[index].value
            return (metric.name, before + metric.value * Double(examples))
          }
          counted += examples
          isEnd = position.cursor == stepsPerEpoch
          if isEnd { position = (position.step, position.epoch + 1, 0) }
          let validation = isEnd ? try validate() : []
          let isStopped = options.isStopped?() ?? false
          if isEnd || isStopped || position.step - (saved ?? 0) >= options.checkpointSteps {
            try save(directory)
          }
          if steps > 0 {
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            let left = (epochs - position.epoch) * stepsPerEpoch - position.cursor
            let progress = Progress(
              epoch: position.epoch + (isEnd ? 0 : 1), step: position.step,
              totalSteps: position.step + left, metrics: metrics,
              epochMetrics: sums.map { ($0.name, $0.value / Double(max(counted, 1))) },
              examplesPerSecond: Double(examples) / max(seconds, 1e-9), isEpochEnd: isEnd,
              validation: validation)
            if try !report(progress) { return try save(directory) }
          }
          if isStopped || isStalled { return }
        }
      }
    } catch {
      throw error.called(file, line)
    }
  }

  /// Measures on the validation data, and keeps the state when it is the best so far.
  private func validate() throws(DLCError) -> [(name: String, value: Double)] {
    guard let validator else { return [] }
    let results = try validator.run(completeState, threads: options.threads)
    guard let watch = options.watch else { return results }
    guard let value = results.first(where: { $0.name == watch.metric })?.value, value.isFinite
    else { return results }
    if best.map({ watch.isBetter(value, than: $0.value) }) ?? true {
      best = Best(epoch: position.epoch, value: value, state: averagedState)
    }
    return results
  }

  /// One call of the loop: as many steps as the epoch, the next checkpoint and the size of a call allow.
  /// - Returns: means of the metrics, how many steps were taken, and of how many examples.
  private func advance(_ rows: [Int32]) throws(DLCError) -> (
    metrics: [(name: String, value: Double)], steps: Int, examples: Int
  ) {
    let isRest = restSize > 0 && position.cursor == stepsPerEpoch - 1
    let executable = try hold(isRest ? rest! : whole!)
    let size = isRest ? restSize : options.batch
    let room = stepsPerEpoch - (restSize > 0 ? 1 : 0) - position.cursor
    let untilSaved =
      options.checkpoints == nil
      ? Int.max : max(1, options.checkpointSteps - (position.step - (saved ?? 0)))
    let count = isRest ? 1 : min(stepsPerCall, room, untilSaved)
    let from = position.cursor * options.batch
    let chosen = Array(rows[from..<from + count * size])
    var inputs = data.arrays
    let capacity = isRest ? 1 : stepsPerCall
    // Rows of steps that are not taken: any that exist.
    inputs[loop.order] = Tensor(
      [capacity, size], chosen + [Int32](repeating: 0, count: (capacity - count) * size))
    inputs[loop.seed] = Tensor([], [Int64(bitPattern: options.seed)])
    let before = state
    let results = try executable.run(
      inputs, threads: options.threads,
      extent: Executable.Extent(iterations: count, isStopped: options.isStopped))
    let counter = executable.state[TrainingStep.counterName]!.integers[0]
    let steps = Int(counter) - position.step
    var bad: Int?
    for (result, metric) in zip(results, step.reports) where metric.isLoss {
      let index = result.value.doubles.prefix(steps).firstIndex { !$0.isFinite }
      bad = [bad, index].compactMap(\.self).min()
    }
    if let bad {
      try executable.setState(before)
      try explain(bad, before, chosen, size)
    }
    position.step += steps
    position.cursor += steps
    let metrics = results.map { name, value in
      (name, value.doubles.prefix(steps).reduce(0, +) / Double(max(steps, 1)))
    }
    return (metrics, steps, steps * size)
  }

  /// Repeats the steps up to the bad one and finds the first node whose result is not finite.
  private func explain(
    _ bad: Int, _ before: [String: Tensor], _ chosen: [Int32], _ size: Int
  ) throws(DLCError) -> Never {
    let single = try step.single()
    var arrays: [(name: String, declared: TensorType, shape: [Int])] = []
    for (name, type) in step.inputs {
      arrays.append(
        (name, type, [size / step.accumulation] + data.arrays[name]!.shape.dropFirst()))
    }
    let sizes = try single.bind(explicit: options.dimensions, arrays: arrays)
    let function = single.functions[0]
    let executable = try Compiler().compile(single, function: function.name, dimensions: sizes)
    try executable.setState(before)
    func batch(_ index: Int) throws(DLCError) -> [String: Tensor] {
      let rows = chosen[index * size..<(index + 1) * size]
      var inputs: [String: Tensor] = [:]
      for (name, _) in step.inputs { inputs[name] = try data.rows(name, rows.map { Int($0) }) }
      if step.usesSeed {
        inputs[TrainingStep.seedName] = Tensor([], [Int64(bitPattern: options.seed)])
      }
      return inputs
    }
    for index in 0..<bad { _ = try executable.run(try batch(index), threads: options.threads) }
    let place =
      try Interpreter().firstNonFinite(
        function, inputs: try batch(bad), states: executable.state, dimensions: sizes)
      ?? "no single node"
    throw DLCError(
      .check, "the loss is not finite in step \(position.step + bad + 1): it begins at \(place)",
      remedy: place.hasPrefix("input")
        ? "mend the data" : "a smaller learning rate or gradient clipping may help")
  }
}
