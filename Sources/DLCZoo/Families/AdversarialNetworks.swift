import DLCGraph
import DLCTensor
import DLCTraining

/// GAN (Goodfellow et al. 2014) with convolutions and the loss that does not saturate.
enum AdversarialNetworks {
  static let latent: Size = 64

  /// Images [n, 784]. Batch norm uses the statistics of the images that are made together, in training and
  /// after it: averaged weights have no others.
  private static func generator(_ g: FunctionBuilder, _ z: Value) -> Value {
    let l = Layers(g).scope("g")
    let n = z.shape[0]
    func unit(_ name: String, _ x: Value) -> Value {
      let gamma = l.parameter(name + ".w", [x.shape[1]], .constant(1))
      let beta = l.parameter(name + ".b", [x.shape[1]], .zeros)
      return g.relu(g.batchNorm(x, gamma: gamma, beta: beta).y)
    }
    func grow(_ name: String, _ x: Value, _ channels: Size) -> Value {
      l.transposedConvolution(name, x, channels, kernel: 4, stride: 2, padding: 1)
    }
    let h = unit("n0", g.reshape(l.linear("l0", z, 64 * 49), [n, 64, 7, 7]))
    return g.reshape(g.logistic(grow("t2", unit("n1", grow("t1", h, 32)), 1)), [n, 784])
  }

  /// Logits [n, 1] of images being real.
  private static func discriminator(_ g: FunctionBuilder, _ x: Value) -> Value {
    let l = Layers(g).scope("d")
    let n = x.shape[0]
    func shrink(_ name: String, _ x: Value, _ channels: Size) -> Value {
      let y = l.convolution(name, x, channels, kernel: 4, stride: 2, padding: 1)
      return g.leakyRelu(y, slope: 0.2)
    }
    let h = shrink("c2", shrink("c1", g.reshape(x, [n, 1, 28, 28]), 32), 64)
    return l.linear("out", g.reshape(h, [n, 64 * 49]), 1)
  }

  static let model = Families.model(
    "gan", "generative adversarial networks: fashion images, transposed convolutions 4x4", batch: 64
  ) { (module) throws(DLCError) in
    func made(_ g: FunctionBuilder, like x: Value) -> Value {
      let z = RandomStream(g, key: Families.seed(g)).normal([x.shape[0], latent])
      return generator(g, z)
    }
    try module.function("discriminator") { g in
      let x = g.input("x", .float32, ["n", 784])
      let fake = g.stopGradient(made(g, like: x))
      g.output(
        "loss",
        Families.mean(g, g.softplus(-discriminator(g, x)))
          + Families.mean(g, g.softplus(discriminator(g, fake))))
    }
    try module.function("generator") { g in
      // The images say how many are made.
      let fake = made(g, like: g.input("x", .float32, ["n", 784]))
      g.output("loss", Families.mean(g, g.softplus(-discriminator(g, fake))))
    }
    try module.function("sample") { g in
      let z = RandomStream(g, key: Families.seed(g)).normal(["n", latent])
      g.output("images", generator(g, z))
    }
    let rule = UpdateRule(.adam(beta1: 0.5), learningRate: 5e-4)
    var averaged = rule
    averaged.averaging = 0.999
    module.recipe = Recipe(
      phases: [
        Phase("discriminator", prefix: "d.", rule: rule),
        Phase("generator", prefix: "g.", rule: averaged),
      ], batch: 64, epochs: 3, sample: "sample",
      meanings: ["x": Families.fashion, "images": Families.fashion, "seed": .seed])
  }
}
