import DLCGraph
import DLCTensor
import DLCTraining

/// RBM: digits with levels of 8 and more as 1, 64 visible and k = 16 hidden units, by persistent contrastive
/// divergence (Tieleman 2008) of 5 sweeps with 256 chains.
enum RestrictedBoltzmann {
  private static let sweeps = 5
  private static let chains: Size = 256

  private static func weights(_ g: FunctionBuilder) -> BoltzmannMachine.Weights {
    BoltzmannMachine.Weights(
      w: g.parameter("w", [64, "k"], .normal(mean: 0, deviation: 0.01)),
      b: g.parameter("b", [64], .zeros), c: g.parameter("c", ["k"], .zeros))
  }

  /// Black-and-white images [n, 64].
  private static func visible(_ g: FunctionBuilder) -> Value {
    let x = g.input("x", .float32, ["n", 64])
    return g.convert(g.compare(.greater_equal, x, g.constant(0.5, like: x)), .float32)
  }

  private static func sweep(
    _ g: FunctionBuilder, _ v: Value, _ p: BoltzmannMachine.Weights, _ random: RandomStream
  ) -> Value {
    func drawn(_ logits: Value) -> Value {
      g.convert(random.bernoulli(g.logistic(logits)), .float32)
    }
    return drawn(BoltzmannMachine.visible(g, drawn(BoltzmannMachine.hidden(g, v, p)), p))
  }

  private static func swept(
    _ g: FunctionBuilder, _ v: Value, _ p: BoltzmannMachine.Weights, _ count: Size, _ seed: Value
  ) -> Value {
    let (carried, _) = g.scan(carried: [v], inputs: [Families.iterations(g, count)]) { g, v, step in
      ([sweep(g, v[0], p, RandomStream(g, key: seed, step: step[0]))], [])
    }
    return carried[0]
  }

  /// The way down of -ln p, with the model's part from `fake`; and the difference of the free energies.
  private static func gradients(
    _ g: FunctionBuilder, _ v: Value, _ fake: Value, _ p: BoltzmannMachine.Weights
  ) {
    func part(_ v: Value) -> (w: Value, b: Value, c: Value) {
      let h = g.logistic(BoltzmannMachine.hidden(g, v, p))
      let pairs = g.dotGeneral(v, h, lhsContracting: [0], rhsContracting: [0])
      return (pairs / g.dimension(v.shape[0]), g.mean(v, axes: [0]), g.mean(h, axes: [0]))
    }
    let (real, drawn) = (part(v), part(fake))
    g.output("d_w", drawn.w - real.w)
    g.output("d_b", drawn.b - real.b)
    g.output("d_c", drawn.c - real.c)
    func energy(_ v: Value) -> Value {
      g.mean(BoltzmannMachine.freeEnergy(g, v, p), axes: [0])
    }
    g.output("loss", energy(v) - energy(fake))
  }

  /// How often each pixel of the data is 1.
  private static func share(_ g: FunctionBuilder) -> Value {
    g.state("mean", .float32, [64], .constant(0.5))
  }

  static let model = Families.model(
    "rbm", "restricted Boltzmann machine: black-and-white digits, 16 hidden units", batch: 64,
    [("k", 16)]
  ) { (module) throws(DLCError) in
    func persistent(_ g: FunctionBuilder) -> Value {
      g.state("chains", .float32, [chains, 64], .zeros)
    }
    try module.function("initialize") { g in
      let mean = g.clamp(g.mean(visible(g), axes: [0]), 0.01, 0.99)
      _ = (weights(g), share(g), persistent(g))
      g.update("mean", mean)
      g.update("b", g.log(mean / (1 - mean)))
      let random = RandomStream(g, key: Families.seed(g))
      let drawn = random.bernoulli(g.broadcast(mean, to: [chains, 64]))
      g.update("chains", g.convert(drawn, .float32))
    }
    try module.function("gradients") { g in
      let (v, p) = (visible(g), weights(g))
      let fake = swept(g, persistent(g), p, Size(sweeps), Families.seed(g))
      g.update("chains", fake)
      gradients(g, v, fake, p)
    }
    // One step from the data (Hinton 2002), in place of `gradients`.
    try module.function("contrastive_divergence") { g in
      let (v, p) = (visible(g), weights(g))
      gradients(g, v, sweep(g, v, p, RandomStream(g, key: Families.seed(g))), p)
    }
    // -ln p, exact: ln Z over all 2^k hidden states, in float64.
    try module.function("evaluate") { g in
      let (v, single) = (g.convert(visible(g), .float64), weights(g))
      func wide(_ x: Value) -> Value { g.convert(x, .float64) }
      let p = BoltzmannMachine.Weights(w: wide(single.w), b: wide(single.b), c: wide(single.c))
      // With the layers' places changed, states of the hidden one have a free energy too.
      let swapped = BoltzmannMachine.Weights(w: g.transpose(p.w, [1, 0]), b: p.c, c: p.b)
      let logZ = BoltzmannMachine.logPartition(g, units: "k", .float64) { g, h in
        BoltzmannMachine.freeEnergy(g, h, swapped)
      }
      g.output("nll", g.mean(BoltzmannMachine.freeEnergy(g, v, p), axes: [0]) + logZ)
    }
    // A thousand sweeps from coins that fall as often as the data's pixels are 1.
    try module.function("sample") { g in
      let seed = Families.seed(g)
      let coins = RandomStream(g, key: seed).bernoulli(g.broadcast(share(g), to: ["n", 64]))
      g.output("images", swept(g, g.convert(coins, .float32), weights(g), 1000, seed))
    }
    module.recipe = Recipe(
      phases: [
        Phase("gradients", .gradients, rule: Families.rule(0.1, .gradientDescent))
      ], batch: 64, epochs: 1000, initialization: "initialize", evaluation: "evaluate",
      sample: "sample",
      meanings: ["x": Families.digits, "images": Families.digits, "seed": .seed])
  }
}
