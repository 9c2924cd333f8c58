import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct SimplifyAlgebraTests {
  static func rewritten(_ build: (FunctionBuilder, Value) -> Value) throws -> [String] {
    let before = try PassCheck.graph { g in
      g.output("y", build(g, g.input("x", .float32, [11])))
    }
    return try PassCheck.needed(PassCheck.run(SimplifyAlgebra(), before).graph)
  }

  @Test func whatChangesNothingGoes() throws {
    #expect(
      try Self.rewritten { g, x in (x * g.constant(1, like: x)) - g.constant(0, like: x) } == [])
    #expect(try Self.rewritten { g, x in -(-x) } == [])
  }

  /// A sum with zero turns minus zero into zero, so it goes only where there is none.
  @Test func zeroIsAddedToWhatMayBeMinusZero() throws {
    #expect(try Self.rewritten { g, x in x + g.constant(0, like: x) }.contains("add"))
    #expect(try Self.rewritten { g, x in x * x + g.constant(0, like: x) } == ["multiply"])
  }

  /// A rectifier after what is never below zero goes; after what may be minus zero it stays.
  @Test func onlyNonNegativeValuesLoseTheirRectifier() throws {
    func relu(_ g: FunctionBuilder, _ x: Value) -> Value { g.maximum(x, g.constant(0, like: x)) }
    #expect(
      try Self.rewritten { g, x in relu(g, relu(g, x)) }.filter { $0 == "maximum" }.count == 1)
    #expect(try Self.rewritten { g, x in relu(g, g.abs(x)) } == ["abs"])
    #expect(try Self.rewritten { g, x in relu(g, g.sqrt(x)) }.contains("maximum"))
    #expect(try Self.rewritten { g, x in relu(g, -g.abs(x)) }.contains("maximum"))
    #expect(try Self.rewritten { g, x in g.abs(relu(g, x)) }.contains("abs") == false)
  }

  /// Zero times infinity and NaN is NaN, and zero times what is below zero is minus zero.
  @Test func zeroTimesWhatIsNotKnownStays() throws {
    #expect(try Self.rewritten { g, x in x * g.constant(0, like: x) }.contains("multiply"))
    #expect(try Self.rewritten { g, x in g.abs(x) * g.constant(0, like: x) }.contains("multiply"))
    let index = try PassCheck.graph { g in
      let i = g.argmax(g.input("x", .float32, [3, 5]), axis: 1)
      let x = g.convert(i, .float32)
      g.output("y", x * g.constant(0, like: x))
    }
    let (after, counts) = try PassCheck.run(SimplifyAlgebra(), index)
    #expect(counts["multiply-by-zero"] == 1)
    #expect(try PassCheck.needed(after) == ["constant", "broadcast_in_dim"])
  }

  /// An index that cannot be negative needs no second look.
  @Test func comparisonsThatAreKnownGo() throws {
    let before = try PassCheck.graph { g in
      let i = g.argmax(g.input("x", .float32, [3, 5]), axis: 1)
      let isNegative = g.compare(.less, i, g.constant(0, like: i))
      g.output("y", g.select(isNegative, i + g.constant(5, like: i), i))
    }
    let (after, counts) = try PassCheck.run(SimplifyAlgebra(), before)
    #expect(counts["compare-known"] == 1 && counts["select-constant"] == 1)
    #expect(try PassCheck.needed(after) == ["argmax"])
    // NaN is neither, so an order of floats is known only where it is false.
    #expect(
      try Self.rewritten { g, x in
        g.convert(g.compare(.greater_equal, g.abs(x), g.constant(0, like: x)), .float32)
      }.contains("compare"))
    #expect(
      try Self.rewritten { g, x in
        g.convert(g.compare(.less, g.abs(x), g.constant(0, like: x)), .float32)
      }.contains("compare") == false)
  }
}
