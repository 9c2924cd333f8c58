import DLCAutodiff
import DLCGraph
import DLCTensor

/// Row C6 of the equations.
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
    // Against what sixty Langevin steps of 0.1 make of normal draws.
    try f.function("training_loss") { g in
      let seed = g.input("seed", .int64)
      let data = g.input("x", .float32, ["n", "d"])
      let start = RandomStream(g, key: seed).normal(["n", "d"])
      let (x, _) = g.scan(carried: [start], inputs: [g.iota(.int32, [60], axis: 0)]) { g, x, step in
        let number = g.binary(.add, step[0], g.constant(1, .int32))
        let noise = RandomStream(g, key: seed, step: number).normal(["n", "d"])
        return ([langevin(g, x[0], noise, g.constant(0.1, .float32))], [])
      }
      let drawn = g.mean(energy(g, g.stopGradient(x[0])), axes: [0])
      g.output("loss", g.mean(energy(g, data), axes: [0]) - drawn)
    }
    f.module.recipe = Recipe(
      phases: [Phase("training_loss", rule: UpdateRule(.adam(), learningRate: 1e-3))],
      sample: "sample", meanings: ["seed": .seed])
  }
}
