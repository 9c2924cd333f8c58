package import DLCTensor

/// A rule, schedule or meaning as files and texts hold it: a name with numbers and texts. What stands
/// inside of another one (a lookahead's rule, what a warm-up rises to) follows it in a list.
package struct RecipeTerm: Hashable, Sendable {
  package var name: String
  package var numbers: [Double]
  package var texts: [String]
  /// What the first number counts, in a schedule.
  package var unit: String

  package init(
    _ name: String, _ numbers: [Double] = [], texts: [String] = [], unit: String = ""
  ) {
    self.name = name
    self.numbers = numbers
    self.texts = texts
    self.unit = unit
  }

  /// - Throws: `.format` unless there are so many numbers and no texts.
  fileprivate func take(_ count: Int) throws(DLCError) -> [Double] {
    guard numbers.count == count, texts.isEmpty else {
      throw DLCError(
        .format,
        "'\(name.prefix(32))' has \(counted(count, "number")), not \(numbers.count)"
          + (texts.isEmpty ? "" : " and \(texts.count) texts"))
    }
    return numbers
  }

  /// A number that counts something.
  fileprivate func count(_ number: Double) throws(DLCError) -> Int {
    guard let count = Int(exactly: number), count.magnitude <= 1 << 40 else {
      throw DLCError(.format, "'\(name.prefix(32))' counts with \(number)")
    }
    return count
  }

  fileprivate var isBare: Bool { numbers.isEmpty && texts.isEmpty && unit.isEmpty }
}

extension Optimizer {
  package var terms: [RecipeTerm] {
    switch self {
    case .gradientDescent: [RecipeTerm("sgd")]
    case .momentum(let beta, let dampening): [RecipeTerm("momentum", [beta, dampening])]
    case .nesterov(let beta): [RecipeTerm("nag", [beta])]
    case .adagrad(let epsilon): [RecipeTerm("adagrad", [epsilon])]
    case .rmsprop(let rho, let epsilon): [RecipeTerm("rmsprop", [rho, epsilon])]
    case .adam(let beta1, let beta2, let epsilon): [RecipeTerm("adam", [beta1, beta2, epsilon])]
    case .adamW(let beta1, let beta2, let epsilon, let decay):
      [RecipeTerm("adamw", [beta1, beta2, epsilon, decay])]
    case .adadelta(let rho, let epsilon): [RecipeTerm("adadelta", [rho, epsilon])]
    case .amsgrad(let beta1, let beta2, let epsilon):
      [RecipeTerm("amsgrad", [beta1, beta2, epsilon])]
    case .nadam(let beta1, let beta2, let epsilon): [RecipeTerm("nadam", [beta1, beta2, epsilon])]
    case .lion(let beta1, let beta2): [RecipeTerm("lion", [beta1, beta2])]
    case .lamb(let beta1, let beta2, let epsilon, let decay, let correctsBias):
      [RecipeTerm("lamb", [beta1, beta2, epsilon, decay, correctsBias ? 1 : 0])]
    case .adafactor(let decay, let epsilon, let divisor):
      [RecipeTerm("adafactor", [decay, epsilon, divisor])]
    case .lookahead(let inner, let k, let alpha):
      [RecipeTerm("lookahead", [Double(k), alpha])] + inner.terms
    }
  }

  package init(_ terms: ArraySlice<RecipeTerm>) throws(DLCError) {
    guard let term = terms.first else { throw DLCError(.format, "an optimizer is missing") }
    let inner = terms.dropFirst()
    guard term.name == "lookahead" || inner.isEmpty else {
      throw DLCError(.format, "'\(term.name.prefix(32))' is not around another rule")
    }
    func take(_ count: Int) throws(DLCError) -> [Double] { try term.take(count) }
    switch term.name {
    case "sgd":
      _ = try take(0)
      self = .gradientDescent
    case "momentum":
      let n = try take(2)
      self = .momentum(beta: n[0], dampening: n[1])
    case "nag": self = .nesterov(beta: try take(1)[0])
    case "adagrad": self = .adagrad(epsilon: try take(1)[0])
    case "rmsprop":
      let n = try take(2)
      self = .rmsprop(rho: n[0], epsilon: n[1])
    case "adam":
      let n = try take(3)
      self = .adam(beta1: n[0], beta2: n[1], epsilon: n[2])
    case "adamw":
      let n = try take(4)
      self = .adamW(beta1: n[0], beta2: n[1], epsilon: n[2], decay: n[3])
    case "adadelta":
      let n = try take(2)
      self = .adadelta(rho: n[0], epsilon: n[1])
    case "amsgrad":
      let n = try take(3)
      self = .amsgrad(beta1: n[0], beta2: n[1], epsilon: n[2])
    case "nadam":
      let n = try take(3)
      self = .nadam(beta1: n[0], beta2: n[1], epsilon: n[2])
    case "lion":
      let n = try take(2)
      self = .lion(beta1: n[0], beta2: n[1])
    case "lamb":
      let n = try take(5)
      self = .lamb(beta1: n[0], beta2: n[1], epsilon: n[2], decay: n[3], correctsBias: n[4] != 0)
    case "adafactor":
      let n = try take(3)
      self = .adafactor(decay: n[0], epsilon: n[1], divisor: n[2])
    case "lookahead":
      let n = try take(2)
      guard inner.first?.name != "lookahead" else {
        throw DLCError(.format, "a lookahead is around a lookahead")
      }
      self = .lookahead(try Optimizer(inner), k: try term.count(n[0]), alpha: n[1])
    default: throw DLCError(.format, "there is no optimizer '\(term.name.prefix(32))'")
    }
  }
}

