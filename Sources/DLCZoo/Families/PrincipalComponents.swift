import DLCGraph
import DLCTensor
import DLCTraining

/// The whitened principal components of images [n, 64], in float64: what an `initialization` computes of all
/// examples and keeps as the states `mean` and `basis`.
struct PrincipalComponents {
  /// The size of the dimension `iterations`, those of `fit`.
  static let iterations = 1000
  static let pixels: Size = 64

  /// [64].
  var mean: Value
  /// [count, 64]: components over their standard deviations.
  var basis: Value

  private init(mean: Value, basis: Value) {
    self.mean = mean
    self.basis = basis
  }

  /// As the states have them.
  init(_ g: FunctionBuilder, _ count: Size) {
    mean = g.state("mean", .float64, [Self.pixels], .zeros)
    basis = g.state("basis", .float64, [count, Self.pixels], .zeros)
  }

  /// Those of x, by orthogonal iteration (each step orthogonalised by a Cholesky factor), from which the states
  /// are updated. Every component's elements have a sum that is not negative.
  static func fit(_ g: FunctionBuilder, _ x: Value, _ count: Size) -> PrincipalComponents {
    _ = PrincipalComponents(g, count)
    let wide = g.convert(x, .float64)
    let mean = g.mean(wide, axes: [0])
    let centred = wide - mean
    let covariance =
      g.dotGeneral(centred, centred, lhsContracting: [0], rhsContracting: [0])
      / g.dimension(x.shape[0], .float64)
    let random = RandomStream(g, key: g.constant(1, .int64))
    let start = g.convert(random.normal([count, pixels]), .float64)
    let (carried, _) = g.scan(carried: [start], length: "iterations") { g, rows, _ in
      let next = g.matmul(rows[0], covariance)
      return ([g.triangularSolve(g.cholesky(g.linear(next, next)), next)], [])
    }
    let rows = carried[0]
    let variance = g.sum(g.matmul(rows, covariance) * rows, axes: [1], keepAxes: true)
    let basis = rows * g.sign(g.sum(rows, axes: [1], keepAxes: true)) * g.rsqrt(variance)
    g.update("mean", mean)
    g.update("basis", basis)
    return PrincipalComponents(mean: mean, basis: basis)
  }

  /// x [n, 64] as components [n, count], float64.
  func components(_ g: FunctionBuilder, _ x: Value) -> Value {
    g.linear(g.convert(x, .float64) - mean, basis)
  }

  /// Components [n, count] as x, float32.
  func images(_ g: FunctionBuilder, _ z: Value) -> Value {
    let back = basis / g.sum(basis * basis, axes: [1], keepAxes: true)
    return g.convert(g.matmul(z, back) + mean, .float32)
  }
}
