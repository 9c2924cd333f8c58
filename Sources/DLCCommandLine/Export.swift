import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCTensor

struct Export: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes a function as an ONNX model.",
    discussion: """
      Parameters that the model stores are initialisers. State that the function updates is an input under its \
      name and a result as NAME_updated.
      """)

  @OptionGroup var model: ModelOptions
  @Option(
    name: .shortAndLong, help: "The ONNX model to write; MODEL with .onnx for .pb by default.")
  var output: String?
  @Option(help: "Values for the state, by name (.safetensors).") var params: String?
  @Option(help: "The operator set, from 17 to 21.") var opset = 21

  func validate() throws {
    guard ModelExport.opsets.contains(opset) else {
      throw ValidationError(
        "--opset must be between \(ModelExport.opsets.lowerBound) and \(ModelExport.opsets.upperBound)"
      )
    }
  }

  func run() throws {
    var module = try LoadedModel(model.model).module
    if let params { try module.setValues(from: params).forEach(Console.note) }
    var export = ModelExport()
    export.opset = opset
    export.sizes = try model.sizes
    for name in export.sizes.keys.sorted()
    where !module.dimensions.contains(where: { $0.name == name }) {
      throw DLCError(
        .binding, "module '\(module.name)' has no dimension '\(name)'",
        remedy: Spelling.remedy(for: name, among: module.dimensions.map(\.name)))
    }
    let path = output ?? stem(model.model) + ".onnx"
    try OutputFile.requireDistinct(
      [("-o", path)], inputs: [("the model", model.model), ("--params", params)])
    let files = try export.encode(
      module, function: model.function, file: path)
    try files.write(to: path)
    let function = try module.selectFunction(model.function)
    try Console.result("\(path): function \(function.name), opset \(opset)")
  }
}
