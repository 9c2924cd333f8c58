import DLCGraph
import DLCTensor

/// The attention operators of ONNX Runtime.
enum MicrosoftAttentionOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("Attention", domain: MicrosoftOperators.domain, inputs: 7) {
      c throws(ImportStop) in
      let (x, weights) = (try c.operand(0), try c.operand(1))
      var projected = try LinearOperators.product(c, x, weights)
      if let bias = c.optional(2) { projected = projected + bias }
      guard !c.has(6) else { throw c.unsupported("a shared buffer") }
      return try attention(
        c, projected, mask: c.optional(3), past: c.optional(4), bias: c.optional(5))
    },
    OperatorMapping("QAttention", domain: MicrosoftOperators.domain, inputs: 9) {
      c throws(ImportStop) in
      let projected = try QuantizedProduct(
        c, try c.operand(0), try c.operand(1), zeros: (c.optional(6), c.optional(7))
      ).scaled(try c.operand(3), try c.operand(4), bias: c.optional(2))
      return try attention(c, projected, mask: c.optional(5), past: c.optional(8), bias: nil)
    },
    OperatorMapping("MultiHeadAttention", domain: MicrosoftOperators.domain, inputs: 10, multiHead),
  ]

  // MARK: Masks

  /// Sets what a padding mask says: ones for keys that are there, or where they end (and begin). Others have a number
  /// added to their scores.
  private static func pad(
    _ c: NodeContext, _ form: inout ScaledAttention, _ mask: Value
  ) throws(ImportStop) {
    let g = c.g
    let (batch, length, columns) = (form.shape[0], form.shape[2], form.shape[3])
    let kept: Value
    switch mask.rank {
    case 1 where mask.shape[0] == batch:
      kept = form.first(mask)
    case 1 where mask.shape[0] == batch * 3 + 2:
      // Lengths, then where each entry's rows would begin if they were packed.
      kept = form.first(g.slice(mask, axis: 0, from: 0, to: batch))
    case 1 where mask.shape[0] == batch * 2:
      let ends = form.first(g.slice(mask, axis: 0, from: 0, to: batch))
      let starts = form.first(g.slice(mask, axis: 0, from: batch, to: batch * 2))
      kept = ends & g.unary(.not, starts)
    case 2 where mask.shape == [batch, columns]:
      kept = g.reshape(mask, [batch, 1, 1, columns]) > c.scalar(0, mask.dataType)
    case 3 where mask.shape == [batch, length, columns]:
      kept = g.reshape(mask, [batch, 1, length, columns]) > c.scalar(0, mask.dataType)
    case 4:
      // Of the largest length: rows and columns up to the present one.
      let top = g.slice(mask, axis: 2, from: columns - length, to: columns)
      kept = g.slice(top, axis: 3, from: 0, to: columns) > c.scalar(0, mask.dataType)
    default:
      throw c.unsupported("a mask \(mask.type)")
    }
    let type = form.q.dataType
    let filter = try c.real("mask_filter_value", -10000)
    let added = g.select(
      kept, g.constant(0, type, kept.shape), g.constant(filter, type, kept.shape))
    form.bias = form.bias.map { $0 + added } ?? added
  }

  /// Sets bias, padding and the order of positions, as the attributes say.
  private static func prepare(
    _ c: NodeContext, _ form: inout ScaledAttention, mask: Value?, bias: Value?, past: Size
  ) throws(ImportStop) {
    if let bias { form.bias = try form.fitting(bias) }
    if let mask { try pad(c, &form, mask) }
    if try c.flag("unidirectional") {
      form.masks.append(form.distance(c.g.dimension(past, .int32)) >= 0.0)
    }
  }

  private static func scale(_ c: NodeContext) throws(ImportStop) -> Double? {
    try c.real("scale").flatMap { $0 == 0 ? nil : $0 }
  }

  // MARK: Attention with its projection

  /// - Parameter projected: queries, keys and values side by side: [batch, length, sizes].
  private static func attention(
    _ c: NodeContext, _ projected: Value, mask: Value?, past: Value?, bias: Value?
  ) throws(ImportStop) -> [Value?] {
    let g = c.g
    guard projected.rank == 3, let heads = try c.integer("num_heads") else {
      throw c.fail("it wants an input [batch, length, size] and num_heads")
    }
    guard try !c.flag("do_rotary"), try !c.flag("past_present_share_buffer") else {
      throw c.unsupported("rotary positions or a shared buffer")
    }
    let third = projected.shape[2] / 3
    let sizes = try c.integers("qkv_hidden_sizes")?.map { Size($0) } ?? [third, third, third]
    guard sizes.count == 3, sizes[0] + sizes[1] + sizes[2] == projected.shape[2] else {
      throw c.fail("sizes \(sizes) do not make up \(projected.type)")
    }
    var parts: [Value] = []
    var start = Size(0)
    for size in sizes {
      let part = g.slice(projected, axis: 2, from: start, to: start + size)
      parts.append(try ScaledAttention.split(c, part, heads: heads))
      start = start + size
    }
    var length = Size(0)
    if let past {
      guard past.rank == 5, past.shape[0] == 2 else { throw c.fail("the past is \(past.type)") }
      length = past.shape[3]
      for index in 0..<2 {
        let half = g.slice(past, axis: 0, from: Size(index), to: Size(index + 1))
        parts[index + 1] = try AttentionOperators.extended(
          c, g.reshape(half, Array(past.shape.dropFirst())), parts[index + 1])
      }
    }
    var form = try ScaledAttention(c, parts[0], parts[1], parts[2], scale: try scale(c))
    try prepare(c, &form, mask: mask, bias: bias, past: length)
    var present: Value?
    if c.wants(1) {
      present = g.concatenate([c.unsqueezed(parts[1], [0]), c.unsqueezed(parts[2], [0])], axis: 0)
    }
    return [ScaledAttention.merged(c, form.result()), present]
  }

  // MARK: Attention of what is projected

  private static func multiHead(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let g = c.g
    guard let heads = try c.integer("num_heads"), heads > 0 else {
      throw c.fail("attribute 'num_heads' is missing")
    }
    guard !c.has(8), !c.has(9) else { throw c.unsupported("a shared buffer") }
    var (q, k, v) = try parts(c, heads: heads)
    var past = Size(0)
    if let keys = c.optional(6), let values = c.optional(7) {
      k = try AttentionOperators.extended(c, keys, k)
      v = try AttentionOperators.extended(c, values, v)
      past = keys.shape[2]
    }
    var form = try ScaledAttention(c, q, k, v, scale: try scale(c))
    try prepare(c, &form, mask: c.optional(4), bias: c.optional(5), past: past)
    let scores = form.biased(form.products())
    q = ScaledAttention.merged(c, form.mixed(form.weights(scores)))
    return [q, k, v, scores]
  }

  /// Queries, keys and values by heads, with their bias.
  private static func parts(_ c: NodeContext, heads: Int) throws(ImportStop) -> (
    Value, Value, Value
  ) {
    let g = c.g
    let bias = c.optional(3)
    let query = try c.operand(0)
    /// One of several values that are packed into the last axis but one.
    func unpacked(_ x: Value, _ index: Int) -> Value {
      let one = g.slice(x, axis: 3, from: Size(index), to: Size(index + 1))
      return g.reshape(one, [x.shape[0], x.shape[1], x.shape[2] * x.shape[4]])
    }
    var flat: [Value] = []
    if query.rank == 5 {
      flat = (0..<3).map { unpacked(query, $0) }
    } else if let key = c.optional(1), key.rank == 5 {
      flat = [query, unpacked(key, 0), unpacked(key, 1)]
    } else {
      flat = [query, c.optional(1) ?? query, c.optional(2) ?? c.optional(1) ?? query]
    }
    var result: [Value] = []
    var start = Size(0)
    for x in flat {
      // By heads already: keys and values of another sequence.
      if x.rank == 4 {
        result.append(x)
        continue
      }
      guard x.rank == 3 else { throw c.fail("an operand is \(x.type)") }
      var row = x
      if let bias {
        row = row + g.slice(bias, axis: 0, from: start, to: start + x.shape[2])
        start = start + x.shape[2]
      }
      result.append(try ScaledAttention.split(c, row, heads: heads))
    }
    return (result[0], result[1], result[2])
  }
}
