import ArgumentParser
import DLCFormats
import DLCGraph
import DLCONNX
import DLCTensor

struct Import: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Turns an ONNX model into a graph of dlc.")

  @ArgumentParser.Argument(help: "The ONNX model.") var model: String?
  @Option(name: .shortAndLong, help: "The graph to write; MODEL with .pb for .onnx by default.")
  var output: String?
  @OptionGroup var sizing: SizeOptions
  @OptionGroup var imports: ImportOptions
  @Flag(help: "Print which operators are imported, from which version of their domain on.")
  var coverage = false

  func validate() throws {
    if model == nil && !coverage { throw ValidationError("a model is missing") }
  }

  func run() throws {
    if coverage { return try Console.result(Self.table) }
    guard let model else { return }
    guard case .onnx(let onnx) = try LoadedModel(model) else {
      throw DLCError(.format, "it is no ONNX model", at: model)
    }
    let module = try onnx.module(
      ONNXModel.Bindings(sizes: try sizing.sizes, values: try imports.tensors(for: onnx)))
    let path = output ?? stem(model) + ".pb"
    try OutputFile.requireDistinct([("-o", path)], inputs: [("the model", model)])
    try module.save(path)
    let function = module.functions[0]
    try Console.result(
      "\(path): function \(function.name), \(counted(function.inputs.count, "input")), \(counted(function.outputs.count, "output")), \(counted(module.states.count, "stored tensor"))"
    )
  }

  /// The operators by domain.
  private static var table: String {
    var rows = [["domain", "operator", "since", "must be known"]]
    for mapping in OperatorTable.all.sorted(by: {
      ($0.domain, $0.name, $0.since) < ($1.domain, $1.name, $1.since)
    }) {
      rows.append([
        mapping.domain.isEmpty ? "ai.onnx" : mapping.domain, mapping.name, "\(mapping.since)",
        mapping.statics.joined(separator: ", "),
      ])
    }
    return DLCCommandLine.table(rows)
  }
}
