import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTraining
import Synchronization
import Testing

/// Phases: which parameters move, what is reported and checked, and how they are measured.
@Suite struct PhaseTests {
  static func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return "\(error)" }
  }

  /// Two losses over parameters of their own; the second one grows without bound where `x` is large.
  static func pair() throws -> Module {
    var module = Module("pair")
    module.dimension("n", default: 4)
    for (name, factor) in [("first", 0.0), ("second", 30.0)] {
      try module.function(name) { g in
        let x = g.input("x", .float32, ["n", 2])
        let w = g.parameter("\(name).w", [2], .constant(1))
        g.output("loss", g.mean(g.exponential(x * w * factor), axes: [0, 1]))
        g.output("size", g.mean(x * x, axes: [0, 1]))
      }
    }
    return module
  }

  static func rule(_ rate: Double = 0.01) -> UpdateRule {
    UpdateRule(.gradientDescent, learningRate: rate)
  }

  @Test func sharedNamesGetTheirFunctions() throws {
    let step = try TrainingStep(
      try Self.pair(),
      phases: [Phase("first", rule: Self.rule(0.25)), Phase("second", rule: Self.rule(0.5))])
    #expect(
      step.metrics == [
        "first.loss", "first.size", "first.learning_rate", "second.loss", "second.size",
        "second.learning_rate",
      ])
    let trainer = try Trainer(
      step, data: ["x": Tensor(zeros: .float32, [8, 2])],
      options: Trainer.Options(batch: 4, epochs: 1))
    try trainer.run { p in
      #expect(p.metrics.map(\.name) == step.metrics)
      #expect(p.metrics.map(\.value) == [1, 0, 0.25, 1, 0, 0.5])
      return true
    }
    let alone = try TrainingStep(try Self.pair(), phases: [Phase("first", rule: Self.rule())])
    #expect(alone.metrics == ["loss", "size", "learning_rate"])
    let twice = try TrainingStep(
      try Self.pair(),
      phases: [Phase("first", rule: Self.rule()), Phase("first", rule: Self.rule())])
    #expect(twice.metrics[0] == "first.1.loss" && twice.metrics[3] == "first.2.loss")
  }

  /// The loss of every phase is looked at, not only the first one's.
  @Test func everyPhasesLossMustBeFinite() throws {
    let step = try TrainingStep(
      try Self.pair(),
      phases: [Phase("first", rule: Self.rule(0)), Phase("second", rule: Self.rule(0))])
    var values = [Double](repeating: 0.5, count: 32)
    values[21] = 40
    var options = Trainer.Options(batch: 4, epochs: 1)
    options.shuffles = false
    let trainer = try Trainer(
      step, data: ["x": Tensor(.float32, [16, 2], rounding: values)], options: options)
    let text = Self.message { try trainer.run { _ in true } }
    #expect(text.contains("not finite in step 3") && text.contains("exponential"))
    #expect(trainer.position.step == 0 && trainer.state["optimizer/step"]!.integers == [0])
  }

  @Test func mistakesInPhasesAreNamed() throws {
    var module = try Self.pair()
    try module.function("pulls") { g in
      let x = g.input("x", .float32, ["n", 2])
      let w = g.parameter("pulls.w", [2], .constant(1))
      g.output("loss", g.mean(x * w, axes: [0, 1]))
      g.output("d_pulls.w", g.mean(x * w, axes: [0, 1]))
    }
    try module.function("still") { g in
      g.output("loss", g.mean(g.input("x", .float32, ["n", 2]), axes: [0, 1]))
    }
    try module.function("seeded") { g in
      let seed = g.convert(g.input("seed", .int32), .float32)
      g.output("loss", g.parameter("w", []) * seed)
    }
    try module.function("own") { g in
      g.output("loss", g.parameter("w", []) * g.state("optimizer/step", .float32, []))
    }
    func text(_ phases: Phase...) -> String {
      Self.message { _ = try TrainingStep(module, phases: phases) }
    }
    func with(_ change: (inout UpdateRule) -> Void) -> Phase {
      var rule = UpdateRule(.adam(), learningRate: 0.01)
      change(&rule)
      return Phase("first", rule: rule)
    }
    #expect(Self.message { _ = try TrainingStep(module, phases: []) }.contains("without phases"))
    #expect(text(Phase("nope", rule: Self.rule())).contains("no function 'nope'"))
    #expect(
      text(Phase("first", evaluation: "nope", rule: Self.rule())).contains("no function 'nope'"))
    #expect(
      text(Phase("first", prefix: "frist", rule: Self.rule()))
        .contains("no parameter of function 'first' begins with 'frist'"))
    #expect(
      text(with { $0.groups = [UpdateRule.Group(prefix: "b.")] }).contains("begins with 'b.'"))
    #expect(text(Phase("still", rule: Self.rule())).contains("no parameters to train"))
    #expect(text(Phase("seeded", rule: Self.rule())).contains("'seed' is int32"))
    #expect(text(Phase("own", rule: Self.rule())).contains("state 'optimizer/step'"))
    #expect(text(Phase("pulls", .gradients, rule: Self.rule())).contains("no 'd_pulls.w'"))
    #expect(text(Phase("first", .replace, rule: Self.rule())).contains("no next value"))
    let adam = UpdateRule(.adam(), learningRate: 0.01)
    #expect(
      text(Phase("first", rule: adam), Phase("first", rule: adam)).contains("two phases move"))
    var parts = adam
    parts.accumulation = 2
    #expect(
      text(Phase("first", rule: adam), Phase("second", rule: parts)).contains("1 and 2 parts")
        || text(Phase("first", rule: adam), Phase("second", rule: parts)).contains("2 and 1 parts"))
    for (what, change) in [
      ("learning rate", { $0.learningRate = -1 }), ("learning rate", { $0.learningRate = .nan }),
      ("averages", { $0.averaging = 2 }), ("averages", { $0.averaging = 1 }),
      ("averages", { $0.averaging = -0.1 }), ("norm", { $0.clipNorm = 0 }),
      ("elements", { $0.clipValue = -1 }), ("decoupled decay", { $0.decoupledDecay = .infinity }),
      ("accumulation", { $0.accumulation = 0 }),
      ("beta2", { $0.optimizer = .adam(beta2: 1) }),
      ("k of", { $0.optimizer = .lookahead(.gradientDescent, k: 0) }),
      ("total", { $0.schedule = .warmup(steps: 1, then: .cosine(total: 0)) }),
    ] as [(String, (inout UpdateRule) -> Void)] {
      #expect(text(with(change)).contains(what), "\(what): \(text(with(change)))")
    }
  }

  // MARK: Measuring

  /// A loss with dropout and batch norm, both as they are in training and as they are in use.
  static func noisy() throws -> Module {
    var module = Module("noisy")
    module.dimension("n", default: 4)
    try module.phase("loss") { g in
      let l = Layers(g)
      let x = g.input("x", .float32, ["n", 3])
      let random = RandomStream(g, key: g.input("seed", .int64))
      let h = g.dropout(l.batchNorm("bn", x), rate: 0.5, random)
      g.output("loss", g.mean(h * g.parameter("w", [3], .constant(1)), axes: [0, 1]))
    }
    return module
  }

  static let rows = Tensor(
    .float32, [10, 3], rounding: TrainingStepTests.walk(30, 7, 13).map { $0 * 2 + 0.5 })

  /// Validation sees every row once, without dropout, with running statistics, and leaves these alone.
  @Test func validationIsOverEveryRow() throws {
    let module = try Self.noisy()
    #expect(module.functions.map(\.name) == ["loss", "loss_evaluation"])
    let step = try TrainingStep(module, phases: [Phase("loss", rule: Self.rule())])
    let state = [
      "w": Tensor([3], [1, -2, 0.5] as [Float]), "bn.w": Tensor([3], [2, 1, 1] as [Float]),
      "bn.b": Tensor([3], [0.1, 0.2, 0.3] as [Float]),
      "bn.mean": Tensor([3], [0.5, 0.25, -1] as [Float]),
      "bn.var": Tensor([3], [4, 1, 0.25] as [Float]),
    ]
    // The mean over all rows at once, by the interpreter.
    let (results, _) = try Interpreter().run(
      module, function: module.function("loss_evaluation")!,
      inputs: ["x": Self.rows, "seed": Tensor([], [Int64(0)])], states: state,
      dimensions: ["n": 10])
    let want = results[0].value.doubles[0]
    for batch in [1, 3, 4, 5, 10, 64] {
      let evaluator = try Evaluator(step, data: ["x": Self.rows], batch: batch)
      #expect(evaluator.notes.isEmpty)
      for _ in 0..<2 {
        let got = try evaluator.run(state)
        #expect(got.count == 1 && got[0].name == "loss")
        #expect(abs(got[0].value - want) < 1e-6, "\(batch): \(got[0].value), \(want)")
      }
    }
    // Each row weighs the same: the last one alone, in the last smaller part, shows.
    var other = Self.rows.doubles
    other[29] += 10
    let evaluator = try Evaluator(
      step, data: ["x": Tensor(.float32, [10, 3], rounding: other)], batch: 4)
    // w / sqrt(var) gamma of the last column, over 30 elements.
    #expect(abs(try evaluator.run(state)[0].value - want - 10 * 0.5 / 0.5 / 30) < 1e-5)
  }

  /// A phase without an evaluation function is measured as it is trained, and that is said.
  @Test func whatIsMeasuredAsItIsTrainedIsNoted() throws {
    var module = Module("plain")
    module.dimension("n", default: 4)
    try module.function("loss") { g in
      let random = RandomStream(g, key: g.input("seed", .int64))
      let x = g.dropout(g.input("x", .float32, ["n", 3]), rate: 0.5, random)
      g.output("loss", g.mean(x * g.parameter("w", [3]), axes: [0, 1]))
    }
    let step = try TrainingStep(module, phases: [Phase("loss", rule: Self.rule())])
    let evaluator = try Evaluator(step, data: ["x": Self.rows], batch: 4)
    #expect(evaluator.notes.count == 1 && evaluator.notes[0].contains("random numbers"))
    // The module's own choice of a function.
    try module.function("measure") { g in
      let x = g.input("x", .float32, ["n", 3])
      g.output("loss", g.mean(x * g.parameter("w", [3]), axes: [0, 1]))
    }
    let chosen = try TrainingStep(
      module, phases: [Phase("loss", evaluation: "measure", rule: Self.rule())])
    #expect(try Evaluator(chosen, data: ["x": Self.rows], batch: 4).notes.isEmpty)
  }

  /// Labels that validation uses as positions are checked as those of training are.
  @Test func validationDataAreChecked() throws {
    var module = Module("labels")
    module.dimension("n", default: 4)
    try module.phase("loss") { g in
      let x = g.input("x", .float32, ["n", 3])
      let y = g.input("y", .int32, ["n"])
      g.output("loss", g.softmaxCrossEntropy(Layers(g).linear("l", x, 5), y))
    }
    let step = try TrainingStep(module, phases: [Phase("loss", rule: Self.rule())])
    let y = Tensor([10], [0, 1, 2, 3, 4, 0, 1, 2, 3, 5] as [Int32])
    #expect(
      Self.message { _ = try Evaluator(step, data: ["x": Self.rows, "y": y], batch: 4) }
        .contains("element [9] of 'y' is 5"))
    #expect(
      Self.message { _ = try Evaluator(step, data: ["x": Self.rows], batch: 4) }
        .contains("the validation data has no array 'y'"))
  }

  // MARK: The last batch

  /// The examples that are left are no step, or a smaller one, as the option says.
  @Test func theLastSmallerBatch() throws {
    let step = try TrainingStep(
      try TrainingStepTests.regression(), phases: [Phase("loss", rule: Self.rule(0.1))])
    let x = Tensor(.float32, [10, 4], rounding: TrainingStepTests.walk(40, 37, 101))
    let y = Tensor(.float32, [10, 3], rounding: TrainingStepTests.walk(30, 53, 97))
    func trained(_ last: Trainer.LastBatch, _ batch: Int, perCall: Int = 50) throws -> Trainer {
      var options = Trainer.Options(batch: batch, epochs: 2)
      options.shuffles = false
      options.lastBatch = last
      options.stepsPerCall = perCall
      let trainer = try Trainer(step, data: ["x": x, "y": y], options: options)
      try trainer.run { _ in true }
      return trainer
    }
    let (drop, use) = (try trained(.drop, 4), try trained(.use, 4))
    #expect(drop.position.step == 4 && use.position.step == 6)
    // Steps one by one, on the rows that they are of.
    let single = try step.stepFunction()
    var state: [String: Tensor] = [:]
    for _ in 0..<2 {
      for part in [0..<4, 4..<8, 8..<10] {
        let executable = try Compiler().compile(
          single, function: "train_step", dimensions: ["n": part.count])
        try executable.setState(state)
        try executable.initializeState(seed: 0)
        func rows(_ t: Tensor, _ width: Int) -> Tensor {
          Tensor(
            .float32, [part.count, width],
            rounding: Array(t.doubles[part.lowerBound * width..<part.upperBound * width]))
        }
        _ = try executable.run(["x": rows(x, 4), "y": rows(y, 3)])
        state = executable.state
      }
    }
    for (name, value) in use.modelState {
      for (a, b) in zip(value.doubles, state[name]!.doubles) { #expect(abs(a - b) < 1e-6) }
    }
    #expect(try trained(.use, 4, perCall: 1).state == use.state)
    // Fewer examples than a batch are a batch of their own.
    #expect(try trained(.use, 64).position.step == 2)
    #expect(Self.message { _ = try trained(.drop, 64) }.contains("10 examples for batches of 64"))
  }

  // MARK: Averages and second runs

  @Test func averagedWeightsCanBeHad() throws {
    var rule = Self.rule(0.1)
    rule.averaging = 0.5
    let step = try TrainingStep(
      try TrainingStepTests.regression(), phases: [Phase("loss", rule: rule)])
    let trainer = try Trainer(
      step, data: ["x": TrainingStepTests.x, "y": TrainingStepTests.y],
      options: Trainer.Options(batch: 8, epochs: 2))
    #expect(trainer.averagedState == trainer.modelState)
    var seen: [[String: Tensor]] = []
    try trainer.run { _ in
      seen.append(trainer.modelState)
      return true
    }
    #expect(trainer.averagedState.keys.sorted() == ["layer.b", "layer.w"])
    for (name, value) in trainer.averagedState {
      let (a, b) = (seen[0][name]!.doubles, seen[1][name]!.doubles)
      for (index, x) in value.doubles.enumerated() {
        #expect(abs(x - (a[index] + b[index]) / 2) < 1e-6)
      }
      #expect(value != trainer.modelState[name])
    }
  }

  /// All references to a trainer are one run. A run that is done says so, and goes on when it is given
  /// more epochs, as one that had them from the beginning.
  @Test func oneRunWhoeverHoldsIt() throws {
    let trainer = try TrainerTests.trainer(0.01, epochs: 2)
    let other = trainer
    try trainer.run { _ in true }
    #expect(other.position.step == 20 && other.state == trainer.state && other.isDone)
    #expect(Self.message { try other.run { _ in true } }.contains("the run is done: 2 of 2 epochs"))
    other.epochs = 4
    try trainer.run { $0.step < 25 }
    try trainer.run { _ in true }
    let whole = try TrainerTests.trainer(0.01, epochs: 4)
    try whole.run { _ in true }
    #expect(trainer.position.step == 40 && trainer.state == whole.state)
  }

  /// A stop that is asked for from outside ends the run after the step in progress.
  @Test func aStopEndsTheRunAfterItsStep() throws {
    let asked = Counter()
    let trainer = try TrainerTests.trainer(0.01, epochs: 4) {
      // Before each step, and once after the call.
      $0.isStopped = { asked.next() > 3 }
    }
    try trainer.run { _ in true }
    #expect(trainer.position == (3, 0, 3))
    let whole = try TrainerTests.trainer(0.01, epochs: 1)
    try whole.run { $0.step < 3 }
    #expect(trainer.position.step == 3)
    let three = try TrainerTests.trainer(0.01, epochs: 1, perCall: 3)
    try three.run { _ in false }
    #expect(trainer.state == three.state)
  }
}

final class Counter: Sendable {
  private let value = Mutex(0)
  func next() -> Int {
    value.withLock {
      $0 += 1
      return $0
    }
  }
}
