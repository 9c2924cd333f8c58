import ArgumentParser
import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining

struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures a trained model on arrays.",
    discussion: """
      By the function that its recipe names, or --function, else by the recipe's phases as training validates \
      them, else by 'loss_evaluation' or 'loss'; an ONNX model by --loss. What they give are means over all rows.
      """)

  @OptionGroup var model: ModelOptions
  @Option(help: "Arrays with one row for each example, by the names of the model's inputs (.npz).")
  var data: String
  @Option(help: "Weights (.safetensors), in the place of the model's own.") var params: String?
  @Option(help: "How many rows are measured in one run; the recipe's batch by default.")
  var batch: Int?
  @OptionGroup(title: "An ONNX model") var loss: LossOptions
  @Option(help: "The output that the loss of an ONNX model is of; the only one by default.")
  var output: String?
  @OptionGroup var workers: WorkerOptions
  @Flag(help: "Print the result as JSON.") var json = false

  func validate() throws {
    if let batch, batch < 1 {
      throw ValidationError("--batch is \(batch): it must be positive")
    }
  }

  func run() throws {
    var (module, sizes) = try loaded()
    if let params { try module.setValues(from: params).forEach(Console.note) }
    let metrics = try module.measured(
      by: model.function, on: data, batch: batch, sizes: sizes, threads: workers.threads)
    if json {
      return try Console.result(
        "\(JSON.object(metrics.map { (name: $0.name, value: JSON.number($0.value)) }))")
    }
    for (name, value) in metrics { try Console.result("\(name) \(fixed(value, 6))") }
  }

  /// The module, and sizes of its dimensions: those of an ONNX model are bound when it is imported.
  private func loaded() throws -> (Module, sizes: [String: Int]) {
    let loaded = try LoadedModel(model.model)
    guard case .onnx(let onnx) = loaded else {
      try loss.requireNone()
      guard output == nil else {
        throw DLCError(
          .usage, "--output is for ONNX models", remedy: "--function chooses what is measured")
      }
      return (try loaded.module, try model.sizes)
    }
    guard params == nil, model.function == nil else {
      throw DLCError(.usage, "--params and --function are not for an ONNX model")
    }
    return (try loss.fineTuning(of: output).module(onnx, sizes: model.sizes, data), [:])
  }
}

extension [Function] {
  /// What they take from data: every input once, but for seeds.
  var dataInputs: [(name: String, type: TensorType)] {
    var result: [(name: String, type: TensorType)] = []
    for input in flatMap(\.inputs)
    where input.name != TrainingStep.seedName && !result.contains(where: { $0.name == input.name })
    {
      result.append(input)
    }
    return result
  }
}

extension Module {
  /// What a function gives on the arrays of a file: the named one, or the recipe's.
  /// - Throws: `.binding` when the module is not trained, or the arrays do not fit.
  func measured(
    by name: String?, on path: String, batch: Int? = nil, sizes: [String: Int] = [:],
    threads: Int? = nil, silent: Set<String> = []
  ) throws(DLCError) -> [(name: String, value: Double)] {
    // Without a function that evaluates, the phases of the recipe are measured.
    let step =
      name == nil && recipe != nil && recipe?.evaluation == nil ? try TrainingStep(self) : nil
    let functions: [Function]
    if let step { functions = step.evaluationFunctions } else { functions = [try evaluating(name)] }
    let read = Set(functions.flatMap(\.stateNames))
    let missing = states.filter { $0.value == nil && read.contains($0.name) }.map(\.name)
    try DLCError.requireTrained(missing, functions.map(\.name).joined(separator: ", "))
    let arrays = try DataFile(path, for: functions.dataInputs, silent: silent)
    arrays.notes.forEach(Console.note)
    try arrays.require(recipe?.meanings ?? [:])
    return try DLCError.naming(path) { () throws(DLCError) in
      let evaluator: Evaluator
      if let step {
        evaluator = try Evaluator(
          step, data: arrays.values, batch: batch ?? recipe?.batch ?? 64, dimensions: sizes)
      } else {
        evaluator = try Evaluator(
          self, function: functions[0].name, data: arrays.values, batch: batch, dimensions: sizes)
      }
      evaluator.notes.forEach(Console.note)
      return try evaluator.run(threads: threads)
    }
  }
}
