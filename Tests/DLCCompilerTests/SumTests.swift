import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// The rounding error of sums grows with the logarithm of their length, along any axes.
@Suite struct SumTests {
  static func run(_ inputs: [Tensor], _ body: @escaping (FunctionBuilder, [Value]) -> Value) throws
    -> [Double]
  {
    var module = Module("sums")
    try module.function("forward") { g in
      let values = inputs.enumerated().map {
        g.input("x\($0.offset)", $0.element.dataType, $0.element.shape.map { Size($0) })
      }
      g.output("y", body(g, values))
    }
    return try Compiler().compile(module).run(
      Dictionary(uniqueKeysWithValues: inputs.enumerated().map { ("x\($0.offset)", $0.element) }))[0]
      .value.doubles
  }

  /// Equal terms: their rounding errors all point the same way.
  static func tenths(_ shape: [Int]) -> Tensor {
    Tensor(shape, [Float](repeating: 0.1, count: shape.reduce(1, *)))
  }
  static let tenth = Double(0.1 as Float)

  @Test(arguments: [
    ([10_000_000], [0]), ([1_000_000, 3], [0]), ([3, 1_000_000], [1]), ([7, 100_000, 5], [1]),
    ([100, 50_000], [0, 1]), ([100, 3, 5000], [0, 2]), ([2, 300_000, 2, 5], [1, 3]),
    ([50, 40, 30, 20], [0, 1, 2, 3]),
  ]) func longSums(_ shape: [Int], _ axes: [Int]) throws {
    let x = Self.tenths(shape)
    let length = axes.reduce(1) { $0 * shape[$1] }
    let want = Self.tenth * Double(length)
    for value in try Self.run([x], { $0.sum($1[0], axes: axes) }) {
      #expect(abs(value - want) <= 1e-6 * want, "\(shape) over \(axes): \(value), not \(want)")
    }
    for value in try Self.run([x], { $0.mean($1[0], axes: axes) }) {
      #expect(abs(value - Self.tenth) <= 1e-6 * Self.tenth)
    }
  }

