import DLCAutodiff
import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCTraining
import Testing

/// Functions, losses and training of half floats against the same in double precision.
@Suite struct HalfTrainingTests {
  static let types: [DataType] = [.float16, .bfloat16]

  /// One unit in the last place of 1.
  static func unit(_ type: DataType) -> Double { type == .float16 ? 0x1p-10 : 0x1p-7 }

  struct Sample: Sendable {
    var name: String
    var shapes: [[Size]]
    var range: ClosedRange<Double>
    var body: @Sendable (FunctionBuilder, [Value]) -> Value
    init(
      _ name: String, _ shapes: [[Size]], _ range: ClosedRange<Double> = -4...4,
      _ body: @escaping @Sendable (FunctionBuilder, [Value]) -> Value
    ) {
      self.name = name
      self.shapes = shapes
      self.range = range
      self.body = body
    }
  }

  /// Functions whose intermediate numbers or constants half floats do not hold.
  static let samples: [Sample] = [
    Sample("gelu", [[40]]) { $0.gelu($1[0]) },
    Sample("gelu tanh", [[40]], -60...60) { $0.geluTanh($1[0]) },
    Sample("softplus", [[40]], -20...20) { $0.softplus($1[0]) },
    Sample("mish", [[40]], -9...9) { $0.mish($1[0]) },
    Sample("selu", [[40]]) { $0.selu($1[0]) },
    Sample("hard sigmoid", [[40]]) { $0.hardSigmoid($1[0]) },
    Sample("softmax", [[3, 500]], -9...9) { $0.softmax($1[0]) },
    Sample("log softmax", [[3, 500]], -9...9) { $0.logSoftmax($1[0]) },
    Sample("log sum exp", [[3, 500]], -9...9) { $0.logSumExp($1[0]) },
    Sample("layer norm", [[3, 200], [200], [200]], -400...400) {
      $0.layerNorm($1[0], $1[1], $1[2])
    },
    Sample("layer norm of little", [[3, 200], [200], [200]], -1e-4...1e-4) {
      $0.layerNorm($1[0], $1[1] * 1e4, $1[2] * 1e4, epsilon: 1e-8)
    },
    Sample("rms norm", [[3, 200], [200]], -400...400) { $0.rmsNorm($1[0], gamma: $1[1]) },
    Sample("group norm", [[2, 4, 9], [4], [4]], -400...400) {
      $0.groupNorm($1[0], groups: 2, gamma: $1[1], beta: $1[2])
    },
    Sample("batch norm", [[20, 4, 5], [4], [4]], -400...400) {
      $0.batchNorm($1[0], gamma: $1[1], beta: $1[2]).y
    },
    Sample("batch norm in inference", [[20, 4], [4], [4], [4]], 0.5...300) {
      $0.batchNorm($1[0], gamma: $1[1], beta: $1[2], mean: $1[3], variance: $1[3], epsilon: 1e-8)
    },
    Sample("attention", [[2, 9, 64], [2, 9, 64], [2, 9, 8]]) {
      $0.attention($1[0], $1[1], $1[2], causal: true)
    },
    Sample("cosine", [[3, 300], [3, 300]], 100...200) { g, x in
      func dot(_ a: Value, _ b: Value) -> Value { g.sum(a * b, axes: [1]) }
      return dot(x[0], x[1]) / (g.sqrt(dot(x[0], x[0]) * dot(x[1], x[1])) + 1e-8)
    },
    Sample("variance", [[5000]], -300...300) { g, x in
      let centred = x[0] - g.broadcast(g.mean(x[0], axes: [0]), to: [5000])
      return g.sqrt(g.mean(centred * centred, axes: [0]))
    },
    Sample("average of windows", [[1, 1, 40, 40]], 3000...4000) {
      $0.averagePool($1[0], window: [20, 20])
    },
    Sample("mean squared error", [[3000], [3000]], -300...300) {
      $0.meanSquaredError($1[0], $1[1]) * 1e-4
    },
    Sample("cross-entropy", [[300, 40], [300, 40]], 0.01...9) {
      $0.softmaxCrossEntropy($1[0], probabilities: $0.softmax($1[1]))
    },
    Sample("binary cross-entropy", [[300], [300]], 0...1) {
      $0.binaryCrossEntropy($1[0], $1[1])
    },
    Sample("binary cross-entropy of certainty", [[300], [300]], 1...1) {
      $0.binaryCrossEntropy($1[0], $1[1] * 0, epsilon: 0x1p-14)
    },
    Sample("binary cross-entropy of logits", [[300], [300]], -30...30) {
      $0.binaryCrossEntropy(logits: $1[0], $0.logistic($1[1]))
    },
    Sample("Kullback-Leibler divergence", [[300], [300]], -3...3) { g, x in
      g.mean((g.exponential(x[1]) + x[0] * x[0] - 1 - x[1]) * 0.5, axes: [0])
    },
  ]

