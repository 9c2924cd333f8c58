import DLCGraph
import DLCTensor
import DLCTraining

/// VAE (Kingma and Welling 2014): 784-400-20-400-784 with ReLU, over black-and-white images that are drawn
/// from the grey ones anew in every batch.
enum VariationalAutoencoder {
  static let latent: Size = 20

  static let model = Families.model(
    "vae", "variational autoencoder: fashion images drawn to black and white, 20 latent values",
    batch: 128
  ) { (module) throws(DLCError) in
    try module.function("encode") { g in
      let l = Layers(g)
      let h = g.relu(l.linear("enc", g.input("x", .float32, ["n", 784]), 400))
      g.output("mu", l.linear("mu", h, latent))
      g.output("logvar", l.linear("logvar", h, latent))
    }
    try module.function("decode") { g in
      let l = Layers(g)
      let h = g.relu(l.linear("dec", g.input("z", .float32, ["n", latent]), 400))
      g.output("logits", l.linear("out", h, 784))
    }
    // For given images and noise.
    try module.function("elbo") { g in
      let x = g.input("x", .float32, ["n", 784])
      let eps = g.input("eps", .float32, ["n", latent])
      let code = g.call("encode", ["x": x])
      let (mu, logvar) = (code["mu"], code["logvar"])
      let logits = g.call("decode", mu + g.exponential(logvar * 0.5) * eps)
      let reconstruction = -g.sum(g.binaryCrossEntropy(logits: logits, x), axes: [1])
      let kl = g.sum(mu * mu + g.exponential(logvar) - 1 - logvar, axes: [1]) * 0.5
      g.output("elbo", g.mean(reconstruction - kl, axes: [0]))
      g.output("reconstruction", g.mean(reconstruction, axes: [0]))
      g.output("kl", g.mean(kl, axes: [0]))
    }
    func drawn(_ g: FunctionBuilder, _ random: RandomStream) -> Value {
      g.convert(random.bernoulli(g.input("x", .float32, ["n", 784])), .float32)
    }
    func negative(_ g: FunctionBuilder) -> Value {
      let random = RandomStream(g, key: Families.seed(g))
      return -g.call("elbo", ["x": drawn(g, random), "eps": random.normal(["n", latent])])["elbo"]
    }
    try module.function("loss") { g in g.output("loss", negative(g)) }
    try module.function("evaluate") { g in g.output("negative_elbo", negative(g)) }
    // -log p(x) by 100 importance samples from the encoder.
    try module.function("importance") { g in
      let seed = Families.seed(g)
      let x = drawn(g, RandomStream(g, key: seed))
      let code = g.call("encode", ["x": x])
      let (mu, logvar) = (code["mu"], code["logvar"])
      let (_, weights) = g.scan(carried: [], inputs: [Families.iterations(g, 100)]) { g, _, step in
        let eps = RandomStream(g, key: seed, step: step[0]).normal(["n", latent])
        let z = mu + g.exponential(logvar * 0.5) * eps
        let likelihood = g.sum(
          g.binaryCrossEntropy(logits: g.call("decode", z), x), axes: [1])
        return ([], [g.sum(z * z - eps * eps - logvar, axes: [1]) * -0.5 - likelihood])
      }
      let bound = g.logSumExp(weights[0], axis: 0) - g.log(g.constant(100))
      g.output("nll_100", -g.mean(bound, axes: [0]))
    }
    try module.function("sample") { g in
      let z = RandomStream(g, key: Families.seed(g)).normal(["n", latent])
      g.output("images", g.logistic(g.call("decode", z)))
    }
    try module.function("reconstruct") { g in
      let code = g.call("encode", ["x": g.input("x", .float32, ["n", 784])])
      g.output("images", g.logistic(g.call("decode", code["mu"])))
    }
    module.recipe = Recipe(
      phases: [Phase("loss", rule: Families.rule(1e-3))], batch: 128, epochs: 15,
      evaluation: "evaluate", sample: "sample",
      meanings: ["x": Families.fashion, "images": Families.fashion, "seed": .seed])
  }
}
