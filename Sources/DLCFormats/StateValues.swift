package import DLCTensor

/// The tensors of a safetensors file as the state of a model takes them.
package struct StateValues {
  /// By the states' names, in their element types.
  package private(set) var values: [String: Tensor] = [:]
  /// What was converted.
  package private(set) var notes: [String] = []

  /// - Parameter owner: what the states belong to, for messages.
  /// - Throws: `.binding`, naming them, when the file has tensors that are no state, so that it belongs
  ///   to another model, or elements that do not fit.
  package init(
    _ path: String, for states: [(name: String, type: DataType)], of owner: String
  ) throws(DLCError) {
    let types = Dictionary(states, uniquingKeysWith: { a, _ in a })
    let tensors = try Safetensors.read(path)
    let strange = tensors.map(\.name).filter { types[$0] == nil }
    guard strange.isEmpty else {
      throw DLCError(
        .binding, "the values belong to another model: \(owner) has no state \(Spelling.list(strange))", at: path,
        remedy: states.isEmpty
          ? "it has none" : "it has \(states.prefix(12).map(\.name).joined(separator: ", "))")
    }
    for (name, value) in tensors {
      let type = types[name]!
      do throws(DLCError) { values[name] = try value.fitted(to: type, name: name) } catch {
        throw error.within(path)
      }
      if value.dataType != type {
        notes.append("\(path): '\(name)' is converted from \(value.dataType) to \(type)")
      }
    }
  }
}
