package import DLCTensor

/// A broken rule: its label, the sentence, and the place.
package struct Violation: Hashable, Sendable, CustomStringConvertible {
  package var label: String
  package var message: String
  package var place: String
  package var description: String { "\(message) (\(label)) [\(place)]" }

  package init(label: String, message: String, place: String) {
    self.label = label
    self.message = message
    self.place = place
  }
}

extension Graph {
  /// Checks every legality rule of a graph; an empty list means that it is sound.
  package func violations(in place: String) -> [Violation] {
    var found: [Violation] = []
    func report(_ label: String, _ message: String, _ where: String = "") {
      found.append(
        Violation(
          label: label, message: message, place: `where`.isEmpty ? place : "\(place): \(`where`)"))
    }
    if argumentValues != arguments.indices.map({ ValueID($0) }) {
      report("arguments-first", "an argument stands after a node")
    }
    var defined = arguments.count
    for (number, node) in nodes.enumerated() {
      let at = "node \(number) \(node.operation.mnemonic)"
      for operand in node.operands where operand.index < 0 || operand.index >= defined {
        report("defined-before-use", "operand %\(operand.index) is not defined before its use", at)
      }
      for (offset, result) in node.results.enumerated() where result.index != defined + offset {
        report("result-order", "result %\(result.index) is out of order", at)
      }
      defined += node.results.count
      for (index, region) in node.operation.regions.enumerated() {
        found += region.violations(in: "\(place): \(at) region \(index)")
        if region.arguments.contains(where: { $0.kind == .state }) || !region.updates.isEmpty {
          report("region-state", "a region reads or updates state by itself", at)
        }
      }
      guard node.operands.allSatisfy({ types.indices.contains($0.index) }) else { continue }
      do {
        let inferred = try node.operation.definition.infer(node.operands.map { type($0) })
        if inferred != node.results.map({ type($0) }) {
          report("result-type", "the result type is not the one that the type rule gives", at)
        }
      } catch {
        report("type-rule", error.message, at)
      }
    }
    if defined != types.count { report("value-count", "there are values that no node defines") }
    for kind in [Argument.Kind.input, .state, .captured] {
      var names: Set<String> = []
      for argument in arguments where argument.kind == kind {
        if !names.insert(argument.name).inserted {
          report("argument-name", "two arguments are named '\(argument.name)'")
        }
      }
    }
    for (what, list) in [("result", results), ("update", updates)] {
      var names: Set<String> = []
      for entry in list {
        if !types.indices.contains(entry.value.index) {
          report(
            "\(what)-value",
            "\(what) '\(entry.name)' is %\(entry.value.index), which is not defined")
        }
        if !names.insert(entry.name).inserted {
          report("\(what)-name", "two \(what)s are named '\(entry.name)'")
        }
      }
    }
    return found
  }
}

extension Module {
  /// Every violation in the module, its functions included.
  package func violations() -> [Violation] {
    let known = Set(dimensions.map(\.name))
    let byName = Dictionary(states.map { ($0.name, $0) }, uniquingKeysWith: { _, last in last })
    var found = dimensionViolations() + stateViolations(known)
    var names: Set<String> = []
    for function in functions {
      if function.name.isEmpty || !names.insert(function.name).inserted {
        found.append(
          Violation(
            label: "function-name",
            message: "function name '\(function.name)' is empty or used twice",
            place: "function \(function.name)"))
      }
      found += violations(of: function, known, byName)
    }
    return found
  }

  private func dimensionViolations() -> [Violation] {
    var found: [Violation] = []
    func report(_ label: String, _ message: String, _ place: String) {
      found.append(Violation(label: label, message: message, place: place))
    }
    for (index, dimension) in dimensions.enumerated() {
      if !Size.isName(dimension.name) {
        report("dimension-name", "'\(dimension.name)' cannot name a dimension", "dimensions")
      }
      if dimension.size < 0 || dimension.size > TensorType.maximumElementCount {
        report("dimension-size", "default size \(dimension.size) is out of range", dimension.name)
      }
      if index > 0, dimensions[index - 1].name == dimension.name {
        report("dimension-name", "dimension '\(dimension.name)' is declared twice", "dimensions")
      }
    }
    return found
  }

  private func stateViolations(_ known: Set<String>) -> [Violation] {
    var found: [Violation] = []
    func report(_ label: String, _ message: String, _ place: String) {
      found.append(Violation(label: label, message: message, place: place))
    }
    var names: Set<String> = []
    for state in states {
      if state.name.isEmpty || !names.insert(state.name).inserted {
        report("state-name", "state name '\(state.name)' is empty or used twice", "states")
      }
      for name in state.type.shape.flatMap(\.names) where !known.contains(name) {
        report("dimension-known", "dimension '\(name)' is not declared", "state \(state.name)")
      }
      if let value = state.value {
        let fits =
          value.dataType == state.type.dataType && value.shape.count == state.type.rank
          && zip(state.type.shape, value.shape).allSatisfy { $0.constant ?? $1 == $1 }
        if !fits {
          report(
            "state-value", "the stored value is \(value.type), not \(state.type)",
            "state \(state.name)")
        }
      }
    }
    return found
  }

  private func violations(of function: Function, _ known: Set<String>, _ byName: [String: State])
    -> [Violation]
  {
    let place = "function \(function.name)"
    let inside = function.graph.violations(in: place)
    var found = inside
    func report(_ label: String, _ message: String) {
      found.append(Violation(label: label, message: message, place: place))
    }
    for name in function.graph.dimensionNames.sorted() where !known.contains(name) {
      report("dimension-known", "dimension '\(name)' is not declared")
    }
    for argument in function.graph.arguments where argument.kind == .captured {
      report("captured-argument", "'\(argument.name)' is captured, but from nothing")
    }
    for argument in function.graph.arguments where argument.kind == .state {
      if byName[argument.name]?.type != argument.type {
        report(
          "state-type", "state '\(argument.name)' is not in the module as \(argument.type)")
      }
    }
    guard inside.isEmpty else { return found }
    for update in function.graph.updates {
      if byName[update.name]?.type != function.graph.type(update.value) {
        report("update-type", "update of '\(update.name)' does not have the state's type")
      }
    }
    do {
      if function.graph.dimensionNames.isSubset(of: known) {
        let sizes = Dictionary(
          dimensions.map { ($0.name, $0.size) }, uniquingKeysWith: { a, _ in a })
        _ = try function.graph.bound(to: sizes)
      }
    } catch {
      report("default-sizes", "the default sizes do not fit: \(error.uncalled)")
    }
    return found
  }

  /// Throws the first violation, if there is one.
  package func verify() throws(DLCError) {
    if let first = violations().first {
      throw DLCError(.graph, "\(first.message) (\(first.label))", at: first.place)
    }
  }
}
