import DLCFormats
import DLCGraph
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// The command as a user runs it.
@Suite struct CommandLineTests {
  static let command = DLCCommand.url

  static func run(_ arguments: String...) throws -> (status: Int32, out: String, error: String) {
    try launch(command, arguments)
  }

  /// Runs a program to its end.
  static func launch(
    _ program: URL, _ arguments: [String], in folder: String? = nil,
    environment: [String: String] = [:]
  ) throws -> (status: Int32, out: String, error: String) {
    try DLCCommand.launch(program, arguments, in: folder, environment: environment)
  }

  static let graph = "\(DigitsTests.folder)/digits_cnn.pb"
  static let weights = "\(DigitsTests.folder)/digits_cnn_weights.safetensors"

  static func images() throws -> String {
    let path = ProgramTests.temporary() + ".npz"
    let all = try Npz.read("\(DigitsTests.folder)/digits_test.npz").first { $0.name == "images" }!
    try Npz.write([("images", all.value)], to: path)
    return path
  }

  @Test func runEqualsReferenceForAnyThreads() throws {
    let inputs = try Self.images()
    var files = [inputs]
    defer { for file in files { try? FileManager.default.removeItem(atPath: file) } }
    var results: [[(name: String, value: Tensor)]] = []
    for threads in ["1", "2", "4"] {
      let out = ProgramTests.temporary() + ".npz"
      files.append(out)
      let (status, _, error) = try Self.run(
        "run", Self.graph, "--params", Self.weights, "--inputs", inputs, "--outputs", out,
        "--threads", threads)
      #expect(status == 0, "\(error)")
      results.append(try Npz.read(out))
    }
    for other in results.dropFirst() { #expect(FormatTestsSupport.equal(results[0], other)) }
    // The reference takes long: eight images are enough.
    let few = ProgramTests.temporary() + ".npz"
    let out = ProgramTests.temporary() + ".npz"
    files += [few, out]
    let images = try Npz.read(inputs)[0].value
    var part = Tensor(zeros: .float32, [8, 1, 8, 8])
    part.withUnsafeMutableBytes { target in
      images.withUnsafeBytes {
        target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<target.count]))
      }
    }
    try Npz.write([("images", part)], to: few)
    #expect(
      try Self.run(
        "run", Self.graph, "--params", Self.weights, "--inputs", few, "--outputs", out,
        "--reference"
      ).status == 0)
    let reference = try Npz.read(out)[0].value.doubles
    for (got, want) in zip(results[0][0].value.doubles, reference) {
      #expect(abs(got - want) <= 64 * 0x1p-23 * max(1, abs(want)))
    }
  }

  @Test(arguments: [
    (["run", "/nonexistent.pb"], Int32(1), "dlc: error: cannot open '/nonexistent.pb'"),
    (["run", "GRAPH", "--dim", "m=3"], 1, "dlc: error: module 'digits_cnn' has no dimension 'm'"),
    (
      ["run", "GRAPH", "--function", "nope"], 1,
      "dlc: error: module 'digits_cnn' has no function 'nope'"
    ),
    (["run", "GRAPH", "--init", "1"], 1, "dlc: error: input 'images' is missing"),
    (["run", "GRAPH", "--inputs", "GRAPH"], 1, "dlc: error: not a zip archive"),
    (["run", "GRAPH", "--params", "GRAPH"], 1, "dlc: error: "),
    (["run", "GRAPH", "--threads", "0"], 64, "dlc: error: --threads must be between"),
    (["compile", "GRAPH", "--disable", "nope"], 64, "dlc: error: there is no pass 'nope'"),
    (["compile", "GRAPH", "--memory-limit", "1MiB"], 1, "dlc: error: the arena needs "),
    (["compile", "GRAPH", "--memory-limit", "1XB"], 64, "dlc: error: "),
    (
      ["run", "GRAPH", "--outputs", "GRAPH"], 64,
      "dlc: error: --outputs is the same file as the model"
    ),
    (["profile", "/nonexistent.pb"], 1, "dlc: error: cannot open '/nonexistent.pb'"),
    (["profile", "/etc"], 1, "dlc: error: '/etc' is not a regular file"),
    (
      ["profile", "/etc/hostname"], 1,
      "dlc: error: the file is damaged, nested too deep, or is not a dlc file [/etc/hostname]; a model is a graph"
    ),
    (["profile", "GRAPH", "--function", "nope"], 1, "dlc: error: module 'digits_cnn' has no"),
    (["profile", "GRAPH", "--inputs", "/nonexistent.npz"], 1, "dlc: error: cannot open '/non"),
    (["profile", "GRAPH", "--trace", "/nonexistent/t.json"], 1, "dlc: error: cannot create '/non"),
    (["profile", "GRAPH", "--runs", "0"], 64, "dlc: error: --runs must be positive"),
    (["frobnicate"], 64, "dlc: error: "), (["check", "/etc/hostname"], 1, "dlc: error: "),
    (["zoo", "build", "nope"], 64, "dlc: error: there is no model 'nope'"),
  ]) func errorsSayWhatAndWhere(_ arguments: [String], _ status: Int32, _ start: String) throws {
    let process = Process()
    process.executableURL = Self.command
    process.arguments = arguments.map { $0 == "GRAPH" ? Self.graph : $0 }
    let pipe = Pipe()
    process.standardError = pipe
    process.standardOutput = Pipe()
    try process.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(
      process.terminationStatus == status && text.hasPrefix(start),
      "\(arguments): \(process.terminationStatus) \(text)")
  }

  @Test func everyStageIsEmitted() throws {
    let marks = [
      "program": "step 0 ", "graph": "= convolution %", "regions": "region 0 ",
      "passes": "pad-convolution ",
      "nests": "kernel dlc_float32_", "kernels": "tiles",
      "memory": "arena peak", "llvm": "define void @dlc_", "asm": "dlc_float32_",
    ]
    for (stage, mark) in marks {
      let (status, out, error) = try Self.run("compile", Self.graph, "--emit", stage, "--no-cache")
      #expect(status == 0 && out.contains(mark), "\(stage): \(error)")
    }
    let (status, out, _) = try Self.run(
      "compile", Self.graph, "--emit", "graph", "--print-after", "canonicalize", "--stop-after",
      "canonicalize")
    #expect(status == 0 && out.contains("// after canonicalize"))
  }

  @Test func drawingsAndTables() throws {
    #expect(try Self.run("show", Self.graph).out.contains("function forward"))
    #expect(try Self.run("show", Self.graph, "--format", "dot").out.hasPrefix("digraph"))
    let svg = try Self.run("show", Self.graph, "--format", "svg").out
    #expect(try XMLCheck.isWellFormed(svg))
    let json = try Self.run("show", Self.graph, "--json").out
    let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
    #expect((object?["functions"] as? [[String: Any]])?.first?["name"] as? String == "forward")
    #expect(try Self.run("check", Self.graph).status == 0)
  }

  /// `--seed` fills an input of that name where no array does, with the bits of the same array.
  @Test func seedsAreGivenOnTheCommandLine() throws {
    var module = Module("draws")
    try module.function("sample") { g in
      let random = RandomStream(g, key: g.input("seed", .int64))
      g.output("x", random.uniform([4]))
    }
    let path = ProgramTests.temporary()
    defer {
      for end in [".pb", ".npz", ".dlc"] { try? FileManager.default.removeItem(atPath: path + end) }
    }
    try module.save(path + ".pb")
    #expect(try Self.run("run", path + ".pb").error.contains("input 'seed' is missing"))
    #expect(try Self.run("compile", path + ".pb", "-o", path + ".dlc").status == 0)
    let seven = try Self.run("run", path + ".pb", "--seed", "7").out
    try Npz.write([("seed", Tensor([], [Int64(7)]))], to: path + ".npz")
    #expect(try Self.run("run", path + ".pb", "--inputs", path + ".npz").out == seven)
    #expect(
      try Self.run("run", path + ".pb", "--seed", "8", "--inputs", path + ".npz").out == seven)
    #expect(try Self.run("run", path + ".dlc", "--seed", "7").out == seven)
    #expect(try Self.run("run", path + ".pb", "--seed", "8").out != seven)
  }

  @Test func programsRunWithoutTheCompiler() throws {
    let program = ProgramTests.temporary() + ".dlc"
    let inputs = try Self.images()
    defer { for file in [program, inputs] { try? FileManager.default.removeItem(atPath: file) } }
    #expect(try Self.run("compile", Self.graph, "-o", program).status == 0)
    let (status, out, error) = try Self.run(
      "run", program, "--params", Self.weights, "--inputs", inputs)
    #expect(status == 0 && out.contains("prediction"), "\(error)")
    let bench = try Self.run("bench", program, "--runs", "3", "--json").out
    let numbers = try JSONSerialization.jsonObject(with: Data(bench.utf8)) as? [String: Any]
    for key in [
      "median_ms", "min_ms", "p95_ms", "compile_ms", "load_ms", "peak_rss_bytes", "arena_bytes",
      "flops", "bytes_moved",
    ] {
      #expect(numbers?[key] is NSNumber, "\(key)")
    }
  }

  /// Workers wait without turning round: between runs nothing is used but what stopping takes.
  @Test func nothingIsUsedBetweenRuns() throws {
    let bench = try Self.run("bench", Self.graph, "--runs", "3", "--idle", "--json").out
    let numbers = try JSONSerialization.jsonObject(with: Data(bench.utf8)) as? [String: Any]
    let share = try #require(numbers?["idle_cpu"] as? Double)
    #expect(share >= 0 && share < 0.01)
    let table = try Self.run("bench", Self.graph, "--runs", "3", "--idle").out
    #expect(table.contains("\nidle ") && table.contains("% of a core between two runs"))
  }

  @Test func theBenchmarkSaysFirstWhatIsMissing() throws {
    let tool = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Tools/bench").standardized
    let start = ContinuousClock.now
    let (status, _, error) = try Self.launch(
      tool, ["--kind", "cold"], environment: ["DLC_BENCH": "/nonexistent"])
    #expect(status == 1 && error.hasPrefix("Tools/bench: no peer benchmark in /nonexistent"))
    // Before anything is built.
    #expect(ContinuousClock.now - start < .seconds(10))
  }

  @Test func textsWithoutSchedulesAreRefused() throws {
    let path = ProgramTests.temporary()
    defer { try? FileManager.default.removeItem(atPath: path) }
    for text in ["", "problem x\n", "# nothing\n"] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
      let (status, _, error) = try Self.run(
        "compile", Self.graph, "--schedule", path, "--emit", "graph")
      #expect(status == 1 && error.contains("there is no schedule in it"), "\(error)")
    }
  }

  @Test func profilesSayWhereTheTimeGoes() throws {
    let trace = ProgramTests.temporary() + ".json"
    defer { try? FileManager.default.removeItem(atPath: trace) }
    let (status, out, error) = try Self.run(
      "profile", Self.graph, "--runs", "2", "--threads", "1", "--nodes", "--trace", trace, "--json")
    #expect(status == 0, "\(error)")
    let profile = try JSONSerialization.jsonObject(with: Data(out.utf8)) as? [String: Any]
    let groups = try #require(profile?["groups"] as? [[String: Any]])
    let total = groups.reduce(0) { $0 + ($1["ms"] as? Double ?? 0) }
    #expect(abs(total - (profile?["ms"] as? Double ?? 0)) < 1e-3)
    #expect(groups.contains { ($0["name"] as? String)?.hasPrefix("block1") == true })
    #expect((profile?["peak_flops"] as? Double ?? 0) > 0)
    let events = try JSONSerialization.jsonObject(
      with: FileManager.default.contents(atPath: trace)!)
    #expect(((events as? [String: Any])?["traceEvents"] as? [Any])?.isEmpty == false)
    #expect(error.contains("\(trace): a trace of one run; open it at https://ui.perfetto.dev"))
    #expect((profile?["run_ms"] as? Double ?? 0) > 0)
    let table = try Self.run("profile", Self.graph, "--runs", "1", "--threads", "1", "--top", "2")
    let lines = table.out.split(separator: "\n")
    #expect(lines.count == 6 && lines[0].contains("peak, %"), "\(table.out)")
    let sums = lines[3].split(separator: " ")
    #expect(lines[3].hasPrefix("total, with ") && sums[sums.count - 4] == "100.0")
    #expect(lines[4].hasPrefix("a run takes ") && lines[5].hasSuffix("with 1 thread"))
  }
}

enum FormatTestsSupport {
  static func equal(_ a: [(name: String, value: Tensor)], _ b: [(name: String, value: Tensor)])
    -> Bool
  {
    a.count == b.count && zip(a, b).allSatisfy { $0.name == $1.name && $0.value == $1.value }
  }
}

enum XMLCheck {
  /// Every tag that opens also closes.
  static func isWellFormed(_ text: String) throws -> Bool {
    var open: [Substring] = []
    var rest = text[...]
    while let start = rest.firstIndex(of: "<"), let end = rest[start...].firstIndex(of: ">") {
      let tag = rest[rest.index(after: start)..<end]
      if tag.hasPrefix("/") {
        guard open.popLast() == tag.dropFirst() else { return false }
      } else if !tag.hasSuffix("/") {
        open.append(tag.prefix { $0 != " " })
      }
      rest = rest[rest.index(after: end)...]
    }
    return open.isEmpty && text.hasPrefix("<svg")
  }
}
