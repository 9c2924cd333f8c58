import ArgumentParser
import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining
import Foundation

/// Which value of a metric is the best.
enum Goal: EnumerableFlag {
  case greatest, least
}

/// Flags of a run, whatever is trained and how.
struct RunOptions: ParsableArguments {
  @Option(help: "What becomes of the examples that an epoch's whole batches leave: drop or use.")
  var lastBatch = "drop"
  @Option(help: "The seed of initialisers, of the order and of noise.") var seed: UInt64 = 0
  @Option(help: "A directory for checkpoints.") var checkpoint: String?
  @Option(help: "Steps between checkpoints, besides those at the end of an epoch.")
  var checkpointEvery = 1000
  @Option(help: "How many checkpoints are kept.") var keep = 3
  @Flag(
    help: "Continue from the newest checkpoint; rate, schedule, epochs and data may be others.")
  var resume = false
  @Flag(help: "Begin anew where the directory of checkpoints holds another run, and remove that.")
  var overwrite = false
  @Option(help: "A file that metrics are added to, one JSON object in a line.") var log: String?
  @Option(help: "A metric of the validation: the weights of its best epoch are those kept.")
  var best: String?
  @Flag(help: "Whether the best is the greatest (of 'accuracy') or the least (of all else).")
  var goal: Goal?
  @Option(help: "End the run after so many epochs without a better one.") var patience: Int?
  @Flag(inversion: .prefixedNo, help: "Another order of the examples in every epoch.")
  var shuffle = true
  @Option(
    help:
      "Shuffle blocks of so many examples, and those of eight blocks in turn: for data larger than memory."
  )
  var shuffleBlock: Int?
  @OptionGroup var workers: WorkerOptions
  @Flag(help: "Print the result as JSON.") var json = false

  func validate() throws {
    for (name, value) in [("keep", keep), ("checkpoint-every", checkpointEvery)] where value < 1 {
      throw ValidationError("--\(name) is \(value): it must be positive")
    }
    if let shuffleBlock, shuffleBlock < 1 {
      throw ValidationError("--shuffle-block is \(shuffleBlock): it must be positive")
    }
    if let patience, patience < 1 {
      throw ValidationError("--patience is \(patience): it must be positive")
    }
    if Trainer.LastBatch(rawValue: lastBatch) == nil {
      throw ValidationError("--last-batch is drop or use, not '\(lastBatch)'")
    }
    if resume && checkpoint == nil { throw ValidationError("--resume needs --checkpoint") }
    if overwrite && checkpoint == nil { throw ValidationError("--overwrite needs --checkpoint") }
    if resume && overwrite { throw ValidationError("--resume and --overwrite exclude each other") }
    if best == nil && (goal != nil || patience != nil) {
      throw ValidationError("--greatest, --least and --patience need --best")
    }
  }

  func options(_ recipe: Recipe, _ sizes: [String: Int]) -> Trainer.Options {
    var options = Trainer.Options(batch: recipe.batch, epochs: recipe.epochs, seed: seed)
    options.threads = workers.threads
    options.shuffles = shuffle
    options.shuffleBlock = shuffleBlock
    options.lastBatch = Trainer.LastBatch(rawValue: lastBatch)!
    options.dimensions = sizes
    options.checkpoints = checkpoint
    options.checkpointSteps = checkpointEvery
    options.keep = keep
    options.overwritesCheckpoints = overwrite
    options.watch = best.map {
      let isGreatest = goal.map { $0 == .greatest } ?? ($0 == "accuracy")
      return Trainer.Watch($0, isGreatest ? .greatest : .least, patience: patience)
    }
    options.isStopped = { Interruption.isRequested }
    return options
  }
}

/// One training run of the command line: data from files, progress on standard error, metrics to a log.
struct TrainingRun {
  let trainer: Trainer
  private let log: String?
  private final class Complaint { var isMade = false }
  private let complaint = Complaint()
  private var notes: [String]

  /// Reads the data and compiles the step.
  /// - Parameters:
  ///   - silent: arrays of the files that no input needs to take.
  ///   - notes: what is to be said once nothing can be wrong any more.
  init(
    _ module: Module, _ recipe: Recipe, _ flags: RunOptions, data: String, validation: String?,
    sizes: [String: Int], silent: Set<String> = [], notes: [String] = []
  ) throws {
    var sizes = sizes
    var notes = notes
    var step = try TrainingStep(
      module, phases: recipe.phases, initialization: recipe.initialization)
    try Self.requireNoContradiction(step, recipe, sizes)
    let arrays = try DataFile(data, for: step.inputs, silent: silent)
    notes += arrays.notes
    var meanings = recipe.meanings
    try arrays.describe(&meanings, step, &sizes)
    // What flags change is of this run; what the data say of characters and classes is of the model.
    step.module.recipe?.meanings = meanings
    var options = flags.options(recipe, sizes)
    if !flags.resume { try Trainer.requireFree(options) }
    try Self.requireNoInterruption()
    if let path = validation {
      let functions =
        recipe.evaluation == nil
        ? step.evaluationFunctions : [try module.evaluating(recipe.evaluation)]
      let arrays = try DataFile(path, for: functions.dataInputs, silent: silent)
      try arrays.require(meanings)
      notes += arrays.notes
      (options.validation, options.validationPlace) = (arrays.values, path)
    }
    let trainer = try DLCError.naming(data, unless: validation) { () throws(DLCError) in
      try Trainer(step, data: arrays.values, options: options)
    }
    notes += trainer.notes
    try Self.requireNoInterruption()
    if let watch = options.watch, flags.goal == nil {
      let other: Goal = watch.goal == .least ? .greatest : .least
      notes.append(
        "kept is the epoch with the \(watch.goal) \(watch.metric); --\(other) says otherwise")
    }
    if flags.resume, try !trainer.resume() {
      notes.append("there is nothing to resume in \(flags.checkpoint ?? ""): the run begins anew")
    } else if flags.resume {
      notes.append("resumed at step \(trainer.position.step)")
      notes += trainer.changes.map { "since then: \($0)" }
    }
    self.trainer = trainer
    self.notes = notes
    log = flags.log
  }

