import ArgumentParser
import DLCAutodiff
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCONNX
import DLCTensor

struct Grad: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Adds a derivative function to a module.")

  @OptionGroup var model: ModelOptions
  @Option(help: "The output to differentiate; an array needs its cotangent as a further input.")
  var of: String
  @Option(
    help:
      "Inputs and parameters to differentiate by, separated by commas; all floating-point ones by default."
  ) var wrt: String?
  @Option(help: "The order of the derivative.") var order = 1
  @Option(name: .shortAndLong, help: "The model file to write.") var output: String

  func validate() throws {
    if order < 1 || order > 8 { throw ValidationError("--order must be between 1 and 8") }
  }

  func run() throws {
    let loaded = try LoadedModel(model.model)
    let sizes = try model.sizes
    var module: Module
    if case .onnx(let onnx) = loaded {
      module = try onnx.module(ONNXModel.Bindings(sizes: sizes, differentiates: true))
    } else {
      guard sizes.isEmpty else {
        throw DLCError(
          .usage, "--dim is for ONNX models here", at: model.model,
          remedy: "a derivative keeps the names of dimensions, and is compiled for sizes")
      }
      module = try loaded.module
    }
    var name = try module.selectFunction(model.function).name
    var target = of
    let names = wrt.map { $0.split(separator: ",").map(String.init) }
    for step in 1...order {
      let made =
        "\(try module.selectFunction(model.function).name)_gradient" + (step == 1 ? "" : "\(step)")
      let scalar = step < order
      try Gradient.add(
        to: &module, function: name, of: target, by: names, named: made, asScalar: scalar)
      (name, target) = (made, Gradient.scalarName)
    }
    try module.save(output)
    let inputs = module.function(name)?.inputs.map(\.name) ?? []
    let results = module.function(name)?.outputs.map(\.name) ?? []
    try Console.result(
      "\(output): function \(name), of \(Spelling.list(inputs)), gives \(Spelling.list(results))")
  }
}
