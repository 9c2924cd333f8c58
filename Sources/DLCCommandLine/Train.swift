import ArgumentParser
import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining
import Foundation

struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Trains a model on arrays.",
    discussion: """
      The function 'loss' (or --function) takes a batch of each array, by name, and gives the scalar 'loss';
      its other scalar outputs are metrics. An int64 input 'seed' gets a seed of its own in every step.
      Validation measures 'loss_evaluation', if the model has it, over every row.
      Ctrl-C and SIGTERM end the run after the step in progress, with a checkpoint and exit status 130 or 143.
      """)

  @OptionGroup var model: ModelOptions
  @Option(help: "Arrays with one row for each example, by the names of the loss's inputs (.npz).")
  var data: String
  @Option(help: "Arrays to validate on after every epoch (.npz).") var validation: String?
  @Option(
    help: "One of \(Optimizer.named.map(\.name).joined(separator: ", ")).")
  var optimizer = "adam"
  @Option(help: "The learning rate.") var lr = 1e-3
  @Option(
    help:
      "constant, cosine, warmup (a tenth of the steps, then cosine), step (a tenth every third), onecycle."
  )
  var schedule = "constant"
  @Option(help: "Passes over the data.") var epochs = 5
  @Option(help: "Examples in a step.") var batch = 64
  @Option(
    help: "What becomes of the examples that an epoch's whole batches leave: drop or use.")
  var lastBatch = "drop"
  @Option(help: "The seed of initialisers, of the order and of noise.") var seed: UInt64 = 0
  @Option(help: "Weights to begin with (.safetensors).") var params: String?
  @Option(
    name: .shortAndLong,
    help: "Where the trained weights go (.safetensors); with --average the averaged ones.")
  var output: String?
  @Option(help: "Where the weights of the last step go, which --average leaves out of --output.")
  var outputCurrent: String?
  @Option(help: "A directory for checkpoints.") var checkpoint: String?
  @Option(
    help: "Steps between checkpoints, besides those at the end of an epoch.")
  var checkpointEvery = 1000
  @Option(help: "How many checkpoints are kept.") var keep = 3
  @Flag(
    help: "Continue from the newest checkpoint; rate, schedule, epochs and data may be others.")
  var resume = false
  @Flag(help: "Begin anew where the directory of checkpoints holds another run, and remove that.")
  var overwrite = false
  @Option(help: "A file that metrics are added to, one JSON object in a line.") var log: String?
  @Option(help: "Scale all gradients together down to this norm.")
  var clipNorm: Double?
  @Option(help: "Move every gradient element into plus or minus this.")
  var clipValue: Double?
  @Option(help: "Decoupled weight decay.") var weightDecay = 0.0
  @Option(help: "Parts of a batch that are computed one after the other.")
  var accumulate = 1
  @Option(
    help: "Keep a moving average of the weights with this decay, at least 0 and less than 1.")
  var average: Double?
  @Flag(inversion: .prefixedNo, help: "Another order of the examples in every epoch.")
  var shuffle = true
  @Option(help: "Worker threads; results do not depend on it.")
  var threads: Int?
  @Flag(help: "Print the result as JSON.") var json = false

  func validate() throws {
    for (name, value) in [
      ("epochs", epochs), ("batch", batch), ("accumulate", accumulate), ("keep", keep),
      ("checkpoint-every", checkpointEvery),
    ] where value < 1 {
      throw ValidationError("--\(name) is \(value): it must be positive")
    }
    if let threads, threads < 1 || threads > 1024 {
      throw ValidationError("--threads must be between 1 and 1024")
    }
    if batch % accumulate != 0 { throw ValidationError("--accumulate must divide --batch") }
    for (name, value) in [("lr", lr), ("clip-norm", clipNorm), ("clip-value", clipValue)] {
      if let value, !(value > 0 && value.isFinite) {
        throw ValidationError("--\(name) is \(value): it must be a positive number")
      }
    }
    if !(weightDecay >= 0 && weightDecay.isFinite) {
      throw ValidationError("--weight-decay is \(weightDecay): it must be a number from 0 on")
    }
    if let average, !(average >= 0 && average < 1) {
      throw ValidationError("--average is \(average): it must be at least 0 and less than 1")
    }
    if !Optimizer.named.contains(where: { $0.name == optimizer }) {
      let near = Spelling.remedy(for: optimizer, among: Optimizer.named.map(\.name))
      throw ValidationError("there is no optimizer '\(optimizer)'; \(near)")
    }
    let schedules = ["constant", "cosine", "warmup", "step", "onecycle"]
    if !schedules.contains(schedule) {
      let near = Spelling.remedy(for: schedule, among: schedules)
      throw ValidationError("there is no schedule '\(schedule)'; \(near)")
    }
    if Trainer.LastBatch(rawValue: lastBatch) == nil {
      throw ValidationError("--last-batch is drop or use, not '\(lastBatch)'")
    }
    if resume && checkpoint == nil { throw ValidationError("--resume needs --checkpoint") }
    if overwrite && checkpoint == nil { throw ValidationError("--overwrite needs --checkpoint") }
    if resume && overwrite { throw ValidationError("--resume and --overwrite exclude each other") }
    if outputCurrent != nil && average == nil {
      throw ValidationError(
        "--output-current needs --average: without it --output has these weights")
    }
  }

  private func rule(totalSteps: Int) -> UpdateRule {
    var rule = UpdateRule(
      Optimizer.named.first { $0.name == optimizer }!.optimizer, learningRate: lr)
    rule.clipNorm = clipNorm
    rule.clipValue = clipValue
    rule.decoupledDecay = weightDecay
    rule.accumulation = accumulate
    rule.averaging = average
    switch schedule {
    case "cosine": rule.schedule = .cosine(total: totalSteps)
    case "warmup":
      let rise = max(1, totalSteps / 10)
      rule.schedule = .warmup(steps: rise, then: .cosine(total: max(1, totalSteps - rise)))
    case "step": rule.schedule = .step(every: max(1, totalSteps / 3))
    case "onecycle": rule.schedule = .oneCycle(total: totalSteps)
    default: break
    }
    return rule
  }

  private var options: Trainer.Options {
    get throws {
      var options = Trainer.Options(batch: batch, epochs: epochs, seed: seed)
      options.threads = threads
      options.shuffles = shuffle
      options.lastBatch = Trainer.LastBatch(rawValue: lastBatch)!
      options.dimensions = try model.sizes
      options.checkpoints = checkpoint
      options.checkpointSteps = checkpointEvery
      options.keep = keep
      options.overwritesCheckpoints = overwrite
      options.isStopped = { Interruption.isRequested }
      return options
    }
  }

  /// The arrays of a file that a function takes; what else is in it is named in the notes.
  private func arrays(_ path: String, for function: Function, _ notes: inout [String])
    throws(DLCError) -> [String: Tensor]
  {
    let arrays = try InputArrays(
      path, for: function.inputs.filter { $0.name != TrainingStep.seedName })
    notes += arrays.notes
    return arrays.values
  }

  func run() throws {
    Interruption.install()
    var module = try LoadedModel(model.model).module
    let function = try module.trainable(model.function ?? "loss")
    try requireNoContradiction(function)
    // Said when nothing can be wrong any more.
    var notes: [String] = []
    let arrays = try arrays(data, for: function, &notes)
    if let params {
      notes += try module.setValues(from: params)
    }
    let options = try options
    let examples =
      function.inputs.first { $0.name != TrainingStep.seedName }
      .flatMap { arrays[$0.name]?.shape.first } ?? 0
    let total = try options.totalSteps(examples)
    let step = try TrainingStep(
      module, phases: [Phase(function.name, rule: rule(totalSteps: total))])
    if !resume { try Trainer.requireFree(options) }
    try requireNoInterruption()
    let trainer = try DLCError.naming(data) { () throws(DLCError) in
      try Trainer(step, data: arrays, options: options)
    }
    try requireNoInterruption()
    if resume, try !trainer.resume() {
      notes.append("there is nothing to resume in \(checkpoint ?? ""): the run begins anew")
    } else if resume {
      notes.append("resumed at step \(trainer.position.step)")
      notes += trainer.changes.map { "since then: \($0)" }
    }
    let validator = try validation.map { path in
      let evaluated = step.evaluationFunctions[0]
      let arrays = try self.arrays(path, for: evaluated, &notes)
      let evaluator = try DLCError.naming(path) { () throws(DLCError) in
        try Evaluator(step, data: arrays, batch: batch, dimensions: options.dimensions)
      }
      notes += evaluator.notes
      return evaluator
    }
    if output == nil, outputCurrent == nil, checkpoint == nil {
      notes.append("the weights are not kept: -o or --checkpoint says where")
    }
    for text in notes { Console.note(text) }
    try requireNoInterruption()
    let bar = ProgressBar()
    let start = ContinuousClock.now
    var last: [(name: String, value: Double)] = []
    if trainer.isDone {
      Console.note(
        "nothing is left to do: the run has \(trainer.position.epoch) of \(epochs) epochs")
    } else {
      try trainer.run { (p) throws(DLCError) in
        var record = p.metrics
        if p.isEpochEnd, let validator {
          record += try validator.run(trainer.averagedState, threads: threads).map {
            ("validation_\($0.name)", $0.value)
          }
        }
        last = record
        try write(p, record)
        bar.show(p, record)
        return true
      }
    }
    let stop = trainer.isDone ? nil : Interruption.signal
    if stop == nil { try save(trainer) }
    try report(trainer, last, (ContinuousClock.now - start) / .seconds(1), stop?.name)
    if let stop {
      Console.note(
        "stopped by \(stop.name) after step \(trainer.position.step); "
          + (checkpoint == nil
            ? "nothing is kept without --checkpoint"
            : "to continue, give the same command with --resume"))
      throw ExitCode(stop.status)
    }
  }

  /// A size for the batch's dimension must be the batch's.
  private func requireNoContradiction(_ function: Function) throws {
    let first = function.inputs.first { $0.name != TrainingStep.seedName }
    guard let name = first?.type.shape.first?.name, let size = try model.sizes[name],
      size != batch / accumulate
    else { return }
    throw DLCError(
      .usage,
      "--dim \(name)=\(size) contradicts --batch \(batch)"
        + (accumulate > 1 ? " in \(accumulate) parts" : ""),
      remedy: "'\(name)' is the batch: leave --dim \(name) out")
  }

  /// Ends the command before the first step, when it was interrupted.
  private func requireNoInterruption() throws {
    guard let stop = Interruption.signal else { return }
    Console.note("stopped by \(stop.name) before the first step")
    throw ExitCode(stop.status)
  }

  private func save(_ trainer: Trainer) throws {
    func write(_ state: [String: Tensor], _ path: String?) throws {
      guard let path else { return }
      try Safetensors.write(state.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, to: path)
    }
    try write(trainer.averagedState, output)
    try write(trainer.modelState, outputCurrent)
  }

  private func report(
    _ trainer: Trainer, _ metrics: [(name: String, value: Double)], _ seconds: Double,
    _ signal: String?
  ) throws(DLCError) {
    if json {
      var fields = ["\"steps\": \(trainer.position.step)", "\"seconds\": \(fixed(seconds, 3))"]
      if let signal { fields.append("\"stopped\": \(DLCFormats.json(signal))") }
      fields += metrics.map { "\(DLCFormats.json($0.name)): \(number($0.value))" }
      try Console.result("{\(fields.joined(separator: ", "))}")
    } else {
      let text = metrics.map { "  \($0.name) \(fixed($0.value, 6))" }.joined()
      try Console.result("\(trainer.position.step) steps in \(fixed(seconds, 1)) s\(text)")
    }
  }

  private func number(_ x: Double) -> String { x.isFinite ? "\(x)" : "null" }

  private func write(_ p: Trainer.Progress, _ metrics: [(name: String, value: Double)])
    throws(DLCError)
  {
    guard let log else { return }
    var fields = ["\"epoch\": \(p.epoch)", "\"step\": \(p.step)"]
    fields += metrics.map { "\(DLCFormats.json($0.name)): \(number($0.value))" }
    fields.append("\"examples_per_second\": \(fixed(p.examplesPerSecond, 1))")
    try OutputFile.append(Array("{\(fields.joined(separator: ", "))}\n".utf8), to: log)
  }
}

