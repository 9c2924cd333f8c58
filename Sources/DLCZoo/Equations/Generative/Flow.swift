import DLCGraph
import DLCTensor

/// Row C4 of the equations.
enum Flow {
  private static let low: Size = "d" / 2
  private static let high: Size = ("d" + 1) / 2

  private static func halves(_ g: FunctionBuilder, _ x: Value) -> (a: Value, b: Value) {
    (
      g.slice(x, axis: 1, from: 0, to: low),
      g.reshape(g.slice(x, axis: 1, from: low, to: "d"), ["n", high])
    )
  }

  private static func joined(_ g: FunctionBuilder, _ a: Value, _ b: Value) -> Value {
    g.reshape(g.concatenate([a, b], axis: 1), ["n", "d"])
  }

  /// All parameters, declared in the order of the contract; those of a layer: W1, b1, Ws, bs, Wt, bt.
  private static func weights(_ g: FunctionBuilder) -> (
    layers: [[Value]], lower: Value, upper: Value, log: Value
  ) {
    let layers = (0..<4).map { i -> [Value] in
      let (from, to) = i % 2 == 0 ? (low, high) : (high, low)
      return [
        g.parameter("W1_\(i)", ["h", from]), g.parameter("b1_\(i)", ["h"], .zeros),
        g.parameter("Ws_\(i)", [to, "h"]), g.parameter("bs_\(i)", [to], .zeros),
        g.parameter("Wt_\(i)", [to, "h"]), g.parameter("bt_\(i)", [to], .zeros),
      ]
    }
    return (
      layers, g.parameter("lower", ["d", "d"], .zeros), g.parameter("upper", ["d", "d"], .zeros),
      g.parameter("log_diagonal", ["d"], .zeros)
    )
  }

  /// s and t of a layer, from the half that it keeps.
  private static func net(_ g: FunctionBuilder, _ i: Int, _ kept: Value) -> (s: Value, t: Value) {
    let w = weights(g).layers[i]
    let h = g.tanh(g.linear(kept, w[0], w[1]))
    return (g.tanh(g.linear(h, w[2], w[3])), g.linear(h, w[4], w[5]))
  }

  private static func factors(_ g: FunctionBuilder) -> (lower: Value, upper: Value, log: Value) {
    let (_, lower, upper, log) = weights(g)
    let diagonal = g.diagonalMatrix(g.broadcast(g.exponential(log), to: ["d", "d"]))
    return (lower, g.upperTriangle(upper, strict: true) + diagonal, log)
  }

  private static func transform(_ g: FunctionBuilder, _ z: Value) -> Value {
    func layer(_ i: Int, _ x: Value) -> Value {
      let (a, b) = halves(g, x)
      let (kept, changed) = i % 2 == 0 ? (a, b) : (b, a)
      let (s, t) = net(g, i, kept)
      let new = changed * g.exponential(s) + t
      return i % 2 == 0 ? joined(g, a, new) : joined(g, new, b)
    }
    let (lower, upper, _) = factors(g)
    let first = layer(1, layer(0, z))
    let unit = g.lowerTriangle(lower, strict: true) + g.diagonalMatrix(g.constant(1, like: lower))
    return layer(3, layer(2, g.linear(g.linear(first, upper), unit)))
  }

  private static func inverse(_ g: FunctionBuilder, _ x: Value) -> (z: Value, logDet: Value) {
    var logDet = g.constant(0, .float32, ["n"])
    func layer(_ i: Int, _ y: Value) -> Value {
      let (a, b) = halves(g, y)
      let (kept, changed) = i % 2 == 0 ? (a, b) : (b, a)
      let (s, t) = net(g, i, kept)
      logDet = logDet - g.sum(s, axes: [1])
      let old = (changed - t) * g.exponential(-s)
      return i % 2 == 0 ? joined(g, a, old) : joined(g, old, b)
    }
    let mid = layer(2, layer(3, x))
    let (lower, upper, log) = factors(g)
    let columns = g.triangularSolve(lower, g.transpose(mid, [1, 0]), unitDiagonal: true)
    let solved = g.transpose(g.triangularSolve(upper, columns, lower: false), [1, 0])
    let z = layer(0, layer(1, solved))
    return (z, logDet - g.sum(log, axes: [0]))
  }

  @Sendable static func fill(_ f: inout EquationFile) throws(DLCError) {
    try f.differentiable("log_prob") { g in
      let (z, logDet) = inverse(g, g.input("x", .float32, ["n", "d"]))
      let size = g.dimension("d", .float32)
      let quadratic = g.sum(z * z, axes: [1]) + size * 1.8378770664093453
      g.output("log_prob", quadratic * -0.5 + logDet)
    }
    try f.function("transform") { g in
      g.output("x", transform(g, g.input("z", .float32, ["n", "d"])))
    }
    try f.function("inverse") { g in
      let (z, logDet) = inverse(g, g.input("x", .float32, ["n", "d"]))
      g.output("z", z)
      g.output("log_det", logDet)
    }
    try f.function("sample") { g in
      g.output("x", transform(g, Generative.random(g).normal(["n", "d"])))
    }
    try f.function("training_loss") { g in
      let x = g.input("x", .float32, ["n", "d"])
      g.output("loss", -g.mean(g.call("log_prob", x), axes: [0]))
    }
    f.module.recipe = Recipe(
      phases: [Phase("training_loss", rule: UpdateRule(.adam(), learningRate: 1e-3))],
      sample: "sample", meanings: ["seed": .seed])
  }
}
