import DLCGraph
import DLCTensor
import DLCTraining

/// Classifiers of 8x8 handwritten digits (the data set of Alpaydin and Kaynak that scikit-learn ships).
enum Digits {
  static let models = [
    ZooModel(name: "digits_mlp", summary: "8x8 digits: 64-64-10, ReLU", make: mlp),
    ZooModel(
      name: "digits_cnn", summary: "8x8 digits: two convolutions with pooling, one linear layer",
      make: cnn),
  ]

  /// forward: images [n, 1, 8, 8] in 0...1 -> logits [n, 10], prediction [n] int32;
  /// loss: images, labels [n] int32 -> mean cross-entropy, accuracy.
  private static func module(
    _ name: String, _ network: (FunctionBuilder, Value) -> Value
  ) throws(DLCError) -> Module {
    var module = Module(name)
    module.dimension("n", default: 540)
    try module.function("forward") { g in
      let logits = network(g, g.input("images", .float32, ["n", 1, 8, 8]))
      g.output("logits", logits)
      g.output("prediction", g.argmax(logits, axis: 1))
    }
    try module.function("loss") { g in
      let logits = network(g, g.input("images", .float32, ["n", 1, 8, 8]))
      let labels = g.input("labels", .int32, ["n"])
      g.output("loss", g.softmaxCrossEntropy(logits, labels))
      g.output("accuracy", g.accuracy(logits, labels))
    }
    return module
  }

  @Sendable static func mlp() throws(DLCError) -> Module {
    try module("digits_mlp") { g, images in
      let w1 = g.parameter("W1", [64, 64], .heUniform)
      let b1 = g.parameter("b1", [64], .zeros)
      let w2 = g.parameter("W2", [10, 64], .glorotUniform)
      let b2 = g.parameter("b2", [10], .zeros)
      let pixels = g.reshape(images, ["n", 64])
      let hidden = g.scope("hidden") { g.relu(g.linear(pixels, w1, b1)) }
      return g.scope("output") { g.linear(hidden, w2, b2) }
    }
  }

  @Sendable static func cnn() throws(DLCError) -> Module {
    try module("digits_cnn") { g, images in
      let k1 = g.parameter("K1", [16, 1, 3, 3], .heUniform)
      let b1 = g.parameter("b1", [16], .zeros)
      let k2 = g.parameter("K2", [32, 16, 3, 3], .heUniform)
      let b2 = g.parameter("b2", [32], .zeros)
      let w = g.parameter("W", [10, 128], .glorotUniform)
      let b = g.parameter("b", [10], .zeros)
      let same = [(low: 1, high: 1), (low: 1, high: 1)]
      func block(_ x: Value, _ kernel: Value, _ bias: Value) -> Value {
        g.maxPool(g.relu(g.convolution(x, kernel, bias: bias, padding: same)), window: [2, 2])
      }
      let first = g.scope("block1") { block(images, k1, b1) }
      let second = g.scope("block2") { block(first, k2, b2) }
      return g.scope("output") { g.linear(g.reshape(second, ["n", 128]), w, b) }
    }
  }
}
