import DLCFormats
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCTraining
import Foundation
import Testing

/// Recipes: in files and texts, and followed by a trainer.
@Suite struct RecipeTests {
  /// A regression with a recipe that uses everything a recipe can say.
  static func module() throws -> Module {
    var module = try TrainingStepTests.regression(noise: true)
    try module.function("centre") { g in
      let x = g.input("x", .float32, ["n", 4])
      let centre = g.state("centre", .float32, [4], .zeros)
      g.update("centre", centre + g.mean(x, axes: [0]))
    }
    try module.function("measure") { g in
      let x = g.input("x", .float32, ["n", 4]) - g.state("centre", .float32, [4], .zeros)
      let error =
        g.linear(x, g.parameter("layer.w", [3, 4], .constant(0.1)), g.parameter("layer.b", [3]))
        - g.input("y", .float32, ["n", 3])
      g.output("distance", g.mean(error * error, axes: [0, 1]))
    }
    var rule = UpdateRule(
      .lookahead(.adamW(beta1: 0.8, decay: 0.1), k: 3), learningRate: 0.02)
    rule.schedule = .warmup(steps: .epochs(0.5), then: .cosine(total: .run(0.9), final: 0.1))
    rule.clipNorm = 2
    rule.clipValue = 0.5
    rule.coupledDecay = 1e-4
    rule.decoupledDecay = 1e-3
    rule.averaging = 0.9
    rule.halfStateType = .bfloat16
    rule.groups = [UpdateRule.Group(prefix: "layer.b", rateFactor: 0.5, decayFactor: 0)]
    module.recipe = Recipe(
      phases: [
        Phase("loss", evaluation: "measure", prefixes: ["layer.w", "layer.b"], rule: rule)
      ], batch: 4, epochs: 3, initialization: "centre", evaluation: "measure",
      meanings: [
        "x": .image(height: 2, width: 2), "y": .label(["a \"b\"", "c\n"]), "seed": .seed,
        "loss": .setting(-0.25), "distance": .token("a\"\n\u{e9}"),
      ])
    return module
  }

  static var optimizers: [Optimizer] {
    Optimizer.named.map(\.optimizer) + [
      .lookahead(.lamb(decay: 0.1, correctsBias: true), k: 7, alpha: 0.25)
    ]
  }

  static let schedules: [Schedule] = [
    .constant, .cosine, .step(every: 10, factor: 0.5), .cosine(total: .epochs(2.5), final: 0.125),
    .oneCycle(total: .run(0.5), rise: 0.25), .warmup(steps: 3, then: .warmup(steps: .run(0.1))),
  ]

  @Test func textAndFileKeepEverything() throws {
    var modules = [try Self.module()]
    for optimizer in Self.optimizers {
      for schedule in Self.schedules {
        var module = modules[0]
        module.recipe!.phases[0].rule.optimizer = optimizer
        module.recipe!.phases[0].rule.schedule = schedule
        modules.append(module)
      }
    }
    for kind in Phase.Kind.allCases {
      modules[0].recipe!.phases[0].kind = kind
      modules.append(modules[0])
    }
    for module in modules {
      let read = try Module(parsing: module.text)
      #expect(read == module && read.recipe == module.recipe)
      #expect(read.text == module.text)
      let decoded = try ModuleFile.encode(module).withUnsafeBytes { bytes in
        try ModuleFile.decode(bytes, path: "memory")
      }
      #expect(decoded.recipe == module.recipe)
    }
  }

  /// No damage to a file or text does more than an error.
  @Test func damageIsAnError() throws {
    let module = try Self.module()
    let bytes = ModuleFile.encode(module)
    var random = Choices(seed: 5)
    var (sound, broken) = (0, 0)
    for _ in 0..<400 {
      var copy = bytes
      for _ in 0..<(1 + random.next(3)) {
        copy[random.next(copy.count)] = UInt8(truncatingIfNeeded: random.next(256))
      }
      do {
        _ = try copy.withUnsafeBytes { try ModuleFile.decode($0, path: "memory") }
        sound += 1
      } catch { broken += 1 }
    }
    let text = Array(module.text.utf8)
    let start = module.text.utf8.count - module.text.drop { $0 != "r" }.utf8.count
    for _ in 0..<400 {
      var copy = text
      copy[start + random.next(600)] = UInt8(32 + random.next(95))
      do {
        _ = try Module(parsing: String(decoding: copy, as: UTF8.self))
        sound += 1
      } catch { broken += 1 }
    }
    #expect(broken > 100 && sound > 0)
  }

