import DLCGraph
import DLCTensor

/// Operators that ONNX Runtime's optimiser and exporters write.
enum MicrosoftOperators {
  static let domain = "com.microsoft"

  static let all: [OperatorMapping] = [
    OperatorMapping("Gelu", domain: domain, inputs: 1) { c throws(ImportStop) in
      [c.g.gelu(try c.operand(0))]
    },
    OperatorMapping("BiasGelu", domain: domain, inputs: 2) { c throws(ImportStop) in
      [c.g.gelu(try shifted(c, try c.operand(0), c.optional(1)))]
    },
    OperatorMapping("FastGelu", domain: domain, inputs: 2) { c throws(ImportStop) in
      [c.g.geluTanh(try shifted(c, try c.operand(0), c.optional(1)))]
    },
    OperatorMapping("QuickGelu", domain: domain, inputs: 1) { c throws(ImportStop) in
      let x = try c.operand(0)
      return [x * c.g.logistic(x * (try c.real("alpha", 1.702)))]
    },
    OperatorMapping("RotaryEmbedding", domain: domain, inputs: 4, rotaryEmbedding),
    OperatorMapping("MatMulNBits", domain: domain, inputs: 6, packedProduct),
  ]

  /// A value and a bias that is broadcast to it.
  private static func shifted(_ c: NodeContext, _ x: Value, _ bias: Value?) throws(ImportStop)
    -> Value
  {
    guard let bias else { return x }
    let list = try c.broadcast([x, bias])
    return list[0] + list[1]
  }

  private static func rotaryEmbedding(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let g = c.g
    let (x, cosines) = (try c.operand(0), try c.operand(2))
    guard x.rank == 3 || x.rank == 4, cosines.rank == 2 else {
      throw c.fail("the input is \(x.type), the table \(cosines.type)")
    }
    guard try !c.flag("is_packed_batching") else { throw c.unsupported("packed batches") }
    let size = try c.integer("rotary_embedding_dim", 0)
    var heads = try c.integer("num_heads", 0)
    if heads == 0, x.rank == 3 { heads = try c.number(x.shape[2] / (cosines.shape[1] * 2)) }
    let length = x.shape[x.rank - 2]
    var positions = try c.operand(1)
    if positions.rank < 2 {
      // The place of the first one.
      let steps = g.iota(positions.dataType, [1, length], axis: 1)
      positions = g.broadcast(
        steps + g.reshape(positions, [1, 1]), to: [x.shape[0], length])
    }
    let turned = try AttentionOperators.rotated(
      c, x, cosines, try c.operand(3), positions: positions, heads: heads, size: size,
      interleaved: try c.flag("interleaved"))
    return [LinearOperators.scaled(c, turned, try c.real("scale", 1))]
  }

  // MARK: Packed weights

  /// Numbers of a few bits each, the lowest bits of a byte first, along the last axis.
  private static func unpacked(_ c: NodeContext, _ x: Value, bits: Int) -> Value {
    if bits == 8 { return x }
    let g = c.g
    let mask = c.constant([], [(1 << bits) - 1], .uint8)
    let parts = (0..<8 / bits).map { place in
      let low = g.binary(.shift_right_logical, x, c.constant([], [place * bits], .uint8))
      return c.unsqueezed(low & mask, [x.rank])
    }
    let joined = g.concatenate(parts, axis: x.rank)
    return g.reshape(joined, x.shape.dropLast() + [x.shape[x.rank - 1] * Size(8 / bits)])
  }

  /// A product with weights [n, k] that are kept in blocks with a scale each.
  private static func packedProduct(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let g = c.g
    let (x, packed) = (try c.operand(0), try c.operand(1))
    let bits = try c.integer("bits", 4)
    guard [2, 4, 8].contains(bits) else { throw c.unsupported("weights of \(bits) bits") }
    guard try c.integer("weight_prepacked", 0) == 0 else {
      throw c.unsupported("prepacked weights")
    }
    guard let n = try c.integer("N"), let k = try c.integer("K"),
      let block = try c.integer("block_size"),
      [n, k, block].allSatisfy({ 1...Int(Int32.max) ~= $0 })
    else { throw c.fail("it wants N, K and block_size above 0") }
    let blocks = (k + block - 1) / block
    guard packed.dataType == .uint8,
      packed.shape == [Size(n), Size(blocks), Size(block * bits / 8)]
    else { throw c.fail("weights \(packed.type) are not \(n) rows of \(blocks) blocks") }
    let whole: [Size] = [Size(n), Size(blocks), Size(block)]
    /// Of each block, or of each column by its group.
    let groups = c.optional(4)
    func spread(_ v: Value) -> Value {
      guard let groups else { return g.broadcast(v, to: whole, axes: [0, 1]) }
      return IndexingOperators.taken(c, v, groups, axis: 1)
    }
    var weights = g.convert(unpacked(c, packed, bits: bits), x.dataType)
    if groups != nil {
      weights = g.slice(
        g.reshape(weights, [Size(n), Size(blocks * block)]), axis: 1, from: 0, to: Size(k))
    } else {
      weights = g.reshape(weights, whole)
    }
    if let zeros = c.optional(3) {
      var rows = zeros
      if zeros.dataType == .uint8 {
        let width = (blocks * bits + 7) / 8
        rows = unpacked(c, g.reshape(zeros, [Size(n), Size(width)]), bits: bits)
        rows = g.slice(rows, axis: 1, from: 0, to: Size(blocks))
      }
      rows = g.reshape(g.convert(rows, x.dataType), [Size(n), Size(blocks)])
      weights = weights - spread(rows)
    } else {
      weights = weights - Double(1 << (bits - 1))
    }
    weights = weights * spread(g.reshape(try c.operand(2), [Size(n), Size(blocks)]))
    if groups == nil {
      weights = g.slice(
        g.reshape(weights, [Size(n), Size(blocks * block)]), axis: 1, from: 0, to: Size(k))
    }
    guard x.rank >= 1, x.shape[x.rank - 1] == Size(k) else {
      throw c.fail("\(x.type) does not have rows of \(k)")
    }
    let y = g.dotGeneral(x, weights, lhsContracting: [-1], rhsContracting: [1])
    return [try shifted(c, y, c.optional(5))]
  }
}