  /// Sums inside what is fused around them: squares, a softmax, a norm.
  @Test func fusedSums() throws {
    let x = Self.tenths([3, 1_000_000])
    let squares = try Self.run([x]) { g, x in g.sum(x[0] * x[0], axes: [1]) }
    // A square is rounded once before it is added.
    let square = Double((0.1 as Float) * (0.1 as Float))
    for value in squares { #expect(abs(value - square * 1e6) <= 1e-6 * square * 1e6) }
    let shares = try Self.run([x]) { g, x in g.softmax(x[0]) }
    for value in shares.prefix(3) { #expect(abs(value - 1e-6) <= 1e-6 * 1e-6) }
  }

  /// Products of long vectors and matrices, on every path.
  @Test(arguments: [(1, 1), (1, 3), (3, 1), (2, 2), (5, 40)]) func longProducts(_ m: Int, _ n: Int)
    throws
  {
    let depth = 1_000_000
    let ones = Tensor([n, depth], [Float](repeating: 1, count: n * depth))
    let values = try Self.run([Self.tenths([m, depth]), ones]) { g, x in
      g.dotGeneral(x[0], x[1], lhsContracting: [1], rhsContracting: [1])
    }
    // Parts of 256 equal terms are chains; above them the error does not grow with the length.
    let want = Self.tenth * Double(depth)
    for value in values { #expect(abs(value - want) <= 4e-6 * want, "\(value), not \(want)") }
  }

  @Test(arguments: [([1_000_000], 0), ([3, 400_000], 1), ([400_000, 3], 0)])
  func cumulativeSums(_ shape: [Int], _ axis: Int) throws {
    for (reverse, exclusive) in [(false, false), (true, false), (false, true)] {
      let values = try Self.run([Self.tenths(shape)]) { g, x in
        g.cumulativeSum(x[0], axis: axis, reverse: reverse, exclusive: exclusive)
      }
      let inner = shape[(axis + 1)...].reduce(1, *)
      var worst = 0.0
      for (index, value) in values.enumerated() {
        let place = index / inner % shape[axis]
        let terms = (reverse ? shape[axis] - place : place + 1) - (exclusive ? 1 : 0)
        let want = Self.tenth * Double(terms)
        worst = max(worst, want == 0 ? abs(value) : abs(value - want) / want)
      }
      #expect(worst <= 2e-6, "\(shape) along \(axis): \(worst)")
    }
  }

  /// Random terms against exact sums, at lengths around every group size.
  @Test func lengthsAroundGroups() throws {
    for length in [0, 1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257, 1023, 1025, 4097, 16_385] {
      let x = Differential.arrays(
        [TensorType(.float32, sizes: [length, 3])], range: -1...1, seed: UInt64(length))[0]
      let values = x.doubles
      let rows = try Self.run([x]) { g, x in g.sum(g.transpose(x[0], [1, 0]), axes: [1]) }
      let columns = try Self.run([x]) { g, x in g.sum(x[0], axes: [0]) }
      let running = try Self.run([x]) { g, x in g.cumulativeSum(x[0], axis: 0) }
      let flat = try Self.run([x]) { g, x in g.sum(x[0], axes: [0, 1]) }
      let products = try Self.run([x]) { g, x in
        g.reduce(.product, x[0] * 0.01 + 1, axes: [0])
      }
      var sums = [0.0, 0.0, 0.0]
      var logarithms = [0.0, 0.0, 0.0]
      for (index, value) in values.enumerated() {
        sums[index % 3] += value
        logarithms[index % 3] += log(Double(Float(value) * 0.01 + 1))
        #expect(abs(running[index] - sums[index % 3]) <= 1e-5 * max(1, Double(length).squareRoot()))
      }
      let bound = 4e-7 * max(1, Double(length).squareRoot()) * 4
      for column in 0..<3 {
        #expect(abs(rows[column] - sums[column]) <= bound, "\(length)")
        #expect(abs(columns[column] - sums[column]) <= bound, "\(length)")
        let product = exp(logarithms[column])
        #expect(abs(products[column] - product) <= 1e-6 * max(1, Double(length).squareRoot()) * product)
      }
      #expect(abs(flat[0] - sums.reduce(0, +)) <= 2 * bound, "\(length)")
    }
  }
}

/// Products with extents of zero and one in every place.
@Suite struct DegenerateProductTests {
  @Test(arguments: [0, 1, 193]) func everyExtent(_ depth: Int) throws {
    for rows in [0, 1, 2, 64] {
      for columns in [0, 1, 2, 193] {
        for batch in [nil, 0, 1, 3] as [Int?] {
          try Self.check(batch, rows, columns, depth, hasEpilogue: (rows + columns) % 2 == 1)
        }
      }
    }
    try Self.check(nil, 64, 193, depth, hasEpilogue: false)
    try Self.check(nil, 64, 200, depth, hasEpilogue: true)
  }

  static func check(
    _ batch: Int?, _ rows: Int, _ columns: Int, _ depth: Int, hasEpilogue: Bool
  ) throws {
    let outer = batch.map { [$0] } ?? []
    let types = [outer + [rows, depth], outer + [depth, columns]].map {
      TensorType(.float32, sizes: $0)
    }
    var module = Module("product")
    try module.function("forward") { g in
      let (a, b) = (g.input("a", .float32, types[0].shape), g.input("b", .float32, types[1].shape))
      let axes = Array(outer.indices)
      let y = g.dotGeneral(
        a, b, lhsBatch: axes, rhsBatch: axes, lhsContracting: [outer.count + 1],
        rhsContracting: [outer.count])
      g.output("y", hasEpilogue ? g.relu(y) : y)
    }
    let arrays = Differential.arrays(types, range: -1...1, seed: 7)
    let got = try Objects.compiler().compile(module).run(["a": arrays[0], "b": arrays[1]])[0].value
    let (a, b) = (arrays[0].doubles, arrays[1].doubles)
    let what = "\(outer) \(rows) x \(columns) of depth \(depth)"
    #expect(got.shape == outer + [rows, columns], "\(what)")
    for (index, value) in got.doubles.enumerated() {
      let (column, row) = (index % columns, index / columns)
      let n = row / rows
      var (want, size) = (0.0, 0.0)
      for k in 0..<depth {
        let term = a[row * depth + k] * b[(n * depth + k) * columns + column]
        want += term
        size += abs(term)
      }
      if hasEpilogue { want = max(want, 0) }
      if !(abs(value - want) <= 0x1p-24 * Double(depth) * size) {
        Issue.record("\(what): [\(index)] is \(value), not \(want)")
        return
      }
    }
  }
}
