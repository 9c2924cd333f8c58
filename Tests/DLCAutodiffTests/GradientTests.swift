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
      switch sample.operation.definition.derivative {
      case .rule, .control: break
      default: continue
      }
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
      let results = try graph.append(sample.operation, graph.argumentValues).filter {
        graph.type($0).dataType.isFloat && graph.type($0).elementCount > 0
      }
      if results.isEmpty { continue }
      let g = FunctionBuilder(extending: graph)
      var outputs: [(value: Value, cotangent: Value)] = []
      var weights: [ReferenceArray] = []
      for (number, result) in results.enumerated() {
        weights.append(Self.array(graph.type(result), -1...1, seed: 77 + number))
        let cotangent = g.constant(
          Tensor(.float64, weights[number].shape, rounding: weights[number].reals))
        outputs.append((g.value(result), g.convert(cotangent, graph.type(result).dataType)))
      }
      let targets = graph.argumentValues.filter { graph.type($0).dataType.isFloat }
      let gradients = try ReverseMode.pullback(
        g, outputs: outputs, targets: targets.map { g.value($0) })
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
      graph.results = results.map { NamedValue("y\($0.index)", $0) }
      let (up, down) = (interpreter.run(graph, shifted[0]), interpreter.run(graph, shifted[1]))
      for (result, weights) in zip(results, weights) {
        for element in weights.reals.indices {
          let change = up[result]!.reals[element] - down[result]!.reals[element]
          numeric += weights.reals[element] * change / (2 * step)
        }
      }
      try checkSecondOrder(g, graph, targets, gradients, arguments, sample)
      let scale = max(abs(numeric), abs(analytic), 1)
      #expect(
        abs(numeric - analytic) <= 1e-6 * scale,
        "\(sample.operation.mnemonic) \(sample.operands): analytic \(analytic), numeric \(numeric)")
    }
  }

  /// The derivative of <gradient, u> along v against central differences of it; and the pushforward
  /// along v against the pullback.
  private func checkSecondOrder(
    _ g: FunctionBuilder, _ primal: Graph, _ targets: [ValueID], _ gradients: [Value?],
    _ arguments: [ReferenceArray], _ sample: OperatorSample
  ) throws {
    guard sample.operands.allSatisfy({ $0.elementCount <= 400 }) else { return }
    var scalar: Value?
    for (target, gradient) in zip(targets, gradients) {
      guard let gradient, primal.type(target).elementCount > 0 else { continue }
      let direction = Self.array(primal.type(target), -1...1, seed: 300 + target.index)
      let u = g.convert(
        g.constant(Tensor(.float64, direction.shape, rounding: direction.reals)), gradient.dataType)
      let part = g.convert(
        g.sum(gradient * u, axes: Array(gradient.shape.indices)), .float64)
      scalar = scalar.map { $0 + part } ?? part
    }
    guard let scalar else { return }
    let second: [Value?]
    do {
      second = try ReverseMode.pullback(
        g, outputs: [(scalar, g.constant(1, .float64))], targets: targets.map { g.value($0) })
    } catch {
      Issue.record("\(sample.operation.mnemonic) \(sample.operands): \(error)")
      return
    }
    #expect(g.failure == nil, "\(sample.operation.mnemonic): \(String(describing: g.failure))")
    if g.failure != nil { return }
    var full = g.graph
    full.results = [NamedValue("s", scalar.id)]
    for (target, value) in zip(targets, second) {
      if let value { full.results.append(NamedValue("h\(target.index)", value.id)) }
    }
    let interpreter = Interpreter(.float64)
    let values = interpreter.run(full, arguments)
    let step = 1e-5
    var shifted = [arguments, arguments]
    var analytic = 0.0
    for (target, value) in zip(targets, second) {
      let direction = Self.array(primal.type(target), -1...1, seed: 400 + target.index)
      for element in direction.reals.indices {
        if let value { analytic += values[value.id]!.reals[element] * direction.reals[element] }
        shifted[0][target.index].reals[element] += step * direction.reals[element]
        shifted[1][target.index].reals[element] -= step * direction.reals[element]
      }
    }
    full.results = [NamedValue("s", scalar.id)]
    let numeric =
      (interpreter.run(full, shifted[0])[scalar.id]!.reals[0]
        - interpreter.run(full, shifted[1])[scalar.id]!.reals[0]) / (2 * step)
    let scale = max(abs(numeric), abs(analytic), 1)
    #expect(
      abs(numeric - analytic) <= 1e-5 * scale,
      "second order of \(sample.operation.mnemonic) \(sample.operands): analytic \(analytic), numeric \(numeric)"
    )
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
