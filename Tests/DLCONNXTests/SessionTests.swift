import DLCTensor
import Testing

@testable import DLCONNX

@Suite struct SessionTests {
  /// Rows of a matrix where a mask is not zero, times a matrix.
  private var selection: ONNXModel {
    model(
      [
        ("mask", .float32, [.size(4)]), ("x", .float32, [.size(4), .size(2)]),
        ("w", .float32, [.size(2), .size(1)]),
      ],
      ["y", "places"],
      [
        node("NonZero", ["mask"], ["places"]),
        node("Squeeze", ["places", "axes"], ["flat"]),
        node("Gather", ["x", "flat"], ["rows"]),
        node("ReduceSum", ["rows", "last"], ["sums"], ["keepdims": .integer(1)]),
        node("Mul", ["rows", "sums"], ["y"]),
      ].map { $0 }
    )
    .with(["axes": integers([1], [0]), "last": integers([1], [1])])
  }

  @Test(arguments: [[0, 0, 0, 0], [0, 3, 0, 0], [1, 0, 2, 5]] as [[Double]])
  func countsOfAnySizeCutTheGraph(_ mask: [Double]) throws {
    let x = floats([4, 2], [1, 2, 3, 4, 5, 6, 7, 8])
    let results = try run(
      selection, ["mask": floats([4], mask), "x": x, "w": floats([2, 1], [1, 1])])
    let places = mask.indices.filter { mask[$0] != 0 }
    #expect(results["places"]!.shape == [1, places.count])
    #expect(results["places"]!.integers == places.map(Int64.init))
    #expect(results["y"]!.shape == [places.count, 2])
    let expected = places.flatMap { row -> [Double] in
      let (a, b) = (Double(2 * row + 1), Double(2 * row + 2))
      return [a * (a + b), b * (a + b)]
    }
    #expect(results["y"]!.doubles == expected)
  }

