import DLCGraph
import DLCTensor
import DLCTraining

/// What classifiers of fashion images have in common.
enum Classifiers {
  static let classes = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
  ]

  /// A classifier of x [n, 784] by logits [n, 10]: Adam 1e-3 by a cosine, batch 128.
  static func model(
    _ name: String, _ summary: String, epochs: Int,
    _ network: @escaping @Sendable (Layers, Value) -> Value
  ) -> ZooModel {
    Families.model(name, summary, batch: 128) { (module) throws(DLCError) in
      try module.function("predict") { g in
        let logits = network(Layers(g), g.input("x", .float32, ["n", 784]))
        g.output("logits", logits)
        g.output("probabilities", g.softmax(logits))
        g.output("label", g.argmax(logits, axis: 1))
      }
      func inputs(_ g: FunctionBuilder) -> (logits: Value, labels: Value) {
        let x = g.input("x", .float32, ["n", 784])
        let y = g.input("y", .int32, ["n"])
        return (g.call("predict", ["x": x])["logits"], y)
      }
      try module.function("loss") { g in
        let (logits, labels) = inputs(g)
        g.output("loss", g.softmaxCrossEntropy(logits, labels))
      }
      try module.function("evaluate") { g in
        let (logits, labels) = inputs(g)
        g.output("accuracy", g.accuracy(logits, labels))
        g.output("loss", g.softmaxCrossEntropy(logits, labels))
      }
      module.recipe = Recipe(
        phases: [Phase("loss", rule: Families.rule(1e-3))], batch: 128, epochs: epochs,
        evaluation: "evaluate",
        meanings: ["x": Families.fashion, "y": .label(classes), "label": .label(classes)])
    }
  }
}
