public import DLCTensor

extension Trainer {
  /// What a recipe leaves open: how long, on what, and where checkpoints go.
  public struct Options: Sendable {
    /// Examples in a step.
    public var batch = 64
    /// Passes over the data that the run has in all.
    public var epochs = 1
    /// The seed of initialisers, of the order of the examples, and of noise.
    public var seed: UInt64 = 0
    /// Worker threads; results do not depend on it.
    public var threads: Int?
    /// Sizes of named dimensions other than the batch.
    public var dimensions: [String: Int] = [:]
    /// A directory for checkpoints, how often they are written (in steps; at every epoch's end and where
    /// the run stops besides), and how many of this run are kept.
    public var checkpoints: String?
    /// So many steps lie between checkpoints.
    public var checkpointSteps = 1000
    /// So many checkpoints of this run are kept.
    public var keep = 3
    /// Whether a run that begins anew removes the checkpoints of another one from its directory; else
    /// it is refused there.
    public var overwritesCheckpoints = false
    /// Whether the order of the examples changes from epoch to epoch.
    public var shuffles = true
    /// Shuffles blocks of so many examples, and the examples of eight blocks in turn among one another, so that
    /// those of a step lie near each other in a mapped file. nil: all orders are equally likely.
    public var shuffleBlock: Int?
    /// What becomes of the examples that are left when an epoch does not divide into whole batches.
    public var lastBatch = LastBatch.drop
    /// The most steps in one call of the compiled loop.
    public var stepsPerCall = 50
    /// Arrays to measure on after every epoch; see `Trainer.evaluate`.
    public var validation: [String: Tensor]?
    /// Where they are from, for what is wrong with them.
    package var validationPlace: String?
    /// The metric of the validation by which the best epoch is kept (`Trainer.best`), and after how many
    /// epochs without a better one the run ends.
    public var watch: Watch?
    /// Asked after every step, from any thread: whether the run is to end there, with a checkpoint.
    public var isStopped: (@Sendable () -> Bool)?

    /// One epoch in batches of 64, without checkpoints.
    public init() {}
    /// Options of a batch and epochs; the rest as by default.
    public init(batch: Int, epochs: Int, seed: UInt64 = 0) {
      self.batch = batch
      self.epochs = epochs
      self.seed = seed
    }
  }

  /// A metric that says which epoch is the best.
  public struct Watch: Hashable, Sendable {
    /// Which values of a metric are better.
    public enum Goal: String, Hashable, Sendable, CaseIterable { case least, greatest }
    /// Its name, as `evaluate` gives it.
    public var metric: String
    /// Which values are better.
    public var goal: Goal
    /// The run ends after so many epochs without a better one; nil: it does not.
    public var patience: Int?

    /// Watches a metric of the validation data.
    public init(_ metric: String, _ goal: Goal = .least, patience: Int? = nil) {
      self.metric = metric
      self.goal = goal
      self.patience = patience
    }

    /// Whether a value is better by more than what float32 means of batches differ by rounding.
    package func isBetter(_ value: Double, than best: Double) -> Bool {
      if value.isNaN || best.isNaN { return !value.isNaN }
      let margin = 1e-6 * abs(best)
      return goal == .least ? value < best - margin : value > best + margin
    }
  }

  /// What becomes of the last, smaller batch of an epoch.
  public enum LastBatch: String, Sendable, CaseIterable {
    /// Its examples have no step in this epoch; in random order they are others in the next one.
    case drop
    /// It is a step like the others, compiled for its size.
    case use
  }
}

extension Trainer.Options {
  /// - Throws: `.usage` for a value that cannot be.
  func validate() throws(DLCError) {
    for (name, value) in [
      ("batch", batch), ("epochs", epochs), ("stepsPerCall", stepsPerCall),
      ("checkpointSteps", checkpointSteps), ("keep", keep), ("threads", threads ?? 1),
      ("shuffleBlock", shuffleBlock ?? 1),
    ] where value < 1 {
      throw DLCError(.usage, "the training option '\(name)' is \(value): it must be positive")
    }
    if let threads, threads > 1024 {
      throw DLCError(.usage, "the training option 'threads' is \(threads): at most 1024 are used")
    }
    if let watch {
      guard validation != nil else {
        throw DLCError(
          .usage, "the training option 'watch' is given without 'validation'",
          remedy: "give the arrays to measure on")
      }
      guard watch.patience ?? 1 >= 1 else {
        throw DLCError(.usage, "the patience is \(watch.patience!): it must be positive")
      }
    }
  }

  /// The steps of an epoch over so many examples, and the size of its last, smaller batch; 0 for none.
  func steps(_ examples: Int) throws(DLCError) -> (perEpoch: Int, rest: Int) {
    let rest = lastBatch == .use ? examples % batch : 0
    let steps = examples / batch + (rest > 0 ? 1 : 0)
    guard steps > 0 else {
      throw DLCError(
        .binding, "there are \(examples) examples for batches of \(batch)",
        remedy: "use smaller batches (--batch), or the last smaller batch too (--last-batch use)")
    }
    // The step counter is an int32.
    let (all, overflow) = steps.multipliedReportingOverflow(by: epochs)
    guard !overflow, all <= Int(Int32.max) else {
      throw DLCError(
        .usage,
        "\(counted(epochs, "epoch")) of \(steps) steps are too many: a run has at most \(Int32.max) steps"
      )
    }
    return (steps, rest)
  }

  /// The steps of a whole run over so many examples.
  /// - Throws: `.binding` when there are too few for a step, `.usage` when the steps are too many.
  package func totalSteps(_ examples: Int) throws(DLCError) -> Int {
    try steps(examples).perEpoch * epochs
  }
}
