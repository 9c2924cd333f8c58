import DLCAutodiff
package import DLCGraph
package import DLCTensor
package import DLCTraining

/// A training workload of the peer benchmark: the same models, losses and optimizers.
package struct Workload: Sendable {
  package var name: String
  package var summary: String
  private var make: @Sendable (inout Module) throws(DLCError) -> Void
  private var phaseList: [Phase]

  init(
    _ name: String, _ summary: String, _ phases: [Phase],
    _ make: @escaping @Sendable (inout Module) throws(DLCError) -> Void
  ) {
    self.name = name
    self.summary = summary
    phaseList = phases
    self.make = make
  }

  init(
    _ name: String, _ summary: String, _ rule: UpdateRule,
    _ loss: @escaping @Sendable (FunctionBuilder) -> Value
  ) {
    self.init(name, summary, [Phase("loss", rule: rule)]) { (module) throws(DLCError) in
      try module.function("loss") { g in g.output("loss", loss(g)) }
    }
  }

  package func module() throws(DLCError) -> Module {
    var module = Module(name)
    try make(&module)
    return module
  }

  package func step() throws(DLCError) -> TrainingStep {
    try TrainingStep(try module(), phases: phaseList)
  }
}

extension Workload {
  private static let adam = UpdateRule(.adam(), learningRate: 1e-3)
  private static func momentum(_ rate: Double) -> UpdateRule {
    UpdateRule(.momentum(beta: 0.9, dampening: 0), learningRate: rate)
  }
  private static let gptRule = UpdateRule(
    .adamW(beta1: 0.9, beta2: 0.99, epsilon: 1e-8, decay: 0.1), learningRate: 1e-3)

  package static let all: [Workload] = [
    Workload("mlp_adam", "784-512-512-10, batch 128, Adam", adam) { g in
      let l = Layers(g)
      let x = g.input("x", .float32, [128, 784])
      let y = g.input("y", .int64, [128])
      let hidden = g.relu(l.linear("fc2", g.relu(l.linear("fc1", x, 512)), 512))
      return g.softmaxCrossEntropy(l.linear("fc3", hidden, 10), y)
    },
    Workload("lenet_momentum", "LeNet-5, batch 64, momentum", momentum(0.01)) { g in
      let l = Layers(g)
      let x = g.input("x", .float32, [64, 1, 28, 28])
      let y = g.input("y", .int64, [64])
      let first = g.relu(l.convolution("conv1", x, 6, kernel: 5, padding: 2))
      let second = g.relu(
        l.convolution("conv2", g.maxPool(first, window: [2, 2]), 16, kernel: 5))
      var h = g.reshape(g.maxPool(second, window: [2, 2]), [64, 400])
      h = g.relu(l.linear("fc2", g.relu(l.linear("fc1", h, 120)), 84))
      return g.softmaxCrossEntropy(l.linear("fc3", h, 10), y)
    },
    Workload("resnet20_cifar", "ResNet-20 with batch norm, batch 32, momentum", momentum(0.05)) {
      resnet20($0)
    },
    character("lstm_char", .lstm), character("gru_char", .gru), character("rnn_char", .rnn),
    Workload("gpt_char", "4 blocks, d 128, AdamW", gptRule) { g in
      gpt(g, batch: 12, length: 64, size: 128, heads: 4, blocks: 4)
    },
    Workload("gpt_char_large", "6 blocks, d 384, AdamW", gptRule) { g in
      gpt(g, batch: 4, length: 256, size: 384, heads: 6, blocks: 6)
    },
    Workload("vae_mnist", "784-400-20-400-784, batch 128, Adam", adam) { g in
      let l = Layers(g)
      let x = g.input("x", .float32, [128, 784])
      let eps = g.input("eps", .float32, [128, 20])
      let h = g.relu(l.linear("enc", x, 400))
      let (mu, logvar) = (l.linear("mu", h, 20), l.linear("logvar", h, 20))
      let z = mu + g.exponential(logvar * 0.5) * eps
      let y = l.linear("out", g.relu(l.linear("dec", z, 400)), 784)
      let bce = g.sum(g.binaryCrossEntropy(logits: y, x), axes: [0, 1])
      let kl = g.sum(logvar + 1 - mu * mu - g.exponential(logvar), axes: [0, 1]) * -0.5
      return (bce + kl) / 128
    },
    gan,
    Workload(
      "ddpm_unet", "U-Net, base 32, batch 16, AdamW",
      UpdateRule(.adamW(decay: 0.01), learningRate: 2e-4)
    ) { g in
      let x = g.input("x", .float32, [16, 1, 28, 28])
      let table = g.input("alpha_bar", .float32, [1000])
      let eps = g.input("eps", .float32, [16, 1, 28, 28])
      let t = g.input("t", .int64, [16])
      let a = g.reshape(g.embedding(table, t), [16, 1, 1, 1])
      let mixed = g.sqrt(a) * x + g.sqrt(1 - a) * eps
      return g.meanSquaredError(unet(g, mixed, g.convert(t, .float32), base: 32), eps)
    },
    Workload("realnvp", "8 affine couplings, batch 256, Adam", adam) { realnvp($0) },
    rbm, gmm,
    Workload("score_dsm", "denoising score matching, batch 256, Adam", adam) { g in
      let l = Layers(g)
      let x = g.input("x", .float32, [256, 2])
      let u = g.input("u", .float32, [256, 1])
      let eps = g.input("eps", .float32, [256, 2])
      let logSigma = u * 4.605170185988092 - 4.605170185988092
      let h = g.concatenate([x + g.exponential(logSigma) * eps, logSigma], axis: 1)
      let wide = g.swish(l.linear("fc2", g.swish(l.linear("fc1", h, 128)), 128))
      let e = l.linear("fc3", wide, 2) + eps
      return g.mean(g.sum(e * e, axes: [1]), axes: [0])
    },
    Workload("ebm_langevin", "20 Langevin steps inside the loss, batch 256, Adam", adam) {
      langevin($0)
    },
  ]

