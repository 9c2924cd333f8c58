import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTraining
import Testing

/// Training steps: rules, schedules, clipping, groups, accumulation and averages.
@Suite struct TrainingStepTests {
  /// Least squares: y = x w, whose best w is known.
  static func regression(noise: Bool = false) throws -> Module {
    var module = Module("regression")
    module.dimension("n", default: 8)
    try module.function("loss") { g in
      let x = g.input("x", .float32, ["n", 4])
      let y = g.input("y", .float32, ["n", 3])
      let w = g.parameter("layer.w", [3, 4], .constant(0.1))
      let b = g.parameter("layer.b", [3], .zeros)
      var guess = g.linear(x, w, b)
      if noise {
        let random = RandomStream(g, key: g.input("seed", .int64))
        guess = guess + random.normal(guess.shape) * 0.01
      }
      g.output("loss", g.meanSquaredError(guess, y))
    }
    return module
  }

  /// Numbers that walk through a range.
  static func walk(_ count: Int, _ step: Int, _ period: Int) -> [Double] {
    let half = Double(period) / 2
    return (0..<count).map { index in (Double(index * step % period) - half) / half }
  }

  static let x = Tensor(.float32, [8, 4], rounding: walk(32, 7, 13))
  static let y: Tensor = {
    let weights = walk(12, 5, 11)
    let rows = x.doubles
    var values: [Double] = []
    for index in 0..<24 {
      var sum = 0.25
      for k in 0..<4 { sum += rows[index / 3 * 4 + k] * weights[index % 3 * 4 + k] }
      values.append(sum)
    }
    return Tensor(.float32, [8, 3], rounding: values)
  }()

  static func run(_ rule: UpdateRule, steps: Int, module: Module? = nil) throws -> (
    losses: [Double], state: [String: Tensor]
  ) {
    let step = try TrainingStep(try module ?? regression(), phases: [Phase("loss", rule: rule)])
    let executable = try Compiler().compile(
      try step.stepFunction(), function: "train_step", dimensions: ["n": 8 / rule.accumulation])
    try executable.initializeState(seed: 1)
    var losses: [Double] = []
    var inputs = ["x": x, "y": y]
    if step.usesSeed { inputs["seed"] = Tensor([], [Int64(5)]) }
    for _ in 0..<steps {
      losses.append(try executable.run(inputs).first { $0.name == "loss" }!.value.doubles[0])
    }
    return (losses, executable.state)
  }

  @Test(arguments: Optimizer.named.indices) func everyRuleDescends(_ index: Int) throws {
    let (name, optimizer) = Optimizer.named[index]
    let rate =
      switch name {
      case "adadelta": 30.0
      case "gd", "sgd", "nag", "lookahead": 0.1
      case "momentum": 0.3
      case "adafactor": 0.003
      default: 0.02
      }
    let (losses, state) = try Self.run(UpdateRule(optimizer, learningRate: rate), steps: 120)
    #expect(losses.last! < 0.3 * losses.first!, "\(name): \(losses.first!) to \(losses.last!)")
    #expect(state["optimizer/step"]!.integers == [120])
  }

