import DLCGraph
import DLCTensor
import DLCTraining

/// DDPM (Ho et al. 2020): 1,000 steps with beta from 1e-4 to 0.02, digits in -1...1.
enum DenoisingDiffusion {
  static let steps = 1000

  static let model = Families.model(
    "ddpm", "denoising diffusion: digits in 1,000 steps by a residual network of 4 x 256",
    batch: 128
  ) { (module) throws(DLCError) in
    let (beta, product) = Diffusion.schedule
    /// The mean squared error of the noise, for times [n].
    func error(_ g: FunctionBuilder, _ x: Value, _ t: Value, _ eps: Value) -> Value {
      let mixed =
        Denoiser.entries(g, product.map { $0.squareRoot() }, t) * (x * 2 - 1)
        + Denoiser.entries(g, product.map { (1 - $0).squareRoot() }, t) * eps
      return g.meanSquaredError(Denoiser.noise(Layers(g), mixed, g.convert(t, .float32)), eps)
    }
    // What the network takes for the noise in x at times t, from 0 to 999.
    try module.function("noise") { g in
      let (x, t) = (g.input("x_t", .float32, ["n", 64]), g.input("t", .float32, ["n"]))
      g.output("noise", Denoiser.noise(Layers(g), x, t))
    }
    try module.function("loss") { g in
      let x = g.input("x", .float32, ["n", 64])
      let random = RandomStream(g, key: Families.seed(g))
      let t = Families.integers(random, below: steps, g, ["n"])
      g.output("loss", error(g, x, t, random.normal(["n", 64])))
    }
    // The mean over 50 times, evenly spaced.
    try module.function("evaluate") { g in
      let x = g.input("x", .float32, ["n", 64])
      let seed = Families.seed(g)
      let (_, errors) = g.scan(carried: [], inputs: [Families.iterations(g, 50)]) { g, _, step in
        let t = g.binary(
          .subtract, g.binary(.multiply, step[0], g.constant(20, .int32)), g.constant(10, .int32))
        let eps = RandomStream(g, key: seed, step: step[0]).normal(["n", 64])
        return ([], [error(g, x, g.broadcast(t, to: ["n"]), eps)])
      }
      g.output("loss", g.mean(errors[0], axes: [0]))
    }
    try module.function("sample") { g in
      let seed = Families.seed(g)
      let start = RandomStream(g, key: seed).normal(["n", 64])
      func table(_ values: [Double]) -> Value {
        g.constant(Tensor(.float32, [steps], rounding: values))
      }
      let tables = [
        table(zip(beta, product).map { $0 / (1 - $1).squareRoot() }),
        table(beta.map { 1 / (1 - $0).squareRoot() }),
        // The last step is not disturbed.
        table(beta.enumerated().map { $0.offset == 0 ? 0 : $0.element.squareRoot() }),
      ]
      let (z, _) = g.scan(
        carried: [start], inputs: [Families.iterations(g, Size(steps))] + tables, reverse: true
      ) { g, z, step in
        let t = g.convert(step[0], .float32) - 1
        let guess = Denoiser.noise(Layers(g), z[0], g.reshape(t, [1]))
        let noise = RandomStream(g, key: seed, step: step[0]).normal(["n", 64])
        return ([(z[0] - step[1] * guess) * step[2] + step[3] * noise], [])
      }
      g.output("images", Denoiser.image(g, z[0]))
    }
    module.recipe = Recipe(
      phases: [Phase("loss", rule: Families.rule(1e-3, averaging: 0.999))], batch: 128,
      epochs: 1500, evaluation: "evaluate", sample: "sample", meanings: Denoiser.meanings)
  }
}
