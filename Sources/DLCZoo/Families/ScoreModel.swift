import DLCGraph
import DLCTensor
import DLCTraining
import Foundation

/// Score-based (Song and Ermon 2019): denoising score matching at 20 noise levels from 3 to 0.05, weighted by
/// sigma^2, digits in -1...1. The network predicts the noise; the score is -noise / sigma.
enum ScoreModel {
  static let levels = (0..<20).map { exp(log(3) + (log(0.05) - log(3)) * Double($0) / 19) }
  /// Langevin steps at a level.
  static let steps = 20

  /// - Parameters:
  ///   - level: its number as float32, [n] or [1].
  ///   - sigma: that level, as a column or a scalar.
  private static func noise(_ g: FunctionBuilder, _ z: Value, _ level: Value, _ sigma: Value)
    -> Value
  {
    Denoiser.noise(Layers(g), z / g.sqrt(sigma * sigma + 0.5), level * 50)
  }

  static let model = Families.model(
    "score", "score-based: digits at 20 noise levels by a residual network of 4 x 256", batch: 128
  ) { (module) throws(DLCError) in
    func error(_ g: FunctionBuilder, _ x: Value, _ level: Value, _ eps: Value) -> Value {
      let sigma = Denoiser.entries(g, levels, level)
      let guess = noise(g, x * 2 - 1 + sigma * eps, g.convert(level, .float32), sigma)
      return g.meanSquaredError(guess, eps)
    }
    try module.function("loss") { g in
      let x = g.input("x", .float32, ["n", 64])
      let random = RandomStream(g, key: Families.seed(g))
      let level = Families.integers(random, below: levels.count, g, ["n"])
      g.output("loss", error(g, x, level, random.normal(["n", 64])))
    }
    // The mean over all levels.
    try module.function("evaluate") { g in
      let x = g.input("x", .float32, ["n", 64])
      let seed = Families.seed(g)
      let (_, errors) = g.scan(
        carried: [], inputs: [Families.iterations(g, Size(levels.count))]
      ) { g, _, step in
        let level = g.binary(.subtract, step[0], g.constant(1, .int32))
        let eps = RandomStream(g, key: seed, step: step[0]).normal(["n", 64])
        return ([], [error(g, x, g.broadcast(level, to: ["n"]), eps)])
      }
      g.output("loss", g.mean(errors[0], axes: [0]))
    }
    // Annealed Langevin dynamics, and a last step that takes the noise away.
    try module.function("sample") { g in
      let seed = Families.seed(g)
      let start = RandomStream(g, key: seed).normal(["n", 64]) * levels[0]
      let count = levels.count * steps
      func table(_ value: (Int) -> Double) -> Value {
        g.constant(Tensor(.float32, [count], rounding: (0..<count).map { value($0 / steps) }))
      }
      let (z, _) = g.scan(
        carried: [start],
        inputs: [
          Families.iterations(g, Size(count)), table { Double($0) }, table { levels[$0] },
        ]
      ) { g, z, step in
        let sigma = step[2]
        let guess = noise(g, z[0], g.reshape(step[1], [1]), sigma)
        let fresh = RandomStream(g, key: seed, step: step[0]).normal(["n", 64])
        return ([z[0] - sigma * 0.1 * guess + sigma * 0.2.squareRoot() * fresh], [])
      }
      let last = g.constant(levels.last!)
      let guess = noise(g, z[0], g.constant(Double(levels.count - 1), .float32, [1]), last)
      g.output("images", Denoiser.image(g, z[0] - last * guess))
    }
    module.recipe = Recipe(
      phases: [Phase("loss", rule: Families.rule(1e-3, averaging: 0.999))], batch: 128,
      epochs: 1000, evaluation: "evaluate", sample: "sample", meanings: Denoiser.meanings)
  }
}
