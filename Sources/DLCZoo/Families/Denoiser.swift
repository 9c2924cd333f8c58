import DLCGraph
import DLCTensor
import DLCTraining

/// A residual network of 4 x 256 over flat images with a sinusoidal embedding of the noise level, which
/// diffusion and score models use: it predicts the noise.
enum Denoiser {
  /// - Parameters:
  ///   - x: [n, 64].
  ///   - t: float32 in 0...1000, [n], or [1] for all rows.
  static func noise(_ l: Layers, _ x: Value, _ t: Value) -> Value {
    let g = l.g
    let shape = [t.shape[0], 32]
    let rates = g.exponential(g.iota(.float32, [32], axis: 0) * (-9.210340371976184 / 32))
    let angle = g.broadcast(t, to: shape, axes: [0]) * rates
    let waves = g.concatenate([g.sine(angle), g.cosine(angle)], axis: 1)
    let e = l.linear("t2", g.swish(l.linear("t1", waves, 256)), 256)
    var h = l.linear("enter", x, 256)
    for block in 0..<4 {
      let normal = l.layerNorm("norm\(block)", h)
      h = h + l.linear("b\(block)", g.swish(l.linear("a\(block)", normal, 256) + e), 256)
    }
    return l.linear("leave", h, 64)
  }

  /// Images of -1...1 as ones of 0...1.
  static func image(_ g: FunctionBuilder, _ z: Value) -> Value { g.clamp(z / 2 + 0.5, 0, 1) }

  /// Entries of a table [..] at integers [n], as a column [n, 1].
  static func entries(_ g: FunctionBuilder, _ table: [Double], _ index: Value) -> Value {
    let values = g.constant(Tensor(.float32, [table.count], rounding: table))
    return g.reshape(g.embedding(values, index), index.shape + [1])
  }

  static let meanings: [String: Meaning] = [
    "x": Families.digits, "images": Families.digits, "seed": .seed,
  ]
}
