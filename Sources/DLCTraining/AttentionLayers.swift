public import DLCGraph
public import DLCTensor

extension Layers {
  /// What self-attention keeps of the positions that it has seen: keys and values
  /// [n, heads, T, d / heads] with room for T positions.
  public struct AttentionCache {
    /// [n, heads, T, d / heads].
    public var keys: Value
    /// [n, heads, T, d / heads].
    public var values: Value

    /// A cache of arrays that a loop or a call has carried.
    public init(keys: Value, values: Value) {
      self.keys = keys
      self.values = values
    }

    /// As a loop carries it: two arrays.
    package init(_ arrays: some Collection<Value>) {
      let list = Array(arrays)
      self.init(keys: list[0], values: list[1])
    }

    package var arrays: [Value] { [keys, values] }
  }

  /// A cache that holds nothing yet, for `count` rows of size `size` and up to `length` positions.
  public func attentionCache(
    _ count: Size, length: Size, heads: Int, size: Size, file: StaticString = #fileID,
    line: UInt = #line
  ) -> AttentionCache {
    let shape = [count, Size(heads), length, size / Size(max(heads, 1))]
    let zeros = g.enter(file, line, []) { $0.constant(0, dataType, shape) }
    return AttentionCache(keys: zeros, values: zeros)
  }

  /// Multi-head self-attention of x [n, T, d] with one product for queries, keys and values.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, ["n", 6, 8])
  /// g.output("y", Layers(g).selfAttention("attention.", x, heads: 2, causal: true))
  /// ```
  public func selfAttention(
    _ name: String, _ x: Value, heads: Int, causal: Bool = false, bias: Value? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    attended(name, x, heads, [bias], file, line) { g, q, k, v in
      g.attention(q, k, v, bias: bias, causal: causal)
    }
  }

  /// The same, causal, of positions that come after those in a cache.
  /// - Parameters:
  ///   - x: [n, s, d], what stands at `position` to `position + s - 1`.
  ///   - position: an int32 scalar. Where there is no room left for s positions, the last ones are
  ///     written over.
  /// - Returns: [n, s, d], and the cache with these positions. Each sees those up to its own.
  public func selfAttention(
    _ name: String, _ x: Value, heads: Int, cache: AttentionCache, at position: Value,
    file: StaticString = #fileID, line: UInt = #line
  ) -> (output: Value, cache: AttentionCache) {
    var next = cache
    let output = attended(name, x, heads, cache.arrays + [position], file, line) {
      g, q, k, v throws(DLCError) in
      guard position.type == TensorType(.int32) else {
        throw DLCError(.type, "the position is an int32 scalar, this is \(position.type)")
      }
      guard cache.keys.rank == 4 else {
        throw DLCError(.type, "a cache is [n, heads, T, d / heads], this is \(cache.keys.type)")
      }
      let zero = g.constant(0, .int32)
      next.keys = g.dynamicUpdate(cache.keys, k, at: [zero, zero, position, zero])
      next.values = g.dynamicUpdate(cache.values, v, at: [zero, zero, position, zero])
      let shape = [x.shape[1], cache.keys.shape[2]]
      let row = g.binary(.add, g.iota(.int32, shape, axis: 0), position)
      let isSeen = g.compare(.less_equal, g.iota(.int32, shape, axis: 1), row)
      let scores = g.constant(0, q.dataType, shape)
      let bias = g.select(isSeen, scores, g.constant(-.infinity, like: scores))
      return g.attention(q, next.keys, next.values, bias: bias)
    }
    return (output, next)
  }

  private func attended(
    _ name: String, _ x: Value, _ heads: Int, _ others: [Value?], _ file: StaticString,
    _ line: UInt,
    _ mix: (FunctionBuilder, _ q: Value, _ k: Value, _ v: Value) throws(DLCError) -> Value
  ) -> Value {
    layer(name, file, line, [x] + others) { g throws(DLCError) in
      guard x.rank == 3 else {
        throw DLCError(.type, "self-attention takes [n, T, d], this is \(x.type)")
      }
      let size = x.shape[2]
      let all = linear("\(name)qkv", x, size * 3)
      func part(_ k: Int) -> Value {
        g.splitHeads(
          g.slice(all, axis: 2, from: size * Size(k), to: size * Size(k + 1)), heads)
      }
      let mixed = try g.scope("scores") { () throws(DLCError) in
        try mix(g, part(0), part(1), part(2))
      }
      return linear("\(name)out", g.mergeHeads(mixed, size), size)
    }
  }

  /// A block that normalises first: x + attention(LN x), then x + FFN(LN x) with GELU, four times as
  /// wide (Radford et al. 2019).
  public func transformerBlock(
    _ name: String, _ x: Value, heads: Int, causal: Bool, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    block(name, x, [], file, line) { inner, normal in
      inner.selfAttention("", normal, heads: heads, causal: causal)
    }
  }

  /// The same block, causal, over positions that come after those in a cache; see `selfAttention`.
  public func transformerBlock(
    _ name: String, _ x: Value, heads: Int, cache: AttentionCache, at position: Value,
    file: StaticString = #fileID, line: UInt = #line
  ) -> (output: Value, cache: AttentionCache) {
    var next = cache
    let output = block(name, x, cache.arrays + [position], file, line) { inner, normal in
      let (mixed, after) = inner.selfAttention(
        "", normal, heads: heads, cache: cache, at: position)
      next = after
      return mixed
    }
    return (output, next)
  }

  private func block(
    _ name: String, _ x: Value, _ others: [Value], _ file: StaticString, _ line: UInt,
    attention: (_ inner: Layers, _ normal: Value) -> Value
  ) -> Value {
    layer(name, file, line, [x] + others) { g throws(DLCError) in
      guard x.rank == 3 else {
        throw DLCError(.type, "a transformer block takes [n, T, d], this is \(x.type)")
      }
      let inner = scope(name)
      let normal = inner.layerNorm("ln1", x)
      let mixed = x + g.scope("attention") { attention(inner, normal) }
      let size = x.shape[2]
      let wide = g.gelu(inner.linear("ff1", inner.layerNorm("ln2", mixed), size * 4))
      return mixed + inner.linear("ff2", wide, size)
    }
  }
}
