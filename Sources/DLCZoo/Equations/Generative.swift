import DLCAutodiff
import DLCGraph
import DLCTensor
import DLCTraining

/// Rows C1 to C10.
enum Generative {
  static let models: [ZooModel] = [
    Equations.model(
      "generative/vae", "C1: variational autoencoder",
      [("n", 4), ("d", 12), ("h", 8), ("q", 3)], VAE.fill),
    Equations.model(
      "generative/gan", "C2: generative adversarial network",
      [("n", 4), ("d", 5), ("h", 8), ("q", 3), ("g", 7)], GAN.fill),
    Equations.model(
      "generative/ddpm", "C3: denoising diffusion, 1000 steps", [("n", 4), ("d", 5), ("h", 16)],
      Diffusion.fill),
    Equations.model(
      "generative/flow", "C4: four affine couplings and a linear layer",
      [("n", 4), ("d", 5), ("h", 8)], Flow.fill),
    Equations.model(
      "generative/autoregressive", "C5: masked attention over tokens",
      [("n", 3), ("T", 6), ("V", 7), ("d", 8)], Autoregressive.fill),
    Equations.model(
      "generative/ebm", "C6: energy-based model", [("n", 4), ("d", 3), ("h", 8)], EnergyBased.fill),
    Equations.model(
      "generative/rbm", "C7: restricted Boltzmann machine", [("n", 4), ("d", 6), ("k", 5)],
      BoltzmannMachine.fill),
    Equations.model(
      "generative/score", "C8: denoising score matching", [("n", 4), ("d", 3), ("h", 16)],
      Score.fill),
    Equations.model(
      "generative/gmm", "C9: Gaussian mixture, EM as one loop",
      [("n", 32), ("d", 2), ("k", 3), ("iterations", 10)], Mixture.fill),
    Equations.model(
      "generative/sampler", "C10: the next token from logits", [("n", 4), ("V", 11)], Sampler.fill),
  ]

  /// The functions of a file that all draw from one seed.
  static func random(_ g: FunctionBuilder) -> RandomStream {
    RandomStream(g, key: g.input("seed", .int64))
  }

}

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
  }
}

enum GAN {
  private static func mlp(
    _ g: FunctionBuilder, _ x: Value, _ prefix: String, _ from: Size, _ hidden: Size,
    _ to: Size
  ) -> Value {
    let w1 = g.parameter("\(prefix)W1", [hidden, from])
    let b1 = g.parameter("\(prefix)b1", [hidden], .zeros)
    let w2 = g.parameter("\(prefix)W2", [to, hidden])
    let b2 = g.parameter("\(prefix)b2", [to], .zeros)
    return g.linear(g.tanh(g.linear(x, w1, b1)), w2, b2)
  }

  private static func generator(_ g: FunctionBuilder, _ z: Value) -> Value {
    mlp(g, z, "G_", "q", "g", "d")
  }

  /// The logit of D.
  private static func discriminator(_ g: FunctionBuilder, _ x: Value) -> Value {
    mlp(g, x, "D_", "d", "h", 1)
  }

  private static func discriminatorLoss(_ g: FunctionBuilder) -> Value {
    let x = g.input("x", .float32, ["n", "d"])
    let z = g.input("z", .float32, ["n", "q"])
    let (real, fake) = (discriminator(g, x), discriminator(g, generator(g, z)))
    return g.mean(g.softplus(-real), axes: [0, 1]) + g.mean(g.softplus(fake), axes: [0, 1])
  }

  private static func generatorLoss(_ g: FunctionBuilder) -> Value {
    let z = g.input("z", .float32, ["n", "q"])
    return g.mean(g.softplus(-discriminator(g, generator(g, z))), axes: [0, 1])
  }

