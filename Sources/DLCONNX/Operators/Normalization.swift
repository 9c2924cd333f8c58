import DLCGraph
import DLCTensor

/// Normalisation of rows: layer norms, and those by the root mean square.
enum NormalizationOperators {
  static let all: [OperatorMapping] =
    [
      OperatorMapping("LayerNormalization", inputs: 3, layerNormalization),
      OperatorMapping("RMSNormalization", since: 23, inputs: 2, rootMeanSquare),
      OperatorMapping("SimplifiedLayerNormalization", inputs: 2, rootMeanSquare),
      OperatorMapping("SimplifiedLayerNormalization", domain: microsoft, inputs: 2, rootMeanSquare),
      OperatorMapping("LayerNormalization", domain: microsoft, inputs: 3, layerNormalization),
      OperatorMapping("RMSNormalization", domain: microsoft, inputs: 2, rootMeanSquare),
      OperatorMapping("SkipLayerNormalization", domain: microsoft, inputs: 5) {
        c throws(ImportStop) in
        try skip(c, centred: true)
      },
      OperatorMapping("SkipSimplifiedLayerNormalization", domain: microsoft, inputs: 4) {
        c throws(ImportStop) in try skip(c, centred: false)
      },
      OperatorMapping("EmbedLayerNormalization", domain: microsoft, inputs: 9, embed),
    ]

  private static let microsoft = "com.microsoft"

  /// Rows normalised, and what they were shifted and scaled by.
  private struct Rows {
    var value: Value
    /// [..., 1, ...], of the operand's rank.
    var mean: Value?
    var inverse: Value
  }

  /// All axes from one on are one row, which becomes (x - mean) / sqrt(variance + epsilon) scale + shift; without a
  /// mean where it is not centred.
  private static func normalized(
    _ c: NodeContext, _ x: Value, axis: Int, epsilon: Double, centred: Bool, _ scale: Value?,
    _ shift: Value?
  ) throws(ImportStop) -> Rows {
    let g = c.g
    guard x.dataType.isFloat else { throw c.fail("the input is \(x.type), not floating-point") }
    for (what, value) in [("the scale", scale), ("the bias", shift)] {
      guard let value, try c.commonShape([x.shape, value.shape]) != x.shape else { continue }
      throw c.fail("\(what) is \(value.type), which is not broadcast to \(x.type)")
    }
    let count = x.shape[axis...].reduce(Size(1)) { $0 * $1 }
    let rows = g.reshape(x, x.shape[..<axis] + [count])
    let statistics = x.shape[..<axis] + x.shape[axis...].map { _ in 1 }
    // Parameters of whole rows are applied to them as rows.
    let parameters = [scale, shift].compactMap(\.self)
    let isPlain = parameters.allSatisfy { $0.shape == Array(x.shape[axis...]) }
    func parameter(_ v: Value) -> Value {
      let typed = g.convert(v, x.dataType)
      return isPlain ? g.reshape(typed, [count]) : typed
    }
    return g.scope(centred ? "layer_norm" : "rms_norm") {
      func spread(_ v: Value) -> Value { g.restore(v, axes: [axis], to: rows.shape) }
      let mean = centred ? g.mean(rows, axes: [axis]) : nil
      let shifted = mean.map { rows - spread($0) } ?? rows
      let inverse = g.rsqrt(g.mean(shifted * shifted, axes: [axis]) + epsilon)
      var y = shifted * spread(inverse)
      if !isPlain { y = g.reshape(y, x.shape) }
      if let scale { y = y * parameter(scale) }
      if let shift { y = y + parameter(shift) }
      return Rows(
        value: g.reshape(y, x.shape), mean: mean.map { g.reshape($0, Array(statistics)) },
        inverse: g.reshape(inverse, Array(statistics)))
    }
  }

  private static func layerNormalization(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let axis = try c.axis(try c.integer("axis", -1), rank: x.rank)
    let rows = try normalized(
      c, x, axis: axis, epsilon: try c.real("epsilon", 1e-5), centred: true, try c.operand(1),
      c.optional(2))
    let type = try c.elementType("stash_type") ?? .float32
    return [rows.value, c.g.convert(rows.mean!, type), c.g.convert(rows.inverse, type)]
  }

  private static func rootMeanSquare(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (x, scale) = (try c.operand(0), try c.operand(1))
    let axis = try c.axis(try c.integer("axis", -1), rank: x.rank)
    let wide = x.dataType.byteCount < scale.dataType.byteCount ? scale.dataType : x.dataType
    let rows = try normalized(
      c, c.g.convert(x, wide), axis: axis, epsilon: try c.real("epsilon", 1e-5), centred: false,
      scale, nil)
    let type = try c.elementType("stash_type") ?? .float32
    return [c.g.convert(rows.value, scale.dataType), c.g.convert(rows.inverse, type)]
  }

  /// The norm of a sum, which is a result too.
  private static func skip(_ c: NodeContext, centred: Bool) throws(ImportStop) -> [Value?] {
    let (x, other) = (try c.operand(0), try c.operand(1))
    guard try c.commonShape([x.shape, other.shape]) == x.shape else {
      throw c.fail("\(other.type) is not broadcast to \(x.type)")
    }
    var sum = x + other
    if let bias = c.optional(centred ? 4 : 3) { sum = sum + bias }
    let rows = try normalized(
      c, sum, axis: try c.axis(-1, rank: x.rank), epsilon: try c.real("epsilon", 1e-12),
      centred: centred,
      try c.operand(2), centred ? c.optional(3) : nil)
    func statistics(_ v: Value) -> Value { c.g.convert(v, .float32) }
    let mean = rows.mean ?? c.g.mean(sum, axes: [-1], keepAxes: true)
    return [rows.value, statistics(mean), statistics(rows.inverse), sum]
  }

  /// The norm of the embeddings of words, positions and segments, added up.
  private static func embed(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let g = c.g
    let ids = try c.operand(0)
    guard ids.rank == 2 else { throw c.fail("the input ids are \(ids.type), not [batch, length]") }
    let (words, places) = (try c.operand(2), try c.operand(3))
    var sum = g.embedding(words, ids)
    if let position = c.optional(8) {
      sum = sum + g.broadcast(g.embedding(places, position), to: sum.shape)
    } else {
      sum = sum + g.slice(places, axis: 0, from: 0, to: ids.shape[1])
    }
    if let segments = c.optional(4), let segmentIds = c.optional(1) {
      sum = sum + g.embedding(segments, segmentIds)
    }
    let rows = try normalized(
      c, sum, axis: 2, epsilon: try c.real("epsilon", 1e-12), centred: true, try c.operand(5),
      try c.operand(6))
    // How many positions the mask leaves.
    var counts = g.constant(0, .int32, [ids.shape[0]])
    if let mask = c.optional(7), try c.integer("mask_index_type", 1) != 0 {
      counts = g.sum(g.convert(mask, .int32), axes: [1])
    }
    return [rows.value, counts, sum]
  }
}
