import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTraining
import Foundation

struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Trains a model on arrays.",
    discussion: """
      The function 'loss' (or --function) takes a batch of each array, by name, and gives the scalar 'loss';
      its other scalar outputs are metrics. An int64 input 'seed' gets a seed of its own in every step.
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
  @Option(help: "The seed of initialisers, of the order and of noise.") var seed: UInt64 = 0
  @Option(help: "Weights to begin with (.safetensors).") var params: String?
  @Option(name: .shortAndLong, help: "Where the trained weights go (.safetensors).") var output:
    String?
  @Option(help: "A directory for checkpoints.") var checkpoint: String?
  @Option(help: "Steps between checkpoints, besides those at the end of an epoch.")
  var checkpointEvery = 1000
  @Option(help: "How many checkpoints are kept.") var keep = 3
  @Flag(help: "Continue from the newest checkpoint.") var resume = false
  @Option(help: "A file that metrics are added to, one JSON object in a line.") var log: String?
  @Option(help: "Scale all gradients together down to this norm.") var clipNorm: Double?
  @Option(help: "Move every gradient element into plus or minus this.") var clipValue: Double?
  @Option(help: "Decoupled weight decay.") var weightDecay = 0.0
  @Option(help: "Parts of a batch that are computed one after the other.") var accumulate = 1
  @Option(help: "Keep a moving average of the weights with this decay.") var average: Double?
  @Flag(inversion: .prefixedNo, help: "Another order of the examples in every epoch.")
  var shuffle = true
  @Option(help: "Worker threads; results do not depend on it.") var threads: Int?
  @Flag(help: "Print the result as JSON.") var json = false

  func validate() throws {
    if epochs < 1 || batch < 1 || accumulate < 1 || keep < 1 || checkpointEvery < 1 {
      throw ValidationError("counts must be positive")
    }
    if batch % accumulate != 0 { throw ValidationError("--accumulate must divide --batch") }
    if !Optimizer.named.contains(where: { $0.name == optimizer }) {
      throw ValidationError("there is no optimizer '\(optimizer)'")
    }
    if !["constant", "cosine", "warmup", "step", "onecycle"].contains(schedule) {
      throw ValidationError("there is no schedule '\(schedule)'")
    }
    if resume && checkpoint == nil { throw ValidationError("--resume needs --checkpoint") }
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

  func run() throws {
    var module = try LoadedModel(model.model).module
    let name = model.function ?? "loss"
    let arrays = Dictionary(
      try Npz.read(data).map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    guard let function = module.function(name) else {
      throw DLCError(
        .graph, "module '\(module.name)' has no function '\(name)'",
        remedy:
          "it has \(module.functions.map(\.name).joined(separator: ", ")): choose one with --function"
      )
    }
    if let params {
      for (name, value) in try Safetensors.read(params) { try module.setValue(value, of: name) }
    }
    let examples = function.inputs.first.flatMap { arrays[$0.name]?.shape.first } ?? 0
    let total = max(1, examples / batch) * epochs
    let step = try TrainingStep(module, phases: [Phase(name, rule: rule(totalSteps: total))])
    var options = Trainer.Options(batch: batch, epochs: epochs, seed: seed)
    options.threads = threads
    options.shuffles = shuffle
    options.dimensions = try model.sizes
    options.checkpoints = checkpoint
    options.checkpointSteps = checkpointEvery
    options.keep = keep
    var trainer = try Trainer(
      step,
      data: arrays.filter { key, _ in
        function.inputs.contains { $0.name == key }
      }, options: options)
    if resume, try trainer.resume() { note("resumed at step \(trainer.position.step)") }
    let validator = try validation.map { path throws(DLCError) in
      try Validator(module, function, path, batch: batch, sizes: options.dimensions)
    }
    let bar = ProgressBar()
    let start = ContinuousClock.now
    var last: [(name: String, value: Double)] = []
    let training = trainer
    try trainer.run { (p) throws(DLCError) in
      last = p.metrics
      var record = p.metrics
      if p.isEpochEnd, let validator {
        // The run holds the state in the loop that `training` shares.
        record += try validator.run(training.modelState, threads: threads)
        last = record
      }
      try write(p, record)
      bar.show(p, record)
      return true
    }
    if let output {
      let values = trainer.modelState.sorted { $0.key < $1.key }
      try Safetensors.write(values.map { ($0.key, $0.value) }, to: output)
    }
    let seconds = milliseconds(ContinuousClock.now - start) / 1e3
    if json {
      let fields = last.map { "\(DLCFormats.json($0.name)): \(number($0.value))" }
      print(
        "{\"steps\": \(trainer.position.step), \"seconds\": \(fixed(seconds, 3)), \(fields.joined(separator: ", "))}"
      )
    } else {
      let text = last.map { "\($0.name) \(fixed($0.value, 6))" }.joined(separator: "  ")
      print("\(trainer.position.step) steps in \(fixed(seconds, 1)) s  \(text)")
    }
  }

  private func number(_ x: Double) -> String { x.isFinite ? "\(x)" : "null" }

  private func note(_ text: String) {
    FileHandle.standardError.write(Data("dlc: \(text)\n".utf8))
  }

  private func write(_ p: Trainer.Progress, _ metrics: [(name: String, value: Double)])
    throws(DLCError)
  {
    guard let log else { return }
    var fields = ["\"epoch\": \(p.epoch)", "\"step\": \(p.step)"]
    fields += metrics.map { "\(DLCFormats.json($0.name)): \(number($0.value))" }
    fields.append("\"examples_per_second\": \(fixed(p.examplesPerSecond, 1))")
    let line = Data("{\(fields.joined(separator: ", "))}\n".utf8)
    if !FileManager.default.fileExists(atPath: log) {
      FileManager.default.createFile(atPath: log, contents: nil)
    }
    guard let file = FileHandle(forWritingAtPath: log) else {
      throw DLCError(.file, "cannot write the log", at: log)
    }
    do {
      try file.seekToEnd()
      try file.write(contentsOf: line)
      try file.close()
    } catch {
      throw DLCError(.file, "cannot write the log", at: log)
    }
  }
}

/// The loss function on a second data set, averaged over its batches.
private struct Validator {
  private let executable: Executable
  private let data: [String: Tensor]
  private let batch: Int
  private let count: Int
  private let usesSeed: Bool

  init(
    _ module: Module, _ function: Function, _ path: String, batch: Int, sizes: [String: Int]
  ) throws(DLCError) {
    let arrays = Dictionary(
      try Npz.read(path).map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    var data: [String: Tensor] = [:]
    var shapes: [(name: String, declared: TensorType, shape: [Int])] = []
    var count = Int.max
    for (name, type) in function.inputs where name != TrainingStep.seedName {
      guard let array = arrays[name] else {
        throw DLCError(.binding, "the validation data has no array '\(name)'", at: path)
      }
      data[name] = array.converted(to: type.dataType)
      count = min(count, array.shape.first ?? 0)
    }
    let size = min(batch, count)
    guard size >= 1 else { throw DLCError(.binding, "there are no examples", at: path) }
    for (name, type) in function.inputs where name != TrainingStep.seedName {
      shapes.append((name, type, [size] + data[name]!.shape.dropFirst()))
    }
    self.data = data
    self.batch = size
    self.count = count
    usesSeed = function.inputs.contains { $0.name == TrainingStep.seedName }
    let bound = try module.bind(explicit: sizes, arrays: shapes)
    executable = try Compiler().load(
      module, function: function.name, dimensions: bound, cache: .standard
    ).executable
  }

  func run(_ state: [String: Tensor], threads: Int?) throws(DLCError) -> [(
    name: String, value: Double
  )] {
    let known = Set(executable.states.map(\.name))
    // Running statistics that validation would update are set again every time.
    try executable.setState(state.filter { known.contains($0.key) })
    var sums: [(name: String, value: Double)] = []
    let batches = count / batch
    for index in 0..<batches {
      var inputs = data.mapValues { $0.rows(Array(index * batch..<(index + 1) * batch)) }
      if usesSeed { inputs["seed"] = Tensor([], [Int64(index)]) }
      let results = try executable.run(inputs, threads: threads).filter {
        $0.value.shape.isEmpty && $0.value.dataType.isFloat
      }
      if sums.isEmpty { sums = results.map { ("validation_\($0.name)", 0) } }
      for (position, result) in results.enumerated() {
        sums[position].value += result.value.doubles[0] / Double(batches)
      }
    }
    return sums
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
    let seconds = milliseconds(ContinuousClock.now - start) / 1e3
    let done = p.step - begun
    let left = done > 0 ? seconds / Double(done) * Double(p.totalSteps - p.step) : 0
    let text = metrics.filter { $0.name != "learning_rate" }.map {
      "\($0.name) \(fixed($0.value, 4))"
    }
    .joined(separator: "  ")
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 24 - filled)
    write(
      "\r\u{1B}[Kepoch \(p.epoch) [\(bar)] \(text)  \(fixed(p.examplesPerSecond, 0)) examples/s  \(fixed(left, 0)) s left"
    )
    if p.isEpochEnd { write("\n") }
  }

  private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
