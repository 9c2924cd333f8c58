import DLCFormats
import DLCTensor
import Foundation
import Testing

/// `dlc train` as a user runs it: signals, directories of checkpoints, weights, and wrong values.
@Suite struct TrainCommandTests {
  static let data = "\(DigitsTests.folder)/digits_test.npz"
  static let graph = "\(DigitsTests.folder)/digits_mlp.pb"

  static func inFolder(_ body: (String) throws -> Void) throws {
    let folder = ProgramTests.temporary()
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  /// A training command that has been started, with what it says.
  final class Run {
    let process = Process()
    private let (out, error) = (Pipe(), Pipe())

    init(_ arguments: [String], _ graph: String = TrainCommandTests.graph) throws {
      process.executableURL = CommandLineTests.command
      process.arguments =
        ["train", graph, "--data", TrainCommandTests.data, "--batch", "20", "--seed", "4"]
        + arguments
      process.standardOutput = out
      process.standardError = error
      try process.run()
    }

    func finish(byExit: Bool = true) -> (status: Int32, out: String, error: String) {
      let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      let said = String(decoding: error.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      // A signal is no status of its own here.
      #expect(!byExit || process.terminationReason == .exit, "\(said)")
      return (process.terminationStatus, text, said)
    }
  }

  static func run(_ arguments: String...) throws -> (status: Int32, out: String, error: String) {
    try Run(arguments).finish()
  }

  static func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  /// Ctrl-C and SIGTERM end the run after the step in progress: a checkpoint, a line that says how to
  /// continue, the status that stands for the signal, nothing left behind; and the run goes on from there
  /// to the bits of one that was not interrupted.
  @Test(arguments: [(SIGINT, Int32(130), "SIGINT"), (SIGTERM, 143, "SIGTERM")])
  func signalsEndARunInGoodOrder(_ signal: Int32, _ status: Int32, _ name: String) throws {
    try Self.inFolder { folder in
      let checkpoints = [
        "--checkpoint", "\(folder)/c", "--checkpoint-every", "9", "--epochs", "40",
      ]
      let run = try Run(checkpoints + ["-o", "\(folder)/w", "--json"])
      KilledTrainingTests.kill(run.process, signal, afterCheckpointIn: "\(folder)/c")
      let (got, out, error) = run.finish()
      #expect(got == status && error.contains("stopped by \(name) after step"))
      #expect(error.contains("--resume"))
      let said = try Self.object(out)
      #expect(said["stopped"] as? String == name)
      let steps = try #require(said["steps"] as? Int)
      let names = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/c").sorted()
      let digits = String(steps)
      #expect(names.last == "step-" + String(repeating: "0", count: 9 - digits.count) + digits)
      #expect(names.allSatisfy { $0.hasPrefix("step-") })
      // Weights that are not the end of the run are not written.
      #expect(!FileManager.default.fileExists(atPath: "\(folder)/w"))
      let resumed = try Run(checkpoints + ["--resume", "-o", "\(folder)/w"]).finish()
      #expect(resumed.status == 0 && resumed.error.contains("resumed at step \(steps)"))
      let whole = try Run(["--epochs", "40", "-o", "\(folder)/whole"]).finish()
      #expect(whole.status == 0)
      #expect(
        FormatTestsSupport.equal(
          try Safetensors.read("\(folder)/whole"), try Safetensors.read("\(folder)/w")))
    }
  }

  /// Without checkpoints what was learnt is in the file that the end of the run would have been in.
  @Test func aStoppedRunWithoutCheckpointsKeepsWhatItLearnt() throws {
    try Self.inFolder { folder in
      let run = try Run(["--epochs", "4000", "--log", "\(folder)/log", "-o", "\(folder)/w.pb"])
      KilledTrainingTests.kill(run.process, SIGTERM, afterCheckpointIn: folder, named: "log")
      let (status, _, error) = run.finish()
      #expect(
        status == 143 && error.contains("what was learnt so far is in \(folder)/w.pb"), "\(error)")
      let more = try Self.Run(["--epochs", "1"], "\(folder)/w.pb").finish()
      #expect(more.status == 0, "\(more.error)")
    }
  }

  /// A decay that is given takes the place of the optimizer's own.
  @Test func weightDecayIsNotAdded() throws {
    try Self.inFolder { folder in
      for (name, flags) in [
        ("a", ["--optimizer", "adamw", "--weight-decay", "0"]), ("b", ["--optimizer", "adam"]),
        ("c", ["--optimizer", "adamw"]),
      ] {
        let run = try Run(["--epochs", "1", "-o", "\(folder)/\(name)"] + flags).finish()
        #expect(run.status == 0, "\(run.error)")
      }
      let weights = try ["a", "b", "c"].map { try Safetensors.read("\(folder)/\($0)") }
      #expect(FormatTestsSupport.equal(weights[0], weights[1]))
      #expect(!FormatTestsSupport.equal(weights[0], weights[2]))
    }
  }

  /// At any moment, before the first step too: never a death by a signal with something left behind.
  @Test func signalsAtAnyMoment() throws {
    try Self.inFolder { folder in
      for moment in 0..<8 {
        let run = try Run(
          ["--checkpoint", "\(folder)/\(moment)", "--checkpoint-every", "1", "--epochs", "400"])
        // The handler stands when the command has begun.
        usleep(UInt32(60_000 + moment * 60_000))
        kill(run.process.processIdentifier, SIGTERM)
        _ = run.finish(byExit: false)
        let names =
          (try? FileManager.default.contentsOfDirectory(atPath: "\(folder)/\(moment)")) ?? []
        #expect(names.allSatisfy { $0.hasPrefix("step-") }, "\(names)")
        if run.process.terminationReason == .exit {
          #expect(run.process.terminationStatus == 143)
        } else {
          // Before the command had begun.
          #expect(run.process.terminationStatus == SIGTERM && names.isEmpty)
        }
      }
    }
  }

