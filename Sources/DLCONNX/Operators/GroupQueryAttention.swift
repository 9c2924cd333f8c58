import DLCGraph
import DLCTensor

/// Causal attention with a cache of keys and values, in which each batch entry has a length of its own.
struct GroupQueryAttention {
  static let all = [
    OperatorMapping(
      "GroupQueryAttention", domain: MicrosoftOperators.domain, inputs: 17,
      statics: ["total_sequence_length"]
    ) { c throws(ImportStop) in try GroupQueryAttention(c).results() }
  ]

  private let c: NodeContext
  private let (heads, keyHeads): (Int, Int)
  private var (q, k, v): (Value, Value, Value)
  /// How many keys there are after the step, at most.
  private let total: Size
  /// Where each batch entry's first new position stands: [batch], int32.
  private let start: Value
  /// How many keys each batch entry has after the step: [batch], int32.
  private let counts: Value

  private init(_ c: NodeContext) throws(ImportStop) {
    self.c = c
    let g = c.g
    (heads, keyHeads) = (try c.integer("num_heads", 0), try c.integer("kv_num_heads", 0))
    guard 1...Int(Int32.max) ~= heads, keyHeads > 0, heads % keyHeads == 0 else {
      throw c.fail("\(heads) heads do not share \(keyHeads) heads of keys evenly")
    }
    if (12...16).contains(where: { c.has($0) }) {
      throw c.unsupported("a quantised cache, norms of queries, or padded queries")
    }
    if try c.flag("sliding_window_cache") { throw c.unsupported("a cache of a window") }
    let query = try c.operand(0)
    guard query.rank == 3 else { throw c.fail("the queries are \(query.type)") }
    var flat: [Value] = []
    if let key = c.optional(1) {
      flat = [query, key, try c.operand(2)]
    } else {
      let size = query.shape[2] / Size(heads + 2 * keyHeads)
      let (first, second) = (size * Size(heads), size * Size(heads + keyHeads))
      flat = [
        g.slice(query, axis: 2, from: 0, to: first),
        g.slice(query, axis: 2, from: first, to: second),
        g.slice(query, axis: 2, from: second, to: query.shape[2]),
      ]
    }
    q = try ScaledAttention.split(c, flat[0], heads: heads)
    k = try ScaledAttention.split(c, flat[1], heads: keyHeads)
    v = try ScaledAttention.split(c, flat[2], heads: keyHeads)
    let sizes = try c.sizes(6)
    guard sizes.count == 1, let counts = c.optional(5) else {
      throw c.fail("it wants lengths of the keys")
    }
    guard counts.dataType.isInteger, counts.shape.reduce(Size(1), *) == q.shape[0] else {
      throw c.fail("the lengths of the keys are \(counts.type), not one for each batch entry")
    }
    total = sizes[0]
    self.counts = g.reshape(g.convert(counts, .int32), [q.shape[0]]) + 1
    let length = q.shape[2]
    start =
      total == length
      ? g.constant(0, .int32, [q.shape[0]]) : self.counts - g.dimension(length, .int32)
  }

  /// The cache with new rows in their places: [batch, key heads, positions, size].
  private func extended(_ past: Value?, _ x: Value) throws(ImportStop) -> Value {
    let g = c.g
    if total == x.shape[2], past == nil || past!.shape.count == 4 && past!.shape[2] == 0 {
      return x
    }
    guard let past, past.rank == 4, past.dataType == x.dataType,
      [0, 1, 3].allSatisfy({ past.shape[$0] == x.shape[$0] })
    else { throw c.fail("\(x.type) does not continue the cache") }
    guard (past.shape[2] - total).isNonNegative || (total - past.shape[2]).isNonNegative else {
      throw c.fail("whether \(total) keys fit into \(past.type) is open", remedy: "bind --dim")
    }
    // Behind the past there is nothing yet.
    let position = g.iota(.int32, past.shape, axis: 2)
    let isPast = position < g.broadcast(start, to: past.shape, axes: [0])
    var cache = g.select(isPast, past, g.constant(0, like: past))
    let room = total - past.shape[2]
    if room != 0, room.isNonNegative {
      cache = g.pad(cache, 0, low: [0, 0, 0, 0], high: [0, 0, room, 0])
    }
    let place = g.iota(.int32, x.shape, axis: 2) + g.broadcast(start, to: x.shape, axes: [0])
    return g.scatterAlong(2, cache, place, x, nil)
  }

  private func results() throws(ImportStop) -> [Value?] {
    let g = c.g
    var (q, k) = (q, k)
    if try c.flag("do_rotary") {
      let (cosines, sines) = (try c.operand(7), try c.operand(8))
      let shape = [q.shape[0], q.shape[2]]
      let counted = g.iota(.int32, shape, axis: 1) + g.broadcast(start, to: shape, axes: [0])
      let positions = c.optional(9) ?? counted
      let interleaved = try c.flag("rotary_interleaved")
      guard cosines.rank == 2 else { throw c.fail("the table of cosines is \(cosines.type)") }
      let size = try c.number(cosines.shape[1]) * 2
      func turned(_ x: Value) throws(ImportStop) -> Value {
        try AttentionOperators.rotated(
          c, x, cosines, sines, positions: positions, heads: 0, size: size,
          interleaved: interleaved)
      }
      (q, k) = (try turned(q), try turned(k))
    }
    let keys = try extended(c.optional(3), k)
    let values = try extended(c.optional(4), v)
    let given = try c.real("scale", 0)
    var form = try ScaledAttention(c, q, keys, values, scale: given == 0 ? nil : given)
    form.softcap = try c.real("softcap", 0)
    try mask(&form)
    if let sink = c.optional(11) {
      form.sink = sink
    } else if try c.flag("smooth_softmax") {
      form.sink = g.constant(0, q.dataType, [Size(heads)])
    }
    let scores = form.biased(form.capped(form.products()))
    let weights = form.weights(scores)
    var products: Value?
    if c.wants(3) {
      let shown = try c.integer("qk_output", 0) == 1 ? scores : weights
      products = g.slice(shown, axis: 3, from: 0, to: total)
    }
    return [ScaledAttention.merged(c, form.mixed(weights)), keys, values, products]
  }

  private func mask(_ form: inout ScaledAttention) throws(ImportStop) {
    let g = c.g
    if var bias = c.optional(10) {
      let room = form.shape[3] - total
      if room != 0, bias.rank == 4, bias.shape[3] == total {
        bias = g.pad(bias, 0, low: [0, 0, 0, 0], high: [0, 0, 0, room])
      }
      form.bias = try form.fitting(bias)
    }
    let distance = form.distance(start)
    let window = try c.integer("local_window_size", -1)
    if try c.flag("causal", true) {
      form.masks.append(distance >= 0.0)
      // Rows behind a short prompt see what is there.
      if total == form.shape[2] {
        form.masks.append(form.first(counts))
        form.mayBeEmpty = window > 0
      }
      if window > 0 { form.masks.append(distance < Double(min(window, Int(Int32.max)))) }
    } else {
      form.masks.append(form.first(counts))
    }
  }
}
