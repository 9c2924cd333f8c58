import DLCGraph
import DLCTensor

/// Random numbers: Philox words under the run's seed, or under the operator's own.
enum RandomOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("RandomUniform", inputs: 0) { c throws(ImportStop) in
      [try uniform(c, try shape(c), try c.elementType("dtype") ?? .float32)]
    },
    OperatorMapping("RandomUniformLike", inputs: 1) { c throws(ImportStop) in
      let x = try c.operand(0)
      return [try uniform(c, x.shape, try c.elementType("dtype") ?? like(x))]
    },
    OperatorMapping("RandomNormal", inputs: 0) { c throws(ImportStop) in
      [try normal(c, try shape(c), try c.elementType("dtype") ?? .float32)]
    },
    OperatorMapping("RandomNormalLike", inputs: 1) { c throws(ImportStop) in
      let x = try c.operand(0)
      return [try normal(c, x.shape, try c.elementType("dtype") ?? like(x))]
    },
    OperatorMapping("Bernoulli", since: 15, inputs: 1) { c throws(ImportStop) in
      let p = try c.operand(0)
      let drawn = c.g.bernoulli(bits: try bits(c, p.shape), p)
      return [c.g.convert(drawn, try c.elementType("dtype") ?? p.dataType)]
    },
    OperatorMapping("Multinomial", since: 7, inputs: 1) { c throws(ImportStop) in
      let logits = try c.operand(0)
      guard logits.rank == 2 else {
        throw c.fail("the input is \(logits.type), not [batch, classes]")
      }
      let count = Size(try c.integer("sample_size", 1))
      let shape = [logits.shape[0], count, logits.shape[1]]
      let drawn = c.g.categorical(
        bits: try bits(c, shape), c.g.broadcast(logits, to: shape, axes: [0, 2]))
      return [c.g.convert(drawn, try c.elementType("dtype") ?? .int32)]
    },
    OperatorMapping("Dropout", inputs: 1) { c throws(ImportStop) in
      // Early versions train when they are not said to be tested; a graph that is run is.
      let x = try c.operand(0)
      return [x, c.g.constant(1, c.version < 10 ? x.dataType : .bool, x.shape)]
    },
    OperatorMapping("Dropout", since: 12, inputs: 3, statics: ["training_mode"], dropout),
  ]

  private static func like(_ x: Value) -> DataType { x.dataType.isFloat ? x.dataType : .float32 }

  private static func shape(_ c: NodeContext) throws(ImportStop) -> [Size] {
    guard let shape = try c.integers("shape"), shape.allSatisfy({ $0 >= 0 }) else {
      throw c.fail("attribute 'shape' is missing or negative")
    }
    return shape.map { Size($0) }
  }

  private static func bits(_ c: NodeContext, _ shape: [Size]) throws(ImportStop) -> Value {
    let (key, counter) = c.importer.nextRandom(seed: try c.real("seed"))
    return c.g.randomBits(key: key, counter: counter, shape)
  }

  private static func uniform(_ c: NodeContext, _ shape: [Size], _ type: DataType)
    throws(ImportStop) -> Value
  {
    let (low, high) = (try c.real("low", 0), try c.real("high", 1))
    let unit = c.g.uniform(bits: try bits(c, shape))
    return c.g.convert(unit * c.scalar(high - low, .float32) + c.scalar(low, .float32), type)
  }

  private static func normal(_ c: NodeContext, _ shape: [Size], _ type: DataType) throws(ImportStop)
    -> Value
  {
    // Two words for each number, one after the other.
    let words = try bits(c, [2] + shape)
    func half(_ index: Int) -> Value {
      c.g.reshape(c.g.slice(words, axis: 0, from: Size(index), to: Size(index + 1)), shape)
    }
    let standard = c.g.normal(bits: half(0), half(1))
    let (mean, scale) = (try c.real("mean", 0), try c.real("scale", 1))
    return c.g.convert(standard * c.scalar(scale, .float32) + c.scalar(mean, .float32), type)
  }

  private static func dropout(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    let x = try c.operand(0)
    let g = c.g
    guard c.has(2), try c.integer(2) != 0 else { return [x, g.constant(1, .bool, x.shape)] }
    let ratio =
      c.optional(1).map { g.convert(g.reshape($0, []), .float32) } ?? c.scalar(0.5, .float32)
    let keep = g.uniform(bits: try bits(c, x.shape)) >= g.broadcast(ratio, to: x.shape)
    let scaled = x / g.broadcast(g.convert(c.scalar(1, .float32) - ratio, x.dataType), to: x.shape)
    return [g.select(keep, scaled, c.scalar(0, x.dataType)), keep]
  }

  /// Whether a node, or one in its graphs, draws random numbers.
  static func isRandom(_ node: ONNXNode) -> Bool {
    // Dropout draws where it is said to train.
    node.type == "Dropout"
      ? node.inputs.count > 2 && !node.inputs[2].isEmpty
      : names.contains(node.type) || node.graphs.contains { $0.nodes.contains(where: isRandom) }
  }

  private static let names = Set(all.map(\.name))
}
