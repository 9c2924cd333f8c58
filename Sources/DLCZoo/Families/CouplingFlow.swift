import DLCGraph
import DLCTensor
import DLCTraining

/// Normalising flow (Dinh et al. 2017): 8 affine couplings over digits with uniform noise, even and odd pixels
/// as the halves.
enum CouplingFlow {
  private static let layers = 8

  /// s and t of a layer from the half that it keeps, [n, 32] each. Dropout is drawn from `random`, where there
  /// is one.
  private static func network(
    _ g: FunctionBuilder, _ layer: Int, _ kept: Value, _ random: RandomStream?
  )
    -> (s: Value, t: Value)
  {
    let l = Layers(g).scope("\(layer)")
    func hidden(_ name: String, _ x: Value) -> Value {
      let y = g.relu(l.linear(name, x, 128))
      return random.map { g.dropout(y, rate: 0.2, $0) } ?? y
    }
    let both = l.linear("2", hidden("1", hidden("0", kept)), 64)
    let (s, t) = halves(g, both)
    return (g.tanh(s), t)
  }

  private static func halves(_ g: FunctionBuilder, _ x: Value) -> (Value, Value) {
    (g.slice(x, axis: 1, from: 0, to: 32), g.slice(x, axis: 1, from: 32, to: 64))
  }

  /// From values [n, 64] in the order of the halves to what is to be normal, and ln |det|: (a, b) to
  /// (b e^s + t, a).
  private static func transform(_ g: FunctionBuilder, _ x: Value, _ random: RandomStream?)
    -> (z: Value, logDet: Value)
  {
    var (z, logDet) = (x, g.constant(0, .float32, [x.shape[0]]))
    for layer in 0..<layers {
      let (a, b) = halves(g, z)
      let (s, t) = network(g, layer, a, random)
      z = g.concatenate([b * g.exponential(s) + t, a], axis: 1)
      logDet = logDet + g.sum(s, axes: [1])
    }
    return (z, logDet)
  }

  private static func inverse(_ g: FunctionBuilder, _ z: Value) -> Value {
    var x = z
    for layer in (0..<layers).reversed() {
      let (b, a) = halves(g, x)
      let (s, t) = network(g, layer, a, nil)
      x = g.concatenate([a, (b - t) * g.exponential(-s)], axis: 1)
    }
    return x
  }

  /// -ln p of images in nats, the mean over rows, with noise from 0 to 1 on the grey levels.
  private static func nats(_ g: FunctionBuilder) -> Value {
    let random = RandomStream(g, key: Families.seed(g))
    let v = Families.levels(g, g.input("x", .float32, ["n", 64])) + random.uniform(["n", 64])
    let ordered = g.transpose(g.reshape(v, ["n", 32, 2]), [0, 2, 1])
    let x = g.reshape(ordered, ["n", 64]) / 17 * 2 - 1
    let (z, logDet) = transform(g, x, g.isTraining ? random : nil)
    // 32 ln 2 pi - 64 ln (2 / 17).
    let constant = 58.81206612509905 + 136.96423446376133
    return g.mean(g.sum(z * z, axes: [1]) * 0.5 - logDet + constant, axes: [0])
  }

  static let model = Families.model(
    "flow", "normalising flow: digits by 8 affine couplings of 2 x 128", batch: 64
  ) { (module) throws(DLCError) in
    try module.phase("loss") { g in g.output("loss", nats(g)) }
    try module.function("evaluate") { g in
      let inputs = ["x": g.input("x", .float32, ["n", 64]), "seed": Families.seed(g)]
      g.output("bits", g.call("loss_evaluation", inputs)["loss"] / (64 * Characters.ln2))
    }
    try module.function("transform") { g in
      let (z, logDet) = transform(g, g.input("v", .float32, ["n", 64]), nil)
      g.output("z", z)
      g.output("log_det", logDet)
    }
    try module.function("inverse") { g in
      g.output("v", inverse(g, g.input("z", .float32, ["n", 64])))
    }
    try module.function("sample") { g in
      let v = g.call("inverse", RandomStream(g, key: Families.seed(g)).normal(["n", 64]))
      let level = g.clamp(g.unary(.floor, (v + 1) / 2 * 17), 0, 16)
      let rows = g.transpose(g.reshape(level / 16, ["n", 2, 32]), [0, 2, 1])
      g.output("images", g.reshape(rows, ["n", 64]))
    }
    module.recipe = Recipe(
      phases: [Phase("loss", rule: Families.rule(1e-3, .adamW(decay: 0.01)))], batch: 64,
      epochs: 100, evaluation: "evaluate", sample: "sample", meanings: Denoiser.meanings)
  }
}