  // MARK: Networks

  private static func resnet20(_ g: FunctionBuilder) -> Value {
    let l = Layers(g)
    let y = g.input("y", .int64, [32])
    func unit(_ name: String, _ x: Value, _ width: Size, _ kernel: Int, _ stride: Int = 1)
      -> Value
    {
      let z = l.convolution(
        name, x, width, kernel: kernel, stride: stride, padding: kernel / 2, bias: false)
      return l.batchNorm(name + ".bn", z)
    }
    var x = g.relu(unit("stem", g.input("x", .float32, [32, 3, 32, 32]), 16, 3))
    for (stage, width) in [16, 32, 64].enumerated() {
      for i in 0..<3 {
        let name = "s\(stage).\(i)"
        let stride = i == 0 && stage > 0 ? 2 : 1
        let size = Size(width)
        let z = unit(name + ".b", g.relu(unit(name + ".a", x, size, 3, stride)), size, 3)
        x = g.relu(z + (x.shape[1] == size ? x : unit(name + ".down", x, size, 1, stride)))
      }
    }
    return g.softmaxCrossEntropy(l.linear("fc", g.mean(x, axes: [2, 3]), 10), y)
  }

  private static func character(_ name: String, _ cell: Layers.Cell) -> Workload {
    Workload(name, "\(cell.rawValue) of 256 over 65 characters, 64 x 32, Adam", adam) { g in
      let l = Layers(g)
      let x = g.input("x", .int64, [64, 32])
      let y = g.input("y", .int64, [64, 32])
      let e = l.embedding("emb", x, count: 65, size: 128, deviation: 1)
      let h = l.recurrent("rnn", cell, e, size: 256)
      return g.softmaxCrossEntropy(l.linear("head", h, 65), y)
    }
  }

  private static func gpt(
    _ g: FunctionBuilder, batch: Size, length: Size, size: Size, heads: Int,
    blocks: Int
  ) -> Value {
    let l = Layers(g)
    let ids = g.input("x", .int64, [batch, length])
    let y = g.input("y", .int64, [batch, length])
    let table = l.parameter("tok", [65, size], .normal(mean: 0, deviation: 0.02))
    let positions = l.parameter("pos", [length, size], .normal(mean: 0, deviation: 0.02))
    var x = g.embedding(table, ids) + positions
    for block in 0..<blocks { x = l.transformerBlock("\(block)", x, heads: heads, causal: true) }
    return g.softmaxCrossEntropy(g.linear(l.layerNorm("ln", x), table), y)
  }

