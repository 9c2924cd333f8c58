import DLCGraph
import DLCTensor
import DLCTraining

enum Decoder {
  static let decoder = TokenDecoder(count: "V", size: 128)
  /// With how many characters a cache begins again when it is full.
  static let kept = 32

  static let model = Characters.model(
    "decoder", "transformer decoder: the next character by 2 blocks, d 128, over up to 64",
    rate: 2e-3,
    logits: { l, x in decoder.logits(l, x) }, sample: { l, settings in sample(l, settings) })

  /// Every character is one step with the keys and values of those before it. Positions are learned for 64
  /// places; behind the last one a cache begins again with the 32 newest characters, so that each is drawn
  /// from 32 to 64 (training has 1 to 64).
  private static func sample(_ l: Layers, _ settings: Characters.Settings) -> Value {
    let g = l.g
    let newest = g.constant(0, .int32, ["n", Size(kept)])
    let start = [newest, g.constant(0, .int32)] + decoder.caches(l, "n")
    let (_, text) = g.scan(carried: start, inputs: [Families.iterations(g, "L")]) {
      g, carried, step in
      let (newest, position, caches) = (carried[0], carried[1], Array(carried[2...]))
      let isFull = g.compare(.equal, position, g.constant(Double(TokenDecoder.length), .int32))
      let results = g.cond(isFull) { g in
        let (logits, after) = decoder.next(l, newest, caches, at: g.constant(0, .int32))
        return [logits, g.constant(Double(kept), .int32)] + after
      } otherwise: { g in
        let last = g.slice(newest, axis: 1, from: Size(kept - 1), to: Size(kept))
        let (logits, after) = decoder.next(l, last, caches, at: position)
        return [logits, g.binary(.add, position, g.constant(1, .int32))] + after
      }
      let token = settings.token(g, results[0], step[0])
      let rest = g.slice(newest, axis: 1, from: 1, to: Size(kept))
      let next = g.concatenate([rest, g.reshape(token, ["n", 1])], axis: 1)
      return ([next] + results[1...], [token])
    }
    return g.transpose(text[0], [1, 0])
  }
}
