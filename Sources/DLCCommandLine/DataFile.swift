import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining

/// The arrays of a data file that a model takes, and what the file says about them.
struct DataFile {
  let values: [String: Tensor]
  /// What is to be said about the file.
  let notes: [String]
  /// The characters that tokens stand for; empty where the file does not say.
  let alphabet: String

  /// The array that `dlc data text` keeps the alphabet in, as Unicode scalars.
  private static let alphabetName = "alphabet"

  init(_ path: String, for inputs: [(name: String, type: TensorType)]) throws(DLCError) {
    // Whatever the inputs are called, the alphabet is none of them.
    let all = inputs + [(Self.alphabetName, TensorType(.int32, [.init(name: "V")]))]
    let arrays = try InputArrays(path, for: all, optional: [Self.alphabetName])
    var values = arrays.values
    let names = Set(inputs.map(\.name))
    var alphabet = ""
    if !names.contains(Self.alphabetName), let codes = values.removeValue(forKey: Self.alphabetName) {
      for code in codes.integers {
        guard let scalar = UInt32(exactly: code).flatMap(Unicode.Scalar.init), code != 0 else {
          throw DLCError(
            .binding, "the alphabet holds \(code), which is no character", at: path,
            remedy: "'alphabet' holds Unicode scalars")
        }
        alphabet.unicodeScalars.append(scalar)
      }
    }
    self.values = values
    self.alphabet = alphabet
    notes = arrays.notes
  }

  /// Puts the alphabet into the recipe, and its size where the model has a dimension for it.
  func describe(
    _ recipe: inout Recipe, _ module: Module, _ step: TrainingStep, _ sizes: inout [String: Int]
  ) throws(DLCError) {
    guard !alphabet.isEmpty else { return }
    let count = alphabet.unicodeScalars.count
    for (name, meaning) in recipe.meanings {
      guard case .token = meaning else { continue }
      recipe.meanings[name] = .token(alphabet)
      for phase in step.phases {
        let dimension = module.function(phase.function)?.alphabetDimension(of: name)
        if let dimension, sizes[dimension] == nil { sizes[dimension] = count }
      }
    }
  }
}