  /// The graph of a step against a step written out here.
  @Test func clippingDecayGroupsAndAverages() throws {
    var rule = UpdateRule(.gradientDescent, learningRate: 0.5)
    let (_, plain) = try Self.run(rule, steps: 1)
    func moved(_ state: [String: Tensor], _ name: String, _ from: Double) -> [Double] {
      state[name]!.doubles.map { ($0 - from) / -0.5 }
    }
    let (dw, db) = (moved(plain, "layer.w", 0.1), moved(plain, "layer.b", 0))
    let norm = (dw + db).reduce(0) { $0 + $1 * $1 }.squareRoot()
    rule.clipNorm = norm / 4
    let (_, clipped) = try Self.run(rule, steps: 1)
    for (a, b) in zip(moved(clipped, "layer.w", 0.1), dw) { #expect(abs(a - b / 4) < 1e-5) }
    rule.clipNorm = nil
    rule.clipValue = 0.05
    let (_, limited) = try Self.run(rule, steps: 1)
    for (a, b) in zip(moved(limited, "layer.w", 0.1), dw) {
      #expect(abs(a - min(max(b, -0.05), 0.05)) < 1e-5)
    }
    rule.clipValue = nil
    rule.decoupledDecay = 0.2
    rule.groups = [UpdateRule.Group(prefix: "layer.b", rateFactor: 0, decayFactor: 0)]
    rule.averaging = 0.9
    let (_, decayed) = try Self.run(rule, steps: 1)
    for (a, b) in zip(moved(decayed, "layer.w", 0.1), dw) { #expect(abs(a - b - 0.02) < 1e-5) }
    #expect(decayed["layer.b"]!.doubles == [0, 0, 0])
    for (a, b) in zip(decayed["average/layer.w"]!.doubles, decayed["layer.w"]!.doubles) {
      #expect(abs(a - b) < 1e-6)
    }
    let (_, later) = try Self.run(rule, steps: 2)
    for index in 0..<12 {
      let want =
        0.9 * decayed["layer.w"]!.doubles[index] + 0.1 * later["layer.w"]!.doubles[index]
      #expect(abs(later["average/layer.w"]!.doubles[index] - want) < 1e-6)
    }
  }

  @Test func accumulationGivesTheMeanOfTheParts() throws {
    var rule = UpdateRule(.adam(), learningRate: 0.05)
    let (whole, a) = try Self.run(rule, steps: 5)
    rule.accumulation = 4
    let (parts, b) = try Self.run(rule, steps: 5)
    for (x, y) in zip(whole, parts) { #expect(abs(x - y) < 1e-5) }
    for (x, y) in zip(a["layer.w"]!.doubles, b["layer.w"]!.doubles) { #expect(abs(x - y) < 1e-5) }
  }

  @Test func noiseDiffersFromStepToStep() throws {
    let rule = UpdateRule(.gradientDescent, learningRate: 0)
    let module = try Self.regression(noise: true)
    let (first, _) = try Self.run(rule, steps: 3, module: module)
    let (again, _) = try Self.run(rule, steps: 3, module: module)
    #expect(first == again && Set(first).count == 3)
  }

  @Test func schedulesFollowTheirCurves() throws {
    let cases: [(Schedule, [Int: Double])] = [
      (.constant, [1: 2, 100: 2]),
      (.step(every: 10, factor: 0.5), [1: 2, 10: 2, 11: 1, 21: 0.5]),
      (.cosine(total: 100), [1: 2, 51: 1, 101: 0, 200: 0]),
      (.warmup(steps: 4), [1: 0.5, 2: 1, 4: 2, 9: 2]),
      (.warmup(steps: 4, then: .cosine(total: 10)), [4: 2, 5: 2, 10: 1, 15: 0]),
      (.oneCycle(total: 100), [1: 2.0 / 25, 31: 2, 101: 2e-4]),
    ]
    for (schedule, points) in cases {
      var module = Module("m")
      try module.function("f") { g in
        g.output("rate", schedule.rate(g, base: 2, g.input("t", .int32)))
      }
      for (t, want) in points {
        let (results, _) = try Interpreter().run(
          module, function: module.functions[0], inputs: ["t": Tensor([], [Int32(t)])], states: [:],
          dimensions: [:])
        #expect(abs(results[0].value.doubles[0] - want) < 1e-5, "\(schedule) at \(t)")
      }
    }
  }
}

/// The training loop: order, resume, failures.
@Suite struct TrainerTests {
  static func trainer(
    _ rate: Double, checkpoints: String? = nil, epochs: Int = 6, perCall: Int = 50, every: Int = 1,
    seed: UInt64 = 11, _ change: (inout Trainer.Options) -> Void = { _ in }
  ) throws -> Trainer {
    let module = try TrainingStepTests.regression(noise: true)
    let step = try TrainingStep(
      module, phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: rate))])
    var options = Trainer.Options(batch: 4, epochs: epochs, seed: seed)
    options.checkpoints = checkpoints
    options.checkpointSteps = every
    options.stepsPerCall = perCall
    change(&options)
    let x = Tensor(.float32, [40, 4], rounding: TrainingStepTests.walk(160, 37, 101))
    let y = Tensor(.float32, [40, 3], rounding: TrainingStepTests.walk(120, 53, 97))
    return try Trainer(step, data: ["x": x, "y": y], options: options)
  }

  /// A run that stops anywhere and goes on from its checkpoint ends with the same bits; so does one
  /// with another number of steps in a call, that of an epoch or not.
  @Test func resumedRunsAreBitExact() throws {
    let whole = try Self.trainer(0.01)
    try whole.run { _ in true }
    for perCall in [1, 3, 7] {
      let other = try Self.trainer(0.01, perCall: perCall)
      var calls = 0
      try other.run { _ in
        calls += 1
        return true
      }
      #expect(other.state == whole.state && calls == 6 * ((10 + perCall - 1) / perCall))
    }
    let folder = FormatPaths.temporary("checkpoints")
    defer { FormatPaths.remove(folder) }
    let first = try Self.trainer(0.01, checkpoints: folder, perCall: 2, every: 2)
    var calls = 0
    try first.run { _ in
      calls += 1
      return calls < 13
    }
    let second = try Self.trainer(0.01, checkpoints: folder, perCall: 4, every: 3)
    #expect(try second.resume())
    #expect(second.position.step == 26 && second.changes.isEmpty)
    try second.run { _ in true }
    #expect(second.state == whole.state)
  }

  /// A whole state holds the count of steps: set in a trainer, it is that trainer's place, in this run or
  /// in another, between runs and in the middle of one. Weights alone leave the place.
  @Test func aWholeStateIsAPlaceInTheRun() throws {
    let first = try Self.trainer(0.01, epochs: 4, perCall: 3)
    var early: [String: Tensor] = [:]
    try first.run { progress in
      if progress.step == 13 { early = first.state }
      return true
    }
    let wanted = first.state
    try first.setState(early)
    #expect(first.position == (13, 1, 3) && !first.isDone)
    var back = false
    try first.run { (progress) throws(DLCError) in
      if progress.step == 33, !back {
        back = true
        try first.setState(early)
      }
      return true
    }
    #expect(back && first.state == wanted && first.position.step == 40)
    let second = try Self.trainer(0.01, epochs: 4)
    try second.setState(first.state)
    #expect(second.isDone)
    second.epochs = 5
    var steps: [Int] = []
    try second.run { progress in
      steps.append(progress.step)
      return true
    }
    #expect(steps == [50])
    let third = try Self.trainer(0.01, epochs: 1)
    try third.setState(first.modelState)
    #expect(third.position.step == 0)
    try third.run { _ in true }
    #expect(third.position.step == 10)
    for count in [-1, Int(Int32.max)] {
      #expect(throws: DLCError.self) {
        try third.setState(["optimizer/step": Tensor([], [Int32(count)])])
      }
    }
    #expect(third.position.step == 10)
  }

  /// The first node that makes a loss infinite is named, and the state is that of before.
  @Test func aLossThatIsNotFiniteStopsTheRun() throws {
    var module = Module("explodes")
    module.dimension("n", default: 4)
    try module.function("loss") { g in
      let x = g.input("x", .float32, ["n", 2])
      let w = g.parameter("w", [2], .constant(1))
      let grown = g.scope("growth") { g.exponential(x * w * 30.0) }
      g.output("loss", g.mean(grown, axes: [0, 1]))
    }
    let step = try TrainingStep(
      module, phases: [Phase("loss", rule: UpdateRule(.gradientDescent, learningRate: 0))])
    var values = [Double](repeating: 0.5, count: 32)
    values[21] = 40
    var options = Trainer.Options(batch: 4, epochs: 1)
    options.shuffles = false
    let trainer = try Trainer(
      step, data: ["x": Tensor(.float32, [16, 2], rounding: values)], options: options)
    let error = #expect(throws: DLCError.self) { try trainer.run { _ in true } }
    let text = "\(error!)"
    #expect(text.contains("step 3") && text.contains("growth") && text.contains("exponential"))
    #expect(trainer.state["optimizer/step"]!.integers == [0])
  }
}