extension Module {
  /// The function that is trained.
  fileprivate func trainable(_ name: String) throws(DLCError) -> Function {
    guard let function = function(name) else {
      throw DLCError(
        .graph, "module '\(self.name)' has no function '\(name)'",
        remedy: Spelling.remedy(for: name, among: functions.map(\.name))
          + " (--function chooses one)")
    }
    return function
  }
}

/// A line that rewrites itself, on a terminal only.
private final class ProgressBar {
  private let isTerminal = isatty(2) == 1
  private let start = ContinuousClock.now
  private var first: Int?

  func show(_ p: Trainer.Progress, _ metrics: [(name: String, value: Double)]) {
    guard isTerminal else { return }
    let begun = first ?? p.step
    first = begun
    let share = Double(p.step) / Double(max(p.totalSteps, 1))
    let filled = Int(share * 24)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let done = p.step - begun
    let left = done > 0 ? seconds / Double(done) * Double(p.totalSteps - p.step) : 0
    let text = metrics.filter { !$0.name.hasSuffix("learning_rate") }.map {
      "\($0.name) \(fixed($0.value, 4))"
    }
    .joined(separator: "  ")
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 24 - filled)
    let line =
      "\r\u{1B}[Kepoch \(p.epoch) [\(bar)] \(text)  \(fixed(p.examplesPerSecond, 0)) examples/s  \(fixed(left, 0)) s left"
    Console.say(p.isEpochEnd ? line + "\n" : line)
  }
}
