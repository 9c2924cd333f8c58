import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCTensor
import DLCTraining

struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Verifies a file and the graphs in it.")

  @ArgumentParser.Argument(help: "A graph (.pb), a compiled program (.dlc) or an ONNX model.")
  var model: String
  @OptionGroup var sizing: SizeOptions
  @OptionGroup var imports: ImportOptions
  @Flag(help: "The result as JSON.") var json = false

  func run() throws {
    var found: [Violation] = []
    var outline = ONNXModel.Outline()
    let loaded = try LoadedModel(model)
    if !loaded.isONNX, !sizing.dimensions.isEmpty || !imports.values.isEmpty {
      throw DLCError(.usage, "--dim and --value are for ONNX models", at: model)
    }
    switch loaded {
    case .module(let module):
      found = module.violations()
      if found.isEmpty, module.recipe != nil {
        // Whether it can be followed.
        do throws(DLCError) {
          _ = try TrainingStep(module)
          if module.recipe?.evaluation != nil { _ = try module.evaluating(nil) }
        } catch {
          found.append(Violation(label: "recipe", message: error.message, place: error.location))
        }
      }
    case .onnx, .part:
      outline = try loaded.outline(sizes: try sizing.sizes, imports) ?? outline
      found = (outline.module?.violations() ?? []) + outline.unsupported
    case .program(let contents):
      if !contents.module.isEmpty {
        found = try ModuleFile.decode(contents.module, path: model).violations()
      }
    }
    if json {
      let list = found.map {
        JSON.object([
          ("label", .text($0.label)), ("message", .text($0.message)), ("place", .text($0.place)),
        ])
      }
      let cut = outline.cut.map { [("cut", JSON.text($0))] } ?? []
      try Console.result("\(JSON.object([("violations", .list(list))] + cut))")
    } else if found.isEmpty {
      try Console.result("\(model): sound")
      if let cut = outline.cut {
        try Console.result(
          "it runs in parts, cut where \(cut); \(counted(outline.laterCount, "node comes", "nodes come")) later, whose operators are known but not their shapes"
        )
      }
    }
    guard found.isEmpty else {
      complain(
        "dlc: error: the model breaks \(counted(found.count, "rule")) [\(model)]")
      for violation in found { complain("  \(violation)") }
      throw ExitCode(2)
    }
  }
}
