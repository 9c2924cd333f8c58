package import DLCTensor

extension Module {
  /// The function of that name.
  /// - Throws: `.graph` when there is none.
  package func existing(_ name: String) throws(DLCError) -> Function {
    if let function = function(name) { return function }
    throw DLCError(
      .graph, "module '\(self.name)' has no function '\(name.prefix(64))'",
      remedy: functions.isEmpty
        ? "it has none" : Spelling.remedy(for: name, among: functions.map(\.name)))
  }

  /// A phase's function.
  /// - Throws: `.graph` when there is none of that name, or it lacks the scalar that is to be minimised
  ///   or maximised.
  package func function(of phase: Phase) throws(DLCError) -> Function {
    let function = try existing(phase.function)
    guard phase.kind.differentiates else { return function }
    guard let output = function.outputs.first(where: { $0.name == phase.output }),
      output.type.rank == 0, output.type.dataType.isFloat
    else {
      throw DLCError(
        .graph,
        "function '\(phase.function)' has no floating-point scalar output '\(phase.output.prefix(64))'",
        remedy: "its outputs are "
          + function.outputs.map { "\($0.name) \($0.type)" }.joined(separator: ", "))
    }
    return function
  }

  /// Checks that the recipe speaks of what the module has.
  /// - Throws: `.graph` for what is not there, or a number that cannot be.
  package func verifyRecipe() throws(DLCError) {
    guard let recipe else { return }
    let place = "the recipe of module '\(name)'"
    func require(_ name: String?) throws(DLCError) {
      guard let name else { return }
      do throws(DLCError) { _ = try existing(name) } catch { throw error.within(place) }
    }
    for (what, number) in [("batch", recipe.batch), ("epochs", recipe.epochs)]
    where number < 1 || number > Int32.max {
      throw DLCError(.graph, "\(what) is \(number): it must be from 1 to \(Int32.max)", at: place)
    }
    for name in [recipe.initialization, recipe.evaluation, recipe.sample] { try require(name) }
    for phase in recipe.phases {
      do throws(DLCError) { _ = try function(of: phase) } catch { throw error.within(place) }
      try require(phase.evaluation)
      do throws(DLCError) {
        try phase.rule.schedule.validate("\(place): phase \(phase.function)")
      } catch {
        throw DLCError(.graph, error.message, at: error.location, remedy: error.remedy)
      }
    }
    var ports: Set<String> = []
    for function in functions {
      ports.formUnion(function.inputs.map(\.name))
      ports.formUnion(function.outputs.map(\.name))
    }
    for (name, meaning) in recipe.meanings.sorted(by: { $0.key < $1.key }) {
      guard ports.contains(name) else {
        throw DLCError(
          .graph,
          "no function has an input or output '\(name.prefix(64))', which is to mean something",
          at: place, remedy: Spelling.remedy(for: name, among: ports.sorted()))
      }
      try meaning.validate("\(place): '\(name)'")
      for function in functions {
        for (port, type) in function.inputs + function.outputs where port == name {
          try meaning.validate(type, "\(place): '\(name)' of function \(function.name)")
        }
      }
    }
  }
}

extension Meaning {
  /// Checks that an array of a type can mean this.
  fileprivate func validate(_ type: TensorType, _ place: String) throws(DLCError) {
    guard case .image(let height, let width, let channels) = self else { return }
    var count = 1
    for size in type.shape.dropFirst() {
      guard let size = size.constant else { return }
      count *= size
    }
    guard type.rank >= 1, count == height * width * channels else {
      throw DLCError(
        .graph, "\(type) holds no pictures of \(height) x \(width) with \(channels) channels",
        at: place)
    }
  }

  fileprivate func validate(_ place: String) throws(DLCError) {
    switch self {
    case .image(let height, let width, let channels):
      guard height >= 1, width >= 1, [1, 3].contains(channels), height <= 1 << 20, width <= 1 << 20
      else {
        throw DLCError(
          .graph, "a picture is not \(height) x \(width) with \(channels) channels", at: place,
          remedy: "pictures have 1 channel or 3")
      }
    case .setting(let value):
      guard value.isFinite else {
        throw DLCError(.graph, "a setting is \(value)", at: place, remedy: "give it a number")
      }
    case .token(let alphabet):
      let scalars = Array(alphabet.unicodeScalars)
      guard Set(scalars).count == scalars.count, !scalars.contains("\0") else {
        throw DLCError(
          .graph, "an alphabet has a character twice, or one that ends texts (U+0000)", at: place)
      }
    case .label, .seed: break
    }
  }
}
