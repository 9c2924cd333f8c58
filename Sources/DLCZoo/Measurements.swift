import DLCGraph
import DLCTensor
import DLCTraining

/// Single operations with named sizes, for `dlc bench NAME.pb --dim ...`.
enum Measurements {
  private static let operations = [
    ZooModel(name: "matmul", summary: "y[M, N] = a[M, K] b[K, N]", make: matmul),
    ZooModel(name: "conv3x3", summary: "3x3 convolution with bias, padding 1", make: conv3x3),
    ZooModel(name: "softmax", summary: "softmax over the last axis", make: softmax),
    ZooModel(name: "layer_norm", summary: "layer norm over the last axis", make: layerNorm),
    ZooModel(name: "gelu", summary: "x Phi(x)", make: gelu),
    ZooModel(
      name: "attention", summary: "softmax(q k^T / sqrt(D)) v without mask", make: attention),
    ZooModel(
      name: "depthwise3x3", summary: "3x3 convolution of each channel, padding 1", make: depthwise),
  ]

  static let models = operations.map { (model: ZooModel) in
    var model = model
    model.isShipped = false
    return model
  }

  private static func module(
    _ name: String, _ dimensions: [(String, Int)], _ body: (FunctionBuilder) -> Void
  ) throws(DLCError) -> Module {
    var module = Module(name)
    for (dimension, size) in dimensions { module.dimension(dimension, default: size) }
    try module.function("forward", body)
    return module
  }

  @Sendable static func matmul() throws(DLCError) -> Module {
    try module("matmul", [("M", 256), ("N", 256), ("K", 256)]) { g in
      let a = g.input("a", .float32, ["M", "K"])
      let b = g.input("b", .float32, ["K", "N"])
      g.output("y", g.matmul(a, b))
    }
  }

  @Sendable static func conv3x3() throws(DLCError) -> Module {
    try module("conv3x3", [("B", 1), ("C", 64), ("H", 56), ("W", 56), ("O", 64)]) { g in
      let x = g.input("x", .float32, ["B", "C", "H", "W"])
      let k = g.parameter("K", ["O", "C", 3, 3], .heUniform)
      let bias = g.parameter("bias", ["O"], .zeros)
      g.output("y", g.convolution(x, k, bias: bias, padding: [(1, 1), (1, 1)]))
    }
  }

  @Sendable static func depthwise() throws(DLCError) -> Module {
    try module("depthwise3x3", [("B", 1), ("H", 112), ("W", 112)]) { g in
      let x = g.input("x", .float32, ["B", 96, "H", "W"])
      let k = g.parameter("K", [96, 1, 3, 3], .heUniform)
      let bias = g.parameter("bias", [96], .zeros)
      g.output(
        "y", g.convolution(x, k, bias: bias, padding: [(1, 1), (1, 1)], groups: 96))
    }
  }

  @Sendable static func softmax() throws(DLCError) -> Module {
    try module("softmax", [("N", 4096), ("D", 1000)]) { g in
      let x = g.input("x", .float32, ["N", "D"])
      g.output("y", g.softmax(x))
    }
  }

  @Sendable static func layerNorm() throws(DLCError) -> Module {
    try module("layer_norm", [("N", 4096), ("D", 768)]) { g in
      let x = g.input("x", .float32, ["N", "D"])
      let gamma = g.parameter("gamma", ["D"], .constant(1))
      let beta = g.parameter("beta", ["D"], .zeros)
      g.output("y", g.layerNorm(x, gamma, beta))
    }
  }

  @Sendable static func gelu() throws(DLCError) -> Module {
    try module("gelu", [("N", 4_194_304)]) { g in
      let x = g.input("x", .float32, ["N"])
      g.output("y", g.gelu(x))
    }
  }

  @Sendable static func attention() throws(DLCError) -> Module {
    try module("attention", [("B", 1), ("H", 12), ("T", 512), ("D", 64)]) { g in
      let q = g.input("q", .float32, ["B", "H", "T", "D"])
      let k = g.input("k", .float32, ["B", "H", "T", "D"])
      let v = g.input("v", .float32, ["B", "H", "T", "D"])
      g.output("y", g.attention(q, k, v))
    }
  }

  /// Updates alone, of 10 million weights with gradients that stay as they are: one tensor, or 200.
  static let updates: [ZooModel] = rules.flatMap { rule in
    [("1x10M", 1, 10_000_000), ("200x50k", 200, 50_000)].map { layout, count, size in
      ZooModel(name: "\(rule.name)_\(layout)", summary: "an update by \(rule.name)") {
        () throws(DLCError) in
        try update(rule, count: count, size: size)
      }
    }
  }

  private struct Rule {
    var name: String
    var optimizer: Optimizer
    var learningRate: Double
    var decay = 0.0
  }

  private static let rules = [
    Rule(name: "sgd", optimizer: .momentum(beta: 0.9, dampening: 0), learningRate: 1e-2),
    Rule(name: "adam", optimizer: .adam(), learningRate: 1e-3),
    Rule(name: "adamw", optimizer: .adamW(), learningRate: 1e-3),
    Rule(name: "rmsprop", optimizer: .rmsprop(rho: 0.99), learningRate: 1e-2),
    Rule(name: "adagrad", optimizer: .adagrad(epsilon: 1e-10), learningRate: 1e-2),
    Rule(name: "lion", optimizer: .lion(), learningRate: 1e-4, decay: 0.01),
    Rule(
      name: "lamb", optimizer: .lamb(epsilon: 1e-6, decay: 0.01, correctsBias: true),
      learningRate: 1e-3),
  ]

  private static func update(_ rule: Rule, count: Int, size: Int) throws(DLCError) -> Module {
    let optimizer = rule.optimizer
    return try module("update", []) { g in
      let t = g.state("t", .int32, [], .zeros) + 1.0
      g.update("t", t)
      for number in 0..<count {
        let name = "w\(number)"
        let theta = g.parameter(name, [Size(size)], .normal(mean: 0, deviation: 1))
        let gradient = g.state("g\(number)", .float32, [Size(size)], .normal(mean: 0, deviation: 1))
        var slots: [String: Value] = [:]
        for slot in optimizer.slots(theta.shape) {
          slots[slot.name] = g.state("\(name)/\(slot.name)", .float32, slot.shape, .zeros)
        }
        let next = optimizer.step(
          theta, gradient: gradient, slots, lr: g.constant(rule.learningRate), t: t)
        let shrunk = rule.decay == 0 ? 0 : rule.learningRate * rule.decay
        g.update(name, shrunk == 0 ? next.theta : next.theta - theta * shrunk)
        for (slot, value) in next.slots { g.update("\(name)/\(slot)", value) }
      }
    }
  }
}
