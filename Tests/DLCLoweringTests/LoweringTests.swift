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

  @Test func twoUsersInDifferentRegionsKeepTheValue() throws {
    let (regions, _) = try Self.regions { g in
      let x = g.input("x", .float32, [8, 8])
      let e = g.exponential(x)
      g.output("a", g.sum(e, axes: [0]))
      g.output("b", g.sum(e, axes: [1]))
    }
    #expect(regions.count == 3)
  }

  @Test func indexSimplification() {
    let i = LoopVariable(id: 0, extent: 6)
    let j = LoopVariable(id: 1, extent: 8)
    let flat = IndexExpression(i) * 8 + IndexExpression(j)
    #expect(flat.quotient(8) == IndexExpression(i))
    #expect(flat.remainder(8) == IndexExpression(j))
    // Taken apart and put together it is what it was, along any number of axes.
    let position = IndexExpression(LoopVariable(id: 2, extent: 401_408))
    for sizes in [[64, 32, 14, 14], [2, 7, 14336, 2], [401_408], [32, 12544]] {
      #expect(linearize(delinearize(position, sizes), sizes) == position)
    }
    #expect(flat.quotient(4).quotient(2) == IndexExpression(i))
    let k = LoopVariable(id: 2, extent: 48)
    let back = IndexExpression(k).quotient(8) * 8 + IndexExpression(k).remainder(8)
    #expect(back == IndexExpression(k))
  }

  /// Quotients and remainders of random expressions against plain arithmetic.
  @Test func indexArithmeticIsExact() {
    var word: UInt64 = 0
    func random(_ bound: Int) -> Int {
      word += 1
      return Int(Philox.word(index: word, key: 5, counter: 1)) % bound
    }
    for _ in 0..<2000 {
      let a = LoopVariable(id: 0, extent: 1 + random(7))
      let b = LoopVariable(id: 1, extent: 1 + random(9))
      let (ca, cb, c0, d1, d2) = (
        random(9) - 3, random(20) - 5, random(30) - 10, 1 + random(8), 1 + random(5)
      )
      let e = IndexExpression(a) * ca + IndexExpression(b) * cb + c0
      let whole = e.quotient(d1)
      let mixed = whole.remainder(d2) * 3 + e.remainder(d1)
      for x in 0..<a.extent {
        for y in 0..<b.extent {
          func value(_ expression: IndexExpression) -> Int {
            let bound = expression.substitute { IndexExpression($0 == a ? x : y) }
            return bound.constant
          }
          let v = ca * x + cb * y + c0
          let q = Size.floorDivide(v, d1)
          #expect(value(whole) == q)
          #expect(value(mixed) == (q - Size.floorDivide(q, d2) * d2) * 3 + v - q * d1)
        }
      }
    }
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

  @Test func kernelVerifierFindsBadIndices() throws {
    let i = LoopVariable(id: 0, extent: 10)
    let s = ScalarID(0)
    func kernel(_ index: IndexExpression) -> Kernel {
      Kernel(
        name: "k",
        parameters: [
          Parameter(.float32, 10, isOutput: false), Parameter(.float32, 10, isOutput: true),
        ], locals: [],
        grid: [],
        body: [
          .loop(
            Loop(
              i,
              body: [
                .define(s, .load(.parameter(0), index, .float32)),
                .store(.parameter(1), IndexExpression(i), s, .float32),
              ]))
        ], flops: 0, bytesMoved: 0)
    }
    #expect(kernel(IndexExpression(i)).violations().isEmpty)
    #expect(!kernel(IndexExpression(i) + 1).violations().isEmpty)
    #expect(!kernel(IndexExpression(i) + -1).violations().isEmpty)
    #expect(!kernel(IndexExpression(LoopVariable(id: 5, extent: 3))).violations().isEmpty)
  }
}
