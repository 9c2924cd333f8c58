import ArgumentParser
import DLCFormats
import DLCGraph
import DLCProgram
import DLCTensor
import DLCTraining

struct Sample: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Draws samples from a trained model.",
    discussion: """
      MODEL is what 'dlc zoo train' or 'dlc train -o FILE.pb' wrote, or a program that was compiled with its weights. \
      Its recipe says which function draws. Texts are written to standard output; pictures to --picture, and on a \
      terminal they are drawn.
      """)

  @OptionGroup var model: ModelOptions
  @Option(help: "How many are drawn (64 pictures, 1 text; of a program what it was compiled for).")
  var count: Int?
  @Option(help: "The seed of the random numbers (default: 0).") var seed: UInt64?
  @Option(help: "Where the pictures go, in one (.png).") var picture: String?
  @Option(help: "Pictures in a row.") var columns: Int?
  @Option(help: "Where the arrays go (.npz).") var outputs: String?
  @Option(help: "A number for an input, as temperature=0.8; may be repeated.") var set: [Setting] =
    []
  @Option(help: "The same as --set temperature=T: how bold the choice of tokens is.")
  var temperature: Double?
  @Option(help: "The same as --set top_k=K: only the K likeliest tokens are chosen; 0 for all.")
  var topK: Int?
  @Option(help: "The same as --set top_p=P: only the likeliest tokens that together have P.")
  var topP: Double?
  @Option(help: "Arrays for other inputs, by name (.npz).") var inputs: String?
  @Option(help: "Weights (.safetensors), in the place of the model's own.") var params: String?
  @OptionGroup var workers: WorkerOptions
  @Flag(help: "Print what was drawn as JSON.") var json = false

  func validate() throws {
    for (name, value) in [("count", count), ("columns", columns)] {
      if let value, value < 1 || value > 1 << 24 {
        throw ValidationError(
          "--\(name) is \(value): it must be positive, and no more than 16,777,216")
      }
    }
  }

  func run() throws {
    try requirePicture(picture)
    try OutputFile.requireDistinct(
      [("--picture", picture), ("--outputs", outputs)],
      inputs: [("the model", model.model), ("--params", params), ("--inputs", inputs)])
    for path in [picture, outputs].compactMap(\.self) { try OutputFile.requirePlace(path) }
    if seed != nil, set.contains(where: { $0.name == TrainingStep.seedName }) {
      throw ValidationError("--seed and --set seed=... are the same: give one of them")
    }
    var sampling = Sampling(count: count, seed: seed ?? 0)
    sampling.settings = set
    for (name, value) in [
      ("temperature", temperature), ("top_k", topK.map { Double($0) }), ("top_p", topP),
    ] {
      if let value { sampling.settings.append(Setting(name, value)) }
    }
    sampling.arrays = inputs
    sampling.sizes = try model.sizes
    sampling.function = model.function
    sampling.threads = workers.threads
    let (outputs, recipe) = try draw(sampling)
    let samples = Samples(outputs: outputs, recipe: recipe)
    try samples.write(picture: picture, arrays: self.outputs, columns: columns)
    if json { return try Console.result("\(samples.json)") }
    try samples.show(columns: columns, isWritten: picture != nil || self.outputs != nil)
  }

  private func draw(_ sampling: Sampling) throws -> (Sampling.Outputs, Recipe?) {
    switch try LoadedModel(model.model) {
    case .program(let contents) where params == nil:
      let module = contents.module.isEmpty ? nil : try LoadedModel.program(contents).module
      return (try sampling.draw(from: contents, module), module?.recipe)
    case let loaded:
      var sampling = sampling
      // As many as the program was compiled for, with other weights too.
      if case .program(let contents) = loaded, let first = contents.program.outputs.first {
        sampling.count = sampling.count ?? contents.program[first.buffer].shape.first
      }
      var module = try loaded.module
      if let params {
        module = module.withoutCurrent
        try module.setValues(from: params).forEach(Console.note)
      }
      return (try sampling.draw(from: module), module.recipe)
    }
  }
}
