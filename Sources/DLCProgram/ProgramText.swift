extension BufferSlot.Place {
  /// The place in words.
  package var text: String {
    switch self {
    case .input(let i): "input(\(i))"
    case .output(let i): "output(\(i))"
    case .state(let i): "state(\(i))"
    case .nextState(let i): "next_state(\(i))"
    case .constant(let o): "constant(\(o))"
    case .prepared(let o): "prepared(\(o))"
    case .arena(let o): "arena(\(o))"
    case .slice(let base, let loop): "slice(b\(base.index) of loop \(loop))"
    case .alternating(let even, let odd, let loop, let next):
      "\(next ? "next" : "present")(b\(even.index), b\(odd.index) of loop \(loop))"
    }
  }
}

extension Step.Kind {
  package var name: String {
    switch self {
    case .kernel: "kernel"
    case .hostCall: "host call"
    }
  }
}

extension Step {
  /// The name of what it calls, with its kind where that is no kernel.
  package var label: String {
    kernel == nil ? "\(kind.name) \(name)" : name
  }

  package var text: String {
    let after =
      dependencies.isEmpty
      ? "" : " after " + dependencies.map { "\($0.index)" }.joined(separator: ", ")
    let arguments = buffers.map { "b\($0.index)" }.joined(separator: ", ")
    return
      "\(label)(\(arguments)) tiles \(tileCount)\(after)\(origin.isEmpty ? "" : " of \(origin)")"
  }
}

extension Program {
  /// Steps, loops and branches, one line each.
  package func lines(_ list: [Instruction], _ indent: String) -> [String] {
    list.flatMap { instruction -> [String] in
      switch instruction {
      case .run(let range): return range.map { "\(indent)step \($0) \(steps[$0].text)" }
      case .branch(let predicate, let then, let otherwise):
        return ["\(indent)if b\(predicate.index) {"] + lines(then, indent + "  ")
          + ["\(indent)} else {"] + lines(otherwise, indent + "  ") + ["\(indent)}"]
      case .loop(let loop):
        let how =
          [
            loop.count.map { "\($0) times\(loop.reverse ? " from the last slice" : "")" },
            loop.predicate.map { "while b\($0.index)" },
          ].compactMap { $0 }.joined(separator: " ")
        var result = ["\(indent)loop \(loop.id) \(how) {"]
        for carried in loop.carried {
          result.append(
            "\(indent)  carry b\(carried.initial.index) in b\(carried.even.index), b\(carried.odd.index) gives b\(carried.result.index)"
          )
        }
        if !loop.condition.isEmpty {
          result += lines(loop.condition, indent + "  ") + ["\(indent)} do {"]
        }
        return result + lines(loop.body, indent + "  ") + ["\(indent)}"]
      }
    }
  }
}
