import DLCGraph
import DLCTensor
import DLCTraining

/// Gaussian mixture by EM, full batch: the digits' first 16 whitened principal components, 10 full covariances
/// with 1e-3 on the diagonal, from k-means; float64 throughout.
enum GaussianMixture {
  private static let (count, size): (Size, Size) = (10, 16)
  /// How many points are tried for each centre of k-means++; the best is taken (as scikit-learn does).
  private static let candidates: Size = 4

  private static func parameters(_ g: FunctionBuilder) -> Mixture.Parameters {
    Mixture.Parameters(
      pi: g.parameter("weights", [count], .constant(0.1), .float64),
      mu: g.parameter("means", [count, size], .normal(mean: 0, deviation: 1), .float64),
      sigma: g.parameter("covariances", [count, size, size], .zeros, .float64))
  }

  private static func components(_ g: FunctionBuilder) -> Value {
    PrincipalComponents(g, size).components(g, g.input("x", .float32, ["n", 64]))
  }

  /// The next parameters, by name, for shares [n, 10].
  private static func maximized(_ g: FunctionBuilder, _ z: Value, _ shares: Value) -> [(
    String, Value
  )] {
    // A component without points becomes one of all, with almost no weight.
    let next = Mixture.maximize(g, z, shares + 1e-15)
    let ridge = g.diagonalMatrix(g.constant(1e-3, like: next[2]))
    return [("weights", next[0]), ("means", next[1]), ("covariances", next[2] + ridge)]
  }

  /// Squared distances of points [n, 16] from centres [m, 16]: [m, n].
  private static func distances(_ g: FunctionBuilder, _ z: Value, _ centres: Value) -> Value {
    let shape = [centres.shape[0], z.shape[0], size]
    let off =
      g.broadcast(z, to: shape, axes: [1, 2]) - g.broadcast(centres, to: shape, axes: [0, 2])
    return g.sum(off * off, axes: [2])
  }

  /// Centres [10, 16] by k-means++ (Arthur and Vassilvitskii 2007).
  private static func seeded(_ g: FunctionBuilder, _ z: Value, _ seed: Value) -> Value {
    let n = z.shape[0]
    let u = RandomStream(g, key: seed).uniform([1])
    let first = g.embedding(z, g.convert(u * g.dimension(n), .int32))
    let centres = g.broadcast(first, to: [count, size])
    let (carried, _) = g.scan(
      carried: [centres, g.reshape(distances(g, z, first), [n])],
      inputs: [Families.iterations(g, count - 1)]
    ) { g, carried, step in
      let (centres, nearest) = (carried[0], carried[1])
      let random = RandomStream(g, key: seed, step: step[0])
      let chosen = random.categorical(g.broadcast(g.log(nearest), to: [candidates, n]))
      let tried = g.embedding(z, chosen)
      let after = g.minimum(distances(g, z, tried), g.broadcast(nearest, to: [candidates, n]))
      let best = g.argmin(g.sum(after, axes: [1]), axis: 0)
      let centre = g.reshape(g.embedding(tried, best), [1, size])
      return (
        [
          g.dynamicUpdate(centres, centre, at: [step[0], g.constant(0, .int32)]),
          g.embedding(after, best),
        ], []
      )
    }
    return carried[0]
  }

  /// 1 at the nearest centre of each point, else 0: [n, 10].
  private static func nearest(_ g: FunctionBuilder, _ z: Value, _ centres: Value) -> Value {
    let shape = [z.shape[0], count]
    let label = g.broadcast(
      g.argmin(distances(g, z, centres), axis: 0), to: shape, axes: [0])
    return g.convert(g.compare(.equal, label, g.iota(.int32, shape, axis: 1)), .float64)
  }

  /// The centres after 100 of Lloyd's iterations; a cluster that loses all its points keeps its centre.
  private static func clustered(_ g: FunctionBuilder, _ z: Value, _ centres: Value) -> Value {
    let (carried, _) = g.scan(carried: [centres], length: 100) { g, centres, _ in
      let shares = nearest(g, z, centres[0])
      let counts = g.sum(shares, axes: [0])
      let sums = g.dotGeneral(shares, z, lhsContracting: [0], rhsContracting: [0])
      let means = sums / g.reshape(g.maximum(counts, g.constant(1, like: counts)), [count, 1])
      let isUsed = g.compare(.greater, counts, g.constant(0, like: counts))
      return ([g.select(g.broadcast(isUsed, to: [count, size], axes: [0]), means, centres[0])], [])
    }
    return carried[0]
  }

  static let model = Families.model(
    "gmm", "Gaussian mixture by EM: the digits' first 16 principal components, 10 full covariances",
    batch: 1257, [("iterations", PrincipalComponents.iterations)]
  ) { (module) throws(DLCError) in
    try module.function("initialize") { g in
      let x = g.input("x", .float32, ["n", 64])
      _ = parameters(g)
      let z = PrincipalComponents.fit(g, x, size).components(g, x)
      let centres = clustered(g, z, seeded(g, z, Families.seed(g)))
      for (name, value) in maximized(g, z, nearest(g, z, centres)) { g.update(name, value) }
    }
    try module.function("em") { g in
      let z = components(g)
      let scores = Mixture.joint(g, z, parameters(g))
      g.output("loss", -g.mean(g.logSumExp(scores, axis: 1), axes: [0]))
      for (name, value) in maximized(g, z, g.softmax(scores, axis: 1)) { g.output(name, value) }
    }
    try module.function("evaluate") { g in
      let scores = Mixture.joint(g, components(g), parameters(g))
      g.output("nll", -g.mean(g.logSumExp(scores, axis: 1), axes: [0]))
    }
    try module.function("sample") { g in
      let z = Mixture.drawn(g, parameters(g), "n", RandomStream(g, key: Families.seed(g)))
      let images = PrincipalComponents(g, size).images(g, z)
      g.output("images", g.clamp(images, 0, 1))
    }
    module.recipe = Recipe(
      phases: [Phase("em", .replace, rule: UpdateRule(.gradientDescent, learningRate: 0))],
      batch: 1257, epochs: 200, initialization: "initialize", evaluation: "evaluate",
      sample: "sample",
      meanings: ["x": Families.digits, "images": Families.digits, "seed": .seed])
  }
}