  private static func gradients(_ g: FunctionBuilder, _ loss: Value, _ prefix: String) {
    var (names, values) = ([String](), [Value]())
    for (argument, id) in zip(g.graph.arguments, g.graph.argumentValues)
    where argument.kind == .state && argument.name.hasPrefix(prefix) {
      names.append(argument.name)
      values.append(g.value(id))
    }
    for (name, d) in zip(names, g.gradient(of: loss, by: values)) { g.output("d_\(name)", d) }
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.function("discriminator_loss") { g in g.output("loss", discriminatorLoss(g)) }
    try f.function("discriminator_gradient") { g in gradients(g, discriminatorLoss(g), "D_") }
    try f.function("generator_loss") { g in g.output("loss", generatorLoss(g)) }
    try f.function("generator_gradient") { g in gradients(g, generatorLoss(g), "G_") }
    try f.function("sample") { g in
      g.output("x", generator(g, Generative.random(g).normal(["n", "q"])))
    }
  }
}

enum Diffusion {
  private static let steps = 1000

  /// beta_t, and the product of alpha_1 to alpha_t, for t from 1.
  private static let schedule: (beta: [Double], product: [Double]) = {
    let beta = (0..<steps).map { 1e-4 + (0.02 - 1e-4) * Double($0) / Double(steps - 1) }
    var (product, products) = (1.0, [Double]())
    for b in beta {
      product *= 1 - b
      products.append(product)
    }
    return (beta, products)
  }()

  /// Entries of a table at the steps t [n], as a column [n, 1].
  private static func entries(
    _ g: FunctionBuilder, _ t: Value, _ table: [Double]
  ) -> Value {
    let values = g.constant(Tensor(.float32, [steps], rounding: table))
    let index = g.binary(.subtract, t, g.constant(1, like: t))
    return g.reshape(g.embedding(values, index), t.shape + [1])
  }

  private static func mixed(_ g: FunctionBuilder, _ x: Value, _ t: Value, _ eps: Value) -> Value {
    let products = schedule.product
    return entries(g, t, products.map { $0.squareRoot() }) * x
      + entries(g, t, products.map { (1 - $0).squareRoot() }) * eps
  }

  private static func network(_ g: FunctionBuilder, _ x: Value, _ t: Value) -> Value {
    let (w1, wt) = (g.parameter("W1", ["h", "d"]), g.parameter("w_t", ["h"], .zeros))
    let b1 = g.parameter("b1", ["h"], .zeros)
    let (w2, b2) = (g.parameter("W2", ["d", "h"]), g.parameter("b2", ["d"], .zeros))
    let time = g.reshape(g.convert(t, .float32) / Double(steps), t.shape + [1])
    return g.linear(g.tanh(g.linear(x, w1) + time * wt + b1), w2, b2)
  }

  private static func previous(_ g: FunctionBuilder, _ x: Value, _ t: Value, _ noise: Value)
    -> Value
  {
    let (beta, product) = schedule
    let factor = zip(beta, product).map { $0 / (1 - $1).squareRoot() }
    let guess = network(g, x, t)
    let mean =
      (x - entries(g, t, factor) * guess) * entries(g, t, beta.map { 1 / (1 - $0).squareRoot() })
    // The last step, t = 1, is not disturbed.
    let deviation = beta.enumerated().map { $0.offset == 0 ? 0 : $0.element.squareRoot() }
    return mean + entries(g, t, deviation) * noise
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    func arrays(_ g: FunctionBuilder, _ first: String, _ second: String) -> (Value, Value, Value) {
      (
        g.input(first, .float32, ["n", "d"]), g.input("t", .int32, ["n"]),
        g.input(second, .float32, ["n", "d"])
      )
    }
    try f.function("q_step") { g in
      let (x, t, noise) = arrays(g, "x_prev", "noise")
      let beta = schedule.beta
      g.output(
        "x_t",
        entries(g, t, beta.map { (1 - $0).squareRoot() }) * x
          + entries(g, t, beta.map { $0.squareRoot() }) * noise)
    }
    try f.function("q_sample") { g in
      let (x, t, eps) = arrays(g, "x0", "eps")
      g.output("x_t", mixed(g, x, t, eps))
    }
    try f.differentiable("loss") { g in
      let (x, t, eps) = arrays(g, "x0", "eps")
      g.output("loss", g.meanSquaredError(network(g, mixed(g, x, t, eps), t), eps))
    }
    try f.function("p_step") { g in
      let (x, t, noise) = arrays(g, "x_t", "noise")
      g.output("x_prev", previous(g, x, t, noise))
    }
    try f.function("sample") { g in
      let seed = g.input("seed", .int64)
      let start = RandomStream(g, key: seed).normal(["n", "d"])
      let numbers = g.binary(
        .add, g.iota(.int32, [Size(steps)], axis: 0),
        g.constant(1, .int32, [Size(steps)]))
      let (x, _) = g.scan(carried: [start], inputs: [numbers], reverse: true) { g, x, step in
        let noise = RandomStream(g, key: seed, step: step[0]).normal(["n", "d"])
        return ([previous(g, x[0], g.broadcast(step[0], to: ["n"]), noise)], [])
      }
      g.output("x", x[0])
    }
  }
}

