import DLCAutodiff
import DLCGraph
import DLCReference
import DLCTensor
import Testing

/// Derivative rules against central differences along a random direction, in double arithmetic.
@Suite struct GradientTests {
  @Test(arguments: Operation.operators.indices)
  func rulesAgreeWithFiniteDifferences(_ index: Int) throws {
    for sample in Operation.operators[index].samples {
      guard case .rule = sample.operation.definition.derivative else { continue }
      guard sample.operands.contains(where: { $0.dataType == .float64 || $0.dataType == .float32 }),
        sample.operands.allSatisfy({
          $0.elementCount <= 4096 && $0.dataType != .float16 && $0.dataType != .bfloat16
        })
      else { continue }
      var graph = Graph()
      var arguments: [ReferenceArray] = []
      for (number, type) in sample.operands.enumerated() {
        _ = graph.addArgument(Argument(.input, "x\(number)", type))
        arguments.append(Self.array(type, sample.range, seed: number + 1))
      }
      let result = try graph.append(sample.operation, graph.argumentValues)[0]
      guard graph.type(result).dataType.isFloat, graph.type(result).elementCount > 0 else {
        continue
      }
      let weights = Self.array(graph.type(result), -1...1, seed: 77)
      let g = FunctionBuilder(extending: graph)
      let cotangent = g.constant(Tensor(.float64, weights.shape, rounding: weights.reals))
      let seed = g.convert(cotangent, graph.type(result).dataType)
      let targets = graph.argumentValues.filter { graph.type($0).dataType.isFloat }
      let gradients = try ReverseMode.pullback(
        g, outputs: [(g.value(result), seed)], targets: targets.map { g.value($0) })
      #expect(g.failure == nil)
      var full = g.graph
      full.results = zip(targets, gradients).compactMap { target, value in
        value.map { NamedValue("d\(target.index)", $0.id) }
      }
      let interpreter = Interpreter(.float64)
      let values = interpreter.run(full, arguments)
      // f(x + h v) - f(x - h v) over 2h against <gradient, v>.
      let step = 1e-5
      var (analytic, numeric) = (0.0, 0.0)
      var shifted = [arguments, arguments]
      for (target, gradient) in zip(targets, gradients) {
        let direction = Self.array(graph.type(target), -1...1, seed: 100 + target.index)
        let position = target.index
        for element in direction.reals.indices {
          if let gradient {
            analytic += values[gradient.id]!.reals[element] * direction.reals[element]
          }
          shifted[0][position].reals[element] += step * direction.reals[element]
          shifted[1][position].reals[element] -= step * direction.reals[element]
        }
      }
      graph.results = [NamedValue("y", result)]
      let (up, down) = (
        interpreter.run(graph, shifted[0])[result]!, interpreter.run(graph, shifted[1])[result]!
      )
      for element in weights.reals.indices {
        numeric += weights.reals[element] * (up.reals[element] - down.reals[element]) / (2 * step)
      }
      let scale = max(abs(numeric), abs(analytic), 1)
      #expect(
        abs(numeric - analytic) <= 1e-6 * scale,
        "\(sample.operation.mnemonic) \(sample.operands): analytic \(analytic), numeric \(numeric)")
    }
  }

  @Test func secondDerivativeOfCube() throws {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.input("x", .float64)
      g.output("y", x * x * x)
    }
    try Gradient.add(to: &module, function: "f", of: "y", by: nil, named: "g", asScalar: true)
    try Gradient.add(
      to: &module, function: "g", of: Gradient.scalarName, by: ["x"], named: "h", asScalar: false)
    let (results, _) = try Interpreter().run(
      module, function: module.function("h")!, inputs: ["x": Tensor([], [2.0] as [Double])],
      states: [:], dimensions: [:])
    #expect(results[0].value.doubles == [12])
  }

  static func array(_ type: TensorType, _ range: ClosedRange<Double>, seed: Int) -> ReferenceArray {
    var array = ReferenceArray(type.dataType, type.sizes)
    for index in 0..<array.count {
      let word = Double(Philox.word(index: UInt64(index), key: UInt64(seed), counter: 9)) * 0x1p-32
      if type.dataType.isFloat {
        array.reals[index] = range.lowerBound + (range.upperBound - range.lowerBound) * word
      } else {
        array.integers[index] = Int64(word * 2)
      }
    }
    return array
  }
}
