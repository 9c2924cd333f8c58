import DLCAutodiff
import DLCGraph
import DLCTensor

/// One saved graph of `Graphs/equations`: sizes, and functions over them.
struct EquationFile {
  var module: Module

  init(_ name: String, _ sizes: [(String, Int)]) {
    module = Module(name)
    for (dimension, size) in sizes { module.dimension(dimension, default: size) }
  }

  mutating func function(_ name: String, _ body: (FunctionBuilder) -> Void) throws(DLCError) {
    try module.function(name, body)
  }

  /// A function and its vector-Jacobian product.
  mutating func differentiable(
    _ name: String, gradient: String = "gradient", _ body: (FunctionBuilder) -> Void
  ) throws(DLCError) {
    try module.function(name, body)
    try Gradient.addPullback(to: &module, function: name, named: gradient)
  }
}

enum Equations {
  static let models: [ZooModel] =
    Activations.models + Architectures.models + Generative.models + OptimizerFiles.models

  static func model(
    _ name: String, _ summary: String, _ sizes: [(String, Int)],
    _ fill: @escaping @Sendable (inout EquationFile) throws(DLCError) -> Void
  ) -> ZooModel {
    let stem = String(name.split(separator: "/").last!)
    return ZooModel(
      name: "equations/\(name)", summary: summary,
      make: { () throws(DLCError) in
        var file = EquationFile(stem, sizes)
        try fill(&file)
        return file.module
      })
  }
}
