import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCTensor
import DLCTraining

struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Verifies a file and the graphs in it.")

  @ArgumentParser.Argument(help: "A graph (.pb) or a compiled program (.dlc).") var model: String
  @Flag(help: "The result as JSON.") var json = false

  func run() throws {
    var found: [Violation] = []
    switch try LoadedModel(model) {
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
    case .onnx(let model), .part(let model, _): found = try model.module().violations()
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
      try Console.result("\(JSON.object([("violations", .list(list))]))")
    } else if found.isEmpty {
      try Console.result("\(model): sound")
    }
    guard found.isEmpty else {
      complain(
        "dlc: error: the model breaks \(counted(found.count, "rule")) [\(model)]")
      for violation in found { complain("  \(violation)") }
      throw ExitCode(2)
    }
  }
}
