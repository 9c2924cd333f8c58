import DLCKernel
import DLCTensor
import Testing

@Suite struct KernelDraftTests {
  private struct Writer: KernelWriter {
    var draft = KernelDraft()

    /// The lines inside of the kernel.
    func lines() -> [String] {
      let kernel = kernel
      return kernel.text.split(separator: "\n").dropFirst().dropLast().map(String.init)
    }
    var kernel: Kernel {
      Kernel(
        name: "k", parameters: draft.parameters, locals: draft.locals, grid: draft.grid,
        body: draft.body, flops: 0, bytesMoved: 0)
    }
  }

  @Test func closuresBecomeLoops() {
    var w = Writer()
    let x = w.draft.parameter(.float32, 12, isOutput: false)
    let y = w.draft.parameter(.float32, 3, isOutput: true)
    let row = w.tile(3)
    let sum = w.loop(4, [Carried(.float32, .sum)], .vector(unroll: 2)) { w, i, sums in
      [w.apply(.binary(.add), .float32, sums[0], w.load(x, row * 4 + i, .float32))]
    }
    let positive = w.apply(.compare(.greater), .float32, sum[0], w.number(0, .float32))
    w.when(positive) { $0.store(y, row, sum[0], .float32) }
    #expect(
      w.lines() == [
        "  in p0 : float32[12]", "  out p1 : float32[3]", "  grid i0 < 3",
        "  vector x2 i1 in 4 {", "    carry s0 = float(0.0) -> s2 : float32 gives s3 by sum",
        "    s1 = p0[4*i0 + i1] : float32", "    s2 = add s0, s1 : float32", "  }",
        "  s4 = 0.0 : float32", "  s5 = compare_greater s3, s4 : float32", "  when s5 {",
        "    p1[i0] = s3 : float32", "  }",
      ])
    #expect(w.kernel.violations() == [])
  }

  /// What does not depend on the inner of two loops stands in the outer one, but not in a nest.
  @Test(arguments: [false, true]) func definitionsMoveOutOfLoops(_ isNest: Bool) {
    var w = Writer()
    let x = w.draft.parameter(.float32, 3, isOutput: false)
    let y = w.draft.parameter(.float32, 12, isOutput: true)
    let (i, j) = (w.variable(3), w.variable(4))
    func body(_ w: inout Writer) {
      let at = IndexExpression(i)
      let value = w.draft.define(.load(x, at, .float32), in: w.draft.home([at]))
      w.store(y, at * 4 + IndexExpression(j), value, .float32)
    }
    if isNest {
      w.nest([LoopShape(i), LoopShape(j)]) { body(&$0) }
    } else {
      w.each(i) { w, _ in w.each(j) { w, _ in body(&w) } }
    }
    let lines = w.lines()
    let load = lines.firstIndex { $0.contains("p0[") }!
    let inner = lines.firstIndex { $0.contains("for i1") }!
    #expect(isNest ? load > inner : load < inner)
    #expect(w.kernel.violations() == [])
  }

  @Test func reductionsNest() {
    var w = Writer()
    let x = w.draft.parameter(.float64, 6, isOutput: false)
    let y = w.draft.parameter(.float64, 1, isOutput: true)
    let (i, j) = (w.variable(2), w.variable(3))
    let most = w.reduce([i, j], [Carried(.float64, .maximum)], innermost: .vector(unroll: 1)) { w in
      [w.load(x, IndexExpression(i) * 3 + IndexExpression(j), .float64)]
    }
    w.store(y, IndexExpression(0), most[0], .float64)
    let lines = w.lines()
    #expect(lines.filter { $0.contains("by maximum") }.count == 2)
    #expect(lines.filter { $0.contains("vector x1 i1") }.count == 1)
    #expect(w.kernel.violations() == [])
  }

  @Test func blocksAreTiles() {
    var w = Writer()
    let y = w.draft.parameter(.int32, 10, isOutput: true)
    let block = w.tiles(10, size: 4)
    w.each(10, block: block) { w, i in w.store(y, i, w.position(i, .int32), .int32) }
    #expect(w.kernel.tileCount == 3)
    #expect(w.lines().contains("  for i1 in block i0 of 4 in 10 {"))
    #expect(w.kernel.violations() == [])
  }

  /// Indices that data give are bound once, and are indices of the scope in which they are.
  @Test func bindingsBelongToTheirScope() {
    var w = Writer()
    let x = w.draft.parameter(.int64, 5, isOutput: false)
    let y = w.draft.parameter(.int64, 7, isOutput: true)
    w.each(5) { w, i in
      let place = w.bind(w.load(x, i, .int64), extent: 7)
      #expect(w.draft.home([place]) == w.draft.depth)
      w.store(y, place, w.position(i), .int64)
    }
    #expect(w.bind(w.number(3, .int64), extent: 1) == IndexExpression(0))
    #expect(w.kernel.violations() == [])
  }
}