  /// All in float16, some in bfloat16 too: both go through the same passes.
  static let cases = samples.indices.flatMap { index in
    (index % 3 == 0 ? types : [.float16]).map { (type: $0, index: index) }
  }

  /// Value and derivatives are those of double precision on the same numbers, rounded once.
  @Test(arguments: cases) func roundsOnce(_ type: DataType, _ index: Int) throws {
    let sample = Self.samples[index]
    var module = Module("sample")
    try module.function("forward") { g in
      let x = sample.shapes.enumerated().map { g.input("x\($0.offset)", type, $0.element) }
      let y = sample.body(g, x)
      g.output("y", y)
      // Elements count differently: the sum of a norm's results has no slope.
      var total = y
      if y.rank > 0 {
        let weight = g.cosine(g.iota(.float32, y.shape, axis: y.rank - 1) * 1.75)
        total = g.sum(y * g.carry(weight, y.dataType), axes: Array(y.shape.indices))
      }
      for (number, d) in g.gradient(of: total, by: x).enumerated() { g.output("d\(number)", d) }
    }
    let arrays = Differential.arrays(
      sample.shapes.map { TensorType(type, $0) }, range: sample.range, seed: UInt64(index))
    let inputs = Dictionary(
      uniqueKeysWithValues: arrays.enumerated().map { ("x\($0.offset)", $0.element) })
    func interpreted(_ precision: Interpreter.Precision) throws -> [(name: String, value: Tensor)] {
      try Interpreter(precision).run(
        module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:]
      ).outputs
    }
    let exact = try interpreted(.float64)
    let compiled = try Compiler().compile(module).run(inputs, threads: 2)
    for (kind, list) in [("compiled", compiled), ("interpreted", try interpreted(.declared))] {
      for (got, want) in zip(list, exact) {
        // One unit, when both round apart, and what float32 loses where the largest terms cancel.
        let largest = want.value.doubles.reduce(1e-3) { max($0, abs($1)) }
        let tiny = type == .float16 ? 0x1p-24 : 0
        for (a, b) in zip(got.value.doubles, want.value.doubles) {
          let allowed = 1.01 * Self.unit(type) * abs(b) + 2e-5 * largest + tiny
          #expect(
            abs(a - b) <= allowed, "\(kind) \(type) \(sample.name) \(got.name): \(a), not \(b)")
        }
      }
    }
  }

  @Test(arguments: types) func lossesAreFloat32(_ type: DataType) throws {
    var module = Module("losses")
    try module.function("forward") { g in
      let (x, y) = (g.input("x", type, [4, 3]), g.input("y", type, [4, 3]))
      let labels = g.input("labels", .int32, [4])
      for (name, loss) in [
        ("squares", g.meanSquaredError(x, y)), ("classes", g.softmaxCrossEntropy(x, labels)),
        ("distribution", g.softmaxCrossEntropy(x, probabilities: y)),
        ("probability", g.binaryCrossEntropy(x, y)), ("logit", g.binaryCrossEntropy(logits: x, y)),
      ] { g.output(name, loss) }
    }
    for output in module.functions[0].outputs { #expect(output.type.dataType == .float32) }
  }

  /// A linear model; a scale of 0 gives a gradient of zero.
  static func step(_ type: DataType, _ rule: UpdateRule) throws -> TrainingStep {
    var module = Module("model")
    try module.function("loss") { g in
      let x = g.input("x", type, [8, 3])
      let scale = g.input("scale", type)
      let w = g.parameter("w", [2, 3], .uniform(0.5, 1), type)
      let y = g.linear(x, w)
      g.output(
        "loss", g.meanSquaredError(y * g.broadcast(scale, to: y.shape), g.constant(0, like: y)))
    }
    return try TrainingStep(module, phases: [Phase("loss", rule: rule)])
  }

  static let rules = Optimizer.named.indices.flatMap { index in
    (index % 4 == 2 ? types : [.float16]).map { (type: $0, index: index) }
  }

  /// Every rule: what it keeps is float32, a gradient of zero moves nothing, and the steps are those of a
  /// float32 parameter up to the rounding of the parameter.
  @Test(arguments: rules) func rulesComputeInFloat32(_ type: DataType, _ index: Int) throws {
    let (name, optimizer) = Optimizer.named[index]
    var rule = UpdateRule(optimizer, learningRate: 0.01)
    rule.averaging = 0.9
    let start = [0.5, 0.75, 1, 0.625, 0.875, 0.5]
    func inputs(_ type: DataType, _ scale: Double) -> [String: Tensor] {
      [
        "x": Tensor(type, [8, 3], rounding: (0..<24).map { Double($0 % 5) * 0.25 - 0.25 }),
        "scale": Tensor(type, [], rounding: [scale]),
      ]
    }
    let step = try Self.step(type, rule)
    for state in step.states where state.name.contains("/w") {
      #expect(state.type.dataType == .float32, "\(name) \(state.name)")
    }
    let executable = try Compiler().compile(try step.stepFunction(), function: "train_step")
    func run(_ scale: Double, _ count: Int) throws -> [String: Tensor] {
      var states: [String: Tensor] = [:]
      for state in step.states {
        states[state.name] = Tensor(zeros: state.type.dataType, state.type.sizes)
      }
      states["w"] = Tensor(type, [2, 3], rounding: start)
      try executable.setState(states)
      for _ in 0..<count {
        for (_, value) in try executable.run(inputs(type, scale)) {
          #expect(value.dataType == .float32 && value.doubles[0].isFinite)
        }
      }
      return executable.state
    }
    let still = try run(0, 2)["w"]!
    // Decay aside, no gradient is no step, whatever it is divided by.
    if name != "adamw" { #expect(still.doubles == start, "\(name)") }
    // A float32 parameter, interpreted.
    let single = try Self.step(.float32, rule)
    let module = try single.stepFunction()
    var states: [String: Tensor] = [:]
    for state in single.states {
      states[state.name] = Tensor(zeros: state.type.dataType, state.type.sizes)
    }
    states["w"] = Tensor(.float32, [2, 3], rounding: start)
    for _ in 0..<3 {
      let (_, updates) = try Interpreter().run(
        module, function: module.function("train_step")!, inputs: inputs(.float32, 1),
        states: states, dimensions: [:])
      states.merge(updates) { $1 }
    }
    let half = try run(1, 3)
    for (state, value) in states {
      for (a, b) in zip(half[state]!.doubles, value.doubles) {
        #expect(
          abs(a - b) <= 4 * Self.unit(type) * max(1e-3, abs(b), state == "w" ? 1 : 0.1),
          "\(name) \(state): \(a), not \(b)")
      }
    }
  }

  @Test func stateIsHalfWhereAsked() throws {
    var rule = UpdateRule(.adam(), learningRate: 0.01)
    rule.halfStateType = .bfloat16
    rule.averaging = 0.9
    let step = try Self.step(.float16, rule)
    for state in step.states where state.name.contains("/w") {
      #expect(state.type.dataType == .bfloat16)
    }
    let executable = try Compiler().compile(try step.stepFunction(), function: "train_step")
    try executable.initializeState(seed: 1)
    let x = Tensor(.float16, [8, 3], rounding: [Double](repeating: 0.5, count: 24))
    let one = Tensor(.float16, [], rounding: [1])
    #expect(try executable.run(["x": x, "scale": one]).allSatisfy { $0.value.doubles[0].isFinite })
  }

  /// Gradients whose norm or square no half float holds are clipped to the norm that was asked for.
  @Test(arguments: types) func normsClip(_ type: DataType) throws {
    var module = Module("model")
    try module.function("loss") { g in
      let w = g.parameter("w", [4], .constant(200), type)
      let x = g.input("x", type, [4])
      g.output("loss", g.sum(w * w * 1 + x * 0, axes: [0]))
    }
    var rule = UpdateRule(.gradientDescent, learningRate: 32)
    rule.clipNorm = 1
    let step = try TrainingStep(module, phases: [Phase("loss", rule: rule)])
    let executable = try Compiler().compile(try step.stepFunction(), function: "train_step")
    try executable.initializeState(seed: 0)
    let results = try executable.run(["x": Tensor(zeros: type, [4])])
    // The loss is 160,000, the gradient four times 400.
    #expect(results.first { $0.name == "loss" }!.value.doubles == [160_000])
    #expect(executable.state["w"]!.doubles == [184, 184, 184, 184])
  }

  /// A run from float32 arrays: the loss falls, calls of one step and of many give the same bits, and the
  /// averaged weights have the parameters' type.
  @Test(arguments: types) func trainersRunHalfFloats(_ type: DataType) throws {
    var module = Module("model")
    module.dimension("n", default: 8)
    try module.function("loss") { g in
      let (x, y) = (g.input("x", type, ["n", 3]), g.input("y", type, ["n", 1]))
      let w = g.parameter("w", [1, 3], .glorotUniform, type)
      let b = g.parameter("b", [1], .zeros, type)
      let count = g.state("count", type, [], .zeros)
      g.update("count", count + 0.1)
      g.output("loss", g.meanSquaredError(g.linear(x, w, b), y))
    }
    var rule = UpdateRule(.adam(), learningRate: 0.01)
    rule.averaging = 0.9
    let step = try TrainingStep(module, phases: [Phase("loss", rule: rule)])
    let x: [Float] = (0..<192).map { Float($0 % 7) * 0.125 }
    let y: [Float] = (0..<64).map { row in x[row * 3] - x[row * 3 + 2] / 2 }
    let data = ["x": Tensor([64, 3], x), "y": Tensor([64, 1], y)]
    var states: [[String: Tensor]] = []
    for steps in [1, 5] {
      var options = Trainer.Options(batch: 8, epochs: 20)
      options.stepsPerCall = steps
      let trainer = try Trainer(step, data: data, options: options)
      var losses: [Double] = []
      try trainer.run { progress in
        losses.append(progress.metrics[0].value)
        return true
      }
      #expect(losses.last! < 0.2 * losses.first!)
      #expect(trainer.averagedState["w"]!.dataType == type)
      states.append(trainer.state)
    }
    #expect(states[0] == states[1])
    #expect(states[0]["count"]!.dataType == type)
  }

  /// Layers of half floats in training and out of it; what batch norm keeps is float32.
  @Test(arguments: types) func layersTakeHalfFloats(_ type: DataType) throws {
    var module = Module("model")
    for isTraining in [true, false] {
      try module.function(isTraining ? "train" : "evaluate") { g in
        var layers = Layers(g, training: isTraining)
        layers.dataType = type
        let x = g.input("x", type, [64, 4])
        let h = layers.scope("a").batchNorm("norm", x)
        let all = layers.layerNorm("ln", layers.linear("l", h, 6))
        let blocks = layers.transformerBlock(
          "block", g.reshape(all, [8, 8, 6]), heads: 2, causal: true)
        g.output("h", h)
        g.output("y", layers.recurrent("r", .gru, blocks, size: 5))
      }
    }
    for state in module.states where state.isParameter { #expect(state.type.dataType == type) }
    for state in module.states where !state.isParameter { #expect(state.type.dataType == .float32) }
    let train = try Compiler().compile(module, function: "train")
    try train.initializeState(seed: 1)
    // Mean 1,000 and variance 64/63 x 160,000, which float16 does not hold.
    let x = Tensor(type, [64, 4], rounding: (0..<256).map { $0 / 4 % 2 == 0 ? 608 : 1408 })
    let results = try train.run(["x": x])
    for (_, value) in results { #expect(value.doubles.allSatisfy { $0.isFinite }) }
    #expect(Set(results.first { $0.name == "h" }!.value.doubles) == [-1, 1])
    let variance = 0.9 + 0.1 * 160_000 * 64 / 63
    for (got, want) in [("a.norm.mean", 100.8), ("a.norm.var", variance)] {
      let value = train.state[got]!.doubles[0]
      #expect(abs(value - want) <= 1e-5 * want, "\(got) is \(value)")
    }
    let evaluate = try Compiler().compile(module, function: "evaluate")
    try evaluate.setState(
      train.state.filter { name, _ in evaluate.states.contains { $0.name == name } })
    for (name, value) in try evaluate.run(["x": x]) where name == "h" {
      let want = (608 - 100.8) / (variance + 1e-5).squareRoot()
      #expect(abs(value.doubles[0] - want) <= 2 * Self.unit(type) * want)
    }
  }
}
