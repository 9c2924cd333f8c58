import DLCAutodiff
import DLCGraph
import DLCTensor
import DLCTraining

/// Energy-based (Du and Mordatch 2019): E = |z|^2 / 2 + a network, over the digits' first two whitened principal
/// components, with persistent chains of Langevin steps.
enum EnergyModel {
  private static let step = 0.02
  private static let chains = 4096
  private static let reach = 5.0

  /// [n] for z [n, 2].
  private static func network(_ g: FunctionBuilder, _ z: Value) -> Value {
    let l = Layers(g)
    let h = g.swish(l.linear("1", g.swish(l.linear("0", z, 128)), 128))
    return g.reshape(l.linear("2", h, 1), [z.shape[0]])
  }

  private static func energy(_ g: FunctionBuilder, _ z: Value) -> Value {
    g.sum(z * z, axes: [1]) * 0.5 + network(g, z)
  }

  private static func walk(_ g: FunctionBuilder, _ z: Value, _ steps: Size, _ seed: Value) -> Value
  {
    let (walked, _) = g.scan(carried: [z], inputs: [Families.iterations(g, steps)]) {
      g, z, number in
      let slope = g.gradient(of: g.sum(energy(g, z[0]), axes: [0]), by: [z[0]])[0]
      let noise = RandomStream(g, key: seed, step: number[0]).normal(z[0].shape)
      return ([z[0] - slope * (step / 2) + noise * step.squareRoot()], [])
    }
    return walked[0]
  }

  private static func points(_ g: FunctionBuilder, _ x: Value) -> Value {
    g.convert(PrincipalComponents(g, 2).components(g, x), .float32)
  }

  /// -E at the points of a square grid, row by row from below: [count, count].
  private static func grid(_ g: FunctionBuilder, _ count: Size) -> Value {
    let spacing = g.constant(2 * reach) / (g.dimension(count) - 1)
    func edge() -> Value { g.iota(.float32, [count], axis: 0) * spacing - reach }
    let across = g.reshape(edge(), [count, 1])
    let (_, rows) = g.scan(carried: [], inputs: [edge()]) { g, _, height in
      let z = g.concatenate([across, g.broadcast(height[0], to: [count, 1])], axis: 1)
      return ([], [-energy(g, z)])
    }
    return rows[0]
  }

  static let model = Families.model(
    "ebm", "energy-based: the digits' first two principal components, network of 2 x 128",
    batch: 256,
    [("iterations", PrincipalComponents.iterations), ("grid", 400)]
  ) { (module) throws(DLCError) in
    try module.function("initialize") { g in
      _ = PrincipalComponents.fit(g, g.input("x", .float32, ["n", 64]), 2)
    }
    try module.function("loss") { g in
      let data = points(g, g.input("x", .float32, ["n", 64]))
      let seed = Families.seed(g)
      let random = RandomStream(g, key: seed)
      let all = g.state("chains", .float32, [Size(chains), 2], .normal(mean: 0, deviation: 1))
      let chosen = Families.integers(random, below: chains, g, ["n"])
      let isNew = g.compare(.less, random.uniform(["n", 1]), g.constant(0.05, .float32, ["n", 1]))
      let start = g.select(isNew, random.normal(["n", 2]), g.embedding(all, chosen))
      let fake = g.stopGradient(walk(g, start, 40, seed))
      // Of rows that chose the same chain the last one leaves it.
      let places = g.broadcast(chosen, to: ["n", 2], axes: [0])
      g.update("chains", g.scatterAlong(0, all, places, fake, nil))
      let (a, b) = (network(g, data), network(g, fake))
      let (real, drawn) = (energy(g, data), energy(g, fake))
      g.output("loss", g.mean(real - drawn + (a * a + b * b) * 0.001, axes: [0]))
    }
    // ln Z by quadrature on the grid.
    try module.function("evaluate") { g in
      let data = points(g, g.input("x", .float32, ["n", 64]))
      let spacing = g.constant(2 * reach) / (g.dimension("grid") - 1)
      let logZ =
        g.logSumExp(g.logSumExp(grid(g, "grid")), axis: 0) + g.log(spacing * spacing)
      g.output("nll", g.mean(energy(g, data), axes: [0]) + logZ)
    }
    // The density's square root, the largest 1, above is up; and points of 500 Langevin steps from normal
    // ones.
    try module.function("sample") { g in
      let seed = Families.seed(g)
      let start = RandomStream(g, key: seed).normal(["n", 2])
      g.output("points", walk(g, start, 500, seed))
      let scores = grid(g, 200)
      let height = g.exponential((scores - g.max(scores, axes: [0, 1])) * 0.5)
      g.output("density", g.reshape(g.reverse(height, axes: [0]), [1, 40000]))
    }
    module.recipe = Recipe(
      phases: [Phase("loss", rule: Families.rule(1e-3, averaging: 0.999))], batch: 256, epochs: 500,
      initialization: "initialize", evaluation: "evaluate", sample: "sample",
      meanings: [
        "x": Families.digits, "density": .image(height: 200, width: 200), "seed": .seed,
      ])
  }
}
