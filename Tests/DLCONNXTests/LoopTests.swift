import DLCGraph
import DLCTensor
import Testing

@testable import DLCONNX

@Suite struct LoopTests {
  /// A loop that reads a row of `x` in each iteration, as long as a condition from around it holds.
  private func rows(_ carried: [ONNXValueInfo.Dimension]) -> ONNXModel {
    let body = graph(
      [("i", .int64, []), ("c", .bool, []), ("s", .float32, carried)], ["go", "t"],
      [
        node("Gather", ["x", "i"], ["row"]), node("Add", ["s", "row"], ["t"]),
        node("Identity", ["more"], ["go"]),
      ])
    return model(
      [("x", .float32, [.name("n"), .size(2)]), ("count", .int64, []), ("more", .bool, [])], ["y"],
      initializers: ["start": floats([2], [0, 0])],
      [node("Loop", ["count", "more", "start"], ["y"], ["body": .graph(body)])])
  }

  /// A loop that does not run reads nothing: its body may not fit.
  @Test(arguments: [0, 1, 3]) func everyNumberOfIterationsIsRun(_ count: Int) throws {
    let x = floats([count, 2], (0..<2 * count).map(Double.init))
    let y = try run(
      rows([.size(2)]),
      ["x": x, "count": integers([], [Int64(count)]), "more": integers([], [1], .bool)])["y"]!
    let sums = [0, 1].map { column -> Double in
      (0..<count).reduce(0.0) { sum, row in sum + Double(2 * row + column) }
    }
    #expect(y.doubles == sums)
  }

  @Test func loopsThatMayNotBeginRunNot() throws {
    let y = try run(
      rows([.size(2)]),
      [
        "x": floats([0, 2], []), "count": integers([], [3]), "more": integers([], [0], .bool),
      ])["y"]!
    #expect(y.doubles == [0, 0])
  }

  /// A limit that is a number only inside of a loop needs no bound.
  @Test func limitsMayBeNumbersOfAnotherLoop() throws {
    let inner = graph(
      [("j", .int64, []), ("d", .bool, []), ("u", .float32, [])], ["e", "v"],
      [node("Identity", ["yes"], ["e"]), node("Add", ["u", "one"], ["v"])])
    let outer = graph(
      [("i", .int64, []), ("c", .bool, []), ("s", .float32, [])], ["go", "t"],
      [
        node("Loop", ["i", "yes", "s"], ["t"], ["body": .graph(inner)]),
        node("Identity", ["yes"], ["go"]),
      ])
    let nested = model(
      [("x", .float32, []), ("count", .int64, [])], ["y"],
      initializers: ["one": floats([], [1]), "yes": integers([], [1], .bool)],
      [node("Loop", ["count", "yes", "x"], ["y"], ["body": .graph(outer)])])
    let arrays = ["x": floats([], [0]), "count": integers([], [4])]
    #expect(try run(nested, arrays)["y"]!.doubles == [6])
    // As one graph, whose count stays open.
    let module = try nested.module()
    #expect(module.functions[0].inputs.map(\.name) == ["x", "count"])
    let (written, results) = try ExportTests.roundTrip(module, arrays, opset: 21)
    #expect(results[0].value.doubles == [6])
    // What the import tried and gave up is not there.
    func all(_ nodes: [ONNXNode]) -> [ONNXNode] {
      nodes + nodes.flatMap { $0.graphs }.flatMap { all($0.nodes) }
    }
    #expect(all(written.graph.nodes).allSatisfy { !$0.outputs.isEmpty })
  }

  /// A graph with a branch that gives nothing is written without it.
  @Test func branchesWithoutResultsAreNotWritten() throws {
    var module = Module("m")
    try module.function("forward") { g in
      let x = g.input("x", .float32, [2])
      _ = g.cond(g.input("p", .bool), then: { _ in [] }, otherwise: { _ in [] })
      g.output("y", x + x)
    }
    let (written, results) = try ExportTests.roundTrip(
      module, ["x": floats([2], [1, 2]), "p": integers([], [1], .bool)], opset: 21)
    #expect(!written.graph.nodes.contains { $0.type == "If" })
    #expect(results[0].value.doubles == [2, 4])
  }
}
