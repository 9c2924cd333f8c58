import DLCGraph
import DLCTensor
import DLCTraining

/// What models of the next character have in common: x, y int32 [n, T] in an alphabet of V.
enum Characters {
  static let ln2 = 0.6931471805599453

  /// What drawing tokens takes.
  struct Settings {
    var seed: Value
    var temperature: Value
    var topK: Value
    var topP: Value

    init(_ g: FunctionBuilder) {
      seed = Families.seed(g)
      temperature = g.input("temperature", .float32)
      topK = g.input("top_k", .int32)
      topP = g.input("top_p", .float32)
    }

    /// Tokens [n] from logits [n, V], in one step of a loop.
    func token(_ g: FunctionBuilder, _ logits: Value, _ step: Value) -> Value {
      g.token(
        logits, temperature: temperature, topK: topK, topP: topP,
        RandomStream(g, key: seed, step: step))
    }

    static func meanings(temperature: Double) -> [String: Meaning] {
      [
        "seed": .seed, "temperature": .setting(temperature), "top_k": .setting(0),
        "top_p": .setting(1),
      ]
    }
  }

  /// `loss`, `evaluate` and the recipe: Adam by a cosine, the gradients' norm clipped to 1, batch 32, 2
  /// epochs.
  /// - Parameters:
  ///   - logits: [n, T, V] of tokens [n, T].
  ///   - sample: gives text [n, L].
  static func model(
    _ name: String, _ summary: String, rate: Double,
    logits: @escaping @Sendable (Layers, Value) -> Value,
    sample: @escaping @Sendable (Layers, Settings) -> Value,
    more: @escaping @Sendable (inout Module) throws(DLCError) -> Void = { _ in }
  ) -> ZooModel {
    Families.model(name, summary, batch: 32, [("T", 64), ("V", 97), ("L", 400)]) {
      (module) throws(DLCError) in
      func nats(_ g: FunctionBuilder) -> Value {
        let x = g.input("x", .int32, ["n", "T"])
        let y = g.input("y", .int32, ["n", "T"])
        return g.softmaxCrossEntropy(logits(Layers(g), x), y)
      }
      try module.function("loss") { g in g.output("loss", nats(g)) }
      try module.function("evaluate") { g in g.output("bits", nats(g) / ln2) }
      try module.function("sample") { g in g.output("text", sample(Layers(g), Settings(g))) }
      try more(&module)
      var meanings = Settings.meanings(temperature: 0.8)
      for tokens in ["x", "y", "text"] { meanings[tokens] = .token() }
      module.recipe = Recipe(
        phases: [Phase("loss", rule: Families.rule(rate, clip: 1))], batch: 32, epochs: 2,
        evaluation: "evaluate", sample: "sample", meanings: meanings)
    }
  }

  /// Recurrent cells of 256 over an embedding of 64. They carry their state through the loop that samples,
  /// and `step` takes and gives it.
  static func recurrent(_ name: String, _ summary: String, _ cell: Layers.Cell, rate: Double)
    -> ZooModel
  {
    @Sendable func entered(_ l: Layers, _ tokens: Value) -> Value {
      l.embedding("table", tokens, count: "V", size: 64, deviation: 1)
    }
    @Sendable func next(_ l: Layers, _ token: Value, _ state: [Value]) -> (Value, [Value]) {
      let (h, next) = l.recurrentStep("cells", cell, entered(l, token), size: 256, state: state)
      return (l.linear("head", h, "V"), next)
    }
    return model(name, summary, rate: rate) { l, x in
      let h = l.recurrent("cells", cell, entered(l, l.g.transpose(x, [1, 0])), size: 256)
      return l.g.transpose(l.linear("head", h, "V"), [1, 0, 2])
    } sample: { l, settings in
      // Texts begin after the first character of the alphabet, a line's end.
      let start = l.g.constant(0, .int32, ["n"])
      let (_, text) = l.g.scan(
        carried: [start] + l.recurrentState(cell, "n", size: 256),
        inputs: [Families.iterations(l.g, "L")]
      ) { g, carried, step in
        let (logits, state) = next(l, carried[0], Array(carried[1...]))
        let token = settings.token(g, logits, step[0])
        return ([token] + state, [token])
      }
      return l.g.transpose(text[0], [1, 0])
    } more: { (module) throws(DLCError) in
      let names = cell == .lstm ? ["h", "c"] : ["h"]
      try module.function("step") { g in
        let token = g.input("token", .int32, ["n"])
        let state = names.map { g.input($0, .float32, ["n", 256]) }
        let (logits, after) = next(Layers(g), token, state)
        g.output("logits", logits)
        for (name, value) in zip(names, after) { g.output("\(name)_next", value) }
      }
    }
  }
}
