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
  public internal(set) var position: (step: Int, epoch: Int, cursor: Int) = (0, 0, 0)
  /// What has changed since the checkpoint that the run was resumed from, in words; none of it hinders.
  public internal(set) var changes: [String] = []

  /// The epochs that were done when the run, or its continuation, began to look for the best.
  var watchedFrom = 0

  /// The best epoch so far, when the options say what to watch.
  public internal(set) var best: Best?

  /// What is to be said of the run: arrays that belong to no input, where it begins, and what keeps the
  /// validation's numbers from being what they seem (see `Evaluator.notes`).
  public var notes: [String] { said + (validator?.notes ?? []) }
  var said: [String] = []

  let step: TrainingStep
  private let validator: Evaluator?
  private let loop: TrainingLoop
  let data: DataSet
  /// Of the named dimensions, the batch among them.
  let sizes: [String: Int]
  /// For whole batches, and for the last smaller one; each when there is one.
  private let whole: Executable?
  private let rest: Executable?
  private let restSize: Int
  /// The one of the two that holds the state.
  var holder: Executable
  private let shuffle: Executable
  private let stepsPerCall: Int
  let description: RunDescription
  /// Tells the run apart, in its checkpoints.
  var identity = UUID().uuidString
  /// The step of the last checkpoint that was read or written, and all that there were then.
  var saved: Int?
  var seen: [String] = []

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
      let set = try DataSet(data, for: step.inputs, "the data")
      said = set.notes
      let (perEpoch, rest) = try options.steps(set.count)
      let step = step.resolved(stepsPerEpoch: perEpoch, epochs: options.epochs)
      self.step = step
      let programs = try TrainingPrograms(
        step, batch, set, options, stepsPerEpoch: perEpoch, rest: rest)
      (sizes, loop, stepsPerCall) = (programs.sizes, programs.loop, programs.stepsPerCall)
      (whole, self.rest, restSize) = (programs.whole, programs.rest, rest)
      holder = whole ?? self.rest!
      shuffle = try TrainingPrograms.order(of: set.count, options)
      stepsPerEpoch = perEpoch
      validator = try Self.validator(step, options)
      if let watch = options.watch, let names = validator?.metrics, !names.contains(watch.metric) {
        throw DLCError(
          .usage, "the validation has no metric '\(watch.metric)' to watch",
          remedy: Spelling.remedy(for: watch.metric, among: names))
      }
      self.data = set
      description = try RunDescription(
        step, sizes, set, options, stepsPerEpoch: perEpoch, validation: validator)
      try prepareState()
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
          .usage, "the run is done: \(position.epoch) of \(counted(epochs, "epoch"))",
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
