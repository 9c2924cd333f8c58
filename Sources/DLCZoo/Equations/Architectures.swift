import DLCGraph
import DLCTensor
import DLCTraining

/// Rows B1 to B18.
enum Architectures {
  static let models: [ZooModel] = [
    Equations.model(
      "architectures/fnn", "B1: one hidden layer, sigmoid",
      [("n", 4), ("d", 8), ("h", 16), ("k", 3)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "d"])
        let (w1, b1) = (g.parameter("W1", ["h", "d"]), g.parameter("b1", ["h"], .zeros))
        let (w2, b2) = (g.parameter("W2", ["k", "h"]), g.parameter("b2", ["k"], .zeros))
        let h = g.logistic(g.linear(x, w1, b1))
        g.output("y_hat", g.logistic(g.linear(h, w2, b2)))
      }
    },
    Equations.model(
      "architectures/conv2d", "B2: two-dimensional cross-correlation",
      [("n", 2), ("c", 3), ("H", 8), ("W", 8), ("m", 4), ("k", 3)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("X", .float32, ["n", "c", "H", "W"])
        let kernel = g.parameter("K", ["m", "c", "k", "k"])
        g.output("Y", g.convolution(x, kernel))
      }
    },
    Equations.model(
      "architectures/maxpool2d", "B3: 2x2 max pooling",
      [("n", 2), ("c", 3), ("H", 8), ("W", 8)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        g.output("Y", g.maxPool(g.input("X", .float32, ["n", "c", "H", "W"]), window: [2, 2]))
      }
    },
    Equations.model(
      "architectures/cnn", "B4: two convolutions with pooling, one linear layer",
      [("n", 2), ("c", 1), ("H", 14), ("W", 14), ("m1", 4), ("m2", 6), ("s", 3), ("k", 5)],
      cnn),
    Equations.model(
      "architectures/rnn", "B5: tanh recurrent network",
      [("T", 5), ("n", 3), ("d", 4), ("h", 8), ("k", 3)], rnn),
    Equations.model(
      "architectures/lstm", "B6: long short-term memory",
      [("T", 5), ("n", 3), ("d", 4), ("h", 8)], lstm),
    Equations.model(
      "architectures/gru", "B7: gated recurrent unit", [("T", 5), ("n", 3), ("d", 4), ("h", 8)], gru
    ),
    Equations.model(
      "architectures/attention", "B8: self-attention, one head",
      [("n", 2), ("T", 6), ("d", 8), ("k", 4), ("v", 5)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("X", .float32, ["n", "T", "d"])
        let (q, k) = (g.parameter("W_Q", ["d", "k"]), g.parameter("W_K", ["d", "k"]))
        let v = g.parameter("W_V", ["d", "v"])
        g.output("O", g.attention(project(g, x, q), project(g, x, k), project(g, x, v)))
      }
    },
    Equations.model(
      "architectures/masked_attention", "B9: causal attention with its weights",
      [("n", 2), ("T", 6), ("k", 4), ("v", 5)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let q = g.input("Q", .float32, ["n", "T", "k"])
        let k = g.input("K", .float32, ["n", "T", "k"])
        let v = g.input("V", .float32, ["n", "T", "v"])
        let weights = g.attentionWeights(q, k, causal: true)
        g.output("O", g.matmul(weights, v))
        g.output("A", weights)
      }
    },
    Equations.model(
      "architectures/multi_head_attention", "B10: self-attention with 4 heads",
      [("n", 2), ("T", 6), ("d", 8)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("X", .float32, ["n", "T", "d"])
        g.output("Y", multiHead(g, x, heads(g, ""), causal: false))
      }
    },
    Equations.model(
      "architectures/feed_forward", "B11: the Transformer's feed-forward part",
      [("n", 4), ("d", 8), ("f", 16)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "d"])
        g.output("y", feedForward(g, x, ""))
      }
    },
    Equations.model(
      "architectures/layer_norm", "B12: layer norm, eps 1e-5", [("n", 4), ("d", 8)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "d"])
        g.output(
          "y",
          g.layerNorm(
            x, g.parameter("gamma", ["d"], .constant(1)), g.parameter("beta", ["d"], .zeros)))
      }
    },
    Equations.model(
      "architectures/residual", "B13: x + tanh(W x + b)", [("n", 4), ("d", 8)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "d"])
        let (w, b) = (g.parameter("W", ["d", "d"]), g.parameter("b", ["d"], .zeros))
        g.output("y", x + g.tanh(g.linear(x, w, b)))
      }
    },
    Equations.model(
      "architectures/transformer_encoder", "B14: post-norm encoder block, 4 heads",
      [("n", 2), ("T", 6), ("d", 8), ("f", 16)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "T", "d"])
        declareBlock(g)
        let mixed = norm(g, x + multiHead(g, x, heads(g, ""), causal: false), "_1")
        g.output("out", norm(g, mixed + feedForward(g, mixed, ""), "_2"))
      }
    },
    Equations.model(
      "architectures/transformer_decoder", "B15: two causal pre-norm blocks; decode with a cache",
      [("n", 2), ("T", 6), ("P", 16), ("d", 8), ("f", 16), ("V", 11)], decoder),
    Equations.model(
      "architectures/linear", "B16: W x + b", [("n", 4), ("d", 8), ("k", 3)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let x = g.input("x", .float32, ["n", "d"])
        g.output("z", g.linear(x, g.parameter("W", ["k", "d"]), g.parameter("b", ["k"], .zeros)))
      }
    },
    Equations.model("architectures/bce", "B17: mean binary cross-entropy", [("n", 8)]) {
      (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let guess = g.input("y_hat", .float32, ["n"])
        g.output("loss", g.binaryCrossEntropy(guess, g.input("y", .float32, ["n"])))
      }
    },
    Equations.model(
      "architectures/softmax_cross_entropy", "B18: mean cross-entropy of labels",
      [("n", 4), ("k", 5)]
    ) { (f) throws(DLCError) in
      try f.differentiable("forward") { g in
        let z = g.input("z", .float32, ["n", "k"])
        g.output("loss", g.softmaxCrossEntropy(z, g.input("labels", .int32, ["n"])))
      }
    },
  ]

  /// x [..., d] times W [d, k].
  static func project(_ g: FunctionBuilder, _ x: Value, _ w: Value) -> Value {
    g.dotGeneral(x, w, lhsContracting: [x.rank - 1], rhsContracting: [0])
  }

  // MARK: Networks

  @Sendable private static func cnn(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("forward") { g in
      let x = g.input("X", .float32, ["n", "c", "H", "W"])
      let (k1, b1) = (
        g.parameter("K1", ["m1", "c", "s", "s"]), g.parameter("b1", ["m1"], .zeros)
      )
      let (k2, b2) = (
        g.parameter("K2", ["m2", "m1", "s", "s"]), g.parameter("b2", ["m2"], .zeros)
      )
      let first = g.maxPool(g.relu(g.convolution(x, k1, bias: b1)), window: [2, 2])
      let second = g.maxPool(g.relu(g.convolution(first, k2, bias: b2)), window: [2, 2])
      let features = second.shape.dropFirst().reduce(Size(1)) { $0 * $1 }
      let w = g.parameter("W", ["k", features])
      let flat = g.reshape(second, ["n", features])
      g.output("logits", g.linear(flat, w, g.parameter("b", ["k"], .zeros)))
    }
  }

  @Sendable private static func rnn(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("forward") { g in
      let x = g.input("x", .float32, ["T", "n", "d"])
      let h0 = g.input("h0", .float32, ["n", "h"])
      let wh = g.parameter("W_h", ["h", "h"])
      let (wx, bh) = (g.parameter("W_x", ["h", "d"]), g.parameter("b_h", ["h"], .zeros))
      let (wy, by) = (g.parameter("W_y", ["k", "h"]), g.parameter("b_y", ["k"], .zeros))
      let (all, last) = g.rnn(projected: g.linear(x, wx, bh), h0: h0, hidden: wh)
      g.output("h", all)
      g.output("y_hat", g.logistic(g.linear(last, wy, by)))
    }
  }

  private static func gate(_ g: FunctionBuilder, _ name: String) -> (w: Value, u: Value, b: Value) {
    (
      g.parameter("W_\(name)", ["h", "d"]), g.parameter("U_\(name)", ["h", "h"]),
      g.parameter("b_\(name)", ["h"], .zeros)
    )
  }

  @Sendable private static func lstm(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("forward") { g in
      let x = g.input("x", .float32, ["T", "n", "d"])
      let (h0, c0) = (g.input("h0", .float32, ["n", "h"]), g.input("c0", .float32, ["n", "h"]))
      let gates = ["f", "i", "o", "c"].map { gate(g, $0) }
      let projected = gates.map { g.linear(x, $0.w, $0.b) }
      let (_, outputs) = g.scan(carried: [h0, c0], inputs: projected) { g, state, step in
        func sum(_ k: Int) -> Value { step[k] + g.linear(state[0], gates[k].u) }
        let forget = g.logistic(sum(0))
        let c = forget * state[1] + g.logistic(sum(1)) * g.tanh(sum(3))
        let h = g.logistic(sum(2)) * g.tanh(c)
        return ([h, c], [h, c])
      }
      g.output("h", outputs[0])
      g.output("c", outputs[1])
    }
  }

  @Sendable private static func gru(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("forward") { g in
      let x = g.input("x", .float32, ["T", "n", "d"])
      let h0 = g.input("h0", .float32, ["n", "h"])
      let gates = ["z", "r", "h"].map { gate(g, $0) }
      let projected = gates.map { g.linear(x, $0.w, $0.b) }
      let (_, outputs) = g.scan(carried: [h0], inputs: projected) { g, state, step in
        let h = state[0]
        let z = g.logistic(step[0] + g.linear(h, gates[0].u))
        let r = g.logistic(step[1] + g.linear(h, gates[1].u))
        let candidate = g.tanh(step[2] + g.linear(r * h, gates[2].u))
        let next = (1 - z) * h + z * candidate
        return ([next], [next])
      }
      g.output("h", outputs[0])
    }
  }

  // MARK: Transformers

  struct Heads {
    var q: Value
    var k: Value
    var v: Value
    var o: Value
  }

  static func heads(_ g: FunctionBuilder, _ prefix: String) -> Heads {
    func weight(_ name: String) -> Value { g.parameter("\(prefix)W_\(name)", ["d", "d"]) }
    return Heads(q: weight("Q"), k: weight("K"), v: weight("V"), o: weight("O"))
  }

  static func multiHead(_ g: FunctionBuilder, _ x: Value, _ w: Heads, causal: Bool) -> Value {
    func split(_ weight: Value) -> Value { g.splitHeads(project(g, x, weight), 4) }
    let mixed = g.attention(split(w.q), split(w.k), split(w.v), causal: causal)
    return project(g, g.mergeHeads(mixed, "d"), w.o)
  }

  private static func feedForwardWeights(_ g: FunctionBuilder, _ prefix: String) -> [Value] {
    [
      g.parameter("\(prefix)W_1", ["f", "d"]), g.parameter("\(prefix)b_1", ["f"], .zeros),
      g.parameter("\(prefix)W_2", ["d", "f"]), g.parameter("\(prefix)b_2", ["d"], .zeros),
    ]
  }

  static func feedForward(_ g: FunctionBuilder, _ x: Value, _ prefix: String) -> Value {
    let w = feedForwardWeights(g, prefix)
    return g.linear(g.relu(g.linear(x, w[0], w[1])), w[2], w[3])
  }

  private static func normWeights(_ g: FunctionBuilder, _ suffix: String, _ prefix: String)
    -> [Value]
  {
    [
      g.parameter("\(prefix)gamma\(suffix)", ["d"], .constant(1)),
      g.parameter("\(prefix)beta\(suffix)", ["d"], .zeros),
    ]
  }

  static func norm(_ g: FunctionBuilder, _ x: Value, _ suffix: String, prefix: String = "") -> Value
  {
    let w = normWeights(g, suffix, prefix)
    return g.layerNorm(x, w[0], w[1])
  }

  /// Declares a block's parameters in the order of the contract.
  private static func declareBlock(_ g: FunctionBuilder, _ prefix: String = "") {
    _ = heads(g, prefix)
    _ = feedForwardWeights(g, prefix)
    for suffix in ["_1", "_2"] { _ = normWeights(g, suffix, prefix) }
  }

  @Sendable private static func decoder(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("forward") { g in
      let ids = g.input("ids", .int32, ["n", "T"])
      let table = g.parameter("embedding", ["V", "d"], .normal(mean: 0, deviation: 0.02))
      let positions = g.parameter("position", ["P", "d"], .normal(mean: 0, deviation: 0.02))
      var x = g.embedding(table, ids) + g.slice(positions, axis: 0, from: 0, to: "T")
      for block in ["blocks.0.", "blocks.1."] { declareBlock(g, block) }
      for block in ["blocks.0.", "blocks.1."] {
        x = x + multiHead(g, norm(g, x, "_1", prefix: block), heads(g, block), causal: true)
        x = x + feedForward(g, norm(g, x, "_2", prefix: block), block)
      }
      g.output("logits", g.linear(norm(g, x, "_f"), g.parameter("W_vocab", ["V", "d"])))
    }
    try f.function("decode") { g in
      let token = g.input("token", .int32, ["n"])
      let t = g.input("t", .int32)
      var caches = ["cache_k", "cache_v"].map { g.input($0, .float32, [2, "n", "P", "d"]) }
      let table = g.parameter("embedding", ["V", "d"], .normal(mean: 0, deviation: 0.02))
      let positions = g.parameter("position", ["P", "d"], .normal(mean: 0, deviation: 0.02))
      let zero = g.constant(0, .int32)
      let row = g.dynamicSlice(positions, at: [t, zero], sizes: [1, "d"])
      var x = g.embedding(table, token) + row
      for layer in 0..<2 {
        let block = "blocks.\(layer)."
        let (w, y) = (heads(g, block), norm(g, x, "_1", prefix: block))
        let number = g.constant(Double(layer), .int32)
        let rows = [w.k, w.v].enumerated().map { index, weight -> Value in
          let new = g.reshape(project(g, y, weight), [1, "n", 1, "d"])
          caches[index] = g.dynamicUpdate(caches[index], new, at: [number, zero, t, zero])
          let whole = g.slice(
            caches[index], axis: 0, from: Size(layer), to: Size(layer + 1))
          return g.splitHeads(g.reshape(whole, ["n", "P", "d"]), 4)
        }
        let query = g.splitHeads(g.reshape(project(g, y, w.q), ["n", 1, "d"]), 4)
        // Positions beyond t do not count.
        let place = g.iota(.int32, ["P"], axis: 0)
        let seen = g.compare(.less_equal, place, g.broadcast(t, to: ["P"]))
        let bias = g.select(
          seen, g.constant(0, .float32, ["P"]), g.constant(-.infinity, .float32, ["P"]))
        let mixed = g.attention(query, rows[0], rows[1], bias: bias)
        x = x + project(g, g.reshape(g.mergeHeads(mixed, "d"), ["n", "d"]), w.o)
        x = x + feedForward(g, norm(g, x, "_2", prefix: block), block)
      }
      g.output("logits", g.linear(norm(g, x, "_f"), g.parameter("W_vocab", ["V", "d"])))
      g.output("cache_k_next", caches[0])
      g.output("cache_v_next", caches[1])
    }
  }
}
