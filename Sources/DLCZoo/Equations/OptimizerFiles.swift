import DLCGraph
import DLCTensor
import DLCTraining

/// Rows D1 to D15.
enum OptimizerFiles {
  static let models: [ZooModel] = [
    rule("gd", "D1: theta - lr g", .gradientDescent),
    rule("sgd", "D2: the same on a mini-batch", .gradientDescent),
    rule("momentum", "D3: a running mean of gradients", .momentum()),
    rule("nag", "D4: Nesterov's accelerated gradient", .nesterov()),
    rule("adagrad", "D5", .adagrad()), rule("rmsprop", "D6", .rmsprop()),
    rule("adam", "D7", .adam(), usesStep: true), rule("adamw", "D8", .adamW(), usesStep: true),
    rule("adadelta", "D9", .adadelta()), rule("amsgrad", "D10", .amsgrad()),
    rule("nadam", "D11", .nadam(), usesStep: true),
    rule("lion", "D12: the sign of a moment", .lion()),
    rule("lamb", "D13: steps in proportion to the weights' norm", .lamb()),
    rule(
      "adafactor", "D14: second moments of rows and columns", .adafactor(),
      shape: ["rows", "cols"]),
    rule(
      "lookahead", "D15: slow weights every 5 steps", .lookahead(.gradientDescent),
      usesStep: true),
  ]

  private static func rule(
    _ name: String, _ summary: String, _ optimizer: Optimizer, usesStep: Bool = false,
    shape: [Size] = ["n"]
  ) -> ZooModel {
    let sizes = shape.count == 1 ? [("n", 16)] : [("rows", 6), ("cols", 4)]
    return Equations.model("optimizers/\(name)", summary, sizes) { (f) throws(DLCError) in
      try f.function("step") { g in
        let theta = g.input("theta", .float32, shape)
        let gradient = g.input("g", .float32, shape)
        var slots: [String: Value] = [:]
        let kept = optimizer.slots(shape)
        for slot in kept { slots[slot.name] = g.input(slot.name, .float32, slot.shape) }
        let lr = g.input("lr", .float32)
        let t = usesStep ? g.input("t", .int32) : g.constant(1, .int32)
        let (next, after) = optimizer.step(theta, gradient: gradient, slots, lr: lr, t: t)
        g.output("theta_next", next)
        for slot in kept { g.output("\(slot.name)_next", after[slot.name]!) }
      }
      guard name == "nag" else { return }
      try f.function("lookahead") { g in
        let theta = g.input("theta", .float32, shape)
        let v = g.input("v", .float32, shape)
        let lr = g.input("lr", .float32)
        g.output("theta_probe", optimizer.probe(theta, ["v": v], lr: lr)!)
      }
    }
  }
}