enum Flow {
  private static let low: Size = "d" / 2
  private static let high: Size = ("d" + 1) / 2

  private static func halves(_ g: FunctionBuilder, _ x: Value) -> (a: Value, b: Value) {
    (
      g.slice(x, axis: 1, from: 0, to: low),
      g.reshape(g.slice(x, axis: 1, from: low, to: "d"), ["n", high])
    )
  }

  private static func joined(_ g: FunctionBuilder, _ a: Value, _ b: Value) -> Value {
    g.reshape(g.concatenate([a, b], axis: 1), ["n", "d"])
  }

  /// All parameters, declared in the order of the contract; those of a layer: W1, b1, Ws, bs, Wt, bt.
  private static func weights(_ g: FunctionBuilder) -> (
    layers: [[Value]], lower: Value, upper: Value, log: Value
  ) {
    let layers = (0..<4).map { i -> [Value] in
      let (from, to) = i % 2 == 0 ? (low, high) : (high, low)
      return [
        g.parameter("W1_\(i)", ["h", from]), g.parameter("b1_\(i)", ["h"], .zeros),
        g.parameter("Ws_\(i)", [to, "h"]), g.parameter("bs_\(i)", [to], .zeros),
        g.parameter("Wt_\(i)", [to, "h"]), g.parameter("bt_\(i)", [to], .zeros),
      ]
    }
    return (
      layers, g.parameter("lower", ["d", "d"], .zeros), g.parameter("upper", ["d", "d"], .zeros),
      g.parameter("log_diagonal", ["d"], .zeros)
    )
  }

  /// s and t of a layer, from the half that it keeps.
  private static func net(_ g: FunctionBuilder, _ i: Int, _ kept: Value) -> (s: Value, t: Value) {
    let w = weights(g).layers[i]
    let h = g.tanh(g.linear(kept, w[0], w[1]))
    return (g.tanh(g.linear(h, w[2], w[3])), g.linear(h, w[4], w[5]))
  }

  private static func factors(_ g: FunctionBuilder) -> (lower: Value, upper: Value, log: Value) {
    let (_, lower, upper, log) = weights(g)
    let diagonal = g.diagonalMatrix(g.broadcast(g.exponential(log), to: ["d", "d"]))
    return (lower, g.upperTriangle(upper, strict: true) + diagonal, log)
  }

  private static func transform(_ g: FunctionBuilder, _ z: Value) -> Value {
    func layer(_ i: Int, _ x: Value) -> Value {
      let (a, b) = halves(g, x)
      let (kept, changed) = i % 2 == 0 ? (a, b) : (b, a)
      let (s, t) = net(g, i, kept)
      let new = changed * g.exponential(s) + t
      return i % 2 == 0 ? joined(g, a, new) : joined(g, new, b)
    }
    let (lower, upper, _) = factors(g)
    let first = layer(1, layer(0, z))
    let unit = g.lowerTriangle(lower, strict: true) + g.diagonalMatrix(g.constant(1, like: lower))
    return layer(3, layer(2, g.linear(g.linear(first, upper), unit)))
  }

