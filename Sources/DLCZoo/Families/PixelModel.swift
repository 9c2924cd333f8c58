import DLCGraph
import DLCTensor
import DLCTraining

/// Autoregressive: pixels of 17 grey levels, row by row, each from those before it.
enum PixelModel {
  /// Token 17 stands before the first pixel.
  static let decoder = TokenDecoder(count: 18, size: 64)

  static let model = Families.model(
    "autoregressive",
    "autoregressive: digits as 64 tokens of 17 grey levels, 2 causal blocks, d 64",
    batch: 64
  ) { (module) throws(DLCError) in
    func nats(_ g: FunctionBuilder) -> Value {
      let x = g.input("x", .float32, ["n", 64])
      let tokens = g.convert(Families.levels(g, x), .int32)
      let before = g.slice(tokens, axis: 1, from: 0, to: 63)
      let shifted = g.concatenate([g.constant(17, .int32, ["n", 1]), before], axis: 1)
      return g.softmaxCrossEntropy(decoder.logits(Layers(g), shifted), tokens)
    }
    try module.function("loss") { g in g.output("loss", nats(g)) }
    try module.function("evaluate") { g in g.output("bits", nats(g) / Characters.ln2) }
    try module.function("sample") { g in
      let (l, settings) = (Layers(g), Characters.Settings(g))
      let start = [g.constant(17, .int32, ["n"])] + decoder.caches(l, "n")
      let numbers = [g.iota(.int32, [64], axis: 0), Families.iterations(g, 64)]
      let (_, pixels) = g.scan(carried: start, inputs: numbers) { g, carried, step in
        let token = g.reshape(carried[0], ["n", 1])
        let (logits, after) = decoder.next(l, token, Array(carried[1...]), at: step[0])
        let next = settings.token(g, g.slice(logits, axis: 1, from: 0, to: 17), step[1])
        return ([next] + after, [next])
      }
      g.output("images", g.convert(g.transpose(pixels[0], [1, 0]), .float32) / 16)
    }
    var meanings = Characters.Settings.meanings(temperature: 1)
    meanings["x"] = Families.digits
    meanings["images"] = Families.digits
    module.recipe = Recipe(
      phases: [Phase("loss", rule: Families.rule(2e-3, clip: 1))], batch: 64, epochs: 30,
      evaluation: "evaluate", sample: "sample", meanings: meanings)
  }
}
