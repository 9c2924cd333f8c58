import ArgumentParser
import DLCGraph
import DLCTensor
import DLCTraining

/// A number for an input, as `temperature=0.8`.
struct Setting: ExpressibleByArgument {
  var name: String
  var value: Double

  /// The settings of dlc's own samplers have ranges.
  func validate() throws(DLCError) {
    let range: (holds: Bool, text: String) =
      switch name {
      case "temperature": (value >= 0, "0 (the likeliest) or more")
      case "top_k": (value >= 0, "0 (all) or more")
      case "top_p": (value > 0 && value <= 1, "more than 0 and at most 1")
      default: (true, "")
      }
    if !range.holds { throw DLCError(.usage, "\(name) is \(value): it must be \(range.text)") }
  }

  init(_ name: String, _ value: Double) { (self.name, self.value) = (name, value) }

  init?(argument: String) {
    let parts = argument.split(separator: "=", maxSplits: 1).map(String.init)
    guard parts.count == 2, let value = Double(parts[1]), value.isFinite else { return nil }
    (name, self.value) = (parts[0], value)
  }
}

extension Recipe {
  /// What inputs have that nothing is given for: the defaults of settings.
  func defaults(for inputs: [(name: String, type: TensorType)]) -> [String: Tensor] {
    var values: [String: Tensor] = [:]
    for (name, type) in inputs where type.rank == 0 {
      if case .setting(let value)? = meanings[name] {
        values[name] = Tensor(splat: value, type.dataType, [])
      }
    }
    return values
  }

  /// The seed, where an integer scalar takes one.
  static func seeds(for inputs: [(name: String, type: TensorType)], seed: UInt64?)
    -> [String: Tensor]
  {
    let name = TrainingStep.seedName
    guard let seed, let type = inputs.first(where: { $0.name == name })?.type, type.rank == 0,
      type.dataType.isInteger
    else { return [:] }
    return [name: Tensor(type.dataType, [], truncating: [Int64(bitPattern: seed)])]
  }
}
