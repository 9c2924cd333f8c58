import DLCGraph
import DLCTensor
import DLCTraining

/// Row C10 of the equations.
enum Sampler {
  /// How many entries of the running sum are at most u, but a token.
  private static func pick(_ g: FunctionBuilder, _ probabilities: Value, _ u: Value) -> Value {
    let sums = g.cumulativeSum(probabilities, axis: 1)
    let passed = g.compare(.less_equal, sums, g.broadcast(u, to: ["n", "V"], axes: [0]))
    let count = g.sum(g.convert(passed, .int32), axes: [1])
    let last = g.broadcast(g.dimension("V" - 1, .int32), to: ["n"])
    return g.minimum(count, last)
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    func inputs(_ g: FunctionBuilder) -> (scaled: Value, u: Value) {
      let logits = g.input("logits", .float32, ["n", "V"])
      let u = g.input("u", .float32, ["n"])
      return (logits / g.input("temperature", .float32), u)
    }
    try f.function("next_token") { g in
      let (scaled, u) = inputs(g)
      g.output("token", pick(g, g.softmax(scaled), u))
    }
    try f.function("top_k") { g in
      let (scaled, u) = inputs(g)
      let kept = g.likeliest(scaled, k: g.input("k", .int32))
      g.output("token", pick(g, g.softmax(kept), u))
    }
    try f.function("top_p") { g in
      let (scaled, u) = inputs(g)
      let kept = g.likeliest(scaled, p: g.input("p", .float32))
      g.output("token", pick(g, g.softmax(kept), u))
    }
    try f.function("sample") { g in
      let random = Generative.random(g)
      let logits = g.input("logits", .float32, ["n", "V"])
      let scaled = logits / g.input("temperature", .float32)
      g.output("token", pick(g, g.softmax(scaled), random.uniform(["n"])))
    }
  }
}
