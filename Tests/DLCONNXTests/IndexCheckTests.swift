import DLCTensor
import Testing

@testable import DLCONNX

/// Indices that only a run knows are held against the axis that they go into.
@Suite struct IndexCheckTests {
  private static let x = floats([3, 2], [1, 2, 3, 4, 5, 6])
  private static let updates = floats([1, 2], [7, 8])

  struct Case: CustomTestStringConvertible, Sendable {
    var type: String
    var shape: [Int]
    /// What lies inside and outside.
    var good: [Int64]
    var bad: [Int64]
    var message: String
    var testDescription: String { type }
  }

  @Test(arguments: [
    Case(
      type: "Gather", shape: [2], good: [-3, 2], bad: [0, 3],
      message: "index 3 is out of range for an axis of 3"),
    Case(
      type: "GatherElements", shape: [1, 2], good: [-3, 2], bad: [-4, 0],
      message: "index -4 is out of range for an axis of 3"),
    Case(
      type: "GatherND", shape: [1, 2], good: [2, 1], bad: [1, 2],
      message: "index 2 is out of range for an axis of 2"),
    Case(
      type: "ScatterElements", shape: [1, 2], good: [0, -3], bad: [0, 9],
      message: "index 9 is out of range for an axis of 3"),
    Case(
      type: "ScatterND", shape: [1, 1], good: [2], bad: [3],
      message: "index 3 is out of range for an axis of 3"),
  ])
  func outsideIsAnError(_ c: Case) throws {
    let scatters = c.type.hasPrefix("Scatter")
    var inputs: [(String, ElementType, [ONNXValueInfo.Dimension])] = [
      ("x", .float32, [.size(3), .size(2)]), ("i", .int64, c.shape.map { .size($0) }),
    ]
    if scatters { inputs.append(("u", .float32, [.size(1), .size(2)])) }
    let indexed = model(
      inputs, ["y"], [node(c.type, ["x", "i"] + (scatters ? ["u"] : []), ["y"])])
    let session = try ONNXSession(indexed, cache: nil)
    var arrays = ["x": Self.x, "i": integers(c.shape, c.good)]
    if scatters { arrays["u"] = Self.updates }
    _ = try session.run(arrays)
    arrays["i"] = integers(c.shape, c.bad)
    let error = #expect(throws: DLCError.self) { try session.run(arrays) }
    #expect(error?.message == c.message)
    #expect(error?.location.contains("node 'y' (\(c.type))") == true)
  }

  /// Nothing is taken from an axis of no elements.
  @Test(arguments: [
    ("Gather", [0], [0, 2]), ("GatherElements", [0, 2], [0, 2]), ("GatherND", [0, 1], [0, 2]),
  ]) func emptyAxesGiveNothing(_ type: String, _ indices: [Int], _ shape: [Int]) throws {
    let y = try OneNode.run(
      type, [floats([0, 2], []), integers(indices, [])], opset: 21)[0]
    #expect(y.shape == shape)
    let some = integers(
      indices.map { max($0, 1) },
      [Int64](repeating: 0, count: max(1, indices.dropFirst().reduce(1, *))))
    #expect(throws: DLCError.self) {
      try OneNode.run(type, [floats([0, 2], []), some], opset: 21)
    }
  }

  @Test func noIndicesAreInside() throws {
    let indexed = model(
      [("x", .float32, [.size(3), .size(2)]), ("i", .int64, [.name("n")])], ["y"],
      [node("Gather", ["x", "i"], ["y"])])
    #expect(try run(indexed, ["x": Self.x, "i": integers([0], [])])["y"]!.shape == [0, 2])
  }

  // MARK: Graphs in graphs

  /// Takes row `i` of x, or two of its columns.
  private static let taken = node("Gather", ["x", "i"], ["row"])
  private static let column = node("Gather", ["x", "j"], ["columns"], ["axis": .integer(1)])

  private static func branches(_ then: String = "row") -> ONNXNode {
    node(
      "If", ["p"], [then],
      [
        "then_branch": .graph(graph([], ["row"], [taken])),
        "else_branch": .graph(
          graph(
            [], ["sum"],
            [
              column, node("ReduceSum", ["columns", "zero"], ["part"]),
              node("Expand", ["part", "square"], ["sum"]),
            ])),
      ])
  }

  private func nested(_ name: String) -> [ONNXNode] {
    switch name {
    case "If": return [Self.branches("y")]
    case "Scan":
      let body = graph(
        [("s", .float32, [.size(2)]), ("i", .int64, [.size(1)])], ["t", "out"],
        [
          Self.taken, node("ReduceSum", ["row", "zero"], ["flat"], ["keepdims": .integer(0)]),
          node("Add", ["s", "flat"], ["t"]), node("Identity", ["t"], ["out"]),
        ])
      return [
        node("Reshape", ["i", "tall"], ["steps"]),
        node(
          "Scan", ["start", "steps"], ["y", "all"],
          ["body": .graph(body), "num_scan_inputs": .integer(1)]),
      ]
    default:
      // The row is that of the iteration, from `i` on.
      let ends = name == "Loop with a condition"
      let body = graph(
        [("n", .int64, []), ("c", .bool, []), ("s", .float32, [.size(2)])], ["more", "t"],
        [
          ends
            ? node("Less", ["n", "last"], ["more"]) : node("Identity", ["c"], ["more"]),
          Self.branches(), node("ReduceSum", ["row", "zero"], ["flat"], ["keepdims": .integer(0)]),
          node("Add", ["s", "flat"], ["t"]),
        ])
      return [node("Loop", ["trips", "", "start"], ["y"], ["body": .graph(body)])]
    }
  }

  /// What lies outside is found wherever it is, and indices that are not used are not looked at.
  @Test(arguments: ["If", "Scan", "Loop", "Loop with a condition"], [true, false])
  func outsideIsAnErrorInGraphsOfGraphs(_ name: String, _ isReference: Bool) throws {
    let whole = model(
      [
        ("x", .float32, [.size(3), .size(2)]), ("i", .int64, [.size(2)]),
        ("j", .int64, [.size(1)]), ("p", .bool, []),
      ], ["y"],
      initializers: [
        "zero": integers([1], [0]), "tall": integers([2], [2, 1]), "trips": integers([], [2]),
        "square": integers([2], [2, 2]), "last": integers([], [5]), "start": floats([2], [0, 0]),
      ], nested(name))
    let session = try ONNXSession(whole, cache: nil, isReference: isReference)
    func message(_ i: [Int64], _ j: [Int64], _ p: Bool) throws -> String {
      do throws(DLCError) {
        _ = try session.run([
          "x": Self.x, "i": integers([2], i), "j": integers([1], j),
          "p": integers([], [p ? 1 : 0], .bool),
        ])
        return ""
      } catch { return "\(error.message) \(error.location)" }
    }
    #expect(try message([2, -3], [1], true) == "")
    let low = try message([-4, 1], [1], true)
    #expect(
      low.contains("index -4 is out of range for an axis of 3") && low.contains("'row' (Gather)"))
    #expect(try message([0, 3], [1], true).contains("index 3 is out of range for an axis of 3"))
    guard name != "Scan" else { return }
    // The other side has indices of its own.
    #expect(try message([9, 9], [0], false) == "")
    let other = try message([0, 1], [2], false)
    #expect(other.contains("index 2 is out of range for an axis of 2"))
    #expect(other.contains("'columns' (Gather)"))
  }
}
