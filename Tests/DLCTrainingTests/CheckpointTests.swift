import DLCFormats
import DLCGraph
import DLCTensor
import DLCTraining
import Foundation
import Testing

/// Checkpoints: which directory a run takes, what it leaves there, and what it goes on from.
@Suite struct CheckpointTests {
  static func names(_ folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
  }

  static func inFolder(_ body: (String) throws -> Void) throws {
    let folder = FormatPaths.temporary("checkpoints")
    defer { FormatPaths.remove(folder) }
    try body(folder)
  }

  static func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch { return "\(error)" }
  }

  /// Checkpoints stand where they are asked for, whatever the size of a call, and the last ones are kept.
  @Test func checkpointsStandAtTheirSteps() throws {
    try Self.inFolder { folder in
      let trainer = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 2, every: 4) {
        $0.keep = 9
      }
      try trainer.run { _ in true }
      #expect(
        Self.names(folder)
          == [4, 8, 10, 14, 18, 20].map { "step-0000000" + ($0 < 10 ? "0\($0)" : "\($0)") }
      )
    }
  }

  /// A new run does not begin in the directory of another one, unless it is told to overwrite it.
  @Test func anotherRunsDirectoryIsRefused() throws {
    try Self.inFolder { folder in
      try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 2).run { _ in true }
      let before = Self.names(folder)
      let second = try TrainerTests.trainer(0.02, checkpoints: folder, epochs: 1)
      var steps = 0
      let text = Self.message {
        try second.run { _ in
          steps += 1
          return true
        }
      }
      #expect(text.contains("holds another run") && text.contains("step 20") && steps == 0)
      #expect(Self.names(folder) == before)
      let third = try TrainerTests.trainer(0.02, checkpoints: folder, epochs: 1) {
        $0.overwritesCheckpoints = true
      }
      try third.run { _ in true }
      // None of the steps of the run before, though they are later ones.
      #expect(Self.names(folder) == ["step-000000008", "step-000000009", "step-000000010"])
    }
  }

  /// While a run goes on, no other one uses its directory; afterwards it is free.
  @Test func aRunningRunsDirectoryIsLocked() throws {
    try Self.inFolder { folder in
      let first = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 1)
      var text = ""
      try first.run { _ in
        let second = try! TrainerTests.trainer(0.01, checkpoints: folder, epochs: 2)
        if text.isEmpty {
          text = Self.message {
            _ = try second.resume()
            try second.run { _ in true }
          }
        }
        return true
      }
      #expect(text.contains("in use"))
      let third = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 2)
      #expect(try third.resume())
      try third.run { _ in true }
      #expect(!Self.names(folder).contains(".lock"))
    }
  }

  /// A run that was overtaken by another one from the same checkpoint does not write over it.
  @Test func anOvertakenRunIsRefused() throws {
    try Self.inFolder { folder in
      try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 1).run { _ in true }
      let slow = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 2)
      let fast = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 2)
      #expect(try slow.resume() && fast.resume())
      try fast.run { _ in true }
      #expect(Self.message { try slow.run { _ in true } }.contains("in use"))
    }
  }

  /// What an interrupted write left goes; what is no business of the run stays.
  @Test func leftoversGoAndOtherNamesStay() throws {
    try Self.inFolder { folder in
      let files = FileManager.default
      let foreign = [
        "notes.txt", ".step-notes.1", "step-0000000001.old", "step-12", ".step-000000001.12.keep",
      ]
      for name in foreign + [".step-000000007.4711", ".step-000000100.1"] {
        try files.createDirectory(atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        _ = files.createFile(atPath: "\(folder)/\(name)/state.safetensors", contents: Data([1]))
      }
      // The lock of a run that was killed is nobody's.
      _ = files.createFile(atPath: "\(folder)/.lock", contents: nil)
      let trainer = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 2) { $0.keep = 1 }
      try trainer.run { _ in true }
      #expect(Self.names(folder) == (foreign + ["step-000000020"]).sorted())
    }
  }

  /// The rate, the schedule, the epochs and the data may change, and the run says which did.
  @Test func whatMayChangeDoes() throws {
    try Self.inFolder { folder in
      let first = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 3, every: 4)
      try first.run { $0.step < 14 }
      let faster = try TrainerTests.trainer(0.02, checkpoints: folder, epochs: 5)
      #expect(try faster.resume() && faster.position == (14, 1, 4))
      #expect(
        faster.changes == [
          "the learning rate is 0.02, it was 0.01", "the epochs are 5, they were 3",
        ])
      try faster.run { _ in true }
      #expect(faster.position.step == 50)
      // Other data: the epoch that was under way begins again.
      try Self.inFolder { other in
        try TrainerTests.trainer(0.01, checkpoints: other, epochs: 3, every: 4).run { $0.step < 14 }
        let step = try TrainingStep(
          try TrainingStepTests.regression(noise: true),
          phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: 0.01))])
        var options = Trainer.Options(batch: 4, epochs: 3, seed: 11)
        options.checkpoints = other
        let more = try Trainer(
          step,
          data: ["x": Tensor(zeros: .float32, [60, 4]), "y": Tensor(zeros: .float32, [60, 3])],
          options: options)
        #expect(try more.resume() && more.position == (14, 1, 0))
        #expect(
          more.changes == ["there are 60 examples, there were 40", "epoch 2 begins again"])
        try more.run { _ in true }
        #expect(more.position.step == 14 + 2 * 15)
      }
    }
  }

  /// What a run cannot go on with is named.
  @Test func anotherRunsCheckpointIsNamed() throws {
    try Self.inFolder { folder in
      try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 1).run { _ in true }
      func resume(_ trainer: Trainer) -> String { Self.message { _ = try trainer.resume() } }
      #expect(
        resume(try TrainerTests.trainer(0.01, checkpoints: folder, seed: 12))
          .contains("the seed 11, here 12"))
      #expect(
        resume(try TrainerTests.trainer(0.01, checkpoints: folder) { $0.batch = 8 })
          .contains("a batch of 4, here 8"))
      #expect(
        resume(try TrainerTests.trainer(0.01, checkpoints: folder) { $0.shuffles = false })
          .contains("random order"))
      let data = [
        "x": Tensor(zeros: .float32, [40, 4]), "y": Tensor(zeros: .float32, [40, 3]),
      ]
      var options = Trainer.Options(batch: 4, epochs: 1, seed: 11)
      options.checkpoints = folder
      var rule = UpdateRule(.adam(), learningRate: 0.01)
      rule.clipNorm = 1
      let clipped = try TrainingStep(
        try TrainingStepTests.regression(noise: true), phases: [Phase("loss", rule: rule)])
      #expect(
        resume(try Trainer(clipped, data: data, options: options)).contains("norm clipped to 1"))
      let plain = try TrainingStep(
        try TrainingStepTests.regression(),
        phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: 0.01))])
      #expect(resume(try Trainer(plain, data: data, options: options)).contains("another model"))
      options.checkpoints = nil
      #expect(resume(try Trainer(plain, data: data, options: options)).contains("no directory"))
    }
  }

  /// The same computation, written on other lines and with other names for its nodes, is the same run.
  @Test func sourceLinesAndNamesDoNotMatter() throws {
    func module(_ name: String, _ first: Bool) throws -> Module {
      var module = Module(name)
      module.dimension("n", default: 4)
      if first {
        try module.function("loss") { g in
          let x = g.input("x", .float32, ["n", 3])
          g.output("loss", g.mean(Layers(g).linear("o", x, 1), axes: [0, 1]))
        }
      } else {
        try module.function("loss") { g in
          let x = g.input("x", .float32, ["n", 3])
          // Another line, within another name.
          let y = g.scope("elsewhere") { Layers(g).linear("o", x, 1) }
          g.output("loss", g.mean(y, axes: [0, 1]))
        }
      }
      return module
    }
    try Self.inFolder { folder in
      for first in [true, false] {
        let step = try TrainingStep(
          try module(first ? "a" : "b", first),
          phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: 0.01))])
        var options = Trainer.Options(batch: 4, epochs: first ? 1 : 2)
        options.checkpoints = folder
        let trainer = try Trainer(
          step, data: ["x": Tensor(zeros: .float32, [8, 3])], options: options)
        #expect(try trainer.resume() == !first)
        try trainer.run { _ in true }
      }
    }
  }

  /// Every change of `checkpoint.json` is found, whatever the size of the numbers.
  @Test func damagedRecordsAreErrors() throws {
    try Self.inFolder { folder in
      let first = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 3, every: 7)
      try first.run { $0.step < 27 }
      let path = "\(folder)/step-000000027/checkpoint.json"
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text.contains("\"cursor\" : 7") && text.contains("\"epoch\" : 2"))
      let changes = [
        ("\"cursor\" : 7", "\"cursor\" : 10"), ("\"cursor\" : 7", "\"cursor\" : 8"),
        ("\"cursor\" : 7", "\"cursor\" : -1"),
        ("\"cursor\" : 7", "\"cursor\" : 9223372036854775807"),
        ("\"cursor\" : 7", "\"cursor\" : 92233720368547758070000"),
        ("\"cursor\" : 7", "\"cursor\" : 1e300"), ("\"cursor\" : 7", "\"cursor\" : 7.5"),
        ("\"epoch\" : 2", "\"epoch\" : 1"), ("\"epoch\" : 2", "\"epoch\" : 9223372036854775807"),
        ("\"step\" : 27", "\"step\" : 28"), ("\"step\" : 27", "\"step\" : -9223372036854775808"),
        ("\"stepsPerEpoch\" : 10", "\"stepsPerEpoch\" : 0"),
        ("\"examples\" : 40", "\"examples\" : 41"), ("{", ""),
        ("\"batch\" : 4", "\"batch\" : null"),
      ]
      for (old, new) in changes {
        #expect(text.contains(old))
        let range = text.range(of: old)!
        try text.replacingCharacters(in: range, with: new).write(
          toFile: path, atomically: true, encoding: .utf8)
        let trainer = try TrainerTests.trainer(0.01, checkpoints: folder)
        let error = #expect(throws: DLCError.self) { try trainer.resume() }
        #expect(error?.code == .format && "\(error!)".contains("damaged"), "\(old) to \(new)")
        #expect(trainer.position.step == 0)
      }
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      #expect(try TrainerTests.trainer(0.01, checkpoints: folder).resume())
    }
  }

  /// Where the newest state is damaged the run goes on before it, and says so.
  @Test func damagedStatesArePassedOver() throws {
    try Self.inFolder { folder in
      let whole = try TrainerTests.trainer(0.01, epochs: 4)
      try whole.run { _ in true }
      try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 3).run { _ in true }
      FormatPaths.damage("\(folder)/step-000000030/state.safetensors")
      #expect(try Checkpoint.latest(in: folder)?.step == 29)
      let trainer = try TrainerTests.trainer(0.01, checkpoints: folder, epochs: 4, every: 100) {
        $0.keep = 1
      }
      #expect(try trainer.resume() && trainer.position == (29, 2, 9))
      #expect(trainer.changes.contains { $0.contains("passed over") })
      try trainer.run { _ in true }
      #expect(trainer.state == whole.state)
      #expect(Self.names(folder) == ["step-000000040"])
      // Nothing is left when all of them are damaged.
      FormatPaths.damage("\(folder)/step-000000040/state.safetensors")
      #expect(throws: DLCError.self) { try Checkpoint.latest(in: folder) }
    }
  }

  /// A directory that cannot be written is an error before the first step.
  @Test func anImpossibleDirectoryIsAnError() throws {
    let trainer = try TrainerTests.trainer(0.01, checkpoints: "/dev/null/checkpoints")
    #expect(throws: DLCError.self) { try trainer.run { _ in true } }
    #expect(trainer.position.step == 0)
  }
}
