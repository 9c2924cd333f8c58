import DLCAutodiff
import DLCGraph
import DLCTensor

/// Row C2 of the equations.
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
    try f.function("discriminator_training_loss") { g in
      let z = Generative.random(g).normal(["n", "q"])
      let x = g.input("x", .float32, ["n", "d"])
      g.output("loss", g.call("discriminator_loss", ["x": x, "z": z])["loss"])
    }
    // The data say how many are made.
    try f.function("generator_training_loss") { g in
      let x = g.input("x", .float32, ["n", "d"])
      let z = Generative.random(g).normal([x.shape[0], "q"])
      g.output("loss", g.call("generator_loss", z))
    }
    let rule = UpdateRule(.adam(beta1: 0.5), learningRate: 1e-3)
    f.module.recipe = Recipe(
      phases: [
        Phase("discriminator_training_loss", prefix: "D_", rule: rule),
        Phase("generator_training_loss", prefix: "G_", rule: rule),
      ], sample: "sample", meanings: ["seed": .seed])
  }
}