  /// A directory belongs to one run.
  @Test func directoriesOfCheckpoints() throws {
    try Self.inFolder { folder in
      let directory = ["--checkpoint", "\(folder)/c"]
      #expect(try Run(directory + ["--epochs", "1"]).finish().status == 0)
      let refused = try Run(directory + ["--epochs", "1"]).finish()
      #expect(
        refused.status == 1 && refused.error.contains("holds another run already, up to step 27"))
      let other = try Run(directory + ["--resume", "--epochs", "2", "--optimizer", "lion"]).finish()
      #expect(other.status == 1 && other.error.contains("belongs to another run"))
      let more = try Run(directory + ["--resume", "--epochs", "2", "--lr", "0.01"]).finish()
      #expect(more.status == 0 && more.error.contains("resumed at step 27"))
      #expect(more.error.contains("the learning rate is 0.01, it was 0.001"))
      #expect(more.error.contains("the epochs are 2, they were 1"))
      let nothing = try Run(directory + ["--resume", "--epochs", "2", "--lr", "0.01", "--json"])
        .finish()
      #expect(nothing.status == 0 && nothing.error.contains("nothing is left to do"))
      #expect(try Self.object(nothing.out)["steps"] as? Int == 54)
      let anew = try Run(directory + ["--overwrite", "--epochs", "1"]).finish()
      #expect(anew.status == 0)
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: "\(folder)/c") == ["step-000000027"])
    }
  }

  /// With averages `-o` has them, and the weights of the last step can be had too.
  @Test func averagedAndCurrentWeights() throws {
    try Self.inFolder { folder in
      let common = ["--epochs", "2"]
      let averaged = try Run(
        common + [
          "--average", "0.9", "-o", "\(folder)/averaged", "--output-current", "\(folder)/current",
        ]
      ).finish()
      #expect(averaged.status == 0)
      #expect(try Run(common + ["-o", "\(folder)/plain"]).finish().status == 0)
      let (a, b, c) = (
        try Safetensors.read("\(folder)/averaged"), try Safetensors.read("\(folder)/current"),
        try Safetensors.read("\(folder)/plain")
      )
      #expect(FormatTestsSupport.equal(b, c) && !FormatTestsSupport.equal(a, b))
      #expect(a.map(\.name) == b.map(\.name))
    }
  }

  /// Validation counts the last smaller part: the mean over all rows, whatever the batch.
  @Test func validationDoesNotDependOnTheBatch() throws {
    try Self.inFolder { folder in
      #expect(try Run(["--epochs", "1", "-o", "\(folder)/w"]).finish().status == 0)
      var losses: [Double] = []
      for batch in ["540", "27", "400"] {
        let got = try Run([
          "--params", "\(folder)/w", "--epochs", "1", "--lr", "1e-30", "--batch", batch,
          "--validation", Self.data, "--json",
        ]).finish()
        #expect(got.status == 0, "\(got.error)")
        losses.append(try #require(try Self.object(got.out)["validation_loss"] as? Double))
      }
      for loss in losses { #expect(abs(loss - losses[0]) < 1e-6 * losses[0]) }
    }
  }

  @Test(arguments: [
    (["--threads", "0"], Int32(64), "--threads must be between"),
    (["--threads", "-1"], 64, "--threads must be between"),
    (["--lr", "-1"], 64, "--lr is -1.0: it must be a positive number"),
    (["--lr", "nan"], 64, "--lr is nan: it must be a positive number"),
    (["--batch", "-1"], 64, "--batch is -1: it must be positive"),
    (["--batch", "541"], 1, "there are 540 examples for batches of 541"),
    (["--epochs", "0"], 64, "--epochs is 0: it must be positive"),
    (["--epochs", "9223372036854775807"], 64, "too many"),
    (["--keep", "0"], 64, "--keep is 0"), (["--average", "2"], 64, "--average is 2.0"),
    (["--average", "1"], 64, "--average is 1.0"), (["--average", "-0.5"], 64, "--average is -0.5"),
    (["--clip-norm", "0"], 64, "--clip-norm is 0.0"),
    (["--weight-decay", "-1"], 64, "--weight-decay is -1.0"),
    (["--dim", "n=7"], 64, "--dim n=7 contradicts --batch 20"),
    (["--dim", "m=7"], 1, "no dimension 'm'"),
    (["--last-batch", "keep"], 64, "--last-batch is drop"),
    (["--resume"], 64, "--resume needs --checkpoint"),
    (["--overwrite"], 64, "--overwrite needs --checkpoint"),
    (["--output-current", "x"], 64, "--output-current needs --average"),
    (
      ["--function", "forward"], 1, "function 'forward' has no floating-point scalar output 'loss'"
    ),
  ]) func wrongValuesAreNamed(_ arguments: [String], _ status: Int32, _ text: String) throws {
    let got = try Run(arguments).finish()
    #expect(got.status == status && got.error.hasPrefix("dlc: error: "), "\(got)")
    #expect(got.error.contains(text), "\(arguments): \(got.error)")
  }
}