  private static func inverse(_ g: FunctionBuilder, _ x: Value) -> (z: Value, logDet: Value) {
    var logDet = g.constant(0, .float32, ["n"])
    func layer(_ i: Int, _ y: Value) -> Value {
      let (a, b) = halves(g, y)
      let (kept, changed) = i % 2 == 0 ? (a, b) : (b, a)
      let (s, t) = net(g, i, kept)
      logDet = logDet - g.sum(s, axes: [1])
      let old = (changed - t) * g.exponential(-s)
      return i % 2 == 0 ? joined(g, a, old) : joined(g, old, b)
    }
    let mid = layer(2, layer(3, x))
    let (lower, upper, log) = factors(g)
    let columns = g.triangularSolve(lower, g.transpose(mid, [1, 0]), unitDiagonal: true)
    let solved = g.transpose(g.triangularSolve(upper, columns, lower: false), [1, 0])
    let z = layer(0, layer(1, solved))
    return (z, logDet - g.sum(log, axes: [0]))
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("log_prob") { g in
      let (z, logDet) = inverse(g, g.input("x", .float32, ["n", "d"]))
      let size = g.dimension("d", .float32)
      let quadratic = g.sum(z * z, axes: [1]) + size * 1.8378770664093453
      g.output("log_prob", quadratic * -0.5 + logDet)
    }
    try f.function("transform") { g in
      g.output("x", transform(g, g.input("z", .float32, ["n", "d"])))
    }
    try f.function("inverse") { g in
      let (z, logDet) = inverse(g, g.input("x", .float32, ["n", "d"]))
      g.output("z", z)
      g.output("log_det", logDet)
    }
    try f.function("sample") { g in
      g.output("x", transform(g, Generative.random(g).normal(["n", "d"])))
    }
  }
}

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
  }
}

enum EnergyBased {
  private static func energy(_ g: FunctionBuilder, _ x: Value) -> Value {
    let (w1, b1) = (g.parameter("W1", ["h", "d"]), g.parameter("b1", ["h"], .zeros))
    let w2 = g.parameter("w2", ["h"], .normal(mean: 0, deviation: 1))
    let hidden = g.tanh(g.linear(x, w1, b1))
    return g.sum(x * x, axes: [1]) * 0.5
      + g.dotGeneral(hidden, w2, lhsContracting: [1], rhsContracting: [0])
  }

  private static func langevin(_ g: FunctionBuilder, _ x: Value, _ noise: Value, _ step: Value)
    -> Value
  {
    let total = g.sum(energy(g, x), axes: [0])
    let slope = g.gradient(of: total, by: [x])[0]
    return x - step * 0.5 * slope + g.sqrt(step) * noise
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("energy") { g in
      g.output("E", energy(g, g.input("x", .float32, ["n", "d"])))
    }
    try f.function("loss_gradient") { g in
      let data = g.input("x_data", .float32, ["n", "d"])
      let model = g.input("x_model", .float32, ["n", "d"])
      let loss = g.mean(energy(g, data), axes: [0]) - g.mean(energy(g, model), axes: [0])
      let names = ["W1", "b1", "w2"]
      let values = [
        g.parameter("W1", ["h", "d"]), g.parameter("b1", ["h"], .zeros),
        g.parameter("w2", ["h"], .normal(mean: 0, deviation: 1)),
      ]
      for (name, d) in zip(names, g.gradient(of: loss, by: values)) { g.output("d_\(name)", d) }
    }
    try f.function("langevin_step") { g in
      let x = g.input("x", .float32, ["n", "d"])
      let noise = g.input("noise", .float32, ["n", "d"])
      g.output("x_next", langevin(g, x, noise, g.input("step", .float32)))
    }
    // A thousand steps of 0.01 from a normal draw: ten relaxation times of the quadratic part.
    try f.function("sample") { g in
      let seed = g.input("seed", .int64)
      let start = RandomStream(g, key: seed).normal(["n", "d"])
      let numbers = g.iota(.int32, [1000], axis: 0)
      let (x, _) = g.scan(carried: [start], inputs: [numbers]) { g, x, step in
        let number = g.binary(.add, step[0], g.constant(1, .int32))
        let noise = RandomStream(g, key: seed, step: number).normal(["n", "d"])
        return ([langevin(g, x[0], noise, g.constant(0.01, .float32))], [])
      }
      g.output("x", x[0])
    }
  }
}

