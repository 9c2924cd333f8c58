package import DLCGraph
package import DLCTensor

/// Well-typed random graphs from a seed.
package struct GraphGenerator {
  private var state: UInt64
  private static let shapes: [[Int]] = [
    [4, 6], [6], [2, 3, 8], [5, 17], [33], [1, 9], [16, 16],
  ]

  package init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

  private mutating func next(_ bound: Int) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return Int(state >> 33) % bound
  }

  /// A module with one function over a few inputs and a parameter.
  package mutating func module(nodes count: Int) throws(DLCError) -> Module {
    let shape = Self.shapes[next(Self.shapes.count)]
    var module = Module("random")
    let plan = (0..<count).map { _ in (next(31), next(1 << 20), next(1 << 20), next(1 << 20)) }
    try module.function("forward") { g in
      var values = [
        g.input("a", .float32, shape.map { Size($0) }),
        g.input("b", .float32, shape.map { Size($0) }),
        g.parameter("w", [Size(shape.last!)], .normal(mean: 0, deviation: 0.5)),
      ]
      for (kind, i, j, k) in plan {
        let x = values[i % values.count]
        let y = values[j % values.count]
        let made = Self.operation(g, kind, x, y, k)
        values.append(made)
      }
      g.output("last", values.last!)
      g.output(
        "middle", values[3 + (values.count - 3) / 2 < values.count ? 3 + (values.count - 3) / 2 : 0]
      )
    }
    return module
  }

  private static func operation(_ g: FunctionBuilder, _ kind: Int, _ x: Value, _ y: Value, _ k: Int)
    -> Value
  {
    let axis = x.rank == 0 ? 0 : k % x.rank
    func fits(_ a: Value, _ b: Value) -> Bool { a.shape == b.shape }
    switch kind {
    case 0: return g.tanh(x)
    case 1: return g.logistic(x)
    case 2: return fits(x, y) ? x + y : x * 0.5
    case 3: return fits(x, y) ? x * y : -x
    case 4: return fits(x, y) ? g.maximum(x, y) : g.abs(x)
    case 5: return fits(x, y) ? x - y : x - 0.25
    case 6: return x.rank > 0 ? g.softmax(x, axis: axis) : x
    case 7: return x.rank > 0 ? g.sum(x, axes: [axis]) * 0.125 : x
    case 8: return x.rank > 0 ? g.max(x, axes: [axis], keepAxes: true) : x
    case 9: return x.rank > 1 ? g.transpose(x, Array((0..<x.rank).reversed())) : x
    case 10: return g.reshape(x, [x.shape.reduce(1, *)])
    case 11: return x.rank > 0 ? g.reverse(x, axes: [axis]) : x
    case 12:
      guard x.rank > 0, let size = x.shape[axis].constant, size > 1 else { return x }
      return g.slice(x, axis: axis, from: 1, to: Size(size))
    case 13:
      guard x.rank > 0 else { return x }
      return g.pad(
        x, 0.5, low: x.shape.indices.map { $0 == axis ? 1 : 0 },
        high: x.shape.indices.map { _ in Size(k % 2) })
    case 14: return x.rank > 0 && fits(x, y) ? g.concatenate([x, y], axis: axis) : g.gelu(x)
    case 15:
      guard x.rank == 2 else { return g.exponential(g.minimum(x, g.constant(1, like: x))) }
      return g.dotGeneral(x, x, lhsContracting: [1], rhsContracting: [1]) * 0.05
    case 16:
      guard x.rank > 0, let size = x.shape.last?.constant, size > 1 else { return x }
      let one = g.constant(1, .float32, [Size(size)])
      return g.layerNorm(x, one, one)
    case 17: return fits(x, y) ? g.select(g.compare(.less, x, y), x, y * 0.5) : x
    case 18: return x.rank > 0 ? g.convert(g.argmax(x, axis: axis), .float32) * 0.1 : x
    case 19:
      guard x.rank == 2, x.shape[1].constant.map({ $0 >= 2 }) ?? false else { return x }
      return g.maxPool(x, window: [2])
    case 20: return g.broadcast(x, to: [2] + x.shape)
    case 21: return x.rank > 0 ? x * g.iota(.float32, x.shape, axis: axis) * 0.1 : x
    case 22: return g.sqrt(g.abs(x) + 0.1)
    case 23: return x.rank > 0 ? g.cumulativeSum(x * 0.1, axis: axis, reverse: k % 2 == 0) : x
    case 24: return x.rank > 0 ? g.sort([x], axis: axis, descending: k % 2 == 0)[0] : x
    case 25:
      guard x.rank > 0, let size = x.shape[0].constant, size > 0 else { return x }
      let ids = g.constant(Tensor([5], (0..<5).map { Int32(k / ($0 + 1) % (2 * size)) }))
      return g.embedding(x, ids)
    case 26:
      guard x.rank > 0 else { return x }
      let ids = g.argmax(x, axis: axis)
      return g.gatherAlong(
        axis, x, g.reshape(ids, x.shape.indices.map { $0 == axis ? 1 : x.shape[$0] }))
    case 27...29: return control(g, kind, x, k)
    default: return x.rank > 0 ? g.mean(x, axes: [axis], keepAxes: true) + x : x
    }
  }

  /// Loops and branches.
  private static func control(_ g: FunctionBuilder, _ kind: Int, _ x: Value, _ k: Int) -> Value {
    switch kind {
    case 27:
      guard x.rank > 1 else { return x }
      let start = g.constant(0.5, .float32, Array(x.shape.dropFirst()))
      let (_, outputs) = g.scan(carried: [start], inputs: [x], reverse: k % 2 == 0) { g, c, s in
        let next = g.tanh(c[0] * 0.5 + s[0])
        return ([next], [next + c[0]])
      }
      return outputs[0]
    case 28:
      guard x.rank > 0 else { return x }
      let limit = g.constant(Double(k % 5), .int32)
      return g.whileLoop([x, g.constant(0, .int32)]) { g, c in
        g.compare(.less, c[1], limit)
      } body: { g, c in
        [c[0] * 0.5 + 0.1, c[1] + g.constant(1, .int32)]
      }[0]
    default:
      let total = g.sum(x, axes: Array(x.shape.indices))
      return g.cond(g.compare(.less, total, g.constant(0, .float32))) { g in
        [g.abs(x)]
      } otherwise: { g in
        [x * 0.5]
      }[0]
    }
  }
}
