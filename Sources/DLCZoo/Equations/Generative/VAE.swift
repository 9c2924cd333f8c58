import DLCGraph
import DLCTensor
import DLCTraining

/// Row C1 of the equations.
enum VAE {
  static func decode(_ g: FunctionBuilder, _ z: Value) -> Value {
    let hidden = g.tanh(
      g.linear(z, g.parameter("Wd", ["h", "q"]), g.parameter("bd", ["h"], .zeros)))
    return g.linear(hidden, g.parameter("Wo", ["d", "h"]), g.parameter("bo", ["d"], .zeros))
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("elbo") { g in
      let x = g.input("x", .float32, ["n", "d"])
      let eps = g.input("eps", .float32, ["n", "q"])
      let h = g.tanh(g.linear(x, g.parameter("We", ["h", "d"]), g.parameter("be", ["h"], .zeros)))
      let mu = g.linear(h, g.parameter("Wm", ["q", "h"]), g.parameter("bm", ["q"], .zeros))
      let logvar = g.linear(h, g.parameter("Wv", ["q", "h"]), g.parameter("bv", ["q"], .zeros))
      let sigma = g.exponential(logvar * 0.5)
      let logits = decode(g, mu + sigma * eps)
      let per = g.sum(g.binaryCrossEntropy(logits: logits, x), axes: [1])
      let reconstruction = -g.mean(per, axes: [0])
      let divergence = g.sum(mu * mu + sigma * sigma - 1 - logvar, axes: [1]) * 0.5
      let kl = g.mean(divergence, axes: [0])
      g.output("elbo", reconstruction - kl)
      g.output("reconstruction", reconstruction)
      g.output("kl", kl)
    }
    try f.differentiable("kl", gradient: "kl_gradient") { g in
      let mu = g.input("mu", .float32, ["n", "q"])
      let sigma = g.input("sigma", .float32, ["n", "q"])
      let per = g.sum(mu * mu + sigma * sigma - 1 - g.log(sigma) * 2.0, axes: [1]) * 0.5
      g.output("kl", g.mean(per, axes: [0]))
    }
    try f.function("sample") { g in
      let random = Generative.random(g)
      let probability = g.logistic(decode(g, random.normal(["n", "q"])))
      g.output("x", g.convert(random.bernoulli(probability), .float32))
    }
    try f.function("training_loss") { g in
      let eps = Generative.random(g).normal(["n", "q"])
      let x = g.input("x", .float32, ["n", "d"])
      g.output("loss", -g.call("elbo", ["x": x, "eps": eps])["elbo"])
    }
    f.module.recipe = Recipe(
      phases: [Phase("training_loss", rule: UpdateRule(.adam(), learningRate: 1e-3))],
      sample: "sample", meanings: ["seed": .seed])
  }
}
