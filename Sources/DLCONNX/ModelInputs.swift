import DLCFormats
import DLCGraph
package import DLCTensor

extension ONNXModel {
  /// The inputs that have no stored value, and those that have, with their types.
  package var inputTypes: [(name: String, type: TensorType, isOptional: Bool)] {
    graph.inputs.compactMap { info in
      guard let type = info.elementType.dataType, info.otherKind == nil else { return nil }
      let shape = (info.shape ?? []).enumerated().map { axis, dimension -> Size in
        if case .size(let n) = dimension { return Size(n) }
        return Size(name: Self.dimensionName(info.name, axis, dimension))
      }
      return (info.name, TensorType(type, shape), graph.initializers[info.name] != nil)
    }
  }

  /// A name for a dimension that dlc can take.
  static func dimensionName(_ name: String) -> String {
    if Size.isName(name) { return name }
    let clean = String(
      name.unicodeScalars.map { s -> Character in
        s.isASCII && (Character(s).isLetter || Character(s).isNumber) ? Character(s) : "_"
      }.prefix(60))
    return Size.isName(clean) ? clean : "d_" + clean
  }

  /// The name that dlc has for a dimension; one that the model has no name for is called after its input.
  private static func dimensionName(
    _ input: String, _ axis: Int, _ dimension: ONNXValueInfo.Dimension
  ) -> String {
    if case .name(let name) = dimension { return dimensionName(name) }
    return dimensionName("\(input)_\(axis)")
  }

  /// The arrays of a run, when they fit the declared inputs.
  /// - Parameters:
  ///   - said: sizes of dimensions by their names, which the arrays must agree with.
  ///   - isPartial: whether arrays may be missing.
  /// - Throws: `.binding` where one is missing, or of another type, rank or size, and for a dimension that no input has.
  package func checked(
    _ arrays: [String: Tensor], _ said: [String: Int], isPartial: Bool = false
  ) throws(DLCError) -> [String: Tensor] {
    try requireDimensions(said.keys)
    var given: [String: Tensor] = [:]
    var sizes: [String: (size: Int, origin: String)] = [:]
    for (name, size) in said { sizes[Self.dimensionName(name)] = (size, "--dim") }
    for info in graph.inputs {
      if let kind = info.otherKind {
        throw DLCError(.unsupported, "input '\(info.name)' is \(kind), which is not supported")
      }
      guard let type = info.elementType.dataType else {
        throw DLCError(
          .unsupported,
          "input '\(info.name)' holds \(info.elementType.text), which is not supported")
      }
      guard let value = arrays[info.name] else {
        if isPartial || graph.initializers[info.name] != nil { continue }
        throw DLCError(
          .binding, "input '\(info.name)' is missing",
          remedy: InputArrays.described(inputTypes.map { ($0.name, $0.type) }))
      }
      guard value.dataType == type else {
        throw DLCError(.binding, "input '\(info.name)' is \(value.dataType), \(type) is wanted")
      }
      try value.check()
      given[info.name] = value
      guard let shape = info.shape else { continue }
      guard shape.count == value.shape.count else {
        throw DLCError(
          .binding, "array '\(info.name)' has shape \(value.shape), \(shape.count) axes are wanted")
      }
      for (axis, (dimension, size)) in zip(shape, value.shape).enumerated() {
        if case .size(let wanted) = dimension {
          guard wanted != size else { continue }
          throw DLCError(
            .binding,
            "array '\(info.name)' has shape \(value.shape), where \(wanted) is wanted instead of \(size)"
          )
        }
        let name = Self.dimensionName(info.name, axis, dimension)
        if let known = sizes[name], known.size != size {
          throw DLCError(
            .binding,
            "dimension '\(name)' is \(known.size) by \(known.origin) but \(size) by array '\(info.name)'"
          )
        }
        sizes[name] = (size, "array '\(info.name)'")
      }
    }
    return given
  }

  /// Which sizes the model fits together with, where those of arrays are others: axes have names, but what is inside holds
  /// for one size. Empty where that is not so.
  func fixedSizes(_ arrays: [String: Tensor]) -> String {
    guard !dimensionNames.isEmpty, let module = try? module() else { return "" }
    var others: [String] = []
    for (name, type, _) in inputTypes {
      guard let shape = arrays[name]?.shape, shape.count == type.rank else { continue }
      for (axis, size) in zip(type.shape, shape) {
        guard let axis = axis.name, let known = module.dimensions.first(where: { $0.name == axis }),
          known.size != size
        else { continue }
        others.append("\(axis)=\(known.size)")
      }
    }
    return others.isEmpty
      ? ""
      : "the file may have been made for fixed sizes, though its axes have names: it fits together with \(others.joined(separator: " ")); other sizes take a model that was exported with dynamic axes"
  }

  /// - Throws: `.binding` for a name that no dimension of an input has.
  package func requireDimensions(_ names: some Sequence<String>) throws(DLCError) {
    let known = dimensionNames
    for name in names.sorted() where !known.contains(Self.dimensionName(name)) {
      let near = Spelling.nearest(to: name, in: known).map { "did you mean '\($0)'? " } ?? ""
      throw DLCError(
        .binding, "the model has no dimension '\(name)'",
        remedy: known.isEmpty
          ? "all of its sizes are fixed" : "\(near)its dimensions are \(Spelling.list(known))")
    }
  }
}