  static let mistakes: [(String, @Sendable (inout Recipe) -> Void)] = [
    ("no function 'nope'", { $0.sample = "nope" }),
    ("no function 'nope'", { $0.phases[0].function = "nope" }),
    ("no function 'nope'", { $0.initialization = "nope" }),
    ("batch is 0", { $0.batch = 0 }), ("epochs is -1", { $0.epochs = -1 }),
    ("no floating-point scalar output 'los'", { $0.phases[0].output = "los" }),
    (
      "the total of the schedule is 2.0 of the run",
      { $0.phases[0].rule.schedule = .cosine(total: .run(2)) }
    ),
    ("'nothing', which is to mean something", { $0.meanings["nothing"] = .seed }),
    ("not 2 x 2 with 2 channels", { $0.meanings["x"] = .image(height: 2, width: 2, channels: 2) }),
    ("a character twice", { $0.meanings["x"] = .token("aa") }),
    ("sets no state", { $0.initialization = "measure" }),
  ]

  @Test(arguments: mistakes.indices) func mistakesAreErrors(_ index: Int) throws {
    var module = try Self.module()
    Self.mistakes[index].1(&module.recipe!)
    let text = PhaseTests.message {
      _ = try TrainingStep(module)
    }
    #expect(text.contains(Self.mistakes[index].0))
  }

