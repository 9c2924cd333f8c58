import DLCGraph
import DLCTensor

/// Attention whose past is one matrix per head, which each step updates.
struct LinearAttention {
  private let c: NodeContext
  private let rule: String
  private let (heads, keyHeads): (Int, Int)
  private let (q, k, v): (Value, Value, Value)
  private let decay: Value?
  private let beta: Value?
  private let scale: Double?

  init(_ c: NodeContext) throws(ImportStop) {
    self.c = c
    rule = try c.text("update_rule", "gated_delta")
    let isGated = rule == "gated" || rule == "gated_delta"
    let isDelta = rule == "delta" || rule == "gated_delta"
    guard isGated || isDelta || rule == "linear" else {
      throw c.fail("update_rule '\(rule)' is not linear, gated, delta or gated_delta")
    }
    (heads, keyHeads) = (try c.integer("q_num_heads", 0), try c.integer("kv_num_heads", 0))
    guard heads > 0, keyHeads > 0, heads % keyHeads == 0 else {
      throw c.fail("\(heads) heads do not share \(keyHeads) heads of keys evenly")
    }
    (q, k, v) = (try c.operand(0), try c.operand(1), try c.operand(2))
    guard c.has(4) == isGated, c.has(5) == isDelta else {
      throw c.fail("update_rule '\(rule)' does not go with these inputs")
    }
    (decay, beta) = (c.optional(4), c.optional(5))
    let given = try c.real("scale", 0)
    scale = given == 0 ? nil : given
  }

  /// [batch, length, heads * size] as float32 [length, batch, heads, size].
  private func steps(_ x: Value, heads: Int) throws(ImportStop) -> Value {
    guard x.rank == 3, x.shape[0] == q.shape[0], x.shape[1] == q.shape[1],
      x.shape[2].constant.map({ $0 % heads == 0 }) ?? true
    else { throw c.fail("\(x.type) does not divide into \(heads) heads of \(q.type)") }
    let apart = c.g.reshape(x, [x.shape[0], x.shape[1], Size(heads), x.shape[2] / Size(heads)])
    return c.g.transpose(c.g.convert(apart, .float32), [1, 0, 2, 3])
  }

  func results() throws(ImportStop) -> [Value?] {
    let g = c.g
    let queries = try steps(q, heads: heads)
    let (keys, values) = (try steps(k, heads: keyHeads), try steps(v, heads: keyHeads))
    guard keys.shape[3] == queries.shape[3] else {
      throw c.fail("keys \(k.type) do not belong to queries \(q.type)")
    }
    let (batch, kept) = (q.shape[0], [q.shape[0], Size(keyHeads)])
    let square = kept + [keys.shape[3], values.shape[3]]
    var state = g.constant(0, .float32, square)
    if let past = c.optional(3) {
      guard past.shape == square else { throw c.fail("the state is \(past.type), not \(square)") }
      state = g.convert(past, .float32)
    }
    let group = Size(heads / keyHeads)
    let grouped = g.reshape(
      queries, [queries.shape[0]] + kept + [group, queries.shape[3]])
    var inputs = [grouped, keys, values]
    if let decay {
      let gate = try steps(decay, heads: keyHeads)
      guard gate.shape[3] == 1 || gate.shape[3] == keys.shape[3] else {
        throw c.fail("the decay \(decay.type) does not belong to keys \(k.type)")
      }
      inputs.append(g.exponential(gate))
    }
    if let beta {
      guard beta.rank == 3, beta.shape[2] == 1 || beta.shape[2] == Size(keyHeads) else {
        throw c.fail("beta is \(beta.type), not one for each head")
      }
      let rate = try steps(beta, heads: beta.shape[2] == 1 ? 1 : keyHeads)
      inputs.append(g.broadcast(rate, to: rate.shape.prefix(2) + [Size(keyHeads), 1]))
    }
    let hasDecay = decay != nil
    let hasBeta = beta != nil
    let made = g.scan(carried: [state], inputs: inputs, length: q.shape[1]) { g, carried, step in
      var state = carried[0]
      let (query, key) = (step[0], step[1])
      var value = step[2]
      if hasDecay {
        let gate = step[3]
        state = state * g.reshape(gate, gate.shape + [1])
      }
      if hasBeta {
        let known = g.dotGeneral(
          state, key, lhsBatch: [0, 1], rhsBatch: [0, 1], lhsContracting: [2], rhsContracting: [2])
        value = (value - known) * step[step.count - 1]
      }
      state =
        state + g.reshape(key, key.shape + [1])
        * g.reshape(value, kept + [1, value.shape[2]])
      let output = g.dotGeneral(
        query, state, lhsBatch: [0, 1], rhsBatch: [0, 1], lhsContracting: [3], rhsContracting: [2])
      return ([state], [output])
    }
    // [length, batch, key heads, group, size].
    let ordered = g.transpose(made.outputs[0], [1, 0, 2, 3, 4])
    let flat = g.reshape(ordered, [batch, q.shape[1], Size(heads) * values.shape[3]])
    let factor: Value
    if let scale {
      factor = c.scalar(scale, .float32)
    } else {
      factor = g.rsqrt(g.dimension(keys.shape[3], .float32))
    }
    let type = c.optional(3)?.dataType ?? q.dataType
    return [g.convert(flat * factor, q.dataType), g.convert(made.carried[0], type)]
  }
}
