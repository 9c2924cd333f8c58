import CProtobufSchema
import DLCGraph
import DLCTensor

/// The recipe in a model file.
extension Recipe {
  func encode(_ arena: ProtobufArena) -> UnsafeMutablePointer<Dlc__Recipe> {
    arena.message(dlc__recipe__init) { r in
      let phases = self.phases.map { $0.encode(arena) }
      (r.n_phases, r.phases) = (phases.count, arena.messages(phases))
      r.batch = Int64(batch)
      r.epochs = Int64(epochs)
      r.initialization = arena.string(initialization ?? "")
      r.evaluation = arena.string(evaluation ?? "")
      r.sample = arena.string(sample ?? "")
      let list = meanings.sorted { $0.key < $1.key }.map { name, meaning in
        arena.message(dlc__meaning__init) {
          $0.name = arena.string(name)
          $0.term = meaning.term.encode(arena)
        }
      }
      (r.n_meanings, r.meanings) = (list.count, arena.messages(list))
    }
  }

  init(_ message: Dlc__Recipe) throws(DLCError) {
    func optional(_ name: String) -> String? { name.isEmpty ? nil : name }
    self.init(
      phases: [], batch: Int(message.batch), epochs: Int(message.epochs),
      initialization: optional(DLCFormats.text(message.initialization)),
      evaluation: optional(DLCFormats.text(message.evaluation)), sample: optional(DLCFormats.text(message.sample)))
    for phase in each(message.n_phases, message.phases) { phases.append(try Phase(phase)) }
    for entry in each(message.n_meanings, message.meanings) {
      let name = DLCFormats.text(entry.name)
      guard let term = entry.term?.pointee, meanings[name] == nil else {
        throw DLCError(.format, "'\(name.prefix(64))' means nothing, or two things")
      }
      meanings[name] = try Meaning(RecipeTerm(term))
    }
  }
}

extension RecipeTerm {
  fileprivate func encode(_ arena: ProtobufArena) -> UnsafeMutablePointer<Dlc__Term> {
    arena.message(dlc__term__init) {
      $0.name = arena.string(name)
      ($0.n_numbers, $0.numbers) = (numbers.count, arena.list(numbers))
      ($0.n_texts, $0.texts) = (texts.count, arena.strings(texts))
      $0.unit = arena.string(unit)
    }
  }

  fileprivate init(_ message: Dlc__Term) {
    self.init(
      text(message.name), each(message.n_numbers, message.numbers),
      texts: each(message.n_texts, message.texts).map { text($0) }, unit: text(message.unit))
  }
}

extension Phase {
  fileprivate func encode(_ arena: ProtobufArena) -> UnsafeMutablePointer<Dlc__Phase> {
    arena.message(dlc__phase__init) { p in
      p.function = arena.string(function)
      p.kind = arena.string(kind.rawValue)
      p.output = arena.string(output)
      p.evaluation = arena.string(evaluation ?? "")
      (p.n_prefixes, p.prefixes) = (prefixes.count, arena.strings(prefixes))
      let optimizer = rule.optimizer.terms.map { $0.encode(arena) }
      (p.n_optimizer, p.optimizer) = (optimizer.count, arena.messages(optimizer))
      p.rate = rule.learningRate
      let schedule = rule.schedule.terms.map { $0.encode(arena) }
      (p.n_schedule, p.schedule) = (schedule.count, arena.messages(schedule))
      let settings = rule.settings.map { RecipeTerm($0.name, [$0.value]).encode(arena) }
      (p.n_settings, p.settings) = (settings.count, arena.messages(settings))
      p.half_state_dtype = arena.string(rule.halfStateType?.rawValue ?? "")
      let groups = rule.groups.map { group in
        arena.message(dlc__group__init) {
          $0.prefix = arena.string(group.prefix)
          $0.rate_factor = group.rateFactor
          $0.decay_factor = group.decayFactor
        }
      }
      (p.n_groups, p.groups) = (groups.count, arena.messages(groups))
    }
  }

  fileprivate init(_ message: Dlc__Phase) throws(DLCError) {
    let word = text(message.kind)
    guard let kind = Kind(rawValue: word) else {
      throw DLCError(.format, "a phase does not '\(word.prefix(32))'")
    }
    var rule = UpdateRule(
      try Optimizer(each(message.n_optimizer, message.optimizer).map { RecipeTerm($0) }[...]),
      learningRate: message.rate)
    rule.schedule = try Schedule(
      each(message.n_schedule, message.schedule).map { RecipeTerm($0) }[...])
    for setting in each(message.n_settings, message.settings).map({ RecipeTerm($0) }) {
      guard setting.numbers.count == 1 else {
        throw DLCError(.format, "'\(setting.name.prefix(32))' has one number")
      }
      try rule.set(setting.name, setting.numbers[0])
    }
    let halfState = text(message.half_state_dtype)
    if !halfState.isEmpty {
      guard let type = DataType(rawValue: halfState) else {
        throw DLCError(.format, "'\(halfState.prefix(32))' is not an element type")
      }
      rule.halfStateType = type
    }
    rule.groups = each(message.n_groups, message.groups).map {
      UpdateRule.Group(
        prefix: text($0.prefix), rateFactor: $0.rate_factor, decayFactor: $0.decay_factor)
    }
    let evaluation = text(message.evaluation)
    self.init(
      text(message.function), kind, output: text(message.output),
      evaluation: evaluation.isEmpty ? nil : evaluation,
      prefixes: each(message.n_prefixes, message.prefixes).map { text($0) }, rule: rule)
  }
}