extension Schedule {
  package var terms: [RecipeTerm] {
    func term(_ name: String, _ length: Length, _ numbers: [Double]) -> RecipeTerm {
      let unit =
        switch length {
        case .steps: "steps"
        case .epochs: "epochs"
        case .run: "run"
        }
      return RecipeTerm(name, [length.number] + numbers, unit: unit)
    }
    return switch self {
    case .constant: [RecipeTerm("constant")]
    case .step(let every, let factor): [term("step", every, [factor])]
    case .cosine(let total, let final): [term("cosine", total, [final])]
    case .warmup(let steps, let then): [term("warmup", steps, [])] + then.terms
    case .oneCycle(let total, let rise): [term("onecycle", total, [rise])]
    }
  }

  package init(_ terms: ArraySlice<RecipeTerm>) throws(DLCError) {
    guard let term = terms.first else { throw DLCError(.format, "a schedule is missing") }
    let inner = terms.dropFirst()
    guard terms.count <= 16, term.name == "warmup" || inner.isEmpty else {
      throw DLCError(.format, "'\(term.name.prefix(32))' does not lead to another schedule")
    }
    func length() throws(DLCError) -> Length {
      guard let number = term.numbers.first else {
        throw DLCError(.format, "'\(term.name.prefix(32))' has no length")
      }
      switch term.unit {
      case "steps": return .steps(try term.count(number))
      case "epochs": return .epochs(number)
      case "run": return .run(number)
      default:
        throw DLCError(
          .format, "a schedule counts steps, epochs or run, not '\(term.unit.prefix(32))'")
      }
    }
    switch term.name {
    case "constant":
      _ = try term.take(0)
      self = .constant
    case "step": self = .step(every: try length(), factor: try term.take(2)[1])
    case "cosine": self = .cosine(total: try length(), final: try term.take(2)[1])
    case "warmup":
      _ = try term.take(1)
      self = .warmup(steps: try length(), then: try Schedule(inner))
    case "onecycle": self = .oneCycle(total: try length(), rise: try term.take(2)[1])
    default: throw DLCError(.format, "there is no schedule '\(term.name.prefix(32))'")
    }
  }
}

extension Meaning {
  package var term: RecipeTerm {
    switch self {
    case .image(let height, let width, let channels):
      RecipeTerm("image", [Double(height), Double(width), Double(channels)])
    case .label(let names): RecipeTerm("label", texts: names)
    case .token(let alphabet): RecipeTerm("token", texts: alphabet.isEmpty ? [] : [alphabet])
    case .setting(let value): RecipeTerm("setting", [value])
    case .seed: RecipeTerm("seed")
    }
  }

  package init(_ term: RecipeTerm) throws(DLCError) {
    switch term.name {
    case "image":
      var sizes: [Int] = []
      for number in try term.take(3) {
        let size = try term.count(number)
        guard size >= 1, size <= 1 << 20 else {
          throw DLCError(.format, "an image has sizes from 1 on, not \(size)")
        }
        sizes.append(size)
      }
      self = .image(height: sizes[0], width: sizes[1], channels: sizes[2])
    case "label":
      guard term.numbers.isEmpty else { throw DLCError(.format, "a label has names alone") }
      self = .label(term.texts)
    case "token":
      guard term.numbers.isEmpty, term.texts.count <= 1 else {
        throw DLCError(.format, "a token has one alphabet")
      }
      self = .token(term.texts.first ?? "")
    case "setting": self = .setting(try term.take(1)[0])
    case "seed":
      _ = try term.take(0)
      self = .seed
    default: throw DLCError(.format, "nothing means '\(term.name.prefix(32))'")
    }
  }
}

extension UpdateRule {
  /// What a text says beside the optimizer, the rate and the schedule.
  package var settings: [(name: String, value: Double)] {
    var list: [(name: String, value: Double)] = []
    if coupledDecay != 0 { list.append(("coupled_decay", coupledDecay)) }
    if decoupledDecay != 0 { list.append(("decay", decoupledDecay)) }
    if let clipValue { list.append(("clip_value", clipValue)) }
    if let clipNorm { list.append(("clip_norm", clipNorm)) }
    if accumulation != 1 { list.append(("accumulate", Double(accumulation))) }
    if let averaging { list.append(("average", averaging)) }
    return list
  }

  /// Sets what `settings` lists.
  package mutating func set(_ name: String, _ value: Double) throws(DLCError) {
    switch name {
    case "coupled_decay": coupledDecay = value
    case "decay": decoupledDecay = value
    case "clip_value": clipValue = value
    case "clip_norm": clipNorm = value
    case "accumulate":
      guard let count = Int(exactly: value), count >= 1, count <= 1 << 30 else {
        throw DLCError(.format, "a batch has no \(value) parts")
      }
      accumulation = count
    case "average": averaging = value
    default: throw DLCError(.format, "a rule has no '\(name.prefix(32))'")
    }
  }
}
