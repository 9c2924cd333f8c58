import DLCGraph
import DLCTensor

/// Row C9 of the equations.
enum Mixture {
  private static let logTwoPi = 1.8378770664093453

  /// Weights [k], means [k, d] and covariances [k, d, d].
  struct Parameters {
    var pi: Value
    var mu: Value
    var sigma: Value
  }

  private static func inputs(_ g: FunctionBuilder, _ type: DataType = .float32) -> Parameters {
    Parameters(
      pi: g.input("pi", type, ["k"]), mu: g.input("mu", type, ["k", "d"]),
      sigma: g.input("Sigma", type, ["k", "d", "d"]))
  }

  /// ln pi_k + ln N(x_n; mu_k, Sigma_k), [n, k].
  static func joint(_ g: FunctionBuilder, _ x: Value, _ p: Parameters) -> Value {
    let (n, k, d) = (x.shape[0], p.mu.shape[0], p.mu.shape[1])
    let l = g.cholesky(p.sigma)
    let shape = [k, d, n]
    let off =
      g.broadcast(g.transpose(x, [1, 0]), to: shape, axes: [1, 2])
      - g.broadcast(p.mu, to: shape, axes: [0, 1])
    let y = g.triangularSolve(l, off)
    let distance = g.sum(y * y, axes: [1]) + g.dimension(d, x.dataType) * logTwoPi
    let logDet = g.sum(g.log(g.diagonal(l)), axes: [1])
    let scores = distance * -0.5 + g.broadcast(g.log(p.pi) - logDet, to: [k, n], axes: [0])
    return g.transpose(scores, [1, 0])
  }

  /// The next weights, means and covariances, for shares gamma [n, k].
  static func maximize(_ g: FunctionBuilder, _ x: Value, _ gamma: Value) -> [Value] {
    let (n, k, d) = (x.shape[0], gamma.shape[1], x.shape[1])
    let counts = g.sum(gamma, axes: [0])
    let column = g.reshape(counts, [k, 1])
    let mu = g.dotGeneral(gamma, x, lhsContracting: [0], rhsContracting: [0]) / column
    let shape = [k, n, d]
    let off = g.broadcast(x, to: shape, axes: [1, 2]) - g.broadcast(mu, to: shape, axes: [0, 2])
    let weighted = off * g.broadcast(g.transpose(gamma, [1, 0]), to: shape, axes: [0, 1])
    let sums = g.dotGeneral(
      weighted, off, lhsBatch: [0], rhsBatch: [0], lhsContracting: [1], rhsContracting: [1])
    return [counts / g.dimension(n, x.dataType), mu, sums / g.reshape(counts, [k, 1, 1])]
  }

  /// Points [count, d].
  static func drawn(
    _ g: FunctionBuilder, _ p: Parameters, _ count: Size, _ random: RandomStream
  ) -> Value {
    let d = p.mu.shape[1]
    let chosen = random.categorical(g.broadcast(g.log(p.pi), to: [count, p.pi.shape[0]]))
    let l = g.embedding(g.cholesky(p.sigma), chosen)
    let noise = g.convert(g.reshape(random.normal([count, d]), [count, d, 1]), p.mu.dataType)
    return g.embedding(p.mu, chosen) + g.reshape(g.matmul(l, noise), [count, d])
  }

  private static func output(_ g: FunctionBuilder, _ values: [Value]) {
    for (name, value) in zip(["pi", "mu", "Sigma"], values) { g.output(name, value) }
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("log_prob") { g in
      let x = g.input("x", .float32, ["n", "d"])
      g.output("log_prob", g.logSumExp(joint(g, x, inputs(g)), axis: 1))
    }
    try f.function("e_step") { g in
      let x = g.input("x", .float32, ["n", "d"])
      g.output("gamma", g.softmax(joint(g, x, inputs(g)), axis: 1))
    }
    try f.function("m_step") { g in
      let x = g.input("x", .float32, ["n", "d"])
      output(g, maximize(g, x, g.input("gamma", .float32, ["n", "k"])))
    }
    try fit(&f, .float32)
    try f.function("sample") { g in
      let random = Generative.random(g)
      g.output("x", drawn(g, inputs(g), "n", random))
    }
  }

  /// All iterations of EM as one loop.
  static func fit(_ f: inout EquationFile, _ type: DataType) throws(DLCError) {
    try f.function("fit") { g in
      let x = g.input("x", type, ["n", "d"])
      let p = inputs(g, type)
      let (last, history) = g.scan(
        carried: [p.pi, p.mu, p.sigma], length: "iterations"
      ) { g, values, _ in
        let scores = joint(g, x, Parameters(pi: values[0], mu: values[1], sigma: values[2]))
        let likelihood = g.sum(g.logSumExp(scores, axis: 1), axes: [0])
        return (maximize(g, x, g.softmax(scores, axis: 1)), [likelihood])
      }
      output(g, last)
      g.output("log_likelihood", history[0])
    }
  }
}
