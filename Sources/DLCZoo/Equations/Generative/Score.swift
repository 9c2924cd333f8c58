import DLCGraph
import DLCTensor

/// Row C8 of the equations.
enum Score {
  private static func score(_ g: FunctionBuilder, _ x: Value, _ sigma: Value) -> Value {
    let (w1, b1) = (g.parameter("W1", ["h", "d"]), g.parameter("b1", ["h"], .zeros))
    let (w2, b2) = (g.parameter("W2", ["h", "h"]), g.parameter("b2", ["h"], .zeros))
    let (w3, b3) = (g.parameter("W3", ["d", "h"]), g.parameter("b3", ["d"], .zeros))
    let h = g.tanh(g.linear(g.tanh(g.linear(x, w1, b1)), w2, b2))
    return g.linear(h, w3, b3) / sigma
  }

  private static func langevin(
    _ g: FunctionBuilder, _ x: Value, _ noise: Value, _ step: Value, _ sigma: Value
  ) -> Value { x + step * 0.5 * score(g, x, sigma) + g.sqrt(step) * noise }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("dsm_loss") { g in
      let x = g.input("x", .float32, ["n", "d"])
      let noise = g.input("noise", .float32, ["n", "d"])
      let sigma = g.reshape(g.input("sigma", .float32, ["n"]), ["n", 1])
      let off = score(g, x + sigma * noise, sigma) + noise / sigma
      let per = sigma * sigma * g.sum(off * off, axes: [1], keepAxes: true)
      g.output("loss", g.mean(per, axes: [0, 1]))
    }
    try f.function("langevin_step") { g in
      let x = g.input("x", .float32, ["n", "d"])
      let noise = g.input("noise", .float32, ["n", "d"])
      let step = g.input("step", .float32)
      let sigma = g.reshape(g.input("sigma", .float32, ["n"]), ["n", 1])
      g.output("x_next", langevin(g, x, noise, step, sigma))
    }
    // Annealed: ten noise levels from 1 to 0.01, a hundred steps of 0.1 sigma^2 each.
    try f.function("sample") { g in
      let seed = g.input("seed", .int64)
      let start = RandomStream(g, key: seed).normal(["n", "d"])
      let (x, _) = g.scan(carried: [start], inputs: [g.iota(.int32, [1000], axis: 0)]) {
        g, x, step in
        let number = g.binary(.add, step[0], g.constant(1, .int32))
        let noise = RandomStream(g, key: seed, step: number).normal(["n", "d"])
        let level = g.binary(.divide, step[0], g.constant(100, .int32))
        let sigma = g.exponential(
          g.convert(level, .float32) * (-4.605170185988092 / 9))
        let column = g.broadcast(sigma, to: ["n", 1])
        return ([langevin(g, x[0], noise, sigma * sigma * 0.1, column)], [])
      }
      g.output("x", x[0])
    }
    // Noise levels from 0.01 to 1, evenly in their logarithm.
    try f.function("training_loss") { g in
      let random = Generative.random(g)
      let x = g.input("x", .float32, ["n", "d"])
      let sigma = g.exponential(random.uniform(["n"]) * -4.605170185988092)
      let noise = random.normal(["n", "d"])
      g.output("loss", g.call("dsm_loss", ["x": x, "noise": noise, "sigma": sigma])["loss"])
    }
    f.module.recipe = Recipe(
      phases: [Phase("training_loss", rule: UpdateRule(.adam(), learningRate: 1e-3))],
      sample: "sample", meanings: ["seed": .seed])
  }
}
