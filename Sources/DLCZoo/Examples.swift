import DLCGraph
import DLCTensor
import DLCTraining

/// Models to train with `dlc train`.
enum Examples {
  static let models: [ZooModel] = [
    character("char_rnn", "next character by a tanh network of 64", .rnn),
    character("char_lstm", "next character by an LSTM of 64", .lstm),
    character("char_gru", "next character by a GRU of 64", .gru),
    ZooModel(
      name: "examples/char_gpt", summary: "next character by a decoder of 2 blocks, d 32",
      make: {
        () throws(DLCError) in
        try module("char_gpt") { g, l, x in
          let tokens = l.parameter("tok", ["V", 32], .normal(mean: 0, deviation: 0.1))
          let positions = l.parameter("pos", ["T", 32], .normal(mean: 0, deviation: 0.1))
          var h = g.embedding(tokens, x) + positions
          for block in 0..<2 { h = l.transformerBlock("\(block)", h, heads: 4, causal: true) }
          return l.linear("head", l.layerNorm("ln", h), "V")
        }
      }),
    ZooModel(
      name: "examples/gmm_float64", summary: "EM of a Gaussian mixture in double precision",
      make: { () throws(DLCError) in
        var file = EquationFile(
          "gmm_float64", [("n", 150), ("d", 4), ("k", 3), ("iterations", 20)])
        try Mixture.fit(&file, .float64)
        return file.module
      }),
  ]

  /// loss: x, y [n, T] int32 -> mean cross-entropy of the next character.
  private static func module(
    _ name: String, _ logits: (FunctionBuilder, Layers, Value) -> Value
  ) throws(DLCError) -> Module {
    var module = Module(name)
    for (dimension, size) in [("n", 16), ("T", 32), ("V", 64)] {
      module.dimension(dimension, default: size)
    }
    try module.function("loss") { g in
      let x = g.input("x", .int32, ["n", "T"])
      let y = g.input("y", .int32, ["n", "T"])
      g.output("loss", g.softmaxCrossEntropy(logits(g, Layers(g), x), y))
    }
    return module
  }

  private static func character(_ name: String, _ summary: String, _ cell: Layers.Cell) -> ZooModel
  {
    ZooModel(
      name: "examples/\(name)", summary: summary,
      make: { () throws(DLCError) in
        try module(name) { g, l, x in
          let e = l.embedding("emb", g.transpose(x, [1, 0]), count: "V", size: 32, deviation: 0.5)
          let h = l.recurrent("rnn", cell, e, size: 64)
          return g.transpose(l.linear("head", h, "V"), [1, 0, 2])
        }
      })
  }
}