  @Test func lengthsAreThoseOfTheRun() throws {
    let schedule = Schedule.warmup(
      steps: .epochs(0.5), then: .cosine(total: .run(0.9), final: 0.1))
    #expect(
      schedule.resolved(stepsPerEpoch: 10, epochs: 4)
        == .warmup(steps: 5, then: .cosine(total: 36, final: 0.1)))
    // A step without a run does not know them.
    var rule = UpdateRule()
    rule.schedule = .cosine
    let step = try TrainingStep(
      try TrainingStepTests.regression(), phases: [Phase("loss", rule: rule)])
    #expect(PhaseTests.message { _ = try step.stepFunction() }.contains("a step alone has neither"))
  }

  static let data = ["x": TrainingStepTests.x, "y": TrainingStepTests.y]

  @Test func trainerFollowsIt() throws {
    let module = try Self.module()
    let trainer = try Trainer(module, data: Self.data) { $0.seed = 3 }
    #expect(trainer.options.batch == 4 && trainer.epochs == 3)
    // The initialisation saw all examples.
    let columns = (0..<4).map { column in
      (0..<8).reduce(0.0) { $0 + TrainingStepTests.x.doubles[$1 * 4 + column] } / 8
    }
    let centre = try #require(trainer.state["centre"]).doubles
    for (a, b) in zip(centre, columns) { #expect(abs(a - b) < 1e-6) }
    let before = try trainer.evaluate(Self.data)
    var ends = 0
    try trainer.runEpochs { progress in
      #expect(progress.isEpochEnd)
      ends += 1
    }
    let after = try trainer.evaluate(Self.data)
    #expect(ends == 3 && trainer.position.step == 6)
    #expect(after.map(\.name) == ["distance"] && after[0].value < before[0].value)
    // The trained module has what was measured, and what training goes on from.
    let trained = try trainer.module()
    let averaged = trainer.averagedState
    for name in ["layer.w", "layer.b", "centre"] {
      #expect(trained.state(name)?.value == averaged[name])
    }
    #expect(trained.state("current/layer.w")?.value == trainer.state["layer.w"])
    let again = try Trainer(trained, data: Self.data)
    #expect(again.state["layer.w"] == trainer.state["layer.w"])
    // Before its first step it measures as the file does, and keeps what the file has; its statistics are
    // not taken anew.
    #expect(again.notes.contains { $0.contains("goes on from the last step's weights") })
    #expect(again.notes.contains { $0.contains("does not set what has values: 'centre'") })
    #expect(try again.evaluate(Self.data)[0].value == after[0].value)
    let kept = try again.module()
    #expect(trained.states.allSatisfy { kept.state($0.name)?.value == $0.value })
    #expect(try Evaluator(trained, data: Self.data).run()[0].value == after[0].value)
    let results = try trainer.model("measure", dimensions: ["n": 8]).run(Self.data)
    #expect(abs(results[0].value.scalar - after[0].value) < 1e-6)
    let whole = NSTemporaryDirectory() + "recipe-\(UUID().uuidString).pb"
    defer { try? FileManager.default.removeItem(atPath: whole) }
    try ModuleFile.writeWhole(trained, to: whole)
    #expect(try Module(contentsOf: whole) == trained)
  }

  @Test func maximisingGoesUp() throws {
    var module = Module("hill")
    module.dimension("n", default: 2)
    try module.function("height") { g in
      let x = g.input("x", .float32, ["n"])
      let w = g.parameter("w", [], .constant(2))
      g.output("score", g.mean(x * 0.0, axes: [0]) - (w - 3.0) * (w - 3.0))
    }
    module.recipe = Recipe(
      phases: [
        Phase(
          "height", .maximize, output: "score",
          rule: UpdateRule(.gradientDescent, learningRate: 0.25))
      ], batch: 2, epochs: 2)
    let trainer = try Trainer(module, data: ["x": Tensor(zeros: .float32, [2])])
    try trainer.run()
    // From 2 to 2.5 to 2.75.
    #expect(trainer.state["w"]?.scalar == 2.75)
  }

  /// The best epoch is kept, the run ends when nothing better comes, and a run that was stopped in between
  /// ends as one that was not.
  @Test func bestEpochIsKept() throws {
    let folder = NSTemporaryDirectory() + "best-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var module = try TrainingStepTests.regression()
    var rule = UpdateRule(.gradientDescent, learningRate: 0.3)
    // The rate explodes after a while.
    rule.schedule = .step(every: 2, factor: 1.7)
    module.recipe = Recipe(phases: [Phase("loss", rule: rule)], batch: 8, epochs: 40)
    func trainer(_ checkpoints: String?) throws -> Trainer {
      try Trainer(module, data: Self.data) {
        $0.validation = Self.data
        $0.watch = Trainer.Watch("loss", patience: 2)
        $0.checkpoints = checkpoints
      }
    }
    let whole = try trainer(nil)
    var losses: [Double] = []
    try whole.runEpochs { losses.append($0.validation[0].value) }
    let best = try #require(whole.best)
    #expect(whole.isStalled && whole.isDone && whole.position.epoch < 40)
    #expect(losses.min() == best.value && losses.firstIndex(of: best.value)! + 1 == best.epoch)
    #expect(losses.count == best.epoch + 2)
    let trained = try whole.module()
    #expect(trained.state("layer.w")?.value == best.state["layer.w"])
    // Training goes on from the best epoch's weights.
    #expect(try Trainer(trained, data: Self.data).state["layer.w"] == best.state["layer.w"])

    let first = try trainer(folder)
    try first.run { progress in progress.epoch < best.epoch + 1 }
    let second = try trainer(folder)
    #expect(try second.resume())
    #expect(second.best?.epoch == best.epoch && second.best?.state == best.state)
    try second.run()
    #expect(second.position == whole.position && second.state == whole.state)
    // Numbers of another metric, or on other data, are not compared with these.
    let other = try Trainer(module, data: Self.data) {
      $0.validation = Self.data
      $0.watch = Trainer.Watch("loss", .greatest, patience: 50)
      $0.checkpoints = folder
    }
    #expect(try other.resume())
    #expect(other.best == nil && other.changes.contains { $0.contains("another metric") })
    #expect(!other.isStalled)
    #expect(
      PhaseTests.message {
        _ = try Trainer(module, data: Self.data) { $0.watch = Trainer.Watch("loss") }
      }.contains("'watch' is given without 'validation'"))
  }

  /// A number that never is one makes no epoch the best, and ends the run like any other that is not better.
  @Test func aMetricThatIsNoNumber() throws {
    var module = try TrainingStepTests.regression()
    module.recipe = Recipe(
      phases: [Phase("loss", rule: UpdateRule(.gradientDescent, learningRate: 0.01))], batch: 8,
      epochs: 9)
    var validation = Self.data
    let y = try #require(validation["y"])
    validation["y"] = Tensor(y.shape, [Float](repeating: .nan, count: y.count))
    let trainer = try Trainer(module, data: Self.data) {
      $0.validation = validation
      $0.watch = Trainer.Watch("loss", patience: 2)
    }
    try trainer.run()
    #expect(trainer.best == nil && trainer.isStalled && trainer.position.epoch == 2)
    // Equal but for rounding is not better.
    #expect(!Trainer.Watch("x", .greatest).isBetter(0.912962963845995, than: 0.9129629638459948))
  }

  /// An epoch's metrics are means over its examples, however many steps a call had.
  @Test func metricsOfAnEpoch() throws {
    var module = try TrainingStepTests.regression()
    module.recipe = Recipe(
      phases: [Phase("loss", rule: UpdateRule(.gradientDescent, learningRate: 0.01))], batch: 3,
      epochs: 1)
    let trainer = try Trainer(module, data: Self.data) {
      $0.stepsPerCall = 1
      $0.lastBatch = .use
    }
    var (sum, epoch) = (0.0, 0.0)
    try trainer.run { progress in
      sum += progress.metrics[0].value * (progress.isEpochEnd ? 2 : 3)
      epoch = progress.epochMetrics[0].value
      return true
    }
    #expect(abs(epoch - sum / 8) < 1e-12)
  }

  /// Reports the rows of every step.
  private static func rows(_ type: DataType, _ configure: (inout Trainer.Options) -> Void) throws
    -> [[Int]]
  {
    var module = Module("rows")
    module.dimension("n", default: 4)
    try module.function("loss") { g in
      let x = g.input("x", .float32, ["n"])
      g.output("loss", g.sum(x * g.parameter("w", [], .zeros), axes: [0]))
      for place in 0..<4 {
        let at = Size(place)
        g.output("row\(place)", g.sum(g.slice(x, axis: 0, from: at, to: at + 1), axes: [0]))
      }
    }
    module.recipe = Recipe(phases: [Phase("loss")], batch: 4, epochs: 1)
    let numbers = Tensor([Array(0..<192)], type)
    let trainer = try Trainer(
      module, data: ["x": numbers[0]],
      {
        $0.stepsPerCall = 1
        configure(&$0)
      })
    var rows: [[Int]] = []
    try trainer.run { progress in
      rows.append((1...4).map { Int(progress.metrics[$0].value) })
      return true
    }
    return rows
  }

  @Test func blocksAreShuffled() throws {
    let all = try Self.rows(.float32) { $0.shuffleBlock = 3 }
    #expect(all.flatMap { $0 }.sorted() == Array(0..<192))
    // Steps of 4 rows come from the 8 blocks of 3 rows that are mixed: in 6 steps there are 8 blocks.
    for start in stride(from: 0, to: all.count, by: 6) {
      let blocks = Set(all[start..<start + 6].flatMap { $0 }.map { $0 / 3 })
      #expect(blocks.count == 8)
    }
    #expect(all != (try Self.rows(.float32) { $0.shuffleBlock = 5 }))
    let plain = try Self.rows(.float32) { _ in }
    #expect(plain.flatMap { $0 }.sorted() == Array(0..<192) && plain != all)
    let blocks = Set(plain[..<6].flatMap { $0 }.map { $0 / 3 })
    #expect(blocks.count > 12)
    #expect(try Self.rows(.float32) { $0.shuffleBlock = 1000 } == plain)
    #expect(try Self.rows(.float32) { $0.shuffles = false }.flatMap { $0 } == Array(0..<192))
  }

  /// Arrays of narrower types are taken as they are.
  @Test(arguments: [DataType.uint8, .int16, .uint16, .float16, .int64, .float64])
  func narrowArraysGiveTheSame(_ type: DataType) throws {
    #expect(try Self.rows(type) { _ in } == Self.rows(.float32) { _ in })
  }
}