  /// Three boxes, of which the first two overlap.
  @Test(arguments: [(0.99, [] as [Int64]), (0.85, [0]), (0.1, [0, 2])])
  func boxesThatAreKeptMayBeNoneOneOrMany(_ score: Double, _ kept: [Int64]) throws {
    let boxes = floats([1, 3, 4], [0, 0, 10, 10, 1, 1, 10, 10, 20, 20, 30, 30])
    let detection = model(
      [("boxes", .float32, [.size(1), .size(3), .size(4)]), ("least", .float32, [.size(1)])],
      ["places", "corners"],
      initializers: [
        "scores": floats([1, 1, 3], [0.9, 0.8, 0.7]), "most": integers([1], [10]),
        "overlap": floats([1], [0.5]), "column": integers([], [2]), "first": integers([], [0]),
      ],
      [
        node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["places"]),
        node("Gather", ["places", "column"], ["rows"], ["axis": .integer(1)]),
        node("Gather", ["boxes", "first"], ["image"], ["axis": .integer(0)]),
        node("Gather", ["image", "rows"], ["corners"], ["axis": .integer(0)]),
      ])
    let results = try run(detection, ["boxes": boxes, "least": floats([1], [score])])
    #expect(results["places"]!.shape == [kept.count, 3])
    #expect(results["places"]!.integers == kept.flatMap { [0, 0, $0] })
    #expect(results["corners"]!.shape == [kept.count, 4])
    let expected = kept.flatMap { boxes.doubles[Int($0) * 4..<Int($0) * 4 + 4] }
    #expect(results["corners"]!.doubles == expected)
  }

  /// Sums of growing parts: a loop that only stacks, with a body whose shapes change.
  @Test func loopsMayCarryNothing() throws {
    let body = graph(
      [("i", .int64, []), ("c", .bool, [])], ["more", "sum"],
      [
        node("Identity", ["c"], ["more"]), node("Unsqueeze", ["i", "zero"], ["end"]),
        node("Slice", ["x", "zero", "end", "zero"], ["part"]),
        node("ReduceSum", ["part"], ["sum"], ["keepdims": .integer(0)]),
      ])
    let growing = model(
      [("x", .float32, [.size(3)])], ["y"],
      initializers: ["zero": integers([1], [0]), "count": integers([], [4])],
      [node("Loop", ["count", ""], ["y"], ["body": .graph(body)])])
    #expect(try run(growing, ["x": floats([3], [1, 2, 3])])["y"]!.doubles == [0, 1, 3, 6])
  }

  @Test func knownSizesAreNotCompiledAgain() throws {
    let doubled = model(
      [("x", .float32, [.name("n")])], ["y"], [node("Add", ["x", "x"], ["y"])])
    let session = try ONNXSession(doubled, cache: nil)
    for size in [3, 5, 3, 5, 3] {
      let result = try session.run(["x": floats([size], [Double](repeating: 2, count: size))])
      #expect(result[0].value.doubles == [Double](repeating: 4, count: size))
    }
    #expect(session.compilationCount == 2)
  }

  @Test func inputsThatShapesNeedAreBoundByValue() throws {
    let reshaped = model(
      [("x", .float32, [.size(6)]), ("shape", .int64, [.size(2)])], ["y"],
      [node("Reshape", ["x", "shape"], ["y"])])
    let session = try ONNXSession(reshaped, cache: nil)
    let x = floats([6], [1, 2, 3, 4, 5, 6])
    #expect(try session.run(["x": x, "shape": integers([2], [2, -1])])[0].value.shape == [2, 3])
    #expect(try session.run(["x": x, "shape": integers([2], [3, 2])])[0].value.shape == [3, 2])
    #expect(try session.run(["x": x, "shape": integers([2], [2, -1])])[0].value.shape == [2, 3])
    #expect(session.compilationCount == 2)
  }

  @Test func arraysThatDisagreeAreNamed() throws {
    let sum = model(
      [("a", .float32, [.name("n")]), ("b", .float32, [.name("n")])], ["y"],
      [node("Add", ["a", "b"], ["y"])])
    let error = #expect(throws: DLCError.self) {
      try run(sum, ["a": floats([2], [1, 2]), "b": floats([3], [1, 2, 3])])
    }
    #expect(error?.message == "dimension 'n' is 2 by array 'a' but 3 by array 'b'")
  }

  @Test func branchesOfDifferentShapesWaitForTheCondition() throws {
    let branches = model(
      [("x", .float32, [.size(2)])], ["y"],
      [
        node("ReduceSum", ["x"], ["sum"], ["keepdims": .integer(0)]),
        node("Greater", ["sum", "zero"], ["isPositive"]),
        node(
          "If", ["isPositive"], ["y"],
          [
            "then_branch": .graph(
              graph([], ["a"], [node("Concat", ["x", "x"], ["a"], ["axis": .integer(0)])])),
            "else_branch": .graph(graph([], ["b"], [node("Neg", ["x"], ["b"])])),
          ]),
      ]
    ).with(["zero": floats([], [0])])
    #expect(try run(branches, ["x": floats([2], [1, 2])])["y"]!.doubles == [1, 2, 1, 2])
    #expect(try run(branches, ["x": floats([2], [-1, -2])])["y"]!.doubles == [1, 2])
  }

  /// A loop that appends to what it carries, so that its shape changes.
  @Test func loopsThatGrowAreRunInParts() throws {
    let body = graph(
      [("i", .int64, []), ("c", .bool, []), ("s", .float32, [.open])], ["go", "t"],
      [
        node("Concat", ["s", "x"], ["t"], ["axis": .integer(0)]),
        node("ReduceSum", ["t"], ["total"], ["keepdims": .integer(0)]),
        node("Less", ["total", "limit"], ["go"]),
      ])
    let growing = model(
      [("x", .float32, [.size(1)]), ("limit", .float32, [])], ["y"],
      [node("Loop", ["", "", "x"], ["y"], ["body": .graph(body)])])
    let results = try run(growing, ["x": floats([1], [2]), "limit": floats([], [7])])
    #expect(results["y"]!.doubles == [2, 2, 2, 2])
  }

  /// Scan outputs of a loop that its condition ends are cut to the iterations that ran.
  @Test func stackedResultsAreAsManyAsIterations() throws {
    let body = graph(
      [("i", .int64, []), ("c", .bool, []), ("s", .float32, [])], ["go", "t", "row"],
      [
        node("Add", ["s", "x"], ["t"]), node("Less", ["t", "limit"], ["go"]),
        node("Identity", ["t"], ["row"]),
      ])
    let stacked = model(
      [("x", .float32, []), ("limit", .float32, [])], ["last", "rows"],
      initializers: ["most": integers([], [10])],
      [node("Loop", ["most", "", "x"], ["last", "rows"], ["body": .graph(body)])])
    let results = try run(stacked, ["x": floats([], [1]), "limit": floats([], [4])])
    #expect(results["last"]!.doubles == [4])
    #expect(results["rows"]!.doubles == [2, 3, 4])
  }

  /// No boxes at all, or no classes that they could be of.
  @Test(arguments: [(1, 0), (0, 3), (0, 0)]) func noBoxesAreKept(_ classes: Int, _ boxes: Int)
    throws
  {
    let detection = model(
      [
        ("boxes", .float32, [.size(1), .name("n"), .size(4)]),
        ("scores", .float32, [.size(1), .name("c"), .name("n")]),
      ], ["places"], initializers: ["most": integers([1], [5])],
      [node("NonMaxSuppression", ["boxes", "scores", "most"], ["places"])])
    let results = try run(
      detection,
      [
        "boxes": floats([1, boxes, 4], .init(repeating: 1, count: 4 * boxes)),
        "scores": floats([1, classes, boxes], .init(repeating: 1, count: classes * boxes)),
      ])
    #expect(results["places"]!.shape == [0, 3])
  }

  @Test(arguments: [(nil, [0, 2], [0]), (0, [0, 2], [0, 2]), (1, [2, 0], [2, 0])])
  func nothingHasNoUniqueElements(_ axis: Int?, _ shape: [Int], _ result: [Int]) throws {
    let attributes = axis.map { ["axis": ONNXAttribute.integer($0)] } ?? [:]
    let found = try OneNode.run("Unique", [floats(shape, [])], attributes, opset: 21, outputs: 4)
    #expect(found.map(\.shape) == [result, [0], [0], [0]])
  }
}

extension ONNXModel {
  func with(_ initializers: [String: Tensor]) -> ONNXModel {
    var copy = self
    for (name, value) in initializers {
      copy.graph.initializers[name] = ONNXTensor(
        name: name, elementType: ElementType(value.dataType), value: value)
    }
    return copy
  }
}
