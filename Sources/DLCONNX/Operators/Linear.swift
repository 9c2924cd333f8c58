import DLCGraph
import DLCTensor

/// Products of matrices.
enum LinearOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("MatMul", inputs: 2) { c throws(ImportStop) in
      [try product(c, try c.operand(0), try c.operand(1))]
    },
    OperatorMapping("Gemm", inputs: 3) { c throws(ImportStop) in [try gemm(c)] },
    OperatorMapping("Det", since: 11, inputs: 1) { c throws(ImportStop) in
      [try determinant(c, try c.operand(0))]
    },
    OperatorMapping("Einsum", since: 12, inputs: nil) { c throws(ImportStop) in
      guard let equation = try c.text("equation") else {
        throw c.fail("attribute 'equation' is missing")
      }
      return [try Einsum(equation, c).result]
    },
    OperatorMapping("FusedMatMul", domain: "com.microsoft", inputs: 2) { c throws(ImportStop) in
      let a = try arranged(
        c, try c.operand(0), batch: try c.flag("transBatchA"), matrix: try c.flag("transA"))
      let b = try arranged(
        c, try c.operand(1), batch: try c.flag("transBatchB"), matrix: try c.flag("transB"))
      return [scaled(c, try product(c, a, b), try c.real("alpha", 1))]
    },
    OperatorMapping("FusedGemm", domain: "com.microsoft", inputs: 3) { c throws(ImportStop) in
      let y = try gemm(c)
      guard let name = try c.text("activation") else { return [y] }
      return [try activated(c, y, name)]
    },
  ]

  // MARK: Products

  /// The matrices of `left` [..., m, k] times those of `right` [..., k, n], by NumPy's rule: other axes are broadcast,
  /// and a vector is a row on the left and a column on the right. An axis that one side lacks is not repeated: it is
  /// one more axis of the other side's rows or columns.
  /// - Parameter type: what the products are summed in; nil for that of the operands.
  static func product(
    _ c: NodeContext, _ left: Value, _ right: Value, into type: DataType? = nil
  ) throws(ImportStop) -> Value {
    let mistake = "\(left.type) and \(right.type) cannot be multiplied as matrices"
    guard left.rank >= 1, right.rank >= 1, type != nil || left.dataType == right.dataType else {
      throw c.fail(mistake)
    }
    if left.rank == 1 || right.rank == 1 {
      let whole = try product(
        c, left.rank == 1 ? c.unsqueezed(left, [0]) : left,
        right.rank == 1 ? c.unsqueezed(right, [1]) : right, into: type)
      var shape = whole.shape
      if right.rank == 1 { shape.remove(at: whole.rank - 1) }
      if left.rank == 1 { shape.remove(at: whole.rank - 2) }
      return c.g.reshape(whole, shape)
    }
    guard let pair = c.agreed([left, right], along: [left.rank - 1, right.rank - 2]) else {
      throw c.fail(mistake)
    }
    let (left, right) = (pair[0], pair[1])
    let (m, n) = (left.shape[left.rank - 2], right.shape[right.rank - 1])
    let k = left.shape[left.rank - 1]
    let sizes = try c.commonShape(
      [left.shape.dropLast(2), right.shape.dropLast(2)].map(Array.init))
    func holders(_ x: Value) -> [Int] {
      let lead = sizes.count - (x.rank - 2)
      return sizes.indices.filter { $0 >= lead && x.shape[$0 - lead] != 1 }
    }
    let (lefts, rights) = (holders(left), holders(right))
    let (both, onlyLeft) = (lefts.filter(rights.contains), lefts.filter { !rights.contains($0) })
    let onlyRight = rights.filter { !lefts.contains($0) }
    let a = c.g.reshape(left, lefts.map { sizes[$0] } + [m, k])
    let b = c.g.reshape(right, rights.map { sizes[$0] } + [k, n])
    let made = c.g.dotGeneral(
      a, b, lhsBatch: both.map { lefts.firstIndex(of: $0)! },
      rhsBatch: both.map { rights.firstIndex(of: $0)! }, lhsContracting: [-1],
      rhsContracting: [-2], into: type)
    // Its axes stand in this order, where -2 are the rows and -1 the columns.
    let axes = both + onlyLeft + [-2] + onlyRight + [-1]
    let wanted = (both + onlyLeft + onlyRight).sorted() + [-2, -1]
    let ordered = c.g.transpose(made, wanted.map { axes.firstIndex(of: $0)! })
    return c.g.reshape(ordered, sizes + [m, n])
  }

  /// A product of a value with a real number, whatever its type.
  static func scaled(_ c: NodeContext, _ x: Value, _ factor: Double) -> Value {
    if factor == 1 { return x }
    if x.dataType.isFloat { return x * factor }
    return c.g.convert(c.g.convert(x, .float64) * factor, x.dataType)
  }

  /// alpha A B + beta C, of matrices that are transposed as attributes say.
  private static func gemm(_ c: NodeContext) throws(ImportStop) -> Value {
    let (a, b) = (try c.operand(0), try c.operand(1))
    guard a.rank == 2, b.rank == 2, a.dataType == b.dataType else {
      throw c.fail("\(a.type) and \(b.type) cannot be multiplied as matrices")
    }
    let (inA, inB) = (try c.flag("transA") ? 0 : 1, try c.flag("transB") ? 1 : 0)
    guard let pair = c.agreed([a, b], along: [inA, inB]) else {
      throw c.fail("\(a.type) and \(b.type) cannot be multiplied as matrices")
    }
    let whole = c.g.dotGeneral(pair[0], pair[1], lhsContracting: [inA], rhsContracting: [inB])
    let y = scaled(c, whole, try c.real("alpha", 1))
    let beta = try c.real("beta", 1)
    guard let bias = c.optional(2), beta != 0 else { return y }
    guard try c.commonShape([y.shape, bias.shape]) == y.shape else {
      throw c.fail("\(bias.type) is not broadcast to \(y.type)")
    }
    return y + scaled(c, bias, beta)
  }

  /// Matrices in the last two axes; with `batch` the first axis becomes the last but one before that.
  private static func arranged(_ c: NodeContext, _ x: Value, batch: Bool, matrix: Bool)
    throws(ImportStop) -> Value
  {
    guard batch || matrix, x.rank > 1 else { return x }
    var order = Array(0..<x.rank)
    if batch {
      guard x.rank >= 3 else { throw c.fail("\(x.type) has no batch axes") }
      order = Array(1..<x.rank - 1) + [0, x.rank - 1]
    }
    if matrix { order.swapAt(x.rank - 1, x.rank - 2) }
    return c.g.transpose(x, order)
  }

  /// The activation of a fused operator of `com.microsoft`.
  static func activated(_ c: NodeContext, _ x: Value, _ name: String) throws(ImportStop) -> Value {
    let g = c.g
    let parameters = try c.reals("activation_params") ?? []
    let (first, second) = (try c.real("activation_alpha"), try c.real("activation_beta"))
    func alpha(_ otherwise: Double) -> Double { first ?? parameters.first ?? otherwise }
    func beta(_ otherwise: Double) -> Double { second ?? parameters.dropFirst().first ?? otherwise }
    switch name {
    case "", "Identity": return x
    case "Relu": return g.maximum(x, c.scalar(0, x.dataType))
    case "Sigmoid": return g.logistic(x)
    case "Tanh": return g.tanh(x)
    case "Softplus": return g.softplus(x)
    case "Softsign": return x / (g.abs(x) + 1)
    case "LeakyRelu": return g.select(x < 0.0, x * alpha(0.01), x)
    case "Elu":
      return g.select(x < 0.0, g.unary(.exponential_minus_one, x) * alpha(1), x)
    case "ThresholdedRelu":
      return g.select(x > alpha(1), x, c.scalar(0, x.dataType))
    case "HardSigmoid": return g.clamp(x * alpha(0.2) + beta(0.5), 0, 1)
    case "HardSwish": return x * g.clamp(x * (1.0 / 6) + 0.5, 0, 1)
    case "Gelu": return g.gelu(x)
    case "Clip": return g.clamp(x, alpha(-.infinity), beta(.infinity))
    default: throw c.unsupported("activation '\(name)'")
    }
  }

  // MARK: Determinants

  /// The determinants of the matrices in the last two axes.
  private static func determinant(_ c: NodeContext, _ x: Value) throws(ImportStop) -> Value {
    guard x.rank >= 2, x.shape[x.rank - 1] == x.shape[x.rank - 2] else {
      throw c.fail("\(x.type) holds no square matrices")
    }
    let g = c.g
    let (factors, pivots, _) = g.lu(g.convert(x, x.dataType.computeType))
    let diagonal = g.diagonal(factors)
    let exchanged = pivots .!= g.iota(.int32, pivots.shape, axis: -1)
    let signs = g.select(exchanged, g.constant(-1, like: diagonal), g.constant(1, like: diagonal))
    // Behind a pivot of 0 there are no numbers.
    let isSingular = g.any(diagonal .== 0.0, axes: [-1])
    let whole = g.product(diagonal * signs, axes: [-1])
    let result = g.select(isSingular, c.scalar(0, whole.dataType), whole)
    return g.convert(result, x.dataType)
  }
}
