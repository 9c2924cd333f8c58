import DLCCompiler
import DLCGraph
import DLCLowering
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Maps that take elements of several gates of a product.
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

  private static func run(_ module: Module) throws -> (build: Build, results: [String: Tensor]) {
    let inputs = module.functions[0].inputs
    let arrays = Differential.arrays(inputs.map(\.type), range: -1...1, seed: 9)
    let given = Dictionary(uniqueKeysWithValues: zip(inputs.map(\.name), arrays))
    let want = try Interpreter().run(
      module, function: module.functions[0], inputs: given, states: [:], dimensions: [:]
    ).outputs
    let built = try Objects.compiler().build(module, function: nil, dimensions: [:])
    let results = try built.executable.run(given)
    for ((name, a), (_, b)) in zip(results, want) {
      #expect(Differential.error(a, b, ulps: 256, scale: 1) <= 1, "\(name)")
    }
    return (built, Dictionary(uniqueKeysWithValues: results.map { ($0.0, $0.1) }))
  }

  /// One kernel, whatever the sizes, and the bits of a product that is stored before the gates read it.
  @Test(arguments: [
    (32, 64, 4, true), (7, 20, 3, true), (5, 33, 2, false), (13, 48, 4, false), (2, 400, 3, true),
  ])
  func gatesAreOfTheProduct(_ batch: Int, _ hidden: Int, _ gates: Int, _ steady: Bool) throws {
    let one = try Self.run(
      Self.cell(batch: batch, hidden: hidden, gates: gates, steady: steady, showsProduct: false))
    let apart = try Self.run(
      Self.cell(batch: batch, hidden: hidden, gates: gates, steady: steady, showsProduct: true))
    func gated(_ build: Build) -> [Int] {
      var found: [Int] = []
      build.plan.forEach { if $0.region.gates > 1 { found.append($0.region.gates) } }
      return found
    }
    #expect(gated(one.build) == [gates] && gated(apart.build).isEmpty)
    var regions = 0
    one.build.plan.forEach { _ in regions += 1 }
    #expect(regions == 1)
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
    let built = try Self.run(module).build
    built.plan.forEach { #expect($0.region.gates == 1) }
  }
}
