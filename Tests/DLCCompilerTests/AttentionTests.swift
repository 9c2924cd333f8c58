import DLCCompiler
import DLCGraph
import DLCLowering
import DLCTensor
import Testing

/// Rows between two products: one kernel, which stores none of them.
@Suite struct AttentionTests {
  struct Shape: Sendable {
    var batch: [Int]
    var queries: Int
    var keys: Int
    var depth: Int
    var values: Int
    var type = DataType.float32
    /// Whether keys lie as [batch, depth, keys].
    var turned = false
  }

  private static func scores(_ g: FunctionBuilder, _ s: Shape) -> Value {
    let batch = s.batch.map { Size($0) }
    let q = g.input("q", s.type, batch + [Size(s.queries), Size(s.depth)])
    let k = g.input(
      "k", s.type,
      batch + (s.turned ? [Size(s.depth), Size(s.keys)] : [Size(s.keys), Size(s.depth)]))
    let rank = s.batch.count
    let axes = Array(0..<rank)
    return g.dotGeneral(
      q, k, lhsBatch: axes, rhsBatch: axes, lhsContracting: [rank + 1],
      rhsContracting: [s.turned ? rank : rank + 1])
  }

  private static func weighted(_ g: FunctionBuilder, _ s: Shape, _ p: Value) -> Value {
    let v = g.input("v", s.type, (s.batch + [s.keys, s.values]).map { Size($0) })
    let rank = s.batch.count
    let axes = Array(0..<rank)
    return g.dotGeneral(
      p, v, lhsBatch: axes, rhsBatch: axes, lhsContracting: [rank + 1], rhsContracting: [rank])
  }

  private static func joined(_ run: ComparedRun) -> Int {
    run.regions.count { if case .attention = $0.kind { true } else { false } }
  }

  static let shapes = [
    Shape(batch: [2, 3], queries: 40, keys: 64, depth: 16, values: 32),
    Shape(batch: [1, 2], queries: 37, keys: 53, depth: 20, values: 33),
    Shape(batch: [3], queries: 130, keys: 17, depth: 24, values: 48, turned: true),
    Shape(batch: [1], queries: 19, keys: 700, depth: 330, values: 16, turned: true),
    Shape(batch: [2], queries: 12, keys: 48, depth: 8, values: 16, type: .float64),
  ]

  /// The bits are those of kernels of their own, which there are where the weights are a result too.
  @Test(arguments: shapes.indices) func softmaxIsBetweenProducts(_ index: Int) throws {
    let shape = Self.shapes[index]
    func module(showsWeights: Bool) throws -> Module {
      var module = Module("m")
      try module.function("f") { g in
        let scale = 1 / Double(shape.depth).squareRoot()
        let mask = g.input("mask", shape.type, [Size(shape.queries), Size(shape.keys)])
        let s = Self.scores(g, shape) * scale
        let p = g.softmax(s + g.broadcast(mask, to: s.shape), axis: -1)
        let y = Self.weighted(g, shape, p)
        g.output("y", g.relu(y + 0.25))
        if showsWeights { g.output("p", p) }
      }
      return module
    }
    let one = try ComparedRun(module(showsWeights: false))
    let apart = try ComparedRun(module(showsWeights: true))
    #expect(Self.joined(one) == 1 && Self.joined(apart) == 0)
    #expect(one.results["y"] == apart.results["y"])
  }

  /// Batches that are one axis for the products and several for the rows, and rows that are no softmax.
  @Test func rowsMayBeSeenOtherwise() throws {
    let shape = Shape(batch: [6], queries: 21, keys: 40, depth: 16, values: 16)
    var module = Module("m")
    try module.function("f") { g in
      let s = g.reshape(Self.scores(g, shape), [1, 2, 3, 21, 40])
      let p = s / (g.sum(g.abs(s), axes: [4], keepAxes: true) + 1)
      g.output("y", Self.weighted(g, shape, g.reshape(p, [6, 21, 40])))
    }
    #expect(try Self.joined(ComparedRun(module)) == 1)
  }

  /// Batches that the products count otherwise.
  @Test func batchesMustBeThoseOfBoth() throws {
    let shape = Shape(batch: [6], queries: 21, keys: 40, depth: 16, values: 16)
    let apart = Shape(batch: [2, 3], queries: 21, keys: 40, depth: 16, values: 16)
    var module = Module("m")
    try module.function("f") { g in
      let p = g.softmax(Self.scores(g, shape), axis: -1)
      g.output("y", Self.weighted(g, apart, g.reshape(p, [2, 3, 21, 40])))
    }
    #expect(try Self.joined(ComparedRun(module)) == 0)
  }

  /// Layers with a norm in between: their weights are of no batch, and each product is split by its columns.
  @Test func layersStayApart() throws {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.matmul(g.input("x", .float32, [12, 24]), g.input("v", .float32, [24, 40]))
      g.output("y", g.matmul(g.softmax(x, axis: -1), g.input("w", .float32, [40, 32])))
    }
    #expect(try Self.joined(ComparedRun(module)) == 0)
  }

  /// What is needed elsewhere, or lies otherwise, is not joined.
  @Test func otherRowsStayApart() throws {
    let shape = Shape(batch: [2], queries: 24, keys: 24, depth: 16, values: 24)
    for kind in 0..<3 {
      var module = Module("m")
      try module.function("f") { g in
        let s = Self.scores(g, shape)
        let p = g.softmax(s, axis: kind == 0 ? -2 : -1)
        let rows = kind == 1 ? g.transpose(p, [0, 2, 1]) : p
        g.output("y", Self.weighted(g, shape, rows))
        if kind == 2 { g.output("s", g.sum(s, axes: [0])) }
      }
      #expect(try Self.joined(ComparedRun(module)) == 0)
    }
  }
}
