import DLCGraph
import DLCTensor

/// Rows A1 to A17.
enum Activations {
  static let models: [ZooModel] = [
    elementwise("sigmoid", "A1: 1 / (1 + e^-x)") { $0.logistic($1) },
    elementwise("tanh", "A2: hyperbolic tangent") { $0.tanh($1) },
    elementwise("relu", "A3: max(0, x)") { $0.relu($1) },
    elementwise("leaky_relu", "A4: x, or 0.01 x below 0") { $0.leakyRelu($1) },
    Equations.model("activations/prelu", "A5: x, or a x below 0", sizes) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "d"])
        let a = g.parameter("a", ["d"], .constant(0.25))
        g.output("y", g.prelu(x, a))
      }
    },
    elementwise("elu", "A6: x, or e^x - 1 below 0") { $0.elu($1) },
    elementwise("selu", "A7: scaled ELU") { $0.selu($1) },
    elementwise("gelu", "A8: x Phi(x), by erfc") { $0.gelu($1) },
    elementwise("gelu_tanh", "A9: GELU by tanh") { $0.geluTanh($1) },
    elementwise("softplus", "A10: ln(1 + e^x)") { $0.softplus($1) },
    elementwise("mish", "A11: x tanh(softplus(x))") { $0.mish($1) },
    elementwise("swish", "A12: x sigmoid(x)") { $0.swish($1) },
    elementwise("hard_sigmoid", "A13: max(0, min(1, 0.2 x + 0.5))") { $0.hardSigmoid($1) },
    elementwise("hard_tanh", "A14: max(-1, min(1, x))") { $0.hardTanh($1) },
    elementwise("softsign", "A15: x / (1 + |x|)") { $0.softsign($1) },
    elementwise("softmax", "A16: softmax over the last axis") { $0.softmax($1) },
    Equations.model(
      "activations/maxout", "A17: the largest of k affine maps", sizes + [("k", 3), ("m", 6)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "d"])
        let w = g.parameter("W", ["k", "m", "d"])
        let b = g.parameter("b", ["k", "m"], .zeros)
        g.output("y", g.maxout(x, w, b))
      }
    },
  ]

  private static let sizes = [("n", 4), ("d", 8)]

  private static func elementwise(
    _ name: String, _ summary: String,
    _ function: @escaping @Sendable (FunctionBuilder, Value) -> Value
  ) -> ZooModel {
    Equations.model("activations/\(name)", summary, sizes) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        g.output("y", function(g, g.input("x", .float32, ["n", "d"])))
      }
    }
  }
}
