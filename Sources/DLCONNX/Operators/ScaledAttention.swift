import DLCGraph
import DLCTensor

/// softmax(scale q k^T + bias) v, for queries in groups that share keys and values, with what the operators of that
/// family may add.
struct ScaledAttention {
  let c: NodeContext
  /// [batch, heads, length, size].
  var q: Value
  /// [batch, key heads, key length, size]; heads are a multiple of key heads.
  var k: Value
  /// [batch, key heads, key length, value size].
  var v: Value
  /// 1 / sqrt(size) when nil.
  var scale: Double?
  /// Scores become softcap tanh(scores / softcap), where it is above 0.
  var softcap = 0.0
  /// Added to the scores; broadcast to them.
  var bias: Value?
  /// Where it is false, nothing is attended to; each is broadcast to the scores.
  var masks: [Value] = []
  /// Whether a query may be left with no key, and then gives 0.
  var mayBeEmpty = false
  /// The type that the softmax is taken in.
  var softmaxType: DataType?
  /// A further score of nothing, which takes its part of the sum.
  var sink: Value?

  private var g: FunctionBuilder { c.g }

  init(
    _ c: NodeContext, _ q: Value, _ k: Value, _ v: Value, scale: Double?
  ) throws(ImportStop) {
    guard q.rank == 4, k.rank == 4, v.rank == 4,
      let images = c.agreed([q, k, v], along: [0, 0, 0]),
      let heads = c.agreed([images[1], images[2]], along: [1, 1]),
      let keys = c.agreed(heads, along: [2, 2]),
      let features = c.agreed([images[0], keys[0]], along: [3, 3])
    else {
      throw c.fail("queries \(q.type), keys \(k.type) and values \(v.type) do not belong together")
    }
    let (q, k, v) = (features[0], features[1], keys[1])
    (self.c, self.q, self.k, self.v, self.scale) = (c, q, k, v, scale)
    if let heads = q.shape[1].constant, let keyHeads = k.shape[1].constant {
      guard keyHeads > 0, heads % keyHeads == 0 else {
        throw c.fail("\(heads) heads do not share \(keyHeads) heads of keys evenly")
      }
    } else if q.shape[1] != k.shape[1] {
      throw c.fail("\(q.shape[1]) heads share \(k.shape[1]) heads of keys", remedy: "bind --dim")
    }
  }

  /// The shape of the scores.
  var shape: [Size] { [q.shape[0], q.shape[1], q.shape[2], k.shape[2]] }

  /// The rows of all heads that share a head of keys, as those of one matrix.
  private func grouped(_ x: Value) -> Value {
    if q.shape[1] == k.shape[1] { return x }
    let group = x.shape[1] / k.shape[1]
    return g.reshape(x, [x.shape[0], k.shape[1], group * x.shape[2], x.shape[3]])
  }

  /// Scaled products of queries and keys.
  func products() -> Value {
    let rows = grouped(q)
    let made = g.dotGeneral(
      rows, k, lhsBatch: [0, 1], rhsBatch: [0, 1], lhsContracting: [3], rhsContracting: [3])
    let scaled: Value
    if let factor = scale ?? q.shape[3].constant.map({ 1 / Double($0).squareRoot() }) {
      scaled = factor == 1 ? made : made * factor
    } else {
      scaled = made * g.rsqrt(g.dimension(q.shape[3], q.dataType))
    }
    return g.reshape(scaled, shape)
  }

  func capped(_ scores: Value) -> Value {
    softcap > 0 ? g.tanh(scores / softcap) * softcap : scores
  }

  /// With the bias added, and -inf where nothing is attended to.
  func biased(_ scores: Value) -> Value {
    var result = scores
    if let bias { result = result + g.convert(bias, result.dataType) }
    if let mask = allowed {
      result = g.select(
        g.broadcast(mask, to: shape), result, g.constant(-.infinity, result.dataType))
    }
    return result
  }

  private var allowed: Value? {
    guard let first = masks.first else { return nil }
    return masks.dropFirst().reduce(first) { $0 & $1 }
  }

