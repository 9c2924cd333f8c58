import DLCGraph
import DLCTensor
import DLCTraining

/// Row C3 of the equations.
enum Diffusion {
  private static let steps = 1000

  /// beta_t, and the product of alpha_1 to alpha_t, for t from 1.
  static let schedule: (beta: [Double], product: [Double]) = {
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
    try f.function("training_loss") { g in
      let random = Generative.random(g)
      let x = g.input("x0", .float32, ["n", "d"])
      let before = g.convert(random.uniform(["n"]) * Double(steps), .int32)
      let t = g.binary(.add, before, g.constant(1, like: before))
      let eps = random.normal(["n", "d"])
      g.output("loss", g.call("loss", ["x0": x, "t": t, "eps": eps])["loss"])
    }
    f.module.recipe = Recipe(
      phases: [Phase("training_loss", rule: UpdateRule(.adam(), learningRate: 1e-3))],
      sample: "sample", meanings: ["seed": .seed])
  }
}
