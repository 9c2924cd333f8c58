import DLCCompiler
import DLCGraph
import DLCKernel
import DLCLowering
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Convolutions that are computed by transforms, against the same in float64, which never are.
@Suite struct WinogradTests {
  struct Shape: CustomTestStringConvertible, Sendable {
    var batch: Int
    var depth: Int
    var height: Int
    var width: Int
    var channels: Int
    var padding = 1
    /// Whether the kernel is the same in all runs, and whether it is seen through views.
    var isSteady = true
    var isMirrored = false
    var testDescription: String { "\(batch)x\(depth)x\(height)x\(width) to \(channels)" }
  }

  static let shapes = [
    Shape(batch: 1, depth: 32, height: 16, width: 16, channels: 32),
    Shape(batch: 3, depth: 41, height: 17, width: 19, channels: 48, isSteady: false),
    Shape(batch: 2, depth: 32, height: 14, width: 30, channels: 35, padding: 0),
    Shape(batch: 5, depth: 64, height: 12, width: 12, channels: 96, isMirrored: true),
    Shape(
      batch: 1, depth: 300, height: 14, width: 14, channels: 70, isSteady: false, isMirrored: true),
    Shape(batch: 2, depth: 48, height: 56, width: 56, channels: 32),
  ]

  /// The convolution alone, and with what may follow.
  private static func module(_ s: Shape, _ type: DataType, rows: Int) throws -> Module {
    var module = Module("m")
    let sizes = s.isMirrored ? [s.depth, s.channels] : [s.channels, s.depth]
    try module.function("f") { g in
      let x = g.input("x", type, [rows, s.depth, s.height, s.width].map { Size($0) })
      let shape = (sizes + [3, 3]).map { Size($0) }
      var k =
        s.isSteady ? g.parameter("k", shape, .zeros, type) : g.input("k", type, shape)
      if s.isMirrored { k = g.reverse(g.transpose(k, [1, 0, 2, 3]), axes: [2, 3]) }
      let padding = [(s.padding, s.padding), (s.padding, s.padding)]
      g.output("plain", g.convolution(x, k, padding: padding))
      let y = g.convolution(g.tanh(x), k, padding: padding)
      let limits = [rows, 1] + y.shape[2...].map { $0.constant! }
      let part = g.slice(x, from: [0, 0, 0, 0], to: limits.map { Size($0) })
      g.output("rest", g.relu(y + part))
    }
    return module
  }

  /// Results for some rows of the batch.
  private static func run(
    _ s: Shape, _ type: DataType, rows: Range<Int>, target: String = "native", threads: Int = 2
  ) throws -> (results: [Tensor], transforms: Int) {
    let module = try module(s, type, rows: rows.count)
    let build = try Objects.compiler(target).build(module, function: nil, dimensions: [:])
    let size = s.depth * s.height * s.width
    let arrays = Differential.arrays(
      [[s.batch * size], [s.channels * s.depth * 9]].map { TensorType(.float64, sizes: $0) },
      range: -1...1, seed: 9)
    let x = arrays[0].doubles[rows.lowerBound * size..<rows.upperBound * size]
    let sizes = s.isMirrored ? [s.depth, s.channels, 3, 3] : [s.channels, s.depth, 3, 3]
    // The same numbers in both types.
    let k = Tensor(
      type, sizes, rounding: arrays[1].doubles.map { Double(Float($0)) })
    var given = [
      "x": Tensor(
        type, [rows.count, s.depth, s.height, s.width], rounding: x.map { Double(Float($0)) })
    ]
    if s.isSteady { try build.executable.setState(["k": k]) } else { given["k"] = k }
    var transforms = 0
    build.plan.forEach {
      if case .convolution(let schedule) = $0.schedule, schedule.algorithm == .winograd {
        transforms += 1
      }
    }
    return (try build.executable.run(given, threads: threads).map(\.value), transforms)
  }

  private static func rootMeanSquare(_ values: [Double]) -> Double {
    (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot()
  }

  @Test(arguments: shapes, ["native", "x86-64-v2", "x86-64-v3"])
  func errorsAreWithinTheirBounds(_ s: Shape, _ target: String) throws {
    if target != "native" {
      var options = CompilerOptions()
      options.target = target
      // A machine of another kind.
      guard (try? options.resolvedTarget().architecture) == .x86_64,
        (try? CompilerOptions().resolvedTarget().architecture) == .x86_64
      else { return }
    }
    let rows = 0..<s.batch
    let (got, transforms) = try Self.run(s, .float32, rows: rows, target: target)
    #expect(transforms == 2)
    let (want, none) = try Self.run(s, .float64, rows: rows)
    #expect(none == 0)
    for (a, b) in zip(got, want) {
      let scale = Self.rootMeanSquare(b.doubles)
      let errors = zip(a.doubles, b.doubles).map { $0 - $1 }
      #expect(Self.rootMeanSquare(errors) < 3e-6 * scale)
      #expect(errors.map(abs).max()! < 4e-5 * scale)
    }
  }

  @Test(arguments: shapes)
  func rowsAndThreadsDoNotMatter(_ s: Shape) throws {
    let want = try Self.run(s, .float32, rows: 0..<s.batch).results
    for threads in [1, 4] {
      #expect(try Self.run(s, .float32, rows: 0..<s.batch, threads: threads).results == want)
    }
    for row in 0..<s.batch {
      let alone = try Self.run(s, .float32, rows: row..<row + 1).results
      for (a, b) in zip(alone, want) {
        #expect(a.doubles == Array(b.doubles[row * a.count..<(row + 1) * a.count]))
      }
    }
  }
}
