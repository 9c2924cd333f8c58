import DLCGraph
import DLCTensor

/// Row C7 of the equations.
enum BoltzmannMachine {
  struct Weights {
    var w: Value
    var b: Value
    var c: Value
  }

  private static func weights(_ g: FunctionBuilder) -> Weights {
    Weights(
      w: g.parameter("W", ["d", "k"], .normal(mean: 0, deviation: 0.1)),
      b: g.parameter("b", ["d"], .zeros), c: g.parameter("c", ["k"], .zeros))
  }

  static func hidden(_ g: FunctionBuilder, _ v: Value, _ p: Weights) -> Value {
    Architectures.project(g, v, p.w) + p.c
  }

  static func visible(_ g: FunctionBuilder, _ h: Value, _ p: Weights) -> Value {
    g.linear(h, p.w) + p.b
  }

  private static func dot(_ g: FunctionBuilder, _ x: Value, _ v: Value) -> Value {
    g.dotGeneral(x, v, lhsContracting: [1], rhsContracting: [0])
  }

  static func freeEnergy(_ g: FunctionBuilder, _ v: Value, _ p: Weights) -> Value {
    -dot(g, v, p.b) - g.sum(g.softplus(hidden(g, v, p)), axes: [1])
  }

  /// ln sum e^-F over all 2^units states of a layer, 1024 at a time.
  /// - Parameter energy: gives F [1024] of states [1024, units] of 0 and 1.
  static func logPartition(
    _ g: FunctionBuilder, units: Size, _ type: DataType,
    energy: (FunctionBuilder, Value) -> Value
  ) -> Value {
    let block = 1024.0
    let states = g.binary(.shift_left, g.constant(1, .int64), g.dimension(units, .int64))
    let zero = g.constant(0, .int64)
    let results = g.whileLoop(
      [zero, g.constant(-.infinity, type)]
    ) { g, c in
      g.compare(.less, c[0], states)
    } body: { g, c in
      let shape: [Size] = [1024, units]
      let number = g.binary(
        .add, g.iota(.int64, shape, axis: 0), g.broadcast(c[0], to: shape))
      let shifted = g.binary(
        .shift_right_logical, number, g.iota(.int64, shape, axis: 1))
      let bit = g.binary(.and, shifted, g.constant(1, .int64, shape))
      let scores = -energy(g, g.convert(bit, type))
      let row = g.binary(
        .add, g.iota(.int64, [1024], axis: 0), g.broadcast(c[0], to: [1024]))
      let isState = g.compare(.less, row, g.broadcast(states, to: [1024]))
      let kept = g.select(isState, scores, g.constant(-.infinity, like: scores))
      let all = g.concatenate([kept, g.reshape(c[1], [1])], axis: 0)
      return [
        g.binary(.add, c[0], g.constant(block, .int64)), g.logSumExp(all, axis: 0),
      ]
    }
    return results[1]
  }

  private static func drawn(_ g: FunctionBuilder, _ u: Value, _ probability: Value) -> Value {
    g.convert(g.compare(.less, u, probability), .float32)
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.function("energy") { g in
      let v = g.input("v", .float32, ["n", "d"])
      let h = g.input("h", .float32, ["n", "k"])
      let p = weights(g)
      let pairs = g.sum(Architectures.project(g, v, p.w) * h, axes: [1])
      g.output("E", -pairs - dot(g, v, p.b) - dot(g, h, p.c))
    }
    try f.differentiable("free_energy") { g in
      g.output("F", freeEnergy(g, g.input("v", .float32, ["n", "d"]), weights(g)))
    }
    try f.function("cd1") { g in
      let v = g.input("v", .float32, ["n", "d"])
      let uh = g.input("u_h", .float32, ["n", "k"])
      let uv = g.input("u_v", .float32, ["n", "d"])
      let p = weights(g)
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
    try f.function("log_partition") { g in
      let p = weights(g)
      g.output(
        "log_z", logPartition(g, units: "d", .float32) { g, v in freeEnergy(g, v, p) })
    }
    // Two hundred sweeps of Gibbs sampling from fair coins.
    try f.function("sample") { g in
      let seed = g.input("seed", .int64)
      let p = weights(g)
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
    // What `cd1` gives, with its own numbers and for the way down.
    try f.function("training_gradients") { g in
      let random = Generative.random(g)
      let v = g.input("v", .float32, ["n", "d"])
      let up = g.call(
        "cd1",
        ["v": v, "u_h": random.uniform(["n", "k"]), "u_v": random.uniform(["n", "d"])])
      for name in up.names { g.output(name, -up[name]) }
    }
    f.module.recipe = Recipe(
      phases: [
        Phase(
          "training_gradients", .gradients,
          rule: UpdateRule(.gradientDescent, learningRate: 0.1))
      ], sample: "sample", meanings: ["seed": .seed])
  }
}
