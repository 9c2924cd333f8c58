import DLCGraph
import DLCTensor

/// Single operations with named sizes, for `dlc bench NAME.pb --dim ...`.
enum Measurements {
  static let models = [
    ZooModel(name: "matmul", summary: "y[M, N] = a[M, K] b[K, N]", make: matmul),
    ZooModel(name: "conv3x3", summary: "3x3 convolution with bias, padding 1", make: conv3x3),
    ZooModel(name: "softmax", summary: "softmax over the last axis", make: softmax),
    ZooModel(name: "layer_norm", summary: "layer norm over the last axis", make: layerNorm),
    ZooModel(name: "gelu", summary: "x Phi(x)", make: gelu),
    ZooModel(
      name: "attention", summary: "softmax(q k^T / sqrt(D)) v without mask", make: attention),
  ].map { (model: ZooModel) in
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
}
