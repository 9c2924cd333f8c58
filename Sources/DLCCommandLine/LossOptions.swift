import ArgumentParser
import DLCFormats
import DLCGraph
import DLCONNX
import DLCTensor

/// The loss of an ONNX model, which has none itself.
struct LossOptions: ParsableArguments {
  @Option(
    help:
      "cross-entropy (of logits; of a Softmax, of what goes into it), binary-cross-entropy (the same of a Sigmoid) or mean-squared-error, of the model's output, which --output names where there are several, and the array --target.",
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
    help:
      "The array that says what the output should be ('target'): class numbers, [n] for logits [n, k], [n, t] for [n, t, k], [n, h, w] for [n, k, h, w]; or numbers, in the output's shape."
  )
  var target: String?

  func requireNone() throws {
    guard loss == nil, target == nil else {
      throw DLCError(
        .usage, "--loss and --target are for ONNX models",
        remedy:
          "a graph of dlc says its loss itself, in a function 'loss'; one that was imported has none: train the ONNX model"
      )
    }
  }

  /// - Parameter output: what the loss is of; nil for the only output.
  func fineTuning(of output: String?) throws(DLCError) -> FineTuning {
    guard let loss else {
      throw DLCError(
        .usage, "an ONNX model has no loss",
        remedy:
          "choose --loss cross-entropy, of classes, binary-cross-entropy, of yes and no, or mean-squared-error, of numbers"
      )
    }
    var tuning = FineTuning(loss)
    tuning.output = output
    tuning.target = target ?? tuning.target
    return tuning
  }
}

extension FineTuning {
  /// The module to train or measure on the arrays of a file, which say the sizes of all axes but the first.
  /// - Throws: `.binding` when an array is missing.
  func module(_ model: ONNXModel, sizes: [String: Int], _ data: String) throws(DLCError) -> Module {
    let (arrays, skipped) = try Npz.contents(data)
    let shapes = Dictionary(
      arrays.map { ($0.name, $0.value.shape) }, uniquingKeysWith: { first, _ in first })
    let skips = skipped.map { "'\($0.name)' (\($0.reason))" }.joined(separator: ", ")
    let has =
      (shapes.isEmpty ? "no arrays" : Spelling.list(shapes.keys.sorted()))
      + (skips.isEmpty ? "" : ", besides \(skips)")
    for (name, type, isOptional) in model.inputTypes where shapes[name] == nil && !isOptional {
      throw DLCError(
        .binding, "input '\(name)', \(type), is missing", at: data,
        remedy: "the file has \(has)")
    }
    guard let shape = shapes[target] else {
      throw DLCError(
        .binding, "there is no array '\(target)', which says what the output should be", at: data,
        remedy: "--target names it: the file has \(has)")
    }
    var tuning = self
    tuning.targetShape = shape
    return try tuning.module(
      model, sizes: sizes.merging(model.inner(shapes)) { given, _ in given })
  }
}
