import DLCTensor
import Testing

@testable import DLCONNX

/// What is wrong with a model is said once, about the first thing that is wrong.
@Suite struct MistakeTests {
  /// Operators of one input whose type is too large: those that need a shape, and those that read what others leave.
  private static let chains: [[ONNXNode]] = [
    [node("MatMul", ["x", "w"], ["y"])],
    [node("LayerNormalization", ["x", "v"], ["y"])],
    [node("Transpose", ["x"], ["y"], ["perm": .integers([1, 0])])],
    [node("Conv", ["x", "w"], ["y"])],
    [
      node("Equal", ["x", "x"], ["same"]), node("Shape", ["same"], ["sizes"]),
      node("ConstantOfShape", ["sizes"], ["y"]),
    ],
    [node("Reshape", ["v", "x"], ["y"])],
    [node("If", ["x"], ["y"], ["then_branch": .graph(empty), "else_branch": .graph(empty)])],
  ]

  private static let empty = graph([], ["v"], [])

  @Test(arguments: chains.indices) func sizesThatAreTooLargeAreSaidSo(_ index: Int) {
    let large = model(
      [("x", .float32, [.name("b"), .size(16)])], ["y"],
      initializers: ["w": floats([16, 1], .init(repeating: 1, count: 16)), "v": floats([1], [1])],
      Self.chains[index])
    let error = #expect(throws: DLCError.self) {
      try large.module(.init(sizes: ["b": 1 << 40]))
    }
    #expect(error?.message == "type float32[1099511627776, 16] is too large")
    #expect(error?.location.contains("input 'x'") == true)
  }

  /// A body that cannot be built for carried values of one shape may still be built iteration by iteration.
  @Test func bodiesThatAreNoGraphForAllIterationsAreWrittenOut() throws {
    let body = graph(
      [("i", .int64, []), ("c", .bool, []), ("s", .float32, [.size(1)])], ["c", "t"],
      [
        node("Concat", ["s", "x"], ["long"], ["axis": .integer(0)]),
        node("Concat", ["long", "s"], ["t"], ["axis": .integer(0)]),
      ])
    let growing = model(
      [("x", .float32, [.size(1)])], ["y"], initializers: ["count": integers([], [2])],
      [node("Loop", ["count", "", "x"], ["y"], ["body": .graph(body)])])
    #expect(try run(growing, ["x": floats([1], [2])])["y"]!.shape == [7])
  }
}
