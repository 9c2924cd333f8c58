package import DLCTensor

/// The arrays of a file as the inputs of a function take them.
package struct InputArrays {
  /// By the inputs' names, in their element types.
  package private(set) var values: [String: Tensor] = [:]
  /// What else is to be said about the file: what was converted, ignored and skipped.
  package private(set) var notes: [String] = []

  package init() {}

  /// Which inputs there are, for whoever named one wrongly.
  package static func described(_ inputs: [(name: String, type: TensorType)]) -> String {
    let list = inputs.prefix(8).map { "'\($0.name)' \($0.type)" }.joined(separator: ", ")
    return inputs.count == 1
      ? "the only input is \(list)"
      : "the inputs are \(list)" + (inputs.count > 8 ? " and \(inputs.count - 8) more" : "")
  }

  /// Reads an archive: every input takes the array of its name, and other arrays are ignored.
  /// - Parameters:
  ///   - optional: inputs that may be absent.
  ///   - silent: arrays that may be there without an input, of which nothing is said; inputs among them are not listed.
  ///   - keepsKind: whether integers stay integers and floating-point numbers such numbers.
  ///   - keepsNarrow: whether arrays of types whose numbers an input's type has all stay as they are in the
  ///     file, which may be mapped.
  /// - Throws: `.binding` when an input has no array or an element does not fit its type.
  package init(
    _ path: String, for inputs: [(name: String, type: TensorType)], optional: Set<String> = [],
    silent: Set<String> = [], keepsKind: Bool = false, keepsNarrow: Bool = false
  ) throws(DLCError) {
    let (arrays, skipped) = try Npz.contents(path)
    let skips = skipped.map { "'\($0.name)' (\($0.reason))" }.joined(separator: ", ")
    let types = Dictionary(inputs.map { ($0.name, $0.type) }, uniquingKeysWith: { a, _ in a })
    let listed = Self.described(inputs.filter { !silent.contains($0.name) })
    for (name, value) in arrays {
      guard let type = types[name] else { continue }
      if keepsNarrow, value.dataType.widens(to: type.dataType) {
        values[name] = value
        continue
      }
      guard !keepsKind || value.dataType.isFloat == type.dataType.isFloat else {
        throw DLCError(
          .binding, "input '\(name)' is \(value.dataType), \(type.dataType) is wanted", at: path,
          remedy: listed)
      }
      do throws(DLCError) { values[name] = try value.fitted(to: type.dataType, name: name) } catch {
        throw error.within(path)
      }
      if value.dataType != type.dataType {
        notes.append("\(path): '\(name)' is converted from \(value.dataType) to \(type.dataType)")
      }
    }
    for (name, _) in inputs where values[name] == nil && !optional.contains(name) {
      let has = arrays.map { "'\($0.name)'" }.joined(separator: ", ")
      throw DLCError(
        .binding, "input '\(name)' is missing", at: path,
        remedy: "\(listed); the file has \(has.isEmpty ? "no arrays" : has)"
          + (skips.isEmpty ? "" : ", besides \(skips)"))
    }
    let extra = arrays.map(\.name).filter { types[$0] == nil && !silent.contains($0) }
    if !extra.isEmpty {
      notes.append(
        "\(path): ignored, because no input has the name: "
          + extra.map { "'\($0)'" }.joined(separator: ", "))
    }
    if !skips.isEmpty { notes.append("\(path): skipped, because they are no arrays: \(skips)") }
  }
}
