import DLCFormats
import DLCTensor
import Foundation
import Testing

/// `dlc data` and `dlc plot` as a user runs them.
@Suite struct DataCommandTests {
  static func arrays(_ path: String) throws -> [String: Tensor] {
    Dictionary(uniqueKeysWithValues: try Npz.read(path).map { ($0.name, $0.value) })
  }

  /// The digits of the package, split and scaled, are those that the tests have measured all along.
  @Test func digitsAreThoseOfTheFixture() throws {
    try TrainCommandTests.inFolder { folder in
      let run = try CommandLineTests.run(
        "data", "npz", "\(DigitsTests.folder)/digits.npz", "--divide", "16", "--type", "y=int32",
        "--test-from", "1257", "-o", "\(folder)/digits")
      #expect(run.status == 0 && run.error.isEmpty, "\(run.error)")
      #expect(
        run.out == """
          \(folder)/digits_train.npz: x float32[1257, 64], y int32[1257]
          \(folder)/digits_test.npz: x float32[540, 64], y int32[540]

          """)
      let made = try Self.arrays("\(folder)/digits_test.npz")
      let kept = try Self.arrays("\(DigitsTests.folder)/digits_test.npz")
      #expect(made["x"]?.doubles == kept["images"]?.doubles)
      #expect(made["y"]?.integers == kept["labels"]?.integers)
      let refused = try CommandLineTests.run(
        "data", "npz", "\(DigitsTests.folder)/digits.npz", "--type", "x=bool", "-o", "\(folder)/d")
      #expect(
        refused.status == 1 && refused.error.contains("which bool does not hold"),
        "\(refused.error)")
    }
  }

  @Test func filesOfDigitsWithTheirOwnTest() throws {
    try TrainCommandTests.inFolder { folder in
      func put(_ name: String, _ bytes: [UInt8]) throws -> String {
        try OutputFile.write(bytes, to: "\(folder)/\(name)")
        return "\(folder)/\(name)"
      }
      let x = try put("x", [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 51, 102])
      let y = try put("y", [0, 0, 8, 1, 0, 0, 0, 2, 7, 9])
      let u = try put("u", [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 255, 0])
      let v = try put("v", [0, 0, 8, 1, 0, 0, 0, 1, 3])
      let run = try CommandLineTests.run(
        "data", "idx", "--images", x, "--labels", y, "--test-images", u, "--test-labels", v,
        "--x-name", "images", "--y-name", "labels", "--json", "-o", "\(folder)/out.npz")
      #expect(run.status == 0, "\(run.error)")
      let files = try #require(try TrainCommandTests.object(run.out)["files"] as? [[String: Any]])
      #expect(
        files.map { $0["file"] as? String } == [
          "\(folder)/out_train.npz", "\(folder)/out_test.npz",
        ])
      let train = try Self.arrays("\(folder)/out_train.npz")
      #expect(train["images"] == Tensor([2, 1, 1, 2], [0, 1, Float(51) / 255, Float(102) / 255]))
      #expect(train["labels"] == Tensor([2], [Int32(7), 9]))
      #expect(try Self.arrays("\(folder)/out_test.npz")["labels"] == Tensor([1], [Int32(3)]))
      let flat = try CommandLineTests.run(
        "data", "idx", "--images", x, "--labels", y, "--layout", "flat", "--bytes", "--test", "0",
        "-o", "\(folder)/flat")
      #expect(flat.status == 0, "\(flat.error)")
      #expect(
        try Self.arrays("\(folder)/flat.npz")["x"]?.type == TensorType(.uint8, sizes: [2, 2]))
      let few = try CommandLineTests.run(
        "data", "idx", "--images", x, "--labels", v, "-o", "\(folder)/no")
      #expect(few.status == 1 && few.error.contains("1 labels for the 2 images"), "\(few.error)")
      let turned = try CommandLineTests.run("data", "idx", "--images", y, "-o", "\(folder)/no")
      #expect(
        turned.status == 1 && turned.error.contains("it looks like labels"), "\(turned.error)")
      // Nothing is left behind by what failed.
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: folder).filter {
          $0.contains("no") || $0.contains("tmp")
        }.isEmpty)
    }
  }

  @Test func tablesAndTexts() throws {
    try TrainCommandTests.inFolder { folder in
      let rows = (0..<20).map { "\($0),\($0 % 2 == 0 ? "even" : "odd"),n" }
      try OutputFile.write(
        Array(("number,kind,note\n" + rows.joined(separator: "\n")).utf8), to: "\(folder)/a.csv")
      let table = try CommandLineTests.run(
        "data", "csv", "\(folder)/a.csv", "--label", "kind", "--drop", "note", "--test", "0.25",
        "--seed", "3", "-o", "\(folder)/t")
      #expect(table.status == 0, "\(table.error)")
      let (train, test) = (
        try Self.arrays("\(folder)/t_train.npz"), try Self.arrays("\(folder)/t_test.npz")
      )
      #expect(test["x"]?.shape == [5, 1] && train["x"]?.shape == [15, 1])
      #expect((train["x"]!.doubles + test["x"]!.doubles).sorted() == (0..<20).map { Double($0) })
      for part in [train, test] {
        #expect(
          zip(part["x"]!.doubles, part["y"]!.doubles).allSatisfy {
            $0.truncatingRemainder(dividingBy: 2) == $1
          })
        #expect(part["classes"]?.shape == [2, 4])
      }
      let bad = try CommandLineTests.run(
        "data", "csv", "\(folder)/a.csv", "--label", "kind", "-o", "\(folder)/t", "--json")
      #expect(
        bad.status == 1 && bad.error.contains("\(folder)/a.csv, line 2, column 'note'"),
        "\(bad.error)")
      #expect(try TrainCommandTests.object(bad.out)["status"] as? Int == 1)

      try OutputFile.write(
        Array(String(repeating: "to be or not\n", count: 200).utf8), to: "\(folder)/a.txt")
      let text = try CommandLineTests.run(
        "data", "text", "\(folder)/a.txt", "--window", "8", "--test-every", "10", "--block", "100",
        "-o", "\(folder)/w")
      #expect(text.status == 0, "\(text.error)")
      let windows = try Self.arrays("\(folder)/w_test.npz")
      #expect(windows["x"]?.type == TensorType(.uint8, sizes: [24, 8]))
      #expect(
        windows["alphabet"]?.integers
          == Set("to be or not\n".unicodeScalars.map { Int64($0.value) }).sorted())
      let again = try CommandLineTests.run(
        "data", "text", "\(folder)/a.txt", "--alphabet", "\(folder)/w_train.npz", "--test", "0",
        "-o",
        "\(folder)/again")
      #expect(again.status == 0, "\(again.error)")
    }
  }

  @Test(arguments: [
    (["data", "idx", "--images", "x", "--test", "1", "-o", "a"], "--test is 1.0"),
    (
      ["data", "idx", "--images", "x", "--test-images", "y", "--test", "0.5", "-o", "a"],
      "exclude each other"
    ),
    (["data", "text", "x", "--window", "0", "-o", "a"], "--window is 0"),
    (["data", "text", "x", "--alphabet", "greek", "-o", "a"], "not 'greek'"),
    (["data", "csv", "x", "--delimiter", "ab", "-o", "a"], "--delimiter"),
    (["data", "csv", "x", "-o", "classes/"], "-o is the name"),
    (["data", "images", "x", "--size", "3", "-o", "a"], "--size"),
    (["data", "images", "x", "--layout", "rows", "-o", "a"], "--layout"),
    (["data", "table", "x"], "there is no verb 'table'"),
    (["plot"], "logs"), (["plot", "x", "-o", "x.png"], "an .svg file"),
  ])
  func wrongUsageIsSaid(_ arguments: [String], _ message: String) throws {
    let run = try CommandLineTests.launch(CommandLineTests.command, arguments)
    #expect(run.status == 64 && run.error.contains(message), "\(run.status) \(run.error)")
  }

  @Test func aRunIsDrawn() throws {
    try TrainCommandTests.inFolder { folder in
      let log = "\(folder)/m.jsonl"
      let train = try TrainCommandTests.run(
        "--epochs", "2", "--validation", TrainCommandTests.data, "--log", log, "-o", "\(folder)/w")
      #expect(train.status == 0, "\(train.error)")
      let drawn = try CommandLineTests.run("plot", log, "--metric", "loss,accuracy")
      #expect(drawn.status == 0 && drawn.error.isEmpty, "\(drawn.error)")
      for word in ["loss", "validation_loss", "accuracy", "┤", "└"] {
        #expect(drawn.out.contains(word), "\(drawn.out)")
      }
      #expect(!drawn.out.contains("\u{1B}"))
      let file = try CommandLineTests.run("plot", log, "-o", "\(folder)/a.svg", "--log-scale")
      #expect(file.status == 0 && file.out.isEmpty, "\(file.error)")
      let svg = try String(contentsOfFile: "\(folder)/a.svg", encoding: .utf8)
      #expect(svg.hasPrefix("<svg ") && svg.hasSuffix("</svg>\n"))
      let lines = try String(contentsOfFile: log, encoding: .utf8)
      try OutputFile.write(Array((lines + "{\"step\": 1000, \"lo").utf8), to: log)
      let half = try CommandLineTests.run("plot", log)
      #expect(
        half.status == 0 && half.error.contains("is not whole and is skipped"), "\(half.error)")
      try OutputFile.write(Array(("nonsense\n" + lines).utf8), to: log)
      let bad = try CommandLineTests.run("plot", log)
      #expect(bad.status == 1 && bad.error.contains("\(log), line 1: column 1"), "\(bad.error)")
    }
  }
}
