import DLC
import Foundation
import Testing

/// The programs of the pages, on arrays of the sizes that they name.
@Suite struct PageExamples {
  /// Pictures [count, 784] of ten classes.
  static func writePictures(_ path: String, _ count: Int) throws {
    let labels = (0..<count).map { Int32($0 % 10) }
    let x = labels.flatMap { label in (0..<784).map { Float($0 % 10 == Int(label) ? 1 : 0) } }
    try Npz.write([("x", Tensor([count, 784], x)), ("y", Tensor([count], labels))], to: path)
  }

  /// An ONNX model: y is the positive part of x, float32 [n, 2].
  static let positivePart = 
    "CAg6PQoMCgF4EgF5IgRSZWx1EgFnWhQKAXgSDwoNCAESCQoDEgFuCgIIAmIUCgF5Eg8KDQgBEgkKAxIBbgoCCAJCBAoAEBE="

  @Test func readme() async {
    await #expect(processExitsWith: .success) {
      try FileExamples.inFolder {
        try FileManager.default.createDirectory(
          atPath: "data", withIntermediateDirectories: false)
        try PageExamples.writePictures("data/fashion_train.npz", 128)
        try PageExamples.writePictures("data/fashion_test.npz", 32)
        try Data(base64Encoded: PageExamples.positivePart)!.write(
          to: URL(fileURLWithPath: "model.onnx"))
        try PageExamples.runReadme()
        #expect(try Module(contentsOf: "trained.pb").recipe != nil)
      }
    }
  }

  // The layout is the page's.
  // swift-format-ignore
  static func runReadme() throws {
    // example: README.md
    /// Layers that `forward` and `loss` share: parameters are the same where their names are.
    func logits(_ g: FunctionBuilder) -> Value {
      let l = Layers(g)
      let x = g.input("x", .float32, ["n", 784])
      return l.linear("out", g.gelu(l.linear("hidden", x, 512)), 10)
    }

    var module = Module("classifier")
    module.dimension("n", default: 8)                        // bound late: --dim n=64, or by the arrays
    try module.function("forward", training: false) { g in
      g.output("y", g.softmax(logits(g)))
    }
    try module.save("model.pb")

    let executable = try Compiler().compile(module, dimensions: ["n": 64])
    try executable.initializeState(seed: 1)                  // or setState, from safetensors
    let x = Tensor(zeros: .float32, [64, 784])
    for (name, value) in try executable.run(["x": x]) { print(name, value) }
    // end
    // example: README.md
    try module.phase("loss") { g in                          // makes loss and loss_evaluation
      let (logits, labels) = (logits(g), g.input("y", .int32, ["n"]))
      g.output("loss", g.softmaxCrossEntropy(logits, labels))
      g.output("accuracy", g.accuracy(logits, labels))
    }
    var rule = UpdateRule(.adamW(), learningRate: 1e-3)
    rule.schedule = .cosine                                  // over the whole run, whatever its length
    module.recipe = Recipe(phases: [Phase("loss", rule: rule)], batch: 64, epochs: 5, evaluation: "loss_evaluation")

    let trainer = try Trainer(module, data: Npz.arrays("data/fashion_train.npz")) { $0.seed = 1 }
    try trainer.runEpochs { print($0.epoch, $0.metrics) }    // or run(), or run { ...; return false } to stop
    print(try trainer.evaluate(Npz.arrays("data/fashion_test.npz")))
    let model = try trainer.model("forward", dimensions: ["n": 1])           // to use it at once
    try ModuleFile.writeWhole(trainer.module(), to: "trained.pb")            // one file, for every command
    // end
    // example: README.md
    let session = try ONNXSession(contentsOf: "model.onnx")  // keeps what it compiles, for each set of sizes
    for (name, value) in try session.run(["x": Tensor([[-1, 2], [3, -4]], .float32)]) { print(name, value) }
    // end
    let y = try model.run(["x": Tensor(zeros: .float32, [1, 784])])
    #expect(y[0].value.shape == [1, 10])
  }

  @Test func training() async {
    await #expect(processExitsWith: .success) {
      try FileExamples.inFolder { try PageExamples.runTraining() }
    }
  }

  // swift-format-ignore
  static func runTraining() throws {
    var module = try ModelExamples.classifier()
    let (train, test) = (ModelExamples.arrays(128), ModelExamples.arrays(30))
    // example: Sources/DLC/DLC.docc/Training.md
    module.recipe = Recipe(
      phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: 1e-3))], batch: 64, epochs: 10,
      evaluation: "loss_evaluation")
    let trainer = try Trainer(module, data: train) {
      $0.validation = test
      $0.watch = Trainer.Watch("accuracy", .greatest, patience: 3)
      $0.checkpoints = "run"
    }
    try trainer.runEpochs { print($0.epoch, $0.metrics, $0.validation) }
    try ModuleFile.writeWhole(trainer.module(), to: "trained.pb")
    print(try Evaluator(Module(contentsOf: "trained.pb"), data: test).run())
    // end
    // example: Sources/DLC/DLC.docc/Training.md
    module.recipe = Recipe(
      phases: [
        Phase("d_loss", prefixes: ["d."], rule: UpdateRule(.adam(), learningRate: 2e-4)),
        Phase("g_loss", prefixes: ["g."], rule: UpdateRule(.adam(), learningRate: 2e-4)),
      ], batch: 64, epochs: 20, sample: "sample")
    // end
    #expect(module.recipe?.phases.map(\.prefixes) == [["d."], ["g."]])
  }
}
