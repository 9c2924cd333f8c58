import DLC
import Testing

@Suite struct TrainingExamples {
  @Test func updateRule() throws {
    // example: DLCGraph/Recipe/UpdateRule.swift: public struct UpdateRule
    var rule = UpdateRule(.adamW(decay: 0.1), learningRate: 0.01)
    rule.schedule = .warmup(steps: 4, then: .cosine(total: .run(0.5)))
    rule.clipNorm = 1
    rule.averaging = 0.9
    // end
    let step = try TrainingStep(
      ModelExamples.classifier(), phases: [Phase("loss", rule: rule)])
    let options = Trainer.Options(batch: 8, epochs: 2)
    let trainer = try Trainer(step, data: ModelExamples.arrays(64), options: options)
    try trainer.run()
    #expect(trainer.state["average/out.w"] != nil)
  }

  @Test func trainingStep() throws {
    let module = try ModelExamples.classifier()
    let data = ModelExamples.arrays(8)
    // example: DLCTraining/TrainingStep.swift: public struct TrainingStep
    let rule = UpdateRule(.gradientDescent, learningRate: 0.1)
    let step = try TrainingStep(module, phases: [Phase("loss", rule: rule)])
    let program = try Compiler().compile(
      step.stepFunction(), function: "train_step", dimensions: ["n": 8])
    try program.initializeState(seed: 1)
    let before = try program.run(data)[0].value.scalar  // the loss
    let after = try program.run(data)[0].value.scalar  // smaller: the parameters have moved
    // end
    #expect(after < before)
  }

  @Test func trainer() throws {
    let module = try ModelExamples.classifier()
    let arrays = ModelExamples.arrays(64)
    var losses: [Double] = []
    // example: DLCTraining/Trainer.swift: public final class Trainer
    let rule = UpdateRule(.adam(), learningRate: 0.1)
    let step = try TrainingStep(module, phases: [Phase("loss", rule: rule)])
    let options = Trainer.Options(batch: 16, epochs: 5)
    let trainer = try Trainer(step, data: arrays, options: options)
    try trainer.runEpochs { losses.append($0.metrics[0].value) }
    let weights = trainer.modelState
    // end
    #expect(losses.count == 5)
    #expect(losses[4] < losses[0])
    #expect(weights["out.w"]?.shape == [3, 4])
  }

  @Test func recipe() throws {
    var module = try ModelExamples.classifier()
    let data = ModelExamples.arrays(64)
    // example: DLCGraph/Recipe/Recipe.swift: public struct Recipe
    let rule = UpdateRule(.adam(), learningRate: 0.1)
    module.recipe = Recipe(
      phases: [Phase("loss", rule: rule)], batch: 16, epochs: 3, evaluation: "loss_evaluation")
    let trainer = try Trainer(module, data: data) { $0.seed = 7 }
    try trainer.run()
    let measured = try trainer.evaluate(data)  // loss and accuracy
    // end
    #expect(measured.map(\.name) == ["loss", "accuracy"])
    #expect(measured[1].value == 1)
  }

  @Test func evaluator() throws {
    var module = try ModelExamples.classifier()
    try module.setValue(
      Tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], .float32), of: "out.w")
    try module.setValue(Tensor(zeros: .float32, [3]), of: "out.b")
    let test = ModelExamples.arrays(10)
    // example: DLCTraining/Evaluator.swift: public final class Evaluator
    let evaluator = try Evaluator(module, function: "loss_evaluation", data: test, batch: 4)
    let metrics = try evaluator.run()  // means over all rows
    // end
    #expect(metrics.first { $0.name == "accuracy" }?.value == 1)
  }
}
