import DLCTensor

extension RecipeTerm {
  /// `adam(0.9, 0.999, 1e-08)`, `cosine(1.0 run, 0.0)`, `label("a", "b")`; `inner` stands last.
  fileprivate func text(_ inner: String?) -> String {
    var parts = numbers.enumerated().map { index, number in
      index == 0 && !unit.isEmpty ? "\(number) \(unit)" : "\(number)"
    }
    parts += texts.map(quote)
    if let inner { parts.append(inner) }
    return parts.isEmpty ? name : "\(name)(\(parts.joined(separator: ", ")))"
  }
}

extension [RecipeTerm] {
  /// The first with the others inside of it.
  package var text: String {
    reversed().reduce(nil) { (inner: String?, term) in term.text(inner) } ?? ""
  }
}

extension Recipe {
  /// The canonical text, without the braces around it.
  package func text(indent: String) -> String {
    var lines = ["batch \(batch)", "epochs \(epochs)"]
    if let initialization { lines.append("initialize \(quote(initialization))") }
    if let evaluation { lines.append("evaluate \(quote(evaluation))") }
    if let sample { lines.append("sample \(quote(sample))") }
    for phase in phases {
      lines.append("phase \(quote(phase.function)) \(phase.kind.rawValue) \(quote(phase.output)) {")
      if let evaluation = phase.evaluation { lines.append("  evaluate \(quote(evaluation))") }
      for prefix in phase.prefixes { lines.append("  move \(quote(prefix))") }
      let rule = phase.rule
      lines.append("  optimizer \(rule.optimizer.terms.text)")
      lines.append("  rate \(rule.learningRate)")
      lines.append("  schedule \(rule.schedule.terms.text)")
      for (name, value) in rule.settings { lines.append("  \(name) \(value)") }
      if let type = rule.halfStateType { lines.append("  half_state \(type)") }
      for group in rule.groups {
        lines.append("  group \(quote(group.prefix)) \(group.rateFactor) \(group.decayFactor)")
      }
      lines.append("}")
    }
    for (name, meaning) in meanings.sorted(by: { $0.key < $1.key }) {
      lines.append("\(quote(name)) means \([meaning.term].text)")
    }
    return lines.map { indent + $0 + "\n" }.joined()
  }
}

extension TextParser {
  private mutating func real() throws(DLCError) -> Double {
    let text = try number()
    guard let value = Double(text) else { throw failure("'\(text.prefix(32))' is not a number") }
    return value
  }

  /// A term, and what stands inside of it.
  private mutating func terms(_ depth: Int = 0) throws(DLCError) -> [RecipeTerm] {
    guard depth < 16 else { throw failure("a recipe is nested too deep") }
    var term = RecipeTerm(try word())
    guard take("(") else { return [term] }
    var inner: [RecipeTerm] = []
    repeat {
      guard inner.isEmpty else { throw failure("what stands inside comes last") }
      switch peek() {
      case 34: term.texts.append(try string())
      case 43, 45, 48...57:
        term.numbers.append(try real())
        if term.numbers.count == 1, case 97...122 = peek() { term.unit = try word() }
      default: inner = try terms(depth + 1)
      }
    } while take(",")
    try expect(")")
    return [term] + inner
  }

  private mutating func phase() throws(DLCError) -> Phase {
    let function = try string()
    let word = try word()
    guard let kind = Phase.Kind(rawValue: word) else {
      throw failure("'\(word.prefix(32))' is not what a phase does")
    }
    var phase = Phase(function, kind, output: try string())
    try expect("{")
    while !take("}") {
      if take("evaluate") {
        phase.evaluation = try string()
      } else if take("move") {
        phase.prefixes.append(try string())
      } else if take("optimizer") {
        phase.rule.optimizer = try Optimizer(try terms()[...])
      } else if take("schedule") {
        phase.rule.schedule = try Schedule(try terms()[...])
      } else if take("rate") {
        phase.rule.learningRate = try real()
      } else if take("half_state") {
        let name = try self.word()
        guard let type = DataType(rawValue: name) else {
          throw failure("'\(name.prefix(32))' is not an element type")
        }
        phase.rule.halfStateType = type
      } else if take("group") {
        phase.rule.groups.append(
          UpdateRule.Group(
            prefix: try string(), rateFactor: try real(), decayFactor: try real()))
      } else {
        try phase.rule.set(try self.word(), try real())
      }
    }
    return phase
  }

  /// Reads what `Recipe.text` prints, after its opening brace.
  mutating func recipe() throws(DLCError) -> Recipe {
    var recipe = Recipe(phases: [])
    let start = line
    do throws(DLCError) {
      while !take("}") {
        if take("batch") {
          recipe.batch = try integer()
        } else if take("epochs") {
          recipe.epochs = try integer()
        } else if take("initialize") {
          recipe.initialization = try string()
        } else if take("evaluate") {
          recipe.evaluation = try string()
        } else if take("sample") {
          recipe.sample = try string()
        } else if take("phase") {
          recipe.phases.append(try phase())
        } else {
          let name = try string()
          try expect("means")
          let list = try terms()
          guard list.count == 1, recipe.meanings[name] == nil else {
            throw failure("'\(name.prefix(32))' means one thing")
          }
          recipe.meanings[name] = try Meaning(list[0])
        }
      }
    } catch {
      throw error.location.isEmpty ? error.within("line \(start): recipe") : error
    }
    return recipe
  }
}