enum BoltzmannMachine {
  private struct Weights {
    var w: Value
    var b: Value
    var c: Value
    init(_ g: FunctionBuilder) {
      w = g.parameter("W", ["d", "k"], .normal(mean: 0, deviation: 0.1))
      b = g.parameter("b", ["d"], .zeros)
      c = g.parameter("c", ["k"], .zeros)
    }
  }

  private static func hidden(_ g: FunctionBuilder, _ v: Value, _ p: Weights) -> Value {
    Architectures.project(g, v, p.w) + p.c
  }

  private static func visible(_ g: FunctionBuilder, _ h: Value, _ p: Weights) -> Value {
    g.linear(h, p.w) + p.b
  }

  private static func dot(_ g: FunctionBuilder, _ x: Value, _ v: Value) -> Value {
    g.dotGeneral(x, v, lhsContracting: [1], rhsContracting: [0])
  }

  private static func freeEnergy(_ g: FunctionBuilder, _ v: Value, _ p: Weights) -> Value {
    -dot(g, v, p.b) - g.sum(g.softplus(hidden(g, v, p)), axes: [1])
  }

  private static func drawn(_ g: FunctionBuilder, _ u: Value, _ probability: Value) -> Value {
    g.convert(g.compare(.less, u, probability), .float32)
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.function("energy") { g in
      let v = g.input("v", .float32, ["n", "d"])
      let h = g.input("h", .float32, ["n", "k"])
      let p = Weights(g)
      let pairs = g.sum(Architectures.project(g, v, p.w) * h, axes: [1])
      g.output("E", -pairs - dot(g, v, p.b) - dot(g, h, p.c))
    }
    try f.differentiable("free_energy") { g in
      g.output("F", freeEnergy(g, g.input("v", .float32, ["n", "d"]), Weights(g)))
    }
    try f.function("cd1") { g in
      let v = g.input("v", .float32, ["n", "d"])
      let uh = g.input("u_h", .float32, ["n", "k"])
      let uv = g.input("u_v", .float32, ["n", "d"])
      let p = Weights(g)
      let first = g.logistic(hidden(g, v, p))
      let v1 = drawn(g, uv, g.logistic(visible(g, drawn(g, uh, first), p)))
      let second = g.logistic(hidden(g, v1, p))
      func outer(_ a: Value, _ b: Value) -> Value {
        g.dotGeneral(a, b, lhsContracting: [0], rhsContracting: [0])
      }
      g.output("d_W", (outer(v, first) - outer(v1, second)) / g.dimension("n"))
      g.output("d_b", g.mean(v - v1, axes: [0]))
      g.output("d_c", g.mean(first - second, axes: [0]))
    }
    // Sums e^-F over all 2^d visible states, 1024 at a time.
    try f.function("log_partition") { g in
      let p = Weights(g)
      let block = 1024.0
      let states = g.binary(.shift_left, g.constant(1, .int64), g.dimension("d", .int64))
      let zero = g.constant(0, .int64)
      let results = g.whileLoop(
        [zero, g.constant(-.infinity, .float32)]
      ) { g, c in
        g.compare(.less, c[0], states)
      } body: { g, c in
        let shape: [Size] = [1024, "d"]
        let number = g.binary(
          .add, g.iota(.int64, shape, axis: 0), g.broadcast(c[0], to: shape))
        let shifted = g.binary(
          .shift_right_logical, number, g.iota(.int64, shape, axis: 1))
        let bit = g.binary(.and, shifted, g.constant(1, .int64, shape))
        let scores = -freeEnergy(g, g.convert(bit, .float32), p)
        let row = g.binary(
          .add, g.iota(.int64, [1024], axis: 0), g.broadcast(c[0], to: [1024]))
        let isState = g.compare(.less, row, g.broadcast(states, to: [1024]))
        let kept = g.select(isState, scores, g.constant(-.infinity, like: scores))
        let all = g.concatenate([kept, g.reshape(c[1], [1])], axis: 0)
        return [
          g.binary(.add, c[0], g.constant(block, .int64)), g.logSumExp(all, axis: 0),
        ]
      }
      g.output("log_z", results[1])
    }
    // Two hundred sweeps of Gibbs sampling from fair coins.
    try f.function("sample") { g in
      let seed = g.input("seed", .int64)
      let p = Weights(g)
      let coins = RandomStream(g, key: seed).uniform(["n", "d"])
      let start = drawn(g, coins, g.constant(0.5, .float32, ["n", "d"]))
      let (v, _) = g.scan(carried: [start], inputs: [g.iota(.int32, [200], axis: 0)]) {
        g, v, step in
        let number = g.binary(.add, step[0], g.constant(1, .int32))
        let random = RandomStream(g, key: seed, step: number)
        let h = drawn(g, random.uniform(["n", "k"]), g.logistic(hidden(g, v[0], p)))
        return ([drawn(g, random.uniform(["n", "d"]), g.logistic(visible(g, h, p)))], [])
      }
      g.output("v", v[0])
    }
  }
}

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
  }
}

