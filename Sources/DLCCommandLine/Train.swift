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
  @OptionGroup(title: "An ONNX model") var tuning: FineTuningOptions
  @OptionGroup(title: "The run") var flags: RunOptions
  @Option(help: "Weights to begin with (.safetensors).") var params: String?
  @Option(
    name: .customShort("o"),
    help: ArgumentHelp(
      "Where the trained weights go: .pb for one file with graph and weights, else .safetensors; averaged ones with --average, and those of the best epoch with --best.",
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
    var (module, options) = (try loaded.module(tuning, recipe.target, model.sizes, data), recipe)
    // The loss of an ONNX model is one that is added; --output names what it is of.
    if case .onnx = loaded { options.target = nil } else { try tuning.requireNone() }
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
    var notes: [String] = []
    if let params {
      module = module.withoutCurrent
      notes += try module.setValues(from: params)
    }
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
    let (metrics, seconds, stop) = try run.run()
    if run.isWritten(stop) { try save(run.trainer) }
    try run.report(metrics, seconds, stop?.name, json: flags.json)
    if let stop { try run.leave(stop, weights ?? outputCurrent) }
  }

  private func save(_ trainer: Trainer) throws {
    func write(_ state: [String: Tensor], _ path: String?) throws {
      guard let path else { return }
      try Safetensors.write(state.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }, to: path)
    }
    if let weights, weights.hasSuffix(".onnx") {
      let state = trainer.best?.state ?? trainer.averagedState
      let trained = Set(try trainer.module().states.filter(\.isParameter).map(\.name))
      let bytes = try ONNXModel.rewritten(
        try MappedFile(model.model), with: state.filter { trained.contains($0.key) })
      try OutputFile.write(bytes, to: weights)
    } else if let weights, weights.hasSuffix(".pb") {
      try ModuleFile.writeWhole(try trainer.module(), to: weights)
    } else {
      try write(trainer.best?.state ?? trainer.averagedState, weights)
    }
    try write(trainer.modelState, outputCurrent)
  }
}

/// What is trained of an ONNX model.
struct FineTuningOptions: ParsableArguments {
  @Option(
    help:
      "\(FineTuning.Loss.allCases.map(\.rawValue).joined(separator: " or ")), of the model's output (--output names it) and the array --target.",
    transform: {
      guard let loss = FineTuning.Loss(rawValue: $0) else {
        throw ValidationError(
          "there is no loss '\($0)'; there are \(FineTuning.Loss.allCases.map(\.rawValue).joined(separator: ", "))"
        )
      }
      return loss
    })
  var loss: FineTuning.Loss?
  @Option(
    help: "The array that says what the output should be: class numbers, or numbers ('target').")
  var target: String?
  @Option(help: "Initialisers that stay as they are: those whose whole name matches.")
  var freeze: String?
  @Flag(help: "Train the running statistics of batch norms too.") var updateStatistics = false

  func requireNone() throws {
    guard loss == nil, target == nil, freeze == nil, !updateStatistics else {
      throw DLCError(
        .usage, "--loss, --target, --freeze and --update-statistics are for ONNX models",
        remedy: "a graph of dlc says its loss itself")
    }
  }
}

extension LoadedModel {
  /// The module to train.
  /// - Parameters:
  ///   - output: what the loss of an ONNX model is of.
  ///   - data: the arrays that it is trained on, which say the sizes of all axes but the first.
  fileprivate func module(
    _ options: FineTuningOptions, _ output: String?, _ sizes: [String: Int], _ data: String
  ) throws -> Module {
    guard case .onnx(let model) = self else { return try module }
    guard let loss = options.loss else {
      throw DLCError(
        .usage, "an ONNX model has no loss", remedy: "choose one with --loss cross-entropy")
    }
    var tuning = FineTuning(loss)
    tuning.output = output
    tuning.target = options.target ?? tuning.target
    tuning.frozen = options.freeze
    tuning.updatesStatistics = options.updateStatistics
    let shapes = try Npz.arrays(data).mapValues(\.shape)
    return try tuning.module(
      model, sizes: sizes.merging(model.inner(shapes)) { given, _ in given })
  }
}