  /// Each row's softmax.
  func weights(_ scores: Value) -> Value {
    let typed = softmaxType.map { g.convert(scores, $0) } ?? scores
    var weights = sink.map { softmax(typed, with: $0) } ?? g.softmax(typed)
    if mayBeEmpty, let isAttended {
      let rows = g.any(isAttended, axes: [-1], keepAxes: true)
      weights = g.select(
        g.broadcast(rows, to: shape), weights, c.scalar(0, weights.dataType))
    }
    return g.convert(weights, scores.dataType)
  }

  /// The softmax over a row and one further score per head.
  private func softmax(_ scores: Value, with sink: Value) -> Value {
    let column = g.broadcast(
      g.convert(sink, scores.dataType), to: shape.dropLast() + [1], axes: [1])
    let whole = g.softmax(g.concatenate([scores, column], axis: 3))
    return g.slice(whole, axis: 3, from: 0, to: shape[3])
  }

  /// Where masks and bias leave something, over the last axis in full.
  private var isAttended: Value? {
    var parts = masks
    if let bias, bias.dataType.isFloat {
      parts.append(bias .!= c.scalar(-.infinity, bias.dataType))
    }
    guard let first = parts.first else { return nil }
    let whole = parts.dropFirst().reduce(first) { $0 & $1 }
    return g.broadcast(whole, to: whole.shape.dropLast() + [shape[3]])
  }

  /// Values weighted: [batch, heads, length, value size].
  func mixed(_ weights: Value) -> Value {
    let made = g.dotGeneral(
      grouped(g.convert(weights, v.dataType)), v, lhsBatch: [0, 1], rhsBatch: [0, 1],
      lhsContracting: [3], rhsContracting: [2])
    return g.reshape(made, [q.shape[0], q.shape[1], q.shape[2], v.shape[3]])
  }

  /// All of it.
  func result() -> Value {
    g.scope("attention") { mixed(weights(biased(capped(products())))) }
  }

  // MARK: Masks

  /// Requires that a mask is broadcast to the scores.
  func fitting(_ mask: Value) throws(ImportStop) -> Value {
    guard try c.commonShape([shape, mask.shape]) == shape else {
      throw c.fail("a mask \(mask.type) is not broadcast to scores of \(shape)")
    }
    return mask
  }

  /// How far a query stands behind a key, as int32 [length, key length]; or [batch, 1, length, key length] where the
  /// first query's place is given per batch entry.
  /// - Parameter offset: the first query's place: a scalar or [batch].
  func distance(_ offset: Value) -> Value {
    let plane = [shape[2], shape[3]]
    let behind = g.iota(.int32, plane, axis: 0) - g.iota(.int32, plane, axis: 1)
    let start = g.convert(offset, .int32)
    if start.rank == 0 { return behind + start }
    return behind + g.reshape(start, [shape[0], 1, 1, 1])
  }

  /// The first keys of each batch entry, so many as it says: [batch, 1, 1, key length].
  func first(_ counts: Value) -> Value {
    let column = g.iota(.int32, [1, 1, 1, shape[3]], axis: 3)
    return column < g.reshape(g.convert(counts, .int32), [shape[0], 1, 1, 1])
  }

  // MARK: Heads

  /// [batch, length, heads * size] as [batch, heads, length, size].
  static func split(_ c: NodeContext, _ x: Value, heads: Int) throws(ImportStop) -> Value {
    guard x.rank == 3, heads > 0, x.shape[2].constant.map({ $0 % heads == 0 }) ?? true else {
      throw c.fail("\(x.type) does not divide into \(heads) heads")
    }
    let size = x.shape[2] / Size(heads)
    let apart = c.g.reshape(x, [x.shape[0], x.shape[1], Size(heads), size])
    return c.g.transpose(apart, [0, 2, 1, 3])
  }

  /// The opposite of `split`.
  static func merged(_ c: NodeContext, _ x: Value) -> Value {
    let rows = c.g.transpose(x, [0, 2, 1, 3])
    return c.g.reshape(rows, [x.shape[0], x.shape[2], x.shape[1] * x.shape[3]])
  }
}