enum Mixture {
  private static let logTwoPi = 1.8378770664093453

  private struct Inputs {
    var pi: Value
    var mu: Value
    var sigma: Value
    init(_ g: FunctionBuilder, _ type: DataType = .float32) {
      pi = g.input("pi", type, ["k"])
      mu = g.input("mu", type, ["k", "d"])
      sigma = g.input("Sigma", type, ["k", "d", "d"])
    }
    init(_ values: [Value]) { (pi, mu, sigma) = (values[0], values[1], values[2]) }
  }

  /// ln pi_k + ln N(x_n; mu_k, Sigma_k), [n, k].
  private static func joint(_ g: FunctionBuilder, _ x: Value, _ p: Inputs) -> Value {
    let l = g.cholesky(p.sigma)
    let shape: [Size] = ["k", "d", "n"]
    let off =
      g.broadcast(g.transpose(x, [1, 0]), to: shape, axes: [1, 2])
      - g.broadcast(p.mu, to: shape, axes: [0, 1])
    let y = g.triangularSolve(l, off)
    let distance = g.sum(y * y, axes: [1]) + g.dimension("d", x.dataType) * logTwoPi
    let logDet = g.sum(g.log(g.diagonal(l)), axes: [1])
    let scores = distance * -0.5 + g.broadcast(g.log(p.pi) - logDet, to: ["k", "n"], axes: [0])
    return g.transpose(scores, [1, 0])
  }

  private static func maximize(_ g: FunctionBuilder, _ x: Value, _ gamma: Value) -> [Value] {
    let counts = g.sum(gamma, axes: [0])
    let column = g.reshape(counts, ["k", 1])
    let mu = g.dotGeneral(gamma, x, lhsContracting: [0], rhsContracting: [0]) / column
    let shape: [Size] = ["k", "n", "d"]
    let off = g.broadcast(x, to: shape, axes: [1, 2]) - g.broadcast(mu, to: shape, axes: [0, 2])
    let weighted = off * g.broadcast(g.transpose(gamma, [1, 0]), to: shape, axes: [0, 1])
    let sums = g.dotGeneral(
      weighted, off, lhsBatch: [0], rhsBatch: [0], lhsContracting: [1], rhsContracting: [1])
    return [counts / g.dimension("n", x.dataType), mu, sums / g.reshape(counts, ["k", 1, 1])]
  }

