import DLCTensor
import Testing

@testable import DLCONNX

@Suite struct SequenceTests {
  private let x = floats([5, 2], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])

  /// A model that splits `x` along its first axis and puts parts together again.
  private func parts(_ nodes: [ONNXNode], _ stored: [String: Tensor] = [:]) -> ONNXModel {
    model([("x", .float32, [.size(5), .size(2)])], ["y"], initializers: stored, nodes)
  }

  @Test func partsOfASplitAreFoundByTheirPlace() throws {
    let cut = parts(
      [
        node("SplitToSequence", ["x", "size"], ["s"], ["axis": .integer(0)]),
        node("SequenceAt", ["s", "last"], ["c"]),
        node("SequenceAt", ["s", "first"], ["a"]),
        node("Concat", ["c", "a"], ["y"], ["axis": .integer(0)]),
      ],
      ["size": integers([], [2]), "last": integers([], [-1]), "first": integers([], [0])])
    #expect(try run(cut, ["x": x])["y"]!.doubles == [9, 10, 1, 2, 3, 4])
  }

  @Test func elementsAreInsertedErasedAndStacked() throws {
    let stacked = parts(
      [
        node("SplitToSequence", ["x"], ["s"], ["axis": .integer(0), "keepdims": .integer(0)]),
        node("SequenceErase", ["s", "first"], ["t"]),
        node("SequenceAt", ["s", "first"], ["e"]),
        node("SequenceInsert", ["t", "e"], ["u"]),
        node(
          "ConcatFromSequence", ["u"], ["y"], ["axis": .integer(1), "new_axis": .integer(1)]),
      ], ["first": integers([], [0])])
    let y = try run(stacked, ["x": x])["y"]!
    #expect(y.shape == [2, 5])
    #expect(y.doubles == [3, 5, 7, 9, 1, 4, 6, 8, 10, 2])
  }

  @Test func graphsAreMappedOverElements() throws {
    let body = graph(
      [("e", .float32, [.size(1), .size(2)])], ["d"], [node("Mul", ["e", "e"], ["d"])])
    let mapped = parts([
      node("SplitToSequence", ["x"], ["s"]),
      node("SequenceMap", ["s"], ["t"], ["body": .graph(body)]),
      node("ConcatFromSequence", ["t"], ["y"], ["axis": .integer(0)]),
    ])
    #expect(try run(mapped, ["x": x])["y"]!.doubles == (1...10).map { Double($0 * $0) })
  }

  @Test(arguments: [[0, 0, 0, 0, 0], [0, 1, 0, 1, 1]] as [[Int64]])
  func sequencesPassACut(_ mask: [Int64]) throws {
    let cut = model(
      [("x", .float32, [.size(5), .size(2)]), ("mask", .bool, [.size(5)])], ["y"],
      initializers: ["size": integers([], [2])],
      [
        node("SplitToSequence", ["x", "size"], ["s"]),
        node("Compress", ["x", "mask"], ["rows"], ["axis": .integer(0)]),
        node("SequenceInsert", ["s", "rows"], ["t"]),
        node("ConcatFromSequence", ["t"], ["y"], ["axis": .integer(0)]),
      ])
    let y = try run(cut, ["x": x, "mask": integers([5], mask, .bool)])["y"]!
    let rows = mask.indices.filter { mask[$0] != 0 }
      .flatMap { [Double(2 * $0 + 1), Double(2 * $0 + 2)] }
    #expect(y.doubles == (1...10).map(Double.init) + rows)
  }

  @Test func whatIsNoTensorIsNamed() throws {
    let open = parts([node("SplitToSequence", ["x"], ["y"])])
    #expect(throws: DLCError.self) { try run(open, ["x": x]) }
    let beyond = parts(
      [node("SplitToSequence", ["x"], ["s"]), node("SequenceAt", ["s", "place"], ["y"])],
      ["place": integers([], [5])])
    let error = #expect(throws: DLCError.self) { try run(beyond, ["x": x]) }
    #expect(error?.message == "position 5 is out of range for a sequence of 5")
    let misused = parts([
      node("SplitToSequence", ["x"], ["s"]), node("Relu", ["s"], ["y"]),
    ])
    let other = #expect(throws: DLCError.self) { try run(misused, ["x": x]) }
    #expect(other?.message == "input 0 is a sequence")
  }

  /// A loop that appends rows of `x`, doubled, to a sequence, and goes on while its number is below a limit.
  private func appending(_ nodes: [ONNXNode], count: String) -> ONNXModel {
    let body = graph(
      [("i", .int64, []), ("c", .bool, []), ("k", .int64, []), ("s", .float32, [])],
      ["go", "next", "t"],
      [
        node("Gather", ["x", "k"], ["row"]), node("Add", ["row", "row"], ["twice"]),
        node("SequenceInsert", ["s", "twice"], ["t"]), node("Add", ["k", "one"], ["next"]),
      ] + nodes)
    return model(
      [("x", .float32, [.size(5), .size(2)]), ("limit", .int64, [])], ["y"],
      initializers: [
        "first": integers([], [1]), "one": integers([], [1]), "yes": integers([], [1], .bool),
      ],
      [
        node("Slice", ["x", "begin", "end"], ["head"]),
        node("SplitToSequence", ["head"], ["start"], ["keepdims": .integer(0)]),
        node("Loop", [count, "yes", "first", "start"], ["last", "s"], ["body": .graph(body)]),
        node(
          "ConcatFromSequence", ["s"], ["y"], ["axis": .integer(0), "new_axis": .integer(1)]),
      ]
    ).with(["begin": integers([1], [0]), "end": integers([1], [1])])
  }

  /// How often the loop runs is a value of the run: of its limit, or of a condition in its body.
  @Test(arguments: [false, true]) func loopsMayAppend(_ isConditional: Bool) throws {
    let loop =
      isConditional
      ? appending([node("Less", ["next", "limit"], ["go"])], count: "")
      : appending([node("Identity", ["yes"], ["go"])], count: "limit")
    for limit in 2...3 {
      let y = try run(loop, ["x": x, "limit": integers([], [Int64(limit)])])["y"]!
      let count = isConditional ? limit - 1 : limit
      #expect(y.shape == [1 + count, 2])
      let rows = (0..<2 * count).map { place in Double(2 * (place + 3)) }
      #expect(y.doubles == [1, 2] + rows)
    }
  }

  @Test func loopsWhoseSequencesDependOnDataAreNamed() throws {
    let loop = appending(
      [
        node("ReduceSum", ["twice"], ["sum"], ["keepdims": .integer(0)]),
        node("Less", ["sum", "bound"], ["go"]),
      ], count: ""
    ).with(["bound": floats([], [20])])
    let error = #expect(throws: DLCError.self) {
      try run(loop, ["x": x, "limit": integers([], [0])])
    }
    #expect(error?.message == "'go' of node 'last' (Loop) depends on the data")
  }

  /// A branch that is known may give a sequence.
  @Test func branchesMayGiveSequences() throws {
    let body = graph(
      [("i", .int64, []), ("c", .bool, []), ("s", .float32, [])], ["c", "t"],
      [
        node("Equal", ["i", "zero"], ["isFirst"]),
        node(
          "If", ["isFirst"], ["t"],
          [
            "then_branch": .graph(
              graph([], ["a"], [node("SequenceInsert", ["s", "x"], ["a"])])),
            "else_branch": .graph(graph([], ["b"], [node("Identity", ["s"], ["b"])])),
          ]),
      ])
    let loop = parts(
      [
        node("SequenceEmpty", [], ["none"]),
        node("Loop", ["three", "", "none"], ["s"], ["body": .graph(body)]),
        node("ConcatFromSequence", ["s"], ["y"], ["axis": .integer(0)]),
      ], ["zero": integers([], [0]), "three": integers([], [3])])
    #expect(try run(loop, ["x": x])["y"]!.doubles == (1...10).map(Double.init))
  }
}