  private static let gan: Workload = {
    let rule = UpdateRule(.adam(beta1: 0.5), learningRate: 2e-4)
    @Sendable func generator(_ g: FunctionBuilder, _ z: Value) -> Value {
      let l = Layers(g).scope("g")
      let h = g.leakyRelu(l.linear("0", z, 128), slope: 0.2)
      return g.tanh(l.linear("2", g.leakyRelu(l.linear("1", h, 256), slope: 0.2), 784))
    }
    @Sendable func discriminator(_ g: FunctionBuilder, _ x: Value) -> Value {
      let l = Layers(g).scope("d")
      let h = g.leakyRelu(l.linear("0", x, 256), slope: 0.2)
      return l.linear("2", g.leakyRelu(l.linear("1", h, 128), slope: 0.2), 1)
    }
    return Workload(
      "gan_mnist", "discriminator, then generator, batch 64, Adam",
      [
        Phase("discriminator", prefix: "d.", rule: rule),
        Phase("generator", prefix: "g.", rule: rule),
      ]
    ) { (module) throws(DLCError) in
      try module.function("discriminator") { g in
        let x = g.input("x", .float32, [64, 784])
        let fake = g.stopGradient(generator(g, g.input("z1", .float32, [64, 64])))
        let (a, b) = (discriminator(g, x), discriminator(g, fake))
        g.output(
          "loss", g.mean(g.softplus(-a), axes: [0, 1]) + g.mean(g.softplus(b), axes: [0, 1]))
      }
      try module.function("generator") { g in
        let fake = generator(g, g.input("z2", .float32, [64, 64]))
        g.output("loss", g.mean(g.softplus(-discriminator(g, fake)), axes: [0, 1]))
      }
    }
  }()

  /// Noise prediction for x [B, C, H, W] at times t [B].
  static func unet(_ g: FunctionBuilder, _ x: Value, _ t: Value, base: Int) -> Value {
    let l = Layers(g)
    let half = base / 2
    let shape: [Size] = [x.shape[0], Size(half)]
    let rates = g.exponential(
      g.iota(.float32, [Size(half)], axis: 0) * (-9.210340371976184 / Double(half)))
    let angle = g.broadcast(t, to: shape, axes: [0]) * rates
    var e = g.concatenate([g.sine(angle), g.cosine(angle)], axis: 1)
    let wide = Size(4 * base)
    e = g.swish(l.linear("t2", g.swish(l.linear("t1", e, wide)), wide))
    func conv(_ name: String, _ x: Value, _ n: Size, _ stride: Int = 1) -> Value {
      l.convolution(name, x, n, kernel: 3, stride: stride, padding: 1)
    }
    func block(_ name: String, _ x: Value, _ n: Size) -> Value {
      var h = conv(name + ".c1", g.swish(l.groupNorm(name + ".n1", x, groups: 8)), n)
      h = h + g.broadcast(l.linear(name + ".t", e, n), to: h.shape, axes: [0, 1])
      h = conv(name + ".c2", g.swish(l.groupNorm(name + ".n2", h, groups: 8)), n)
      return h + (x.shape[1] == n ? x : l.convolution(name + ".skip", x, n, kernel: 1))
    }
    let (c, n, n2) = (x.shape[1], Size(base), Size(2 * base))
    let h1 = block("down1", conv("in", x, n), n)
    let h2 = block("down2", conv("pool1", h1, n, 2), n2)
    var h = block("mid2", block("mid1", conv("pool2", h2, n2, 2), n2), n2)
    h = conv("grow2", g.upsampleNearest(h, 2), n2)
    h = block("up2", g.concatenate([h, h2], axis: 1), n2)
    h = conv("grow1", g.upsampleNearest(h, 2), n2)
    h = block("up1", g.concatenate([h, h1], axis: 1), n)
    return conv("out", g.swish(l.groupNorm("n_out", h, groups: 8)), c)
  }

  private static func realnvp(_ g: FunctionBuilder) -> Value {
    let l = Layers(g)
    var x = g.input("x", .float32, [256, 32])
    var logDet = g.constant(0, .float32, [256])
    func half(_ v: Value, _ k: Int) -> Value {
      g.slice(v, axis: 1, from: Size(16 * k), to: Size(16 * (k + 1)))
    }
    for i in 0..<8 {
      let (a, b) = (half(x, 0), half(x, 1))
      let h = g.relu(l.linear("\(i).1", g.relu(l.linear("\(i).0", a, 128)), 128))
      let st = l.linear("\(i).2", h, 32)
      let s = g.tanh(half(st, 0))
      x = g.concatenate([b * g.exponential(s) + half(st, 1), a], axis: 1)
      logDet = logDet + g.sum(s, axes: [1])
    }
    let per = g.sum(x * x, axes: [1]) * 0.5 + 16 * 1.8378770664093453 - logDet
    return g.mean(per, axes: [0])
  }

