import DLCGraph
import DLCTensor

/// Row C5 of the equations.
enum Autoregressive {
  /// logits [n, T, V] for tokens [n, T]: position t sees the tokens before it.
  private static func logits(_ g: FunctionBuilder, _ tokens: Value) -> Value {
    let table = g.parameter("embedding", ["V", "d"], .normal(mean: 0, deviation: 1))
    let start = g.parameter("start", ["d"], .normal(mean: 0, deviation: 1))
    let position = g.parameter("position", ["T", "d"], .normal(mean: 0, deviation: 1))
    let weights = ["Q", "K", "V"].map { g.parameter("W_\($0)", ["d", "d"]) }
    let out = g.parameter("W_out", ["V", "d"])
    let bias = g.parameter("b_out", ["V"], .zeros)
    let before = g.slice(g.embedding(table, tokens), axis: 1, from: 0, to: "T" - 1)
    let first = g.broadcast(start, to: ["n", 1, "d"])
    let entries = g.reshape(g.concatenate([first, before], axis: 1), ["n", "T", "d"])
    let e = entries + position
    let parts = weights.map { Architectures.project(g, e, $0) }
    let y = e + g.attention(parts[0], parts[1], parts[2], causal: true)
    return g.linear(y, out, bias)
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("log_likelihood") { g in
      let tokens = g.input("tokens", .int32, ["n", "T"])
      let logs = g.logSoftmax(logits(g, tokens))
      let chosen = g.gatherAlong(2, logs, g.reshape(tokens, ["n", "T", 1]))
      g.output("ll", g.sum(chosen, axes: [1, 2]))
    }
    try f.function("sample") { g in
      let seed = g.input("seed", .int64)
      let start = g.constant(0, .int32, ["n", "T"])
      let (tokens, _) = g.scan(
        carried: [start], inputs: [g.iota(.int32, ["T"], axis: 0)]
      ) { g, tokens, step in
        let zero = g.constant(0, .int32)
        let all = logits(g, tokens[0])
        let row = g.dynamicSlice(all, at: [zero, step[0], zero], sizes: ["n", 1, "V"])
        let random = RandomStream(g, key: seed, step: step[0])
        let token = random.categorical(g.reshape(row, ["n", "V"]))
        let next = g.dynamicUpdate(
          tokens[0], g.reshape(token, ["n", 1]), at: [zero, step[0]])
        return ([next], [])
      }
      g.output("tokens", tokens[0])
    }
    try f.function("training_loss") { g in
      let tokens = g.input("tokens", .int32, ["n", "T"])
      g.output("loss", -g.mean(g.call("log_likelihood", tokens), axes: [0]))
    }
    f.module.recipe = Recipe(
      phases: [Phase("training_loss", rule: UpdateRule(.adam(), learningRate: 1e-3))],
      sample: "sample", meanings: ["tokens": .token(), "seed": .seed])
  }
}
