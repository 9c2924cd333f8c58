import DLCTensor
import Testing

@testable import DLCONNX

@Suite struct AttentionOperatorTests {
  /// Keys of zeros, so that all that are seen weigh alike; values are powers of two.
  private func attend(
    queries: Int, keys: Int, past: Int? = nil, mask: Tensor? = nil, counts: Tensor? = nil,
    _ attributes: [String: ONNXAttribute] = [:], opset: Int = 24, outputs: Int = 1
  ) throws -> [Tensor] {
    func powers(_ count: Int, from first: Int) -> Tensor {
      OneNode.floats([1, 1, count, 1], (0..<count).map { Double(1 << (first + $0)) })
    }
    func zeros(_ count: Int) -> Tensor {
      OneNode.floats([1, 1, count, 1], [Double](repeating: 0, count: count))
    }
    return try OneNode.run(
      "Attention",
      [
        zeros(queries), zeros(keys), powers(keys, from: past ?? 0), mask, past.map(zeros),
        past.map { powers($0, from: 0) }, counts,
      ], attributes, opset: opset, outputs: outputs)
  }

  @Test func causalMaskIsOffsetByThePast() throws {
    let y = try attend(queries: 2, keys: 2, past: 2, ["is_causal": .integer(1)], outputs: 3)
    // The first query sees 1, 2 and 4.
    #expect(near(y[0].doubles, [7.0 / 3, 15.0 / 4]))
    #expect(y[2].shape == [1, 1, 4, 1] && y[2].doubles == [1, 2, 4, 8])
  }

  @Test func presentIsGivenWithoutAPast() throws {
    let y = try attend(queries: 1, keys: 2, outputs: 3)
    #expect(y[1].shape == [1, 1, 2, 1] && y[2].doubles == [1, 2])
  }

  @Test func aRowThatSeesNothingIsZero() throws {
    let mask = OneNode.integers([2, 2], [0, 0, 0, 1], .bool)
    let y = try attend(
      queries: 2, keys: 2, mask: mask, ["qk_matmul_output_mode": .integer(3)], outputs: 4)
    #expect(y[0].doubles == [0, 2])
    #expect(y[3].doubles == [0, 0, 0, 1])
    let infinite = OneNode.floats([2, 2], [-.infinity, -.infinity, 0, 0])
    #expect(try attend(queries: 2, keys: 2, mask: infinite)[0].doubles == [0, 1.5])
  }

  @Test func countsOfKeysMoveTheCausalMask() throws {
    // 1 of 4 keys is there and 2 queries: the first one stands before all keys.
    let y = try attend(
      queries: 2, keys: 4, counts: OneNode.integers([1], [1]), ["is_causal": .integer(1)])
    #expect(y[0].doubles == [0, 1])
  }

  @Test func aShortMaskLeavesOutTheRest() throws {
    let mask = OneNode.floats([1, 2], [0, 0])
    #expect(try attend(queries: 1, keys: 4, mask: mask)[0].doubles == [1.5])
  }

  @Test func windowsBoundBothSides() throws {
    let y = try attend(
      queries: 4, keys: 4,
      ["left_window_size": .integer(1), "right_window_size": .integer(1)], opset: 25)
    #expect(near(y[0].doubles, [1.5, 7.0 / 3, 14.0 / 3, 6]))
  }

  @Test func groupsShareKeys() throws {
    // Four heads of queries, two of keys: heads 0 and 1 use the first.
    let q = OneNode.floats([1, 4, 1, 1], [0, 0, 0, 0])
    let k = OneNode.floats([1, 2, 1, 1], [0, 0])
    let v = OneNode.floats([1, 2, 1, 1], [3, 5])
    let y = try OneNode.run("Attention", [q, k, v], opset: 23)[0]
    #expect(y.doubles == [3, 3, 5, 5])
    #expect(throws: DLCError.self) {
      try OneNode.run(
        "Attention", [OneNode.floats([1, 3, 1, 1], [0, 0, 0]), k, v], opset: 23)
    }
  }

  @Test func rotaryPairsAreHalvesOrNeighbours() throws {
    let x = OneNode.floats([1, 1, 1, 4], [1, 2, 3, 4])
    let (cosines, sines) = (
      OneNode.floats([1, 1, 2], [0, 1]), OneNode.floats([1, 1, 2], [1, 0])
    )
    let halves = try OneNode.run("RotaryEmbedding", [x, cosines, sines], opset: 23)[0]
    #expect(halves.doubles == [-3, 2, 1, 4])
    let neighbours = try OneNode.run(
      "RotaryEmbedding", [x, cosines, sines], ["interleaved": .integer(1)], opset: 23)[0]
    #expect(neighbours.doubles == [-2, 1, 3, 4])
  }

  @Test func deltaRuleCorrectsWhatIsKnown() throws {
    let one = OneNode.floats([1, 2, 1], [1, 1])
    let y = try OneNode.run(
      "LinearAttention",
      [
        one, one, OneNode.floats([1, 2, 1], [4, 8]), nil, nil,
        OneNode.floats([1, 2, 1], [0.5, 0.5]),
      ],
      [
        "q_num_heads": .integer(1), "kv_num_heads": .integer(1),
        "update_rule": .text(Array("delta".utf8)),
      ], opset: 27, outputs: 2)
    // 0 + (4 - 0) / 2, then 2 + (8 - 2) / 2.
    #expect(y[0].doubles == [2, 5] && y[1].doubles == [5])
  }
}
