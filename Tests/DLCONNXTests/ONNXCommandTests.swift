import DLCFormats
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

@testable import DLCONNX

/// The command on ONNX models, as a user runs it.
@Suite struct ONNXCommandTests {
  /// A directory that is removed when the test ends.
  final class Folder {
    let path = NSTemporaryDirectory() + "onnx-\(UUID().uuidString)"

    init() throws {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The path of a model that is written there.
    func write(_ model: ONNXModel, as name: String = "m.onnx") throws -> String {
      let bytes = ModelWriter().encode(model.graph, opset: 21, producer: "")
      try OutputFile.write(bytes, to: "\(path)/\(name)")
      return "\(path)/\(name)"
    }

    func write(_ arrays: [(String, Tensor)], as name: String = "in.npz") throws -> String {
      try Npz.write(arrays.map { (name: $0.0, value: $0.1) }, to: "\(path)/\(name)")
      return "\(path)/\(name)"
    }

    func dlc(_ arguments: String...) throws -> (status: Int32, out: String, error: String) {
      try dlc(arguments)
    }

    func dlc(_ arguments: [String]) throws -> (status: Int32, out: String, error: String) {
      try DLCCommand.launch(
        DLCCommand.url, arguments, environment: ["XDG_CACHE_HOME": path])
    }
  }

  /// Rows times two, and whole numbers beside them.
  private let doubled = model(
    [("x", .float32, [.name("n"), .size(2)]), ("k", .int64, [.name("n")])], ["y", "j"],
    [node("Add", ["x", "x"], ["y"]), node("Add", ["k", "k"], ["j"])])

  @Test func arraysAreConvertedWhereTheyHoldTheNumbers() throws {
    let folder = try Folder()
    let file = try folder.write(doubled)
    let x = Tensor(.float64, [2, 2], rounding: [0.5, 1, 2, 3])
    let k = integers([2], [7, -9], .int32)
    let inputs = try folder.write([("x", x), ("k", k)])
    let made = try folder.dlc(
      "run", file, "--inputs", inputs, "--outputs", "\(folder.path)/out.npz")
    #expect(made.status == 0, "\(made.error)")
    #expect(made.error.contains("'k' is converted from int32 to int64"))
    let results = try Npz.read("\(folder.path)/out.npz")
    #expect(results.first { $0.name == "y" }?.value.doubles == [1, 2, 4, 6])
    #expect(results.first { $0.name == "j" }?.value.integers == [14, -18])
    // A wrong kind, and what is too large; one line says it, whatever else there is to say.
    for (name, array, message) in [
      ("x", integers([2, 2], [1, 2, 3, 4]), "input 'x' is int64, float32 is wanted"),
      ("k", floats([2], [1, 2]), "input 'k' is float32, int64 is wanted"),
      (
        "x", Tensor(.float64, [2, 2], rounding: [1, 2, 3, 1e300]), "element [1, 1] of 'x' is 1e+300"
      ),
      (
        "k", integers([3], [1, 2, 3], .int32), "dimension 'n' is 2 by array 'x' but 3 by array 'k'"
      ),
    ] {
      var arrays = ["x": x, "k": k, "more": k]
      arrays[name] = array
      let broken = try folder.write(arrays.map { ($0.key, $0.value) })
      let refused = try folder.dlc("run", file, "--inputs", broken)
      #expect(refused.status == 1 && refused.error.contains(message), "\(refused.error)")
      #expect(refused.error.split(separator: "\n").count == 1, "\(refused.error)")
    }
  }