  private static let rbm = Workload(
    "rbm_cd1", "contrastive divergence, batch 64, SGD",
    [Phase("gradients", .gradients, rule: UpdateRule(.gradientDescent, learningRate: 0.05))]
  ) { (module) throws(DLCError) in
    try module.function("gradients") { g in
      let v0 = g.input("v", .float32, [64, 784])
      let uh = g.input("uh", .float32, [64, 256])
      let uv = g.input("uv", .float32, [64, 784])
      let w = g.parameter("w", [784, 256], .normal(mean: 0, deviation: 0.01))
      let (bv, bh) = (g.parameter("bv", [784], .zeros), g.parameter("bh", [256], .zeros))
      func hidden(_ v: Value) -> Value { g.logistic(g.matmul(v, w) + bh) }
      func drawn(_ u: Value, _ p: Value) -> Value { g.convert(g.compare(.less, u, p), .float32) }
      let h0 = hidden(v0)
      let v1 = drawn(uv, g.logistic(g.linear(drawn(uh, h0), w) + bv))
      let h1 = hidden(v1)
      func outer(_ a: Value, _ b: Value) -> Value {
        g.dotGeneral(a, b, lhsContracting: [0], rhsContracting: [0])
      }
      g.output("loss", g.meanSquaredError(v0, v1))
      g.output("d_w", (outer(v1, h1) - outer(v0, h0)) / 64)
      g.output("d_bv", g.mean(v1 - v0, axes: [0]))
      g.output("d_bh", g.mean(h1 - h0, axes: [0]))
    }
  }

  private static let gmm = Workload(
    "gmm_em", "one EM iteration of a full-covariance mixture, 10,000 points",
    [Phase("update", .replace, rule: UpdateRule(.gradientDescent, learningRate: 0))]
  ) { (module) throws(DLCError) in
    try module.function("update") { g in
      let (n, k, d): (Size, Size, Size) = (10000, 8, 16)
      let x = g.input("x", .float32, [n, d])
      let weights = g.parameter("weights", [k], .constant(0.125))
      let means = g.parameter("means", [k, d], .normal(mean: 0, deviation: 1))
      let covs = g.parameter("covs", [k, d, d], .zeros)
      let l = g.cholesky(covs)
      let shape: [Size] = [k, d, n]
      let off =
        g.broadcast(g.transpose(x, [1, 0]), to: shape, axes: [1, 2])
        - g.broadcast(means, to: shape, axes: [0, 1])
      let y = g.triangularSolve(l, off)
      let logDet = -g.sum(g.log(g.diagonal(l)), axes: [1])
      let distance = g.sum(y * y, axes: [1]) + 16 * 1.8378770664093453
      let logs =
        distance * -0.5 + g.broadcast(logDet + g.log(weights), to: [k, n], axes: [0])
      let total = g.logSumExp(logs, axis: 0)
      let parts = g.exponential(logs - total)
      let counts = g.sum(parts, axes: [1])
      let next = g.matmul(parts, x) / g.reshape(counts, [k, 1])
      let wide: [Size] = [k, n, d]
      let diff =
        g.broadcast(x, to: wide, axes: [1, 2]) - g.broadcast(next, to: wide, axes: [0, 2])
      let weighted = diff * g.broadcast(parts, to: wide, axes: [0, 1])
      let sums = g.dotGeneral(
        weighted, diff, lhsBatch: [0], rhsBatch: [0], lhsContracting: [1], rhsContracting: [1])
      let identity = g.diagonalMatrix(g.constant(1e-6, .float32, [k, d, d]))
      g.output("loss", -g.mean(total, axes: [0]))
      g.output("weights", counts / 10000)
      g.output("means", next)
      g.output("covs", sums / g.reshape(counts, [k, 1, 1]) + identity)
    }
  }

  private static func langevin(_ g: FunctionBuilder) -> Value {
    let data = g.input("x", .float32, [256, 2])
    let x0 = g.input("x0", .float32, [256, 2])
    let eps = g.input("eps", .float32, [20, 256, 2])
    // Parameters belong to the function around the loop.
    func energy(_ g: FunctionBuilder, _ x: Value) -> Value {
      let l = Layers(g)
      return l.linear("fc3", g.swish(l.linear("fc2", g.swish(l.linear("fc1", x, 128)), 128)), 1)
    }
    let (walked, _) = g.scan(carried: [x0 * 4.0 - 2], inputs: [eps]) { g, x, noise in
      let total = g.sum(energy(g, x[0]), axes: [0, 1])
      let slope = g.gradient(of: total, by: [x[0]])[0]
      return ([x[0] - slope * 0.01 + noise[0] * 0.1], [])
    }
    let (real, fake) = (energy(g, data), energy(g, g.stopGradient(walked[0])))
    return g.mean(real - fake + (real * real + fake * fake) * 0.1, axes: [0, 1])
  }
}
