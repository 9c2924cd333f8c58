import DLCData
import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining

/// The arrays of a data file that a model takes, and what the file says about them.
struct DataFile {
  let values: [String: Tensor]
  private let path: String
  /// What is to be said about the file.
  let notes: [String]
  /// The characters that tokens stand for; empty where the file does not say.
  let alphabet: String
  /// The names of classes; empty where the file does not say.
  let classes: [String]

  /// The arrays that `dlc data` keeps the alphabet in, as Unicode scalars, and the names of classes.
  private static let (alphabetName, classesName) = ("alphabet", "classes")

  /// - Parameter silent: arrays that may be there without an input, of which nothing is said.
  init(
    _ path: String, for inputs: [(name: String, type: TensorType)], silent: Set<String> = []
  ) throws(DLCError) {
    self.path = path
    let names = Set(inputs.map(\.name))
    let more = [
      (name: Self.alphabetName, type: TensorType(.int32, ["n"])),
      (name: Self.classesName, type: TensorType(.uint8, ["n", "n"])),
    ].filter { !names.contains($0.name) }
    let arrays = try InputArrays(
      path, for: inputs + more, optional: Set(more.map(\.name)),
      silent: silent.union(more.map(\.name)), keepsNarrow: true)
    var values = arrays.values
    var alphabet = ""
    classes =
      names.contains(Self.classesName)
      ? [] : try Self.names(values.removeValue(forKey: Self.classesName), path)
    if !names.contains(Self.alphabetName), let codes = values.removeValue(forKey: Self.alphabetName)
    {
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

  private static func names(_ array: Tensor?, _ path: String) throws(DLCError) -> [String] {
    guard let array else { return [] }
    do throws(DLCError) { return try ClassNames.names(array) } catch { throw error.within(path) }
  }

  /// Checks that the numbers of the file stand for what they stand for in a model.
  /// - Throws: `.binding` when characters or classes are others.
  func require(_ meanings: [String: Meaning]) throws(DLCError) {
    for (name, meaning) in meanings.sorted(by: { $0.key < $1.key }) {
      switch meaning {
      case .token(let known) where !known.isEmpty && !alphabet.isEmpty && known != alphabet:
        throw DLCError(
          .binding,
          "the \(alphabet.unicodeScalars.count) characters of the text are not the \(known.unicodeScalars.count) of the model's '\(name)'",
          at: path,
          remedy: "cut the text with the alphabet of the model's own data: dlc data text --alphabet"
        )
      case .label(let known) where !known.isEmpty && !classes.isEmpty && known != classes:
        throw DLCError(
          .binding,
          "the classes \(Spelling.list(classes)) are not those of the model's '\(name)', \(Spelling.list(known))",
          at: path, remedy: "number the classes as the model does")
      default: break
      }
    }
  }

  /// Puts the alphabet and the names of classes into what arrays mean, and the alphabet's size where the
  /// model has a dimension for it.
  func describe(
    _ meanings: inout [String: Meaning], _ step: TrainingStep, _ sizes: inout [String: Int]
  ) throws(DLCError) {
    try require(meanings)
    let count = alphabet.unicodeScalars.count
    for (name, meaning) in meanings {
      if case .label(let known) = meaning, known.isEmpty, !classes.isEmpty {
        meanings[name] = .label(classes)
      }
      guard case .token = meaning, !alphabet.isEmpty else { continue }
      meanings[name] = .token(alphabet)
      for phase in step.phases {
        let dimension = step.module.function(phase.function)?.alphabetDimension(of: name)
        if let dimension, sizes[dimension] == nil { sizes[dimension] = count }
      }
    }
  }
}
