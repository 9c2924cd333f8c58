import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCPasses
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// float16 and bfloat16: computed in float32, rounded once, compiled and interpreted alike.
@Suite struct HalfFloatTests {
  static let types: [DataType] = [.float16, .bfloat16]

  /// Compiled and interpreted results; their arguments are float16 or bfloat16 arrays by name.
  static func both(_ module: Module, _ inputs: [String: Tensor]) throws -> [[String: Tensor]] {
    let compiled = try Compiler().compile(module).run(inputs, threads: 2)
    let (reference, _) = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:])
    return [compiled, reference].map { list in
      Dictionary(uniqueKeysWithValues: list.map { ($0.name, $0.value) })
    }
  }

  static func module(_ body: (FunctionBuilder) -> Void) throws -> Module {
    var module = Module("half")
    try module.function("forward", body)
    return module
  }

  /// Random chains of arithmetic with fused and stored values, through loops and branches: the same bits.
  @Test(arguments: types) func chainsHaveTheBitsOfTheInterpreter(_ type: DataType) throws {
    for seed in 0..<6 {
      var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
      func pick(_ count: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % count
      }
      let module = try Self.module { g in
        var values = [g.input("x", type, [5, 7]), g.input("y", type, [5, 7])]
        func step(_ g: FunctionBuilder, _ a: Value, _ b: Value) -> Value {
          switch pick(9) {
          case 0: a + b
          case 1: a - b
          case 2: a * b
          case 3: a / (b * b + 1)
          case 4: g.maximum(a, b * 0.3)
          case 5: g.convert(g.convert(a, type == .float16 ? .bfloat16 : .float16), type)
          case 6: g.select(g.compare(.less, a, b), a, b + 0.125)
          case 7: g.transpose(g.transpose(a, [1, 0]), [1, 0]) - b
          default: g.convert(g.convert(a, .float32) * 1.1, type)
          }
        }
        for _ in 0..<10 {
          let (a, b) = (values[pick(values.count)], values[pick(values.count)])
          switch pick(8) {
          case 0:
            let (carried, outputs) = g.scan(carried: [a], inputs: [b]) { g, carried, slices in
              let next = step(g, carried[0], g.broadcast(slices[0], to: [5, 7]))
              return ([next], [next * 0.5])
            }
            values.append(carried[0])
            values.append(outputs[0].shape == [5, 7] ? outputs[0] : carried[0])
          case 1:
            let isTrue = g.compare(
              .less, g.reshape(g.slice(a, from: [0, 0], to: [1, 1]), []), g.constant(0, type))
            values += g.cond(isTrue) { [step($0, a, b)] } otherwise: { [step($0, b, a)] }
          default: values.append(step(g, a, b))
          }
        }
        for (number, value) in values.dropFirst(2).enumerated() where number % 3 != 1 {
          g.output("v\(number)", value)
        }
      }
      let arrays = Differential.arrays(
        [TensorType(type, [5, 7]), TensorType(type, [5, 7])], range: -3...3, seed: UInt64(seed))
      let results = try Self.both(module, ["x": arrays[0], "y": arrays[1]])
      for (name, value) in results[0] {
        #expect(
          ConversionTests.patterns(value) == ConversionTests.patterns(results[1][name]!),
          "seed \(seed) \(name)")
      }
    }
  }

  /// Sums that no half float holds on the way, over any axes.
  @Test(arguments: types) func reductionsAccumulateInFloat32(_ type: DataType) throws {
    let module = try Self.module { g in
      let x = g.input("x", type, [4096, 3])
      g.output("mean", g.mean(x, axes: [0]))
      g.output("all", g.mean(x, axes: [0, 1]))
      g.output("share", g.sum(x, axes: [0]) / 4096)
      g.output("cumulative", g.cumulativeSum(g.constant(1, type, [2200]), axis: 0))
      g.output("size", g.dimension(4097, type) - g.constant(4096, type))
      g.output("window", g.reduceWindow(.sum, x * 10, window: [4096, 1], strides: [1, 1]) / 8192)
      let ones = g.constant(1, .float32, [4096])
      let zero = g.constant(0, type, [3])
      let place = g.convert(ones - 1, .int32)
      let pieces = g.convert(g.broadcast(ones, to: [4096, 3], axes: [0]), type)
      g.output("scatter", g.scatterAlong(0, zero, place, g.convert(ones, type)))
      g.output("product", g.dotGeneral(x, pieces, lhsContracting: [0], rhsContracting: [0]) / 4096)
      let (total, _) = g.scan(carried: [zero], inputs: [pieces]) { _, c, s in ([c[0] + s[0]], []) }
      g.output("scan", total[0])
      g.output("derivative", g.gradient(of: g.mean(x * x, axes: [0, 1]), by: [x])[0] * 6144)
    }
    let x = Tensor(type, [4096, 3], rounding: [Double](repeating: 100, count: 4096 * 3))
    for result in try Self.both(module, ["x": x]) {
      func holds(_ name: String, _ value: Double) {
        let got = result[name]!.doubles
        #expect(got.allSatisfy { $0 == value }, "\(type) \(name): \(got.prefix(4)), not \(value)")
      }
      holds("mean", 100)
      holds("all", 100)
      holds("share", 100)
      holds("size", 1)
      holds("window", 500)
      holds("product", 100)
      holds("scan", 4096)
      holds("derivative", 100)
      #expect(result["cumulative"]!.doubles.last == (type == .float16 ? 2200 : 2208))
      #expect(result["scatter"]!.doubles == [4096, 0, 0])
    }
  }

  /// After the pass nothing but moving elements and converting is done on half floats.
  @Test(arguments: types) func noKernelComputesInHalfFloats(_ type: DataType) throws {
    let module = try Self.module { g in
      let x = g.input("x", type, [4, 6])
      let w = g.parameter("w", [6, 6], .glorotUniform, type)
      let (h, all) = g.scan(carried: [x], inputs: [g.iota(type, [3], axis: 0)]) { g, c, s in
        let next = g.tanh(g.linear(c[0], w) + s[0])
        return ([next], g.cond(g.compare(.less, s[0], g.constant(1, type))) { _ in [next] }
          otherwise: { _ in [c[0]] })
      }
      g.output("h", g.softmax(h[0]))
      g.output("all", g.reverse(all[0], axes: [0]))
      g.output("moved", g.transpose(x, [1, 0]))
    }
    func check(_ graph: Graph, isRegion: Bool) {
      for node in graph.nodes {
        for region in node.operation.regions { check(region, isRegion: true) }
        let halves = (node.operands + node.results).filter { graph.type($0).dataType == type }
        switch node.operation {
        case .convert, .constant, .transpose: break
        default: #expect(halves.isEmpty, "\(node.operation.mnemonic)")
        }
      }
      if isRegion { #expect(graph.arguments.allSatisfy { $0.type.dataType != type }) }
    }
    let graph = try module.functions[0].graph.bound(to: [:])
    var budget = RewriteBudget(0)
    let (once, counts) = try WidenHalfFloats().run(graph, &budget)
    #expect(!counts.isEmpty && once.violations(in: "").isEmpty)
    check(once, isRegion: false)
    #expect(once.resultTypes == graph.resultTypes)
    let (twice, none) = try WidenHalfFloats().run(once, &budget)
    #expect(none.isEmpty && twice.text() == once.text())
  }

  /// State is rounded where it is stored, and a bfloat16 array goes into an npz exactly.
  @Test(arguments: types) func stateIsStoredInItsType(_ type: DataType) throws {
    var module = Module("state")
    try module.function("step") { g in
      let s = g.state("s", type, [], .constant(1))
      let next = s + 0x1p-12
      g.update("s", next)
      g.output("carried", g.convert(next, .float32))
    }
    let executable = try Compiler().compile(module)
    try executable.initializeState(seed: 0)
    for _ in 0..<4 { #expect(try executable.run([:])[0].value.doubles == [1 + 0x1p-12]) }
    #expect(executable.state["s"]!.doubles == [1])
  }
}
