import DLCGraph
import DLCKernel
import DLCLowering
import DLCTensor
import DLCTestSupport
import Testing

@Suite struct LoweringTests {
  static let target = Target(
    triple: "x86_64-pc-linux-gnu", cpu: "haswell", featureText: "+avx2,+fma")

  static func regions(_ body: @escaping (FunctionBuilder) -> Void) throws -> ([Region], Graph) {
    var module = Module("m")
    try module.function("f", body)
    let graph = try module.functions[0].graph.bound(to: [:])
    return (Partition.run(graph, target), graph)
  }

  @Test func softmaxIsOneKernel() throws {
    let (regions, graph) = try Self.regions { g in
      g.output("y", g.softmax(g.input("x", .float32, [64, 100])))
    }
    #expect(regions.count == 1)
    let lowered = GraphPlan(graph, Self.target).regions[0].lowered
    #expect(lowered.calls.count == 1 && lowered.calls[0].kernel.violations().isEmpty)
  }

  @Test func layerNormIsOneKernel() throws {
    let (regions, _) = try Self.regions { g in
      let x = g.input("x", .float32, [64, 100])
      let (gamma, beta) = (g.parameter("gamma", [100]), g.parameter("beta", [100]))
      g.output("y", g.layerNorm(x, gamma, beta))
    }
    // Scalars of one element (sizes) are constants and need no kernel.
    #expect(regions.count == 1)
  }

  @Test func linearAndActivationAreOneRegion() throws {
    let (regions, _) = try Self.regions { g in
      let x = g.input("x", .float32, [64, 100])
      let (w, b) = (g.parameter("W", [50, 100]), g.parameter("b", [50]))
      g.output("y", g.gelu(g.linear(x, w, b)))
    }
    #expect(regions.count == 1)
    guard case .contraction = regions[0].kind else {
      Issue.record("the region is \(regions[0].kind)")
      return
    }
  }

  /// Beside one row each element of the other operand is read one time, beside several it is kept.
  @Test func whatASingleRowReadsOnceIsComputedInside() throws {
    func count(_ queries: Int, repeating times: Int = 1) throws -> Int {
      try Self.regions { g in
        let q = g.input("q", .float32, [Size(queries * times), 8])
        let keys = g.input("k", .float32, [300, 8]) * 0.5
        let all = g.reshape(
          g.broadcast(keys, to: [300, Size(times), 8], axes: [0, 2]), [300, Size(8 * times)])
        g.output(
          "y", g.matmul(g.reshape(q, [Size(queries), Size(8 * times)]), g.transpose(all, [1, 0])))
      }.0.count
    }
    #expect(try count(1) == 1)
    #expect(try count(4) == 2)
    // What is broadcast on the way is read as often as it is repeated.
    #expect(try count(1, repeating: 3) == 2)
  }

  /// Weights that never change are packed once for a single row too; what a run gives is read where it lies.
  /// What varies along the lanes alone would be computed for every pixel; what varies outside of them is not.
  @Test func whatOuterLoopsRepeatIsComputedOnce() throws {
    func count(_ axes: [Int], dear: Bool = true) throws -> Int {
      try Self.regions { g in
        let x = g.input("x", .float32, [4, 30, 30, 4])
        let gate = g.input("gate", .float32, [4, 4])
        let y = dear ? g.logistic(gate) : gate + 1
        g.output("y", x * g.broadcast(y, to: x.shape, axes: axes))
      }.0.count
    }
    #expect(try count([0, 3]) == 2)
    #expect(try count([0, 3], dear: false) == 1)
    // Rows around lanes.
    let (regions, _) = try Self.regions { g in
      let x = g.input("x", .float32, [4, 30, 30])
      g.output(
        "y", x * g.broadcast(g.logistic(g.input("gate", .float32, [4])), to: x.shape, axes: [0]))
    }
    #expect(regions.count == 1)
  }

  /// Handing a tile to a worker takes as long as some hundred elements.
  @Test func aScatterOfFewElementsIsOneTile() throws {
    func tiles(_ rows: Size) throws -> Int {
      let (_, graph) = try Self.regions { g in
        let x = g.input("x", .float32, [rows, 32])
        let places = g.input("places", .int32, [rows, 8])
        g.output("y", g.scatterAlong(1, x, places, g.input("updates", .float32, [rows, 8])))
      }
      let calls = GraphPlan(graph, Self.target).regions.flatMap(\.lowered.calls)
      return try #require(calls.last { $0.kernel.name.contains("scatter") }).kernel.tileCount
    }
    #expect(try tiles(64) == 1)
    #expect(try tiles(2048) == 2048)
  }

  @Test func aSingleRowRunsOverPanelsOfWeights() throws {
    func kind(_ weights: (FunctionBuilder) -> Value) throws -> Region.Kind {
      try withoutActuallyEscaping(weights) { weights in
        try Self.regions { g in
          g.output("y", g.matmul(g.input("x", .float32, [1, 768]), weights(g)))
        }.0[0].kind
      }
    }
    guard case .contraction = try kind({ $0.parameter("w", [768, 3072]) }) else {
      Issue.record("weights are not packed")
      return
    }
    guard case .rows = try kind({ $0.input("w", .float32, [768, 3072]) }) else {
      Issue.record("an input is packed")
      return
    }
  }

  @Test func twoUsersInDifferentRegionsKeepTheValue() throws {
    let (regions, _) = try Self.regions { g in
      let x = g.input("x", .float32, [8, 8])
      let e = g.exponential(x)
      g.output("a", g.sum(e, axes: [0]))
      g.output("b", g.sum(e, axes: [1]))
    }
    #expect(regions.count == 3)
  }

  @Test func placementNeverOverlapsLiveBuffers() {
    for seed in 0..<300 {
      func random(_ index: Int, _ bound: Int) -> Int {
        Int(Philox.word(index: UInt64(index), key: UInt64(seed), counter: 4)) % bound
      }
      let ranges = (0..<30).map { i in
        let first = random(3 * i, 40)
        return LiveRange(
          size: 1 + random(3 * i + 1, 5000), first: first, last: first + random(3 * i + 2, 12))
      }
      let placement = BufferPlacement(ranges)
      #expect(placement.peak >= placement.lowerBound)
      for i in ranges.indices {
        #expect(
          placement.offsets[i] % 64 == 0 && placement.offsets[i] + ranges[i].size <= placement.peak)
        for j in ranges.indices where j < i && ranges[i].overlaps(ranges[j]) {
          #expect(
            placement.offsets[i] + ranges[i].size <= placement.offsets[j]
              || placement.offsets[j] + ranges[j].size <= placement.offsets[i])
        }
      }
    }
  }
}