  private static func output(_ g: FunctionBuilder, _ values: [Value]) {
    for (name, value) in zip(["pi", "mu", "Sigma"], values) { g.output(name, value) }
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("log_prob") { g in
      let x = g.input("x", .float32, ["n", "d"])
      g.output("log_prob", g.logSumExp(joint(g, x, Inputs(g)), axis: 1))
    }
    try f.function("e_step") { g in
      let x = g.input("x", .float32, ["n", "d"])
      g.output("gamma", g.softmax(joint(g, x, Inputs(g)), axis: 1))
    }
    try f.function("m_step") { g in
      let x = g.input("x", .float32, ["n", "d"])
      output(g, maximize(g, x, g.input("gamma", .float32, ["n", "k"])))
    }
    try fit(&f, .float32)
    try f.function("sample") { g in
      let random = Generative.random(g)
      let p = Inputs(g)
      let chosen = random.categorical(g.broadcast(g.log(p.pi), to: ["n", "k"]))
      let l = g.embedding(g.cholesky(p.sigma), chosen)
      let noise = g.reshape(random.normal(["n", "d"]), ["n", "d", 1])
      let moved = g.reshape(g.matmul(l, noise), ["n", "d"])
      g.output("x", g.embedding(p.mu, chosen) + moved)
    }
  }

  /// All iterations of EM as one loop.
  static func fit(_ f: inout EquationFile, _ type: DataType) throws(DLCError) {
    try f.function("fit") { g in
      let x = g.input("x", type, ["n", "d"])
      let p = Inputs(g, type)
      let (last, history) = g.scan(
        carried: [p.pi, p.mu, p.sigma], length: "iterations"
      ) { g, values, _ in
        let scores = joint(g, x, Inputs(values))
        let likelihood = g.sum(g.logSumExp(scores, axis: 1), axes: [0])
        return (maximize(g, x, g.softmax(scores, axis: 1)), [likelihood])
      }
      output(g, last)
      g.output("log_likelihood", history[0])
    }
  }
}

enum Sampler {
  /// How many entries of the running sum are at most u, but a token.
  private static func pick(_ g: FunctionBuilder, _ probabilities: Value, _ u: Value) -> Value {
    let sums = g.cumulativeSum(probabilities, axis: 1)
    let passed = g.compare(.less_equal, sums, g.broadcast(u, to: ["n", "V"], axes: [0]))
    let count = g.sum(g.convert(passed, .int32), axes: [1])
    let last = g.broadcast(g.dimension("V" - 1, .int32), to: ["n"])
    return g.minimum(count, last)
  }

  /// softmax(logits / temperature) of the entries that are kept.
  private static func kept(_ g: FunctionBuilder, _ scaled: Value, _ keep: Value) -> Value {
    g.softmax(g.select(keep, scaled, g.constant(-.infinity, like: scaled)))
  }

  /// The order of the entries, largest first.
  private static func order(_ g: FunctionBuilder, _ scaled: Value) -> Value {
    let number = g.iota(.int32, ["n", "V"], axis: 1)
    return g.sort([scaled, number], axis: 1, descending: true)[1]
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
      let k = g.input("k", .int32)
      let places = g.iota(.int32, ["n", "V"], axis: 1)
      let ranks = g.scatterAlong(1, g.constant(0, like: places), order(g, scaled), places, nil)
      let keep = g.compare(.less, ranks, g.broadcast(k, to: ["n", "V"]))
      g.output("token", pick(g, kept(g, scaled, keep), u))
    }
    try f.function("top_p") { g in
      let (scaled, u) = inputs(g)
      let p = g.input("p", .float32)
      let places = order(g, scaled)
      let descending = g.gatherAlong(1, g.softmax(scaled), places)
      let before = g.cumulativeSum(descending, axis: 1, exclusive: true)
      let enough = g.compare(.less, before, g.broadcast(p, to: ["n", "V"]))
      let none = g.constant(0, .bool, ["n", "V"])
      let keep = g.scatterAlong(1, none, places, enough, nil)
      g.output("token", pick(g, kept(g, scaled, keep), u))
    }
    try f.function("sample") { g in
      let random = Generative.random(g)
      let logits = g.input("logits", .float32, ["n", "V"])
      let scaled = logits / g.input("temperature", .float32)
      g.output("token", pick(g, g.softmax(scaled), random.uniform(["n"])))
    }
  }
}
