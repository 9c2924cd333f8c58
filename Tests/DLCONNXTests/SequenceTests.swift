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
}
