import DLCData
import DLCFormats
import DLCGraph
import DLCTensor
import Foundation
import Testing

/// Families from the command line: trained, measured, sampled, compiled with their weights.
@Suite struct FamilyCommandTests {
  static func dlc(_ arguments: String..., status: Int32 = 0) throws -> (out: String, error: String)
  {
    let (got, out, error) = try CommandLineTests.launch(CommandLineTests.command, arguments)
    #expect(got == status, "\(arguments): \(error)")
    return (out, error)
  }

  static func model(_ name: String) -> String { "\(DigitsTests.folder)/models/\(name).pb" }

  /// The digits as `Tools/data` splits them.
  static func digits(_ folder: String) throws {
    _ = try dlc(
      "data", "npz", "\(DigitsTests.folder)/digits.npz", "--divide", "16", "--type", "y=int32",
      "--test-from", "1257", "-o", "\(folder)/digits")
  }

  static func object(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
  }

  /// The command lines of the README.
  @Test func oneCommandForAFamily() throws {
    try TrainCommandTests.inFolder { folder in
      try Self.digits(folder)
      let said = try Self.object(
        Self.dlc(
          "zoo", "train", "rbm", "--data", folder, "--epochs", "2", "--sample", "12", "--picture",
          "\(folder)/rbm.png", "--samples", "\(folder)/rbm.npz", "--json", "-o", "\(folder)/rbm.pb"
        ).out)
      let nll = try #require(said["test_nll"] as? Double)
      #expect(nll > 15 && nll < 45)
      let picture = try Picture(reading: "\(folder)/rbm.png")
      #expect(picture.channels == 1 && picture.height > 50)
      let first = try Npz.read("\(folder)/rbm.npz")
      #expect(first[0].name == "images" && first[0].value.shape == [12, 64])
      // One file: nothing is beside it.
      let files = try FileManager.default.contentsOfDirectory(atPath: folder)
      #expect(!files.contains { $0.hasSuffix(".safetensors") })
      let measured = try Self.object(
        Self.dlc(
          "evaluate", "\(folder)/rbm.pb", "--data", "\(folder)/digits_test.npz", "--json"
        ).out)
      #expect(abs((measured["nll"] as? Double ?? 0) - nll) < 1e-6)

      // A program with its weights draws the same for any number of threads, without the model.
      _ = try Self.dlc(
        "compile", "\(folder)/rbm.pb", "--function", "sample", "--dim", "n=12", "-o",
        "\(folder)/rbm.dlc")
      try FileManager.default.removeItem(atPath: "\(folder)/rbm.pb")
      #expect(
        try Self.dlc("show", "\(folder)/rbm.dlc").out.hasPrefix("program of function sample for "))
      for threads in ["1", "2", "4"] {
        _ = try Self.dlc(
          "sample", "\(folder)/rbm.dlc", "--threads", threads, "--outputs", "\(folder)/again.npz")
        #expect(try Npz.read("\(folder)/again.npz")[0].value == first[0].value)
      }
      // It is run like any program: the seed is 0 where none is given.
      _ = try Self.dlc(
        "run", "\(folder)/rbm.dlc", "--seed", "0", "--outputs", "\(folder)/run.npz")
      #expect(try Npz.read("\(folder)/run.npz")[0].value == first[0].value)
      // Compiled again for more.
      _ = try Self.dlc(
        "sample", "\(folder)/rbm.dlc", "--count", "3", "--seed", "5", "--outputs",
        "\(folder)/three.npz")
      #expect(try Npz.read("\(folder)/three.npz")[0].value.shape == [3, 64])
    }
  }

  @Test func textIsTrainedAndDrawn() throws {
    try TrainCommandTests.inFolder { folder in
      let line = "the quick brown fox jumps over the lazy dog\n"
      try Data(String(repeating: line, count: 60).utf8).write(
        to: URL(fileURLWithPath: "\(folder)/text"))
      _ = try Self.dlc(
        "data", "text", "\(folder)/text", "--window", "16", "--block", "256", "-o",
        "\(folder)/jargon")
      _ = try Self.dlc(
        "zoo", "train", "gru", "--data", folder, "--epochs", "2", "--batch", "8", "--sample", "1",
        "-o", "\(folder)/gru.pb")
      let module = try Module(contentsOf: "\(folder)/gru.pb")
      guard case .token(let alphabet)? = module.recipe?.meanings["text"] else {
        Issue.record("the alphabet is not kept")
        return
      }
      #expect(alphabet == "\n abcdefghijklmnopqrstuvwxyz")
      let text = try Self.dlc(
        "sample", "\(folder)/gru.pb", "--dim", "L=80", "--temperature", "0.5", "--top-k", "5",
        "--top-p", "0.9"
      ).out
      #expect(text.count == 81 && text.allSatisfy { alphabet.contains($0) })
      // Numbers that stand for other characters are refused, to measure by and to train on.
      try Data(String(repeating: "zebras jump\n", count: 400).utf8).write(
        to: URL(fileURLWithPath: "\(folder)/other"))
      _ = try Self.dlc(
        "data", "text", "\(folder)/other", "--window", "16", "--block", "256", "-o",
        "\(folder)/other")
      for verb in [["evaluate"], ["train", "--epochs", "1"]] {
        let arguments =
          [verb[0], "\(folder)/gru.pb", "--data", "\(folder)/other_train.npz"] + verb.dropFirst()
        let (status, _, error) = try CommandLineTests.launch(CommandLineTests.command, arguments)
        #expect(
          status == 1 && error.contains("characters of the text are not the 28 of"), "\(error)")
      }
      let greedy = try (1...2).map { seed in
        try Self.dlc(
          "sample", "\(folder)/gru.pb", "--dim", "L=20", "--top-k", "1", "--seed", "\(seed)"
        ).out
      }
      #expect(greedy[0] == greedy[1])
    }
  }

  /// Each by one line, on a few examples: trained, measured, drawn from.
  @Test(arguments: [("vae", 784), ("gan", 784), ("ddpm", 64), ("flow", 64), ("lstm", 0)])
  func familiesByOneLine(_ name: String, _ size: Int) throws {
    try TrainCommandTests.inFolder { folder in
      let set = ["vae": "fashion", "gan": "fashion", "lstm": "jargon"][name] ?? "digits"
      for part in ["train", "test"] {
        let codes: [Int32] = (0..<16 * 16).map { Int32($0 * 5 % 23) }
        let pixels: [Float] = (0..<16 * size).map { Float($0 * 7 % 17) / 16 }
        try Npz.write(
          size == 0
            ? [("x", Tensor([16, 16], codes)), ("y", Tensor([16, 16], codes))]
            : [("x", Tensor([16, size], pixels))], to: "\(folder)/\(set)_\(part).npz")
      }
      let isText = size == 0
      let said = try Self.object(
        Self.dlc(
          "zoo", "train", name, "--data", folder, "--epochs", "1", "--batch", "8", "--sample", "2",
          "-o", "\(folder)/model.pb", "--json"
        ).out)
      #expect(said["steps"] as? Int == 2)
      #expect(name == "gan" || said.keys.contains { $0.hasPrefix("test_") })
      _ = try Self.dlc(
        "sample", "\(folder)/model.pb", "--count", "2", "--outputs", "\(folder)/out.npz",
        isText ? "--dim" : "--seed", isText ? "L=8" : "1")
      let drawn = try Npz.read("\(folder)/out.npz")[0].value
      #expect(drawn.shape == [2, isText ? 8 : size])
    }
  }

  /// Models with sizes that data bind, next values under any rule, and a log that cannot be kept.
  @Test func whatTrainingLeaves() throws {
    try TrainCommandTests.inFolder { folder in
      let pixels: [Float] = (0..<64 * 64).map { Float($0 * 7 % 17) / 16 }
      try Npz.write([("x", Tensor([64, 64], pixels))], to: "\(folder)/x.npz")
      let equations = "\(DigitsTests.folder)/equations/generative"
      _ = try Self.dlc(
        "train", "\(equations)/vae.pb", "--data", "\(folder)/x.npz", "--epochs", "1", "--batch",
        "16",
        "--log", "/dev/full", "-o", "\(folder)/vae.pb")
      let sample = try Module(contentsOf: "\(folder)/vae.pb").recipe?.sample
      #expect(sample != nil)
      _ = try Self.dlc(
        "sample", "\(folder)/vae.pb", "--count", "3", "--outputs", "\(folder)/out.npz")
      // The kind of a phase is the recipe's, and a rule that keeps state is none for next values.
      _ = try Self.dlc(
        "train", Self.model("gmm"), "--data", "\(folder)/x.npz", "--epochs", "1", "--batch", "64",
        "--phase", "em", "-o", "\(folder)/gmm.pb")
      var module = try Module(contentsOf: Self.model("gmm"))
      module.recipe!.phases[0].rule = UpdateRule(.adam())
      try module.save("\(folder)/adam.pb")
      _ = try Self.dlc(
        "train", "\(folder)/adam.pb", "--data", "\(folder)/x.npz", "--epochs", "1", "--batch", "64",
        "-o", "\(folder)/same.pb")
      let (a, b) = (
        try Module(contentsOf: "\(folder)/gmm.pb"), try Module(contentsOf: "\(folder)/same.pb")
      )
      #expect(a.states == b.states)
      // What a recipe can't do is found by check.
      module.recipe!.phases[0].kind = .gradients
      try module.save("\(folder)/broken.pb")
      let found = try Self.dlc("check", "\(folder)/broken.pb", status: 2)
      #expect(found.error.contains("gives no 'd_"))
      // A metric that is not there is known before the first step.
      let wrong = try Self.dlc(
        "train", Self.model("gmm"), "--data", "\(folder)/x.npz", "--validation", "\(folder)/x.npz",
        "--batch", "64", "--best", "nl", status: 64)
      #expect(wrong.error.contains("no metric 'nl' to watch; did you mean 'nll'?"))
      _ = try Self.dlc(
        "data", "npz", "\(folder)/x.npz", "--test", "0", "-o", "\(folder)/x", status: 64)
    }
  }

  /// A run that is killed goes on to the same bits: two phases, and averages.
  @Test(arguments: [("gan", 784, 4, 40), ("ddpm", 64, 8, 80)])
  func killedFamiliesResume(_ name: String, _ size: Int, _ batch: Int, _ rows: Int) throws {
    try TrainCommandTests.inFolder { folder in
      let pixels = (0..<rows * size).map { Float($0 * 7 % 17) / 16 }
      try Npz.write([("x", Tensor([rows, size], pixels))], to: "\(folder)/data.npz")
      func start(_ more: [String]) throws -> Process {
        let process = Process()
        process.executableURL = CommandLineTests.command
        process.arguments =
          [
            "train", Self.model(name), "--data", "\(folder)/data.npz", "--epochs", "6", "--batch",
            "\(batch)",
          ] + more
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
      }
      func finish(_ process: Process) {
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
      }
      finish(try start(["-o", "\(folder)/whole.pb"]))
      let kept = ["--checkpoint", "\(folder)/c", "--checkpoint-every", "7"]
      let killed = try start(kept)
      KilledTrainingTests.kill(killed, SIGKILL, afterCheckpointIn: "\(folder)/c")
      killed.waitUntilExit()
      finish(try start(kept + ["--resume", "-o", "\(folder)/resumed.pb"]))
      let whole = try Module(contentsOf: "\(folder)/whole.pb")
      #expect(try Module(contentsOf: "\(folder)/resumed.pb") == whole)
      #expect(whole.states.contains { $0.name.hasPrefix("current/") })
    }
  }

  /// Phases by hand, for a module without a recipe.
  @Test func phasesByHand() throws {
    try TrainCommandTests.inFolder { folder in
      var module = Module("two")
      module.dimension("n", default: 4)
      for (name, factor) in [("up", 1.0), ("down", -1.0)] {
        try module.function(name) { g in
          let x = g.input("x", .float32, ["n"])
          let w = g.parameter("\(name).w", [], .constant(factor))
          let v = g.parameter("other.\(name)", [], .constant(1))
          g.output("score", g.mean(x, axes: [0]) * w * v)
        }
      }
      try module.save("\(folder)/two.pb")
      try Npz.write([("x", Tensor([8], [Float](repeating: 1, count: 8)))], to: "\(folder)/x.npz")
      _ = try Self.dlc(
        "train", "\(folder)/two.pb", "--data", "\(folder)/x.npz", "--batch", "4", "--epochs", "1",
        "--phase", "up:output=score,maximize,prefix=up.,optimizer=sgd,lr=0.25", "--phase",
        "down:output=score,prefix=down.,optimizer=sgd,lr=0.5", "-o", "\(folder)/w")
      let weights = Dictionary(
        uniqueKeysWithValues: try Safetensors.read("\(folder)/w").map { ($0.name, $0.value.scalar) }
      )
      // Two steps each, along a derivative of 1.
      #expect(
        weights == ["up.w": 1.5, "other.up": 1, "down.w": -2, "other.down": 1])
      _ = try Self.dlc(
        "train", "\(folder)/two.pb", "--data", "\(folder)/x.npz", "--batch", "8", "--epochs", "1",
        "--function", "up", "--output", "score", "--maximize", "--prefix", "other.", "--optimizer",
        "sgd", "--lr", "1", "-o", "\(folder)/w")
      let moved = Dictionary(
        uniqueKeysWithValues: try Safetensors.read("\(folder)/w").map { ($0.name, $0.value.scalar) }
      )
      #expect(moved == ["up.w": 1, "other.up": 2])
    }
  }

  static let mistakes: [([String], Int32, String)] = [
    (["sample", model("vae")], 1, "the model is not trained: function 'sample' has no values for"),
    (["evaluate", model("vae"), "--data", "x"], 1, "the model is not trained"),
    (["sample", "\(DigitsTests.folder)/digits_mlp.pb"], 1, "does not say which of its functions"),
    (["zoo", "train", "vea"], 64, "there is no family 'vea'; did you mean 'vae'?"),
    (["zoo", "train", "vae", "--data", "/nowhere"], 1, "it is trained on 'fashion'"),
    (
      ["train", model("vae"), "--data", "x", "--phase", "a", "--phase", "b", "--prefix", "c"], 64,
      "belong to one phase"
    ),
    (["train", model("vae"), "--data", "x", "--phase", "loss:nope=3"], 64, "loss:nope=3"),
    (["train", model("vae"), "--data", "x", "--phase", "lose"], 1, "no function 'lose'"),
    (["train", model("vae"), "--data", "x", "--patience", "3"], 64, "need --best"),
    (["zoo", "train", "ffn", "--picture", "x.png"], 64, "the family 'ffn' draws no samples"),
    (["zoo", "train", "gru", "--picture", "x.png"], 64, "draws no pictures"),
    (["zoo", "train", "gru", "-o", "/nowhere/x.pb"], 1, "cannot create '/nowhere/x.pb'"),
    (["train", model("vae"), "--data", "x", "-o", "/nowhere/x"], 1, "cannot create '/nowhere/x'"),
    (
      ["train", model("gmm"), "--data", "x", "--optimizer", "adam"], 64, "gives next values itself"
    ),
    (["train", model("rbm"), "--data", "x", "--maximize"], 64, "differentiates nothing"),
    (
      ["train", model("gan"), "--data", "x", "--phase", "generator:maximize=true"], 64,
      "maximize has no value"
    ),
    (
      ["train", model("gan"), "--data", "x", "--phase", "generator:lrr=1"], 64, "did you mean 'lr'?"
    ),
    (["train", model("gan"), "--data", "x", "--phase", "generator:lr=abc"], 64, "lr is 'abc'"),
    (["train", model("vae"), "--data", "x", "-o", "x"], 64, "-o is the same file as --data"),
    (
      ["train", model("vae"), "--data", "x", "-o", "y", "--log", "y"], 64,
      "--log is the same file as -o"
    ),
    (
      ["train", model("vae"), "--data", "x", "--log", model("vae")], 64,
      "the same file as the model"
    ),
    (
      ["sample", model("vae"), "--outputs", model("vae")], 64,
      "--outputs is the same file as the model"
    ),
    (["sample", model("vae"), "--picture", "a.jpg"], 64, "is written as PNG, not as .jpg"),
    (["zoo", "train", "vae", "-o", "a.safetensors"], 64, "a name that ends in .pb"),
    (["sample", model("vae"), "--set", "temperature"], 64, "temperature"),
  ]

  @Test(arguments: mistakes.indices) func mistakesAreErrors(_ index: Int) throws {
    let (arguments, status, text) = Self.mistakes[index]
    let (got, _, error) = try CommandLineTests.launch(CommandLineTests.command, arguments)
    #expect(got == status && error.contains(text), "\(got): \(error)")
  }

  @Test func showPrintsTheRecipe() throws {
    let text = try Self.dlc("show", Self.model("gan")).out
    #expect(text.contains("phase \"discriminator\" minimize \"loss\" {\n    move \"d.\""))
    #expect(text.contains("schedule constant") && text.contains("average 0.999"))
  }
}