  @Test func namesThatDoNotFitAreListed() throws {
    let folder = try Folder()
    let file = try folder.write(doubled)
    let good = try folder.write([("x", floats([1, 2], [1, 2])), ("k", integers([1], [1]))])
    let unknown = try folder.dlc("run", file, "--inputs", good, "--dim", "rows=1")
    #expect(unknown.status == 1)
    #expect(unknown.error.contains("the model has no dimension 'rows'"))
    #expect(unknown.error.contains("its dimensions are 'n'"))
    let other = try folder.dlc("run", file, "--inputs", good, "--dim", "n=3")
    #expect(other.error.contains("dimension 'n' is 3 by --dim but 1 by array 'x'"))
    let apart = try folder.write([("x", floats([1, 2], [1, 2])), ("k", integers([2], [1, 2]))])
    let disagreeing = try folder.dlc("run", file, "--inputs", apart)
    #expect(
      disagreeing.error.contains("dimension 'n' is 1 by array 'x' but 2 by array 'k'"))
    let misnamed = try folder.write([("X", floats([1, 2], [1, 2])), ("k", integers([1], [1]))])
    let missing = try folder.dlc("run", file, "--inputs", misnamed)
    #expect(missing.status == 1 && missing.error.contains("input 'x' is missing"))
    #expect(
      missing.error.contains(
        "the inputs are 'x' float32[n, 2], 'k' int64[n]; the file has 'X', 'k'"))
  }

  // MARK: Models that are cut

  /// Products of the rows that a mask leaves.
  private let cut = model(
    [("x", .float32, [.name("n"), .size(2)]), ("mask", .bool, [.name("n")])], ["y"],
    [
      node("Compress", ["x", "mask"], ["some"], ["axis": .integer(0)]),
      node("Add", ["some", "some"], ["y"]),
    ])

  private static let place = "cut where the shape of 'some', of node 'some' (Compress), depends"

  @Test func partsAreCheckedShownAndCompiled() throws {
    let folder = try Folder()
    let file = try folder.write(cut)
    let checked = try folder.dlc("check", file, "--dim", "n=3")
    #expect(checked.status == 0 && checked.out.contains("sound\nit runs in parts, \(Self.place)"))
    #expect(checked.out.contains("1 node comes later"))
    let shown = try folder.dlc("show", file, "--dim", "n=3")
    #expect(shown.status == 0, "\(shown.error)")
    #expect(shown.out.contains("the first part of the model, which is \(Self.place)"))
    #expect(shown.out.contains("output  some#count"))
    let drawn = try folder.dlc("show", file, "--dim", "n=3", "--format", "html")
    #expect(drawn.status == 0 && drawn.error.contains(Self.place), "\(drawn.error)")
    #expect(drawn.out.contains("<dt>Shown</dt><dd>the first part of the model, which is cut"))
    let program = "\(folder.path)/m.dlc"
    let compiled = try folder.dlc("compile", file, "--dim", "n=3", "-o", program)
    #expect(compiled.status == 0, "\(compiled.error)")
    #expect(compiled.out.contains("the first part of the model\n"))
    #expect(compiled.out.contains("where the shape of 'some', of node 'some' (Compress), depends"))
    #expect(try folder.dlc("check", program).out.contains(Self.place))
    #expect(try folder.dlc("show", program).out.hasPrefix("program of function forward"))
  }

  /// What is not imported is found after the cut as well.
  @Test func operatorsAfterTheCutAreChecked() throws {
    let folder = try Folder()
    var broken = cut
    broken.graph.nodes.append(node("StringNormalizer", ["y"], ["z"]).at(21))
    broken.graph.outputs[0].name = "z"
    let checked = try folder.dlc("check", try folder.write(broken), "--dim", "n=3")
    #expect(checked.status == 2)
    #expect(checked.error.contains("unsupported operator 'StringNormalizer' (opset 21)"))
  }

  @Test func partsAreMeasured() throws {
    let folder = try Folder()
    let file = try folder.write(cut)
    let inputs = try folder.write([
      ("x", floats([3, 2], [1, 2, 3, 4, 5, 6])), ("mask", integers([3], [1, 0, 1], .bool)),
    ])
    let bare = try folder.dlc("bench", file, "--dim", "n=3")
    #expect(bare.status == 1 && bare.error.contains("--inputs gives arrays to run it on"))
    for model in [file, "\(folder.path)/m.dlc"] {
      if model != file { _ = try folder.dlc("compile", file, "--dim", "n=3", "-o", model) }
      let measured = try folder.dlc("bench", model, "--inputs", inputs, "--runs", "2", "--json")
      #expect(measured.status == 0 && measured.out.contains("\"parts\":2"), "\(measured.error)")
      #expect(!measured.out.contains("idle_cpu"))
      let profiled = try folder.dlc("profile", model, "--inputs", inputs, "--runs", "1")
      #expect(profiled.status == 0, "\(profiled.error)")
      #expect(profiled.out.contains("part 1 of 2\n") && profiled.out.contains("part 2 of 2\n"))
      #expect(profiled.out.contains("; the steps of its parts, one by one, "))
    }
    let idle = try folder.dlc(
      "bench", file, "--inputs", inputs, "--runs", "1", "--idle", "--json")
    #expect(idle.status == 0 && idle.out.contains("\"parts\":2,\"idle_cpu\":"), "\(idle.error)")
    for option in ["--html", "--trace"] {
      let refused = try folder.dlc(
        "profile", file, "--inputs", inputs, option, "\(folder.path)/out")
      #expect(refused.status == 64)
      #expect(refused.error.contains("\(option) is of one program, and the model runs in parts"))
    }
  }

  /// An input that shapes depend on is given by an array, or by --value where there is none.
  @Test func valuesThatShapesDependOnAreGiven() throws {
    let folder = try Folder()
    let summed = model(
      [("x", .float32, [.name("n"), .size(2)]), ("axes", .int64, [.size(1)])], ["y"],
      [node("ReduceSum", ["x", "axes"], ["y"])])
    let file = try folder.write(summed)
    let refused = try folder.dlc("bench", file, "--runs", "1")
    #expect(refused.status == 1 && refused.error.contains("the values of 'axes' with --value"))
    for command in ["bench", "profile", "show", "check"] {
      var arguments = [command, file, "--value", "axes=1", "--dim", "n=4"]
      if ["bench", "profile"].contains(command) { arguments += ["--runs", "1"] }
      let made = try folder.dlc(arguments)
      #expect(made.status == 0, "\(command): \(made.error)")
    }
    let wrong = try folder.dlc("bench", file, "--value", "axis=1")
    #expect(wrong.status == 1 && wrong.error.contains("the model has no input 'axis'"))
  }

  /// Sizes that nobody says are printed; what cannot be is said by name.
  @Test func whatIsTakenByDefaultIsSaid() throws {
    let folder = try Folder()
    let file = try folder.write(doubled)
    let program = "\(folder.path)/m.dlc"
    let made = try folder.dlc("compile", file, "-o", program)
    #expect(made.status == 0 && made.out.contains("n=1 by default"), "\(made.out)\(made.error)")
    let measured = try folder.dlc("bench", file, "--runs", "1")
    #expect(measured.error.contains("sizes by default: n=1"), "\(measured.error)")
    let bound = try folder.dlc("bench", file, "--runs", "1", "--dim", "n=3")
    #expect(bound.status == 0 && !bound.error.contains("default"), "\(bound.error)")
    for (arguments, text) in [
      (["show", file, "--function", "nope"], "no function 'nope'"),
      (["import", file, "--value", "x=1"], "numbers and lists"),
      (["grad", file, "--of", "y", "--wrt", "nope", "-o", "\(folder.path)/g.pb"], "there is x"),
      (["run", file, "--dim", "m=2"], "its dimensions are 'n'"),
    ] {
      let refused = try folder.dlc(arguments)
      #expect(refused.status == 1 && refused.error.contains(text), "\(arguments): \(refused.error)")
    }
  }
}
