import DLCTensor
import Testing

@testable import DLCONNX

/// Numbers at the ends of their types: an error, never a trap.
@Suite struct HostileAttributeTests {
  private static let extremes: [Int] = [Int.max, Int.min, Int.max - 1, -1 << 62, 1 << 40, -1, 0]

  /// Operators with attributes of one int or a list.
  private static let uses: [(type: String, name: String, count: Int?)] = [
    ("DepthToSpace", "blocksize", nil), ("SpaceToDepth", "blocksize", nil),
    ("Split", "num_outputs", nil), ("Flatten", "axis", nil), ("Transpose", "perm", 4),
    ("Softmax", "axis", nil), ("Gather", "axis", nil), ("CumSum", "axis", nil),
    ("LSTM", "hidden_size", nil), ("GRU", "hidden_size", nil), ("RandomUniform", "shape", 2),
    ("EyeLike", "k", nil), ("Shape", "start", nil), ("Shape", "end", nil),
    ("ArgMax", "axis", nil), ("ReverseSequence", "batch_axis", nil), ("Concat", "axis", nil),
    ("OneHot", "axis", nil), ("TopK", "axis", nil), ("Cast", "to", nil),
  ]

  /// Functions that call the one before twice are as many calls as two to the number of functions.
  @Test func functionsDoNotExpandWithoutBound() {
    var bomb = model([("x", .float32, [.size(1)])], ["y"], [node("f30", ["x"], ["y"])])
    for number in 0...30 {
      let key = ONNXModel.FunctionKey(domain: "", name: "f\(number)", overload: "")
      let inner = number == 0 ? "Relu" : "f\(number - 1)"
      bomb.functions[key] = ONNXFunction(
        key: key, inputs: ["a"], outputs: ["c"],
        nodes: [node(inner, ["a"], ["b"]), node(inner, ["b"], ["c"])], opsets: ["": 21],
        defaults: [:])
    }
    let error = #expect(throws: DLCError.self) { try ONNXSession(bomb, cache: nil) }
    #expect(error?.message == "the functions of the model expand to more than 131072 nodes")
  }

  @Test func inputsAreThereOnce() {
    let twice = model(
      [("x", .float32, [.size(1)]), ("x", .float32, [.size(1)])], ["y"],
      [node("Relu", ["x"], ["y"])])
    let error = #expect(throws: DLCError.self) { try ONNXSession(twice, cache: nil) }
    #expect(error?.message == "input 'x' is there twice")
  }

  @Test(arguments: uses.indices) func attributesGiveErrors(_ index: Int) {
    let use = Self.uses[index]
    for number in Self.extremes {
      let attribute: ONNXAttribute =
        use.count.map { .integers([Int](repeating: number, count: $0)) } ?? .integer(number)
      let one = model(
        [("x", .float32, [.size(1), .size(4), .size(2), .size(2)]), ("i", .int64, [.size(1)])],
        ["y"],
        [node(use.type, ["x", "i", "i"], ["y"], [use.name: attribute])])
      _ = try? run(
        one, ["x": floats([1, 4, 2, 2], .init(repeating: 1, count: 16)), "i": integers([1], [1])])
    }
  }

  /// Operators whose second operand is known when the graph is built.
  @Test(arguments: [
    "Reshape", "Expand", "Tile", "Slice", "Pad", "Squeeze", "Unsqueeze", "Split", "TopK", "CumSum",
    "ReduceSum", "Trilu", "CenterCropPad", "DFT", "OneHot", "Range",
  ]) func operandsGiveErrors(_ type: String) {
    for number in Self.extremes.map(Int64.init) {
      for mode in ["constant", "reflect"] {
        let values = integers([2], [number, number])
        let attributes = type == "Pad" ? ["mode": text(mode)] : [:]
        let one = model(
          [("x", .float32, [.size(2)])], ["y"], initializers: ["v": values, "w": values],
          [node(type, ["x", "v", "w"], ["y"], attributes)])
        _ = try? run(one, ["x": floats([2], [1, 2])])
      }
    }
  }

  /// What is beyond every size is said so.
  @Test func theNumberIsNamed() throws {
    let one = model(
      [("x", .float32, [.size(1), .size(4), .size(2), .size(2)])], ["y"],
      [node("DepthToSpace", ["x"], ["y"], ["blocksize": .integer(1 << 40)])])
    let error = #expect(throws: DLCError.self) {
      try run(one, ["x": floats([1, 4, 2, 2], .init(repeating: 1, count: 16))])
    }
    #expect(error?.message == "attribute 'blocksize' is 1099511627776, which is beyond every size")
  }

  @Test func seedsAndEdgesThatAreNoNumbersDoNotTrap() {
    for seed in [Double.nan, .infinity, -1e300] {
      let random = model(
        [], ["y"],
        [node("RandomNormal", [], ["y"], ["shape": .integers([3]), "seed": .float(seed)])])
      _ = try? run(random, [:])
      let mel = model(
        [], ["y"],
        initializers: [
          "bins": integers([], [4]), "length": integers([], [8]), "rate": integers([], [0]),
          "low": floats([], [seed]), "high": floats([], [seed]),
        ], [node("MelWeightMatrix", ["bins", "length", "rate", "low", "high"], ["y"])])
      _ = try? run(mel, [:])
    }
  }
}
