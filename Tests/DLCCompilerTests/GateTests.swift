import DLCCompiler
import DLCGraph
import DLCLowering
import DLCTensor
import Testing

/// Maps over what a product gives: elements of several gates, and other shapes.
@Suite struct GateTests {
  /// A cell of `gates` gates, hidden units side by side in each.
  private static func cell(
    batch: Int, hidden: Int, gates: Int, steady: Bool, showsProduct: Bool
  ) throws -> Module {
    var module = Module("m")
    try module.function("f") { g in
      let h = Size(hidden)
      let all = h * Size(gates)
      let x = g.input("x", .float32, [Size(batch), h])
      let c = g.input("c", .float32, [Size(batch), h])
      let weights: Value
      if steady {
        let numbers = (0..<hidden * hidden * gates).map { Float($0 % 17) / 16 - 0.5 }
        weights = g.constant(Tensor([hidden, hidden * gates], numbers))
      } else {
        weights = g.input("w", .float32, [h, all])
      }
      let product = g.matmul(x, weights)
      let sums = product + g.input("b", .float32, [Size(batch), all])
      var (sum, last) = (c, c)
      for gate in 0..<gates {
        let part = g.slice(sums, axis: 1, from: Size(gate) * h, to: Size(gate + 1) * h)
        last = gate % 2 == 0 ? g.logistic(part) : g.tanh(part)
        sum = sum * last + part
      }
      g.output("c", sum)
      let y = last * g.tanh(sum)
      g.output("h", y)
      g.output("y", y)
      if showsProduct { g.output("product", product) }
    }
    return module
  }

  /// One kernel, whatever the sizes, and the bits of a product that is stored before the gates read it.
  @Test(arguments: [
    (32, 64, 4, true), (7, 20, 3, true), (5, 33, 2, false), (13, 48, 4, false), (2, 400, 3, true),
  ])
  func gatesAreOfTheProduct(_ batch: Int, _ hidden: Int, _ gates: Int, _ steady: Bool) throws {
    let one = try ComparedRun(
      Self.cell(batch: batch, hidden: hidden, gates: gates, steady: steady, showsProduct: false))
    let apart = try ComparedRun(
      Self.cell(batch: batch, hidden: hidden, gates: gates, steady: steady, showsProduct: true))
    func gated(_ run: ComparedRun) -> [Int] { run.regions.map(\.gates).filter { $0 > 1 } }
    #expect(gated(one) == [gates] && gated(apart).isEmpty)
    #expect(one.regions.count == 1)
    for (name, value) in one.results { #expect(value == apart.results[name], "\(name)") }
    #expect(one.results["h"] == one.results["y"])
  }

  /// Gates that overlap, or are not as long as the map, are read from memory.
  @Test func otherPiecesAreNoGates() throws {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.matmul(g.input("x", .float32, [16, 32]), g.input("w", .float32, [32, 48]))
      let a = g.slice(x, axis: 1, from: 0, to: 16)
      let b = g.slice(x, axis: 1, from: 8, to: 24)
      g.output("y", g.tanh(a) * g.logistic(b))
    }
    #expect(try ComparedRun(module).regions.allSatisfy { $0.gates == 1 })
  }

  /// What follows a product in another shape is computed with it, as are results in that shape.
  @Test(arguments: [[1, 12, 20], [3, 4, 20], [12, 5, 4], [240]]) func shapesMayDiffer(
    _ shape: [Int]
  ) throws {
    func module(showsProduct: Bool) throws -> Module {
      var module = Module("m")
      let sizes = shape.map { Size($0) }
      try module.function("f") { g in
        let product = g.matmul(g.input("x", .float32, [12, 40]), g.input("w", .float32, [40, 20]))
        let y = g.tanh(g.reshape(product, sizes) + g.input("b", .float32, sizes))
        g.output("y", y)
        g.output("z", y * 2)
        if showsProduct { g.output("product", g.sum(product, axes: [0])) }
      }
      return module
    }
    let one = try ComparedRun(module(showsProduct: false))
    let apart = try ComparedRun(module(showsProduct: true))
    #expect(one.regions.count == 1 && apart.regions.count > 1)
    for (name, value) in one.results { #expect(value == apart.results[name], "\(name)") }
  }
}
