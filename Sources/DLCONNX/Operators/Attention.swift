import DLCGraph
import DLCTensor

/// The standard's attention operators.
enum AttentionOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("Attention", since: 23, inputs: 7, attention),
    OperatorMapping("RotaryEmbedding", since: 23, inputs: 4) { c throws(ImportStop) in
      let x = try c.operand(0)
      return [
        try rotated(
          c, x, try c.operand(1), try c.operand(2), positions: c.optional(3),
          heads: try c.integer("num_heads", 0), size: try c.integer("rotary_embedding_dim", 0),
          interleaved: try c.flag("interleaved"))
      ]
    },
    OperatorMapping("LinearAttention", since: 27, inputs: 6) { c throws(ImportStop) in
      try LinearAttention(c).results()
    },
    OperatorMapping("SwiGLU", since: 28, inputs: 2) { c throws(ImportStop) in
      let (gate, x) = (try c.operand(0), try c.operand(1))
      guard gate.type == x.type else { throw c.fail("the operands are \(gate.type) and \(x.type)") }
      let alpha = try c.real("alpha", 1)
      return [gate * c.g.logistic(alpha == 1 ? gate : gate * alpha) * x]
    },
    OperatorMapping("FlexAttention", domain: "ai.onnx.preview", inputs: 3, flexible),
  ]

  // MARK: Attention

  private static func attention(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    var (q, k, v) = (try c.operand(0), try c.operand(1), try c.operand(2))
    let isFlat = q.rank == 3
    guard q.rank == k.rank, k.rank == v.rank, isFlat || q.rank == 4 else {
      throw c.fail("queries \(q.type), keys \(k.type) and values \(v.type) do not belong together")
    }
    if isFlat {
      let (heads, keyHeads) = (try c.integer("q_num_heads", 0), try c.integer("kv_num_heads", 0))
      q = try ScaledAttention.split(c, q, heads: heads)
      k = try ScaledAttention.split(c, k, heads: keyHeads)
      v = try ScaledAttention.split(c, v, heads: keyHeads)
    }
    guard c.has(4) == c.has(5), !(c.has(4) && c.has(6)) else {
      throw c.fail("it wants past keys and values, or counts of keys, or neither")
    }
    let length = c.optional(4).map { $0.rank == 4 ? $0.shape[2] : 0 } ?? 0
    if let past = c.optional(4) { k = try extended(c, past, k) }
    if let past = c.optional(5) { v = try extended(c, past, v) }
    var form = try ScaledAttention(c, q, k, v, scale: try c.real("scale"))
    form.softcap = try c.real("softcap", 0)
    form.softmaxType = try c.elementType("softmax_precision")
    if let type = form.softmaxType, !type.isFloat { throw c.fail("a softmax in \(type)") }
    try mask(c, &form, past: length)
    let mode = try c.integer("qk_matmul_output_mode", 0)
    guard 0...3 ~= mode else { throw c.fail("qk_matmul_output_mode is \(mode)") }
    let steps = c.g.scope("attention") { () -> [Value] in
      let products = form.products()
      let capped = form.capped(products)
      let biased = form.biased(capped)
      let weights = form.weights(biased)
      return [products, capped, biased, weights, form.mixed(weights)]
    }
    let y = c.g.convert(steps[4], q.dataType)
    return [isFlat ? ScaledAttention.merged(c, y) : y, k, v, steps[mode]]
  }

  /// Keys or values after those of the past.
  static func extended(_ c: NodeContext, _ past: Value, _ x: Value) throws(ImportStop)
    -> Value
  {
    guard past.rank == 4, past.dataType == x.dataType,
      [0, 1, 3].allSatisfy({ past.shape[$0] == x.shape[$0] })
    else { throw c.fail("\(x.type) does not continue \(past.type)") }
    return c.g.concatenate([past, x], axis: 2)
  }

  /// Sets the masks that operands and attributes say.
  private static func mask(_ c: NodeContext, _ form: inout ScaledAttention, past: Size)
    throws(ImportStop)
  {
    let g = c.g
    let columns = form.shape[3]
    if var mask = c.optional(3) {
      guard mask.rank >= 1 else { throw c.fail("a mask \(mask.type) has no axis of keys") }
      let isBool = mask.dataType == .bool
      if !isBool { mask = g.convert(mask, form.q.dataType) }
      // A short mask leaves out what is beyond it.
      let width = mask.shape[mask.rank - 1]
      if width != columns {
        guard (columns - width).isNonNegative else {
          throw c.fail("a mask \(mask.type) is wider than \(columns) keys")
        }
        let none = mask.shape.map { _ in Size(0) }
        var high = none
        high[mask.rank - 1] = columns - width
        mask = g.add(
          .pad(Pad(low: none, high: high, interior: none.map { _ in 0 })),
          [mask, isBool ? c.constant([], [0], .bool) : c.scalar(-.infinity, mask.dataType)])
      }
      mask = try form.fitting(mask)
      if isBool { form.masks.append(mask) } else { form.bias = mask }
      form.mayBeEmpty = true
    }
    var offset = g.dimension(past, .int32)
    if let counts = c.optional(6) {
      guard counts.shape == [form.shape[0]], counts.dataType.isInteger else {
        throw c.fail("counts of keys are \(counts.type), not one for each batch entry")
      }
      form.masks.append(form.first(counts))
      form.mayBeEmpty = true
      offset = g.convert(counts, .int32) - g.dimension(form.shape[2], .int32)
    }
    let (left, right) = (
      try c.integer("left_window_size", -1), try c.integer("right_window_size", -1)
    )
    guard left >= -1, right >= -1 else { throw c.fail("a window of \(left) to \(right) keys") }
    let isCausal = try c.flag("is_causal")
    guard isCausal || left >= 0 || right >= 0 else { return }
    let distance = form.distance(offset)
    func limit(_ number: Int) -> Double { Double(min(number, Int(Int32.max))) }
    if isCausal { form.masks.append(distance >= 0.0) }
    if left >= 0 {
      form.masks.append(distance <= limit(left))
      form.mayBeEmpty = true
    }
    if right >= 0 { form.masks.append(distance >= -limit(right)) }
  }

  // MARK: Rotary embedding

  /// Pairs of elements turned by the angles of their positions.
  /// - Parameters:
  ///   - x: [batch, heads, length, size], or [batch, length, heads * size].
  ///   - cosines: [positions, turned / 2] with `positions` [batch, length], else [batch, length, turned / 2].
  ///   - size: how many elements of each head are turned; 0 for all.
  static func rotated(
    _ c: NodeContext, _ x: Value, _ cosines: Value, _ sines: Value, positions: Value?, heads: Int,
    size: Int, interleaved: Bool
  ) throws(ImportStop) -> Value {
    let g = c.g
    guard x.rank == 3 || x.rank == 4 else { throw c.fail("the input is \(x.type)") }
    var apart = x
    if x.rank == 3 {
      guard heads > 0, x.shape[2].constant.map({ $0 % heads == 0 }) ?? true else {
        throw c.fail("\(x.type) does not divide into \(heads) heads")
      }
      apart = g.reshape(x, [x.shape[0], x.shape[1], Size(heads), x.shape[2] / Size(heads)])
    }
    let whole = apart.shape[3]
    let turned = size == 0 ? whole : Size(size)
    guard turned.constant.map({ $0 > 0 && $0 % 2 == 0 }) ?? true,
      (whole - turned).isNonNegative
    else { throw c.fail("\(turned) of \(whole) elements cannot be turned") }
    let half = turned / 2
    func table(_ v: Value) throws(ImportStop) -> Value {
      let rows = positions.map { g.embedding(v, $0) } ?? v
      guard rows.rank == 3, rows.shape[2] == half else {
        throw c.fail("a table \(v.type) does not give \(half) angles for each position")
      }
      let typed = g.convert(rows, x.dataType)
      let spread = c.unsqueezed(typed, [x.rank == 3 ? 2 : 1])
      guard
        try c.commonShape([spread.shape, apart.shape.dropLast() + [half]])
          == apart.shape.dropLast() + [half]
      else { throw c.fail("a table \(v.type) does not belong to \(x.type)") }
      return spread
    }
    let (cosine, sine) = (try table(cosines), try table(sines))
    let part = g.slice(apart, axis: 3, from: 0, to: turned)
    let pairs: [Value]
    if interleaved {
      let split = g.reshape(part, part.shape.dropLast() + [half, 2])
      pairs = (0..<2).map {
        g.reshape(
          g.slice(split, axis: 4, from: Size($0), to: Size($0 + 1)), part.shape.dropLast() + [half])
      }
    } else {
      pairs = [
        g.slice(part, axis: 3, from: 0, to: half), g.slice(part, axis: 3, from: half, to: turned),
      ]
    }
    let results = [
      pairs[0] * cosine - pairs[1] * sine, pairs[0] * sine + pairs[1] * cosine,
    ]
    var joined: Value
    if interleaved {
      joined = g.concatenate(results.map { c.unsqueezed($0, [4]) }, axis: 4)
      joined = g.reshape(joined, part.shape)
    } else {
      joined = g.concatenate(results, axis: 3)
    }
    if whole != turned {
      joined = g.concatenate([joined, g.slice(apart, axis: 3, from: turned, to: whole)], axis: 3)
    }
    return g.reshape(joined, x.shape)
  }

  // MARK: Flexible attention

  /// Scores and weights go through graphs that the node holds.
  private static func flexible(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let (q, k, v) = (try c.operand(0), try c.operand(1), try c.operand(2))
    let form = try ScaledAttention(c, q, k, v, scale: try c.real("scale"))
    let otherwise: DataType = q.dataType == .float64 ? .float64 : .float32
    let type = try c.elementType("softmax_precision") ?? otherwise
    guard type.isFloat else { throw c.fail("a softmax in \(type)") }
    func modified(_ x: Value, _ name: String) throws(ImportStop) -> Value {
      guard c.node.attributes[name] != nil else { return x }
      let results = try c.importer.results(of: try c.graph(name), [x], in: c.scope)
      guard results.count == 1, results[0].shape == x.shape else {
        throw c.fail("graph '\(name)' does not give one value of shape \(x.shape)")
      }
      return c.g.convert(results[0], x.dataType)
    }
    let scores = try modified(c.g.convert(form.products(), type), "score_mod")
    let weights = try modified(c.g.softmax(scores), "prob_mod")
    var mixing = form
    mixing.v = c.g.convert(v, type)
    return [c.g.convert(mixing.mixed(weights), q.dataType)]
  }
}
