import DLCGraph
import DLCTensor
import DLCTraining
import Testing

/// What the trainer refuses: options, arrays, and elements that are no positions where positions are
/// wanted.
@Suite struct TrainingDataTests {
  static func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return "\(error)" }
  }

  static func step(_ name: String = "loss", _ body: (FunctionBuilder) -> Void) throws
    -> TrainingStep
  {
    var module = Module("m")
    module.dimension("n", default: 4)
    module.dimension("k", default: 7)
    module.dimension("T", default: 3)
    try module.function(name, body)
    return try TrainingStep(
      module, phases: [Phase(name, rule: UpdateRule(.adam(), learningRate: 0.01))])
  }

  static func made(
    _ step: TrainingStep, _ data: [String: Tensor], batch: Int = 4,
    _ change: (inout Trainer.Options) -> Void = { _ in }
  ) -> String {
    var options = Trainer.Options(batch: batch, epochs: 1)
    change(&options)
    return message { _ = try Trainer(step, data: data, options: options) }
  }

  static func ints(_ shape: [Int], _ values: [Int32]) -> Tensor { Tensor(shape, values) }

  /// The ways from an input to a position: each refuses what is outside and takes what is inside.
  static let uses:
    [(
      name: String, limit: Int, shape: [Int],
      build: @Sendable (FunctionBuilder, Value, Value) -> Value
    )] = [
      ("cross entropy", 7, [8], { g, i, logits in g.softmaxCrossEntropy(logits, i) }),
      (
        "embedding", 5, [8],
        { g, i, _ in
          let table = g.parameter("table", [5, 2])
          return g.mean(g.embedding(table, i), axes: [0, 1])
        }
      ),
      (
        "converted, transposed and reshaped", 5, [8, 3],
        { g, i, _ in
          let table = g.parameter("table", [5, 2])
          let turned = g.transpose(g.convert(i, .int64), [1, 0])
          let flat = g.reshape(turned, [Size(name: "n") * 3])
          return g.mean(g.embedding(table, flat), axes: [0, 1])
        }
      ),
      (
        "one-hot code", 7, [8],
        { g, i, logits in
          let wide = g.broadcast(i, to: ["n", "k"], axes: [0])
          let code = g.compare(.equal, wide, g.iota(.int32, ["n", "k"], axis: 1))
          return g.softmaxCrossEntropy(logits, probabilities: g.convert(code, .float32))
        }
      ),
      (
        "inside a scan", 5, [8, 3],
        { g, i, _ in
          let table = g.parameter("table", [5, 2])
          let (last, _) = g.scan(
            carried: [g.constant(0, .float32, ["n", 2])], inputs: [g.transpose(i, [1, 0])]
          ) { g, c, s in ([c[0] + g.embedding(table, s[0])], []) }
          return g.mean(last[0], axes: [0, 1])
        }
      ),
      (
        "inside a branch", 5, [8],
        { g, i, _ in
          let table = g.parameter("table", [5, 2])
          let rows = g.cond(g.compare(.less, g.constant(0, .int32), g.constant(1, .int32))) { g in
            [g.embedding(table, i)]
          } otherwise: { g in
            [g.constant(0, .float32, ["n", 2])]
          }
          return g.mean(rows[0], axes: [0, 1])
        }
      ),
    ]

  @Test(arguments: uses.indices) func positionsAreChecked(_ index: Int) throws {
    let (name, limit, shape, build) = Self.uses[index]
    let step = try Self.step { g in
      let i = g.input("i", .int32, ["n"] + shape.dropFirst().map { Size($0) })
      let x = g.input("x", .float32, ["n", 2])
      g.output("loss", build(g, i, Layers(g).linear("l", x, "k")))
    }
    let x = Tensor(zeros: .float32, [8, 2])
    let count = shape.reduce(1, *)
    func data(_ value: Int32) -> [String: Tensor] {
      var values = (0..<Int32(count)).map { $0 % Int32(limit) }
      values[count - 2] = value
      return ["x": x, "i": Self.ints(shape, values)]
    }
    let place = shape.count == 1 ? "[6]" : "[7, 1]"
    for bad in [Int32(limit), -1, .min, .max] {
      let text = Self.made(step, data(bad))
      #expect(
        text.contains("element \(place) of 'i' is \(bad), which is outside 0..<\(limit)"),
        "\(name): \(text)")
    }
    #expect(Self.made(step, data(Int32(limit - 1))) == "no error", "\(name)")
  }

  /// Columns of one array with vocabularies of their own, and positions that the graph bounds itself.
  @Test func onlyWhatIsUsedIsChecked() throws {
    let step = try Self.step { g in
      let i = g.input("i", .int32, ["n", 3])
      var sum = g.constant(0, .float32, ["n", 2])
      for (column, size) in [(0, 5), (1, 100)] {
        let part = g.reshape(
          g.slice(i, axis: 1, from: Size(column), to: Size(column + 1)), ["n"])
        sum = sum + g.embedding(g.parameter("t\(column)", [Size(size), 2]), part)
      }
      let last = g.reshape(g.slice(i, axis: 1, from: 2, to: 3), ["n"])
      sum = sum + g.embedding(g.parameter("t2", [4, 2]), g.clamp(last, 0, 3))
      g.output("loss", g.mean(sum, axes: [0, 1]))
    }
    func data(_ row: [Int32]) -> [String: Tensor] {
      ["i": Self.ints([4, 3], [0, 0, 0, 0, 0, 0, 0, 0, 0] + row)]
    }
    #expect(Self.made(step, data([4, 99, 1000])) == "no error")
    #expect(Self.made(step, data([5, 99, 0])).contains("[3, 0]"))
    #expect(Self.made(step, data([4, 100, 0])).contains("outside 0..<100"))
  }

  /// Numbers that an integer input cannot hold, and floats that are used as positions.
  @Test func labelsAreWholeNumbers() throws {
    for type in [DataType.int32, .float32] {
      let step = try Self.step { g in
        let x = g.input("x", .float32, ["n", 2])
        let y = g.convert(g.input("y", type, ["n"]), .int32)
        g.output("loss", g.softmaxCrossEntropy(Layers(g).linear("l", x, "k"), y))
      }
      for (bad, text) in [
        (Float.nan, "nan"), (0.5, "0.5"), (1e30, "1.0"), (-.infinity, "-inf"), (7, "7"), (-1, "-1"),
      ] {
        var values: [Float] = [0, 1, 2, 3, 4, 5, 6, 0]
        values[5] = bad
        let got = Self.made(
          step, ["x": Tensor(zeros: .float32, [8, 2]), "y": Tensor([8], values)])
        #expect(got.contains("element [5] of 'y' is \(text)"), "\(bad): \(got)")
      }
      #expect(
        Self.made(
          step,
          [
            "x": Tensor(zeros: .float32, [8, 2]),
            "y": Tensor([8], [0, 1, 2, 3, 4, 5, 6, 0] as [Float]),
          ])
          == "no error")
    }
  }

  @Test func arraysMustFitTheInputs() throws {
    let step = try Self.step { g in
      let x = g.input("x", .float32, ["n", 3])
      let t = g.input("t", .float32, ["n", 1])
      g.output("loss", g.meanSquaredError(Layers(g).linear("l", x, 1), t))
    }
    let (x, t) = (Tensor(zeros: .float32, [8, 3]), Tensor(zeros: .float32, [8, 1]))
    #expect(Self.made(step, ["x": x]).contains("no array 't'"))
    // What no input takes is left out, and said.
    let trainer = try Trainer(
      step, data: ["x": x, "t": t, "y": t], options: Trainer.Options(batch: 4, epochs: 1))
    #expect(trainer.notes == ["the data: ignored, because no input has the name: 'y'"])
    #expect(Self.made(step, ["x": x, "t": Tensor(zeros: .float32, [8])]).contains("'t'"))
    #expect(
      Self.made(step, ["x": x, "t": Tensor(zeros: .float32, [7, 1])]).contains("8 examples"))
    #expect(Self.made(step, ["x": Tensor(zeros: .float32, [8, 2]), "t": t]).contains("'x'"))
    #expect(Self.made(step, ["x": x, "t": t], batch: 9).contains("8 examples for batches of 9"))
    #expect(
      Self.made(step, ["x": x, "t": t]) { $0.dimensions = ["n": 3] }
        .contains("'n' is given as 3, but the batch makes it 4"))
    #expect(Self.made(step, ["x": x, "t": t]) { $0.dimensions = ["n": 4] } == "no error")
    #expect(
      Self.made(step, ["x": x, "t": t]) { $0.dimensions = ["m": 4] }.contains("no dimension 'm'"))
    #expect(
      Self.made(
        step, ["x": Tensor(zeros: .float32, [0, 3]), "t": Tensor(zeros: .float32, [0, 1])]
      ).contains("no examples"))
    for (name, change) in [
      ("batch", { $0.batch = 0 }), ("batch", { $0.batch = -4 }), ("epochs", { $0.epochs = 0 }),
      ("epochs", { $0.epochs = -1 }), ("stepsPerCall", { $0.stepsPerCall = 0 }),
      ("keep", { $0.keep = 0 }), ("checkpointSteps", { $0.checkpointSteps = 0 }),
      ("threads", { $0.threads = 0 }),
    ] as [(String, (inout Trainer.Options) -> Void)] {
      #expect(
        Self.made(step, ["x": x, "t": t], change).contains("'\(name)' is "), "\(name)")
    }
    #expect(Self.made(step, ["x": x, "t": t]) { $0.epochs = .max }.contains("too many"))
    #expect(
      Self.made(step, ["x": x, "t": t]) { $0.epochs = Int(Int32.max) / 2 + 1 }.contains("too many"))
    // Three parts of a batch of four.
    var rule = UpdateRule(.adam(), learningRate: 0.01)
    rule.accumulation = 3
    let parts = try TrainingStep(step.module, phases: [Phase("loss", rule: rule)])
    #expect(Self.made(parts, ["x": x, "t": t]).contains("no 3 equal parts"))
  }

  /// A user's names are the user's: the loop's own are others.
  @Test func theLoopTakesNoNamesAway() throws {
    var module = Module("m")
    for (name, size) in [("n", 4), ("steps", 5), ("examples", 6), ("steps_", 2)] {
      module.dimension(name, default: size)
    }
    for name in ["train", "loss", "step", "train_step"] {
      try module.function(name) { g in
        let order = g.input("order", .float32, ["n", "steps"])
        let x = g.input("x", .float32, ["n", "examples"])
        let l = Layers(g)
        let y = l.linear("a", order, "steps_") + l.linear("b", x, "steps_")
        let loss = g.mean(y * y, axes: [0, 1])
        g.output("loss", loss)
        g.output("learning_rate", loss * 2.0)
      }
    }
    let step = try TrainingStep(
      module, phases: [Phase("train", rule: UpdateRule(.adam(), learningRate: 0.01))])
    #expect(step.metrics == ["loss", "learning_rate", "learning_rate_"])
    let trainer = try Trainer(
      step,
      data: [
        "order": Tensor([8, 5], [Float](repeating: 0.5, count: 40)),
        "x": Tensor([8, 6], [Float](repeating: 0.25, count: 48)),
      ], options: Trainer.Options(batch: 4, epochs: 3))
    var losses: [Double] = []
    try trainer.run { p in
      losses.append(p.metrics[0].value)
      #expect(p.metrics[1].value == 2 * p.metrics[0].value)
      #expect(abs(p.metrics[2].value - 0.01) < 1e-8)
      return true
    }
    #expect(losses.count == 3 && losses[2] < losses[0])
  }
}