  mutating func add(note: String) { notes.append(note) }

  /// Trains to the end, or until a signal.
  /// - Returns: means over the last epoch, the seconds, and the signal that ended it.
  func run() throws -> (
    metrics: [(name: String, value: Double)], seconds: Double, stop: Interruption.Stop?
  ) {
    for text in notes { Console.note(text) }
    try Self.requireNoInterruption()
    let bar = ProgressBar()
    let start = ContinuousClock.now
    var last: [(name: String, value: Double)] = []
    if trainer.isDone {
      Console.note(
        "nothing is left to do: the run has \(trainer.position.epoch) of \(counted(trainer.epochs, "epoch"))"
      )
    } else {
      try trainer.run { (p) throws(DLCError) in
        let validation = p.validation.map { (name: "validation_\($0.name)", value: $0.value) }
        last = p.epochMetrics + validation
        write(p, p.metrics + validation)
        bar.show(p, last)
        return true
      }
    }
    if let watch = trainer.options.watch, trainer.best == nil, trainer.position.epoch > 0 {
      Console.note(
        "no epoch had a finite \(watch.metric)\(trainer.isStalled ? ": the run ends" : ""); the weights are the last ones"
      )
    } else if let best = trainer.best, let watch = trainer.options.watch {
      if trainer.isStalled {
        Console.note("nothing better came after epoch \(best.epoch): the run ends")
      }
      Console.note(
        "the weights are those of epoch \(best.epoch), with the \(watch.goal) \(watch.metric), \(fixed(best.value, 6))"
      )
    }
    return (
      last, (ContinuousClock.now - start) / .seconds(1),
      trainer.isDone ? nil : Interruption.signal
    )
  }

  /// Whether the result is written where the run ended: not when a checkpoint has it and the run can go on.
  func isWritten(_ stop: Interruption.Stop?) -> Bool {
    stop == nil || trainer.options.checkpoints == nil
  }

  /// Says what a stopped run leaves, and ends the command.
  /// - Parameter path: where the result was written.
  func leave(_ stop: Interruption.Stop, _ path: String?) throws -> Never {
    let left =
      trainer.options.checkpoints != nil
      ? "to continue, give the same command with --resume"
      : path.map { "what was learnt so far is in \($0)" }
        ?? "nothing is kept without -o or --checkpoint"
    Console.note("stopped by \(stop.name) after step \(trainer.position.step); \(left)")
    throw ExitCode(stop.status)
  }

  /// Writes a JSON object or a line with the metrics.
  func report(
    _ metrics: [(name: String, value: Double)], _ seconds: Double, _ signal: String?, json: Bool,
    more: [(name: String, value: JSON)] = []
  ) throws(DLCError) {
    if json {
      var fields: [(name: String, value: JSON)] = [
        ("steps", .integer(trainer.position.step)), ("seconds", .rounded(seconds, digits: 3)),
      ]
      if let signal { fields.append(("stopped", .text(signal))) }
      if let best = trainer.best {
        fields += [("best_epoch", .integer(best.epoch)), ("best", .number(best.value))]
      }
      fields += metrics.map { ($0.name, .number($0.value)) }
      try Console.result("\(JSON.object(fields + more))")
    } else {
      let text = metrics.map { "  \($0.name) \(fixed($0.value, 6))" }.joined()
      try Console.result(
        "\(counted(trainer.position.step, "step")) in \(fixed(seconds, 1)) s\(text)")
    }
  }

  private func write(_ p: Trainer.Progress, _ metrics: [(name: String, value: Double)]) {
    guard let log else { return }
    var fields: [(name: String, value: JSON)] = [
      ("epoch", .integer(p.epoch)), ("step", .integer(p.step)),
    ]
    fields += metrics.map { ($0.name, .number($0.value)) }
    fields.append(("examples_per_second", .rounded(p.examplesPerSecond, digits: 1)))
    do throws(DLCError) {
      try OutputFile.append(Array("\(JSON.object(fields))\n".utf8), to: log)
    } catch {
      // What is learnt is worth more than its record.
      if !complaint.isMade { Console.note("the log is incomplete: \(error.uncalled)") }
      complaint.isMade = true
    }
  }

  /// A size for the batch's dimension must be the batch's.
  private static func requireNoContradiction(
    _ step: TrainingStep, _ recipe: Recipe, _ sizes: [String: Int]
  ) throws {
    let parts = step.accumulation
    guard let name = step.inputs.first?.type.shape.first?.name, let size = sizes[name],
      size != recipe.batch / parts
    else { return }
    throw DLCError(
      .usage,
      "--dim \(name)=\(size) contradicts --batch \(recipe.batch)"
        + (parts > 1 ? " in \(parts) parts" : ""),
      remedy: "'\(name)' is the batch: leave --dim \(name) out")
  }

  /// Ends the command before the first step, when it was interrupted.
  private static func requireNoInterruption() throws {
    guard let stop = Interruption.signal else { return }
    Console.note("stopped by \(stop.name) before the first step")
    throw ExitCode(stop.status)
  }
}
