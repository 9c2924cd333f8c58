import ArgumentParser
import DLCFormats
import DLCGraph
import DLCONNX
import DLCTensor
import DLCTraining

struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Trains a model on arrays.",
    discussion: """
      A model with a recipe is trained by that ('dlc show' prints it), but for what the flags say otherwise. \
      Else the function 'loss' (or --function, or one or more --phase) takes a batch of each array, by name, and \
      gives the scalar 'loss' (or --output); its other scalar outputs are metrics. An int64 input 'seed' gets a seed \
      of its own in every step. Validation measures the recipe's function that evaluates, else 'loss_evaluation', if \
      the model has it, over every row.
      Ctrl-C and SIGTERM end the run after the step in progress, with exit status 130 or 143 and a checkpoint, or \
      without --checkpoint with what was learnt so far in -o.
      """)

  @OptionGroup var model: ModelOptions
  @Option(help: "Arrays with one row for each example, by the names of the model's inputs (.npz).")
  var data: String
  @Option(help: "Arrays to validate on after every epoch (.npz).") var validation: String?
  @OptionGroup(title: "What the recipe says") var recipe: RecipeOptions
  @OptionGroup(title: "An ONNX model") var loss: LossOptions
  @OptionGroup(title: "An ONNX model") var tuning: FineTuningOptions
  @OptionGroup(title: "The run") var flags: RunOptions
  @Option(help: "Weights to begin with (.safetensors).") var params: String?
  @Option(
    name: .customShort("o"),
    help: ArgumentHelp(
      "Where the trained weights go: .pb for one file with graph and weights, .onnx for an ONNX model (of the one that is trained, or as 'dlc export' writes it), else .safetensors; averaged ones with --average, and those of the best epoch with --best.",
      valueName: "file"))
  var weights: String?
  @Option(help: "Where the weights of the last step go, which averaging leaves out of -o.")
  var outputCurrent: String?

  func validate() throws {
    if flags.best != nil && validation == nil {
      throw ValidationError("--best needs --validation")
    }
    if flags.resume && params != nil {
      throw ValidationError("--resume goes on with the checkpoint's weights: leave --params out")
    }
    if flags.json && [weights, outputCurrent].contains("-") {
      throw ValidationError("only one thing can go to standard output")
    }
    for path in [weights, outputCurrent].compactMap(\.self)
    where [".dlc", ".npz"].contains(where: path.hasSuffix) {
      throw ValidationError(
        "weights are written as .safetensors, or as .pb with their graph, not as '\(path)'")
    }
    if outputCurrent?.hasSuffix(".onnx") == true {
      throw ValidationError("an ONNX model is written by -o alone")
    }
  }

  func run() throws {
    Interruption.install()
    let loaded = try LoadedModel(model.model)
    var options = recipe
    var module: Module
    var notes: [String] = []
    if case .onnx(let onnx) = loaded {
      // The loss of an ONNX model is one that is added; --output names what it is of.
      options.target = nil
      var wanted = try loss.fineTuning(of: recipe.target)
      wanted.frozen = tuning.freeze
      wanted.updatesStatistics = tuning.updateStatistics
      module = try wanted.module(onnx, sizes: model.sizes, data)
      if onnx.isForTraining {
        notes.append(
          "the file was exported to be trained: dropout is of training alone here, and batch norms use their running statistics unless --update-statistics is given; a model that -o writes as .onnx stays in that mode, and dlc export of a .pb makes one to be used"
        )
      }
    } else {
      try loss.requireNone()
      try tuning.requireNone()
      module = try loaded.module
    }
    let recipe = try options.recipe(of: module, function: model.function)
    if outputCurrent != nil, !recipe.phases.contains(where: { $0.rule.averaging != nil }) {
      throw ValidationError(
        "--output-current needs --average: without it -o has these weights")
    }
    try OutputFile.requireDistinct(
      [("-o", weights), ("--output-current", outputCurrent), ("--log", flags.log)],
      inputs: [("--data", data), ("--validation", validation)])
    try OutputFile.requireDistinct([("--log", flags.log)], inputs: [("the model", model.model)])
    for path in [weights, outputCurrent].compactMap(\.self) { try OutputFile.requirePlace(path) }
    if let params {
      module = module.withoutCurrent
      notes += try module.setValues(from: params)
    }
    try requireExport(module, loaded)
    var run = try TrainingRun(
      module, recipe, flags, data: data, validation: validation,
      // Those of an ONNX model are bound already.
      sizes: try model.sizes.filter { size in
        if case .onnx = loaded { module.dimensions.contains { $0.name == size.key } } else { true }
      },
      notes: notes)
    if weights == nil, outputCurrent == nil, flags.checkpoint == nil {
      run.add(note: "the weights are not kept: -o or --checkpoint says where")
    }
    for path in [weights, outputCurrent].compactMap(\.self)
    where path != "-" && ![".safetensors", ".pb", ".onnx"].contains(where: path.hasSuffix) {
      run.add(note: "\(path) is written as safetensors")
    }
    let (metrics, seconds, stop) = try run.run()
    if run.isWritten(stop) { try save(run.trainer, loaded) }
    try run.report(metrics, seconds, stop?.name, json: flags.json)
    if let stop { try run.leave(stop, weights ?? outputCurrent) }
  }

  /// Makes the ONNX model that -o asks for of the weights as they are: what is in its way is known before anything is
  /// trained.
  private func requireExport(_ module: Module, _ loaded: LoadedModel) throws {
    guard let weights, weights.hasSuffix(".onnx") else { return }
    do {
      _ = try exported(module, loaded, as: weights)
    } catch let error as DLCError {
      var error = error
      error.remedy +=
        (error.remedy.isEmpty ? "" : "; ")
        + "-o FILE.pb keeps weights and graph of any model, and dlc export writes what has a form in ONNX"
      throw error
    }
  }

  /// The ONNX model that is trained with other weights, or a graph's function as 'dlc export' writes it.
  private func exported(_ module: Module, _ loaded: LoadedModel, as path: String) throws
    -> ModelExport.Files
  {
    guard case .onnx(let onnx) = loaded else {
      return try ModelExport().encode(module, function: nil, file: path)
    }
    let moved = Set(module.functions.flatMap { $0.graph.updates.map(\.name) })
    var values: [String: Tensor] = [:]
    for state in module.states where state.isParameter || moved.contains(state.name) {
      values[state.name] = state.value
    }
    return ModelExport.Files(
      model: try onnx.rewritten(try MappedFile(model.model), with: values), tensors: nil)
  }

  private func save(_ trainer: Trainer, _ loaded: LoadedModel) throws {
    func write(_ state: [String: Tensor], _ path: String?) throws {
      guard let path else { return }
      try Safetensors.write(state.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, to: path)
    }
    if let weights, weights.hasSuffix(".onnx") {
      try exported(try trainer.module(), loaded, as: weights).write(to: weights)
    } else if let weights, weights.hasSuffix(".pb") {
      try ModuleFile.writeWhole(try trainer.module(), to: weights)
    } else {
      try write(trainer.best?.state ?? trainer.averagedState, weights)
    }
    try write(trainer.modelState, outputCurrent)
  }
}

/// What of an ONNX model is trained.
struct FineTuningOptions: ParsableArguments {
  @Option(
    help:
      "Initialisers that stay as they are, running statistics too: those whose whole name a regular expression matches; may be repeated."
  )
  var freeze: [String] = []
  @Flag(
    help:
      "Batch norms normalise by the batch and move their running statistics by their momentum, as in training from scratch; else both stay."
  )
  var updateStatistics = false

  func requireNone() throws {
    guard freeze.isEmpty, !updateStatistics else {
      throw DLCError(
        .usage, "--freeze and --update-statistics are for ONNX models",
        remedy: "a graph of dlc says itself what is trained (--prefix chooses parameters)")
    }
  }
}
