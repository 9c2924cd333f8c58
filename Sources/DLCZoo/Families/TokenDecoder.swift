import DLCGraph
import DLCTensor
import DLCTraining

/// A transformer decoder over tokens, up to 64 of them: 2 pre-norm blocks of 4 heads.
struct TokenDecoder {
  static let length = 64
  static let blocks = 2
  static let heads = 4
  /// How many tokens there are.
  var count: Size
  var size: Size

  /// Logits [n, T, count] of tokens [n, T], each from those up to it.
  func logits(_ l: Layers, _ tokens: Value) -> Value {
    let here = l.g.slice(position(l), axis: 0, from: 0, to: tokens.shape[1])
    var h = entered(l, tokens) + here
    for block in 0..<Self.blocks {
      h = l.transformerBlock("\(block)", h, heads: Self.heads, causal: true)
    }
    return left(l, h)
  }

  /// The caches before the first token, as a loop carries them.
  func caches(_ l: Layers, _ rows: Size) -> [Value] {
    (0..<Self.blocks).flatMap { _ in
      l.attentionCache(rows, length: Size(Self.length), heads: Self.heads, size: size).arrays
    }
  }

  /// Logits [n, count] of what follows tokens [n, s] that stand at `start` and after it, and the caches with
  /// them.
  func next(_ l: Layers, _ tokens: Value, _ caches: [Value], at start: Value) -> (Value, [Value]) {
    let (g, steps) = (l.g, tokens.shape[1])
    let here = g.dynamicSlice(
      position(l), at: [start, g.constant(0, .int32)], sizes: [steps, size])
    var h = entered(l, tokens) + here
    var after: [Value] = []
    for block in 0..<Self.blocks {
      let cache = Layers.AttentionCache(caches[2 * block..<2 * block + 2])
      let (y, next) = l.transformerBlock(
        "\(block)", h, heads: Self.heads, cache: cache, at: start)
      h = y
      after += next.arrays
    }
    let last = g.slice(h, axis: 1, from: steps - 1, to: steps)
    return (left(l, g.reshape(last, [tokens.shape[0], size])), after)
  }

  private func position(_ l: Layers) -> Value {
    l.parameter("position", [Size(Self.length), size], .normal(mean: 0, deviation: 0.02))
  }

  private func entered(_ l: Layers, _ tokens: Value) -> Value {
    l.embedding("table", tokens, count: count, size: size)
  }

  private func left(_ l: Layers, _ h: Value) -> Value {
    l.linear("head", l.layerNorm("ln", h), count)
  }
}
