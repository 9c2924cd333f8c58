import ArgumentParser
import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining

struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures a trained model on arrays.",
    discussion: """
      By the function that its recipe names, or --function: what it gives are means over all rows.
      """)

  @OptionGroup var model: ModelOptions
  @Option(help: "Arrays with one row for each example, by the names of the model's inputs (.npz).")
  var data: String
  @Option(help: "Weights (.safetensors), in the place of the model's own.") var params: String?
  @Option(help: "How many rows are measured in one run; the recipe's batch by default.")
  var batch: Int?
  @OptionGroup var workers: WorkerOptions
  @Flag(help: "Print the result as JSON.") var json = false

  func validate() throws {
    if let batch, batch < 1 {
      throw ValidationError("--batch is \(batch): it must be positive")
    }
  }

  func run() throws {
    var module = try LoadedModel(model.model).module
    if let params { try module.setValues(from: params).forEach(Console.note) }
    let metrics = try module.measured(
      by: model.function, on: data, batch: batch, sizes: try model.sizes, threads: workers.threads)
    if json {
      return try Console.result(
        "\(JSON.object(metrics.map { (name: $0.name, value: JSON.number($0.value)) }))")
    }
    for (name, value) in metrics { try Console.result("\(name) \(fixed(value, 6))") }
  }
}

extension Module {
  /// What a function gives on the arrays of a file: the named one, or the recipe's.
  /// - Throws: `.binding` when the module is not trained, or the arrays do not fit.
  func measured(
    by name: String?, on path: String, batch: Int? = nil, sizes: [String: Int] = [:],
    threads: Int? = nil, silent: Set<String> = []
  ) throws(DLCError) -> [(name: String, value: Double)] {
    let function = try evaluating(name)
    let missing = states.filter {
      $0.value == nil && function.stateNames.contains($0.name)
    }.map(\.name)
    try DLCError.requireTrained(missing, function.name)
    let arrays = try DataFile(
      path, for: function.inputs.filter { $0.name != TrainingStep.seedName }, silent: silent)
    arrays.notes.forEach(Console.note)
    return try DLCError.naming(path) { () throws(DLCError) in
      let evaluator = try Evaluator(
        self, function: function.name, data: arrays.values, batch: batch, dimensions: sizes)
      let values = Dictionary(
        states.compactMap { state in state.value.map { (state.name, $0) } },
        uniquingKeysWith: { a, _ in a })
      return try evaluator.run(values, threads: threads)
    }
  }
}
