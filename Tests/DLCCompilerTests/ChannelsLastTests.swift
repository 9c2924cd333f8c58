import DLCCompiler
import DLCGraph
import DLCKernel
import DLCLowering
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Convolutions of images whose channels lie side by side, against those of planes in float64, which share no kernel
/// with them.
@Suite struct ChannelsLastTests {
  struct Shape: CustomTestStringConvertible, Sendable {
    var batch: Int
    var height: Int
    var width: Int
    var depth: Int
    var channels: Int
    var kernel = [3, 3]
    var strides = [1, 1]
    var dilation = [1, 1]
    var padding = 1
    /// Whether images are seen through a view.
    var isView = false
    var algorithm = ConvolutionSchedule.Algorithm.pixelProduct
    /// Channels of a group, where there are groups.
    var perGroup = 1
    var isDepthwise: Bool { algorithm == .depthwise }
    var kernelShape: [Int] { kernel + [isDepthwise ? perGroup : depth, channels] }
    var testDescription: String {
      "\(batch)x\(height)x\(width)x\(depth) to \(channels), \(kernel) \(algorithm) by \(perGroup)"
    }
  }

  static let shapes = [
    Shape(batch: 1, height: 7, width: 7, depth: 40, channels: 24),
    Shape(batch: 3, height: 9, width: 12, depth: 17, channels: 19, strides: [2, 2]),
    Shape(batch: 2, height: 11, width: 9, depth: 13, channels: 50, kernel: [5, 2], isView: true),
    Shape(batch: 1, height: 12, width: 13, depth: 33, channels: 16, dilation: [2, 3], padding: 2),
    Shape(batch: 1, height: 8, width: 8, depth: 8, channels: 70, kernel: [7, 7], padding: 3),
    Shape(batch: 2, height: 5, width: 6, depth: 700, channels: 9, kernel: [1, 2], padding: 0),
    Shape(batch: 1, height: 16, width: 15, depth: 40, channels: 40, algorithm: .depthwise),
    Shape(
      batch: 3, height: 13, width: 12, depth: 19, channels: 19, strides: [2, 3], isView: true,
      algorithm: .depthwise),
    Shape(
      batch: 2, height: 17, width: 20, depth: 24, channels: 24, kernel: [9, 7], padding: 4,
      algorithm: .depthwise),
    Shape(
      batch: 1, height: 20, width: 9, depth: 300, channels: 300, kernel: [5, 2], dilation: [2, 3],
      padding: 2, algorithm: .depthwise),
    Shape(
      batch: 2, height: 9, width: 16, depth: 24, channels: 24, algorithm: .depthwise, perGroup: 2),
    Shape(
      batch: 2, height: 13, width: 12, depth: 44, channels: 44, strides: [2, 3], isView: true,
      algorithm: .depthwise, perGroup: 4),
    Shape(
      batch: 1, height: 12, width: 10, depth: 72, channels: 72, dilation: [2, 1], padding: 2,
      algorithm: .depthwise, perGroup: 8),
    Shape(
      batch: 1, height: 15, width: 11, depth: 48, channels: 48, strides: [2, 2],
      algorithm: .depthwise, perGroup: 16),
    Shape(
      batch: 1, height: 7, width: 8, depth: 96, channels: 96, algorithm: .depthwise, perGroup: 32),
    Shape(batch: 1, height: 16, width: 16, depth: 32, channels: 32, algorithm: .winograd),
    Shape(batch: 3, height: 17, width: 19, depth: 41, channels: 50, algorithm: .winograd),
    Shape(
      batch: 2, height: 14, width: 30, depth: 32, channels: 35, padding: 0, algorithm: .winograd),
    Shape(
      batch: 2, height: 14, width: 14, depth: 150, channels: 70, isView: true, algorithm: .winograd),
  ]

  /// The convolution alone, with what may follow, and in a frame; with channels last in float32 alone.
  private static func module(_ s: Shape, _ type: DataType, rows: Int) throws -> Module {
    var module = Module("m")
    try module.function("f") { g in
      let shape =
        s.isView ? [s.height, rows, s.width, s.depth] : [rows, s.height, s.width, s.depth]
      let x = g.input("x", type, shape.map { Size($0) })
      let k = g.parameter(
        "k", s.kernelShape.map { Size($0) }, .zeros, type)
      func convolution(_ x: Value) -> Value {
        let image = s.isView ? g.transpose(x, [1, 0, 2, 3]) : x
        let padding = [(low: s.padding, high: s.padding), (low: s.padding, high: s.padding)]
        let groups = s.isDepthwise ? s.channels / s.perGroup : 1
        if type == .float32 {
          return g.convolution(
            image, k, strides: s.strides, padding: padding, kernelDilation: s.dilation,
            groups: groups, dimensions: .channelsLast(spatial: 2))
        }
        let y = g.convolution(
          g.transpose(image, [0, 3, 1, 2]), g.transpose(k, [3, 2, 0, 1]), strides: s.strides,
          padding: padding, kernelDilation: s.dilation, groups: groups)
        return g.transpose(y, [0, 2, 3, 1])
      }
      g.output("plain", convolution(x))
      let y = convolution(g.tanh(x))
      let bias = g.reshape(
        g.slice(k, from: [0, 0, 0, 0], to: [1, 1, 1, Size(s.channels)]), [Size(s.channels)])
      g.output("rest", g.relu(y + g.broadcast(bias, to: y.shape, axes: [3])))
      g.output(
        "frame", g.pad(g.tanh(convolution(x * 0.5)), 0.5, low: [0, 1, 2, 0], high: [0, 2, 1, 0]))
    }
    return module
  }

  private static func run(
    _ s: Shape, _ type: DataType, rows: Range<Int>, target: String = "native", threads: Int = 2
  ) throws -> (results: [Tensor], taken: Int) {
    let module = try module(s, type, rows: rows.count)
    let build = try Objects.compiler(target).build(module, function: nil, dimensions: [:])
    let size = s.height * s.width * s.depth
    let arrays = Differential.arrays(
      [[s.batch * size], [s.kernelShape.reduce(1, *)]].map {
        TensorType(.float64, sizes: $0)
      }, range: -1...1, seed: 9)
    var x = Array(arrays[0].doubles[rows.lowerBound * size..<rows.upperBound * size])
    if s.isView {
      let (plain, line) = (x, s.width * s.depth)
      x = []
      for y in 0..<s.height {
        for n in 0..<rows.count {
          let start = (n * s.height + y) * line
          x += plain[start..<start + line]
        }
      }
    }
    // The same numbers in both types.
    func tensor(_ sizes: [Int], _ values: [Double]) -> Tensor {
      Tensor(type, sizes, rounding: values.map { Double(Float($0)) })
    }
    let argument = module.functions[0].inputs[0].type.shape.map { $0.constant! }
    try build.executable.setState([
      "k": tensor(s.kernelShape, arrays[1].doubles)
    ])
    var taken = 0
    build.plan.forEach {
      if case .convolution(let schedule) = $0.schedule, schedule.algorithm == s.algorithm {
        taken += 1
      }
    }
    return (
      try build.executable.run(["x": tensor(argument, x)], threads: threads).map(\.value), taken
    )
  }

  @Test(arguments: shapes, ["native", "x86-64-v2", "x86-64-v3"])
  func resultsAreThoseOfDoublePrecision(_ s: Shape, _ target: String) throws {
    if target != "native" {
      var options = CompilerOptions()
      options.target = target
      // A machine of another kind.
      guard (try? options.resolvedTarget().architecture) == .x86_64,
        (try? CompilerOptions().resolvedTarget().architecture) == .x86_64
      else { return }
    }
    let (got, taken) = try Self.run(s, .float32, rows: 0..<s.batch, target: target)
    #expect(taken == 3)
    let want = try Self.run(s, .float64, rows: 0..<s.batch).results
    for (a, b) in zip(got, want) {
      let scale = (b.doubles.reduce(0) { $0 + $1 * $1 } / Double(b.count)).squareRoot()
      let worst = zip(a.doubles, b.doubles).map { abs($0 - $1) }.max()!
      #expect(worst < (s.algorithm == .winograd ? 4e-5 : 8e-6) * scale)
    }
  }

  @Test(arguments: shapes)
  func rowsAndThreadsDoNotMatter(_ s: Shape) throws {
    let want = try Self.run(s, .float32, rows: 0..<s.batch).results
    for threads in [1, 4] {
      #expect(try Self.run(s, .float32, rows: 0..<s.batch, threads: threads).results == want)
    }
    for row in 0..<s.batch where s.batch > 1 {
      let alone = try Self.run(s, .float32, rows: row..<row + 1).results
      for (a, b) in zip(alone, want) {
        #expect(a.doubles == Array(b.doubles[row * a.count..<(row + 1) * a.count]))
      }
    }
  }

  /// Operands that lie in no memory: numbers that are counted, and one number everywhere.
  @Test func operandsNeedNotLieInMemory() throws {
    for channels in [1, 12] {
      var module = Module("m")
      try module.function("f") { g in
        let x = g.input("x", .float32, [1, 6, 7, Size(channels)])
        let counted = g.iota(.float32, [3, 3, 1, Size(channels)], axis: 1)
        let ones = g.broadcast(g.constant(1.0, .float32), to: [3, 3, 1, Size(channels)], axes: [])
        for (name, kernel) in [("counted", counted), ("ones", ones)] {
          g.output(
            name,
            g.convolution(
              x, kernel, groups: channels, dimensions: .channelsLast(spatial: 2)))
        }
      }
      let x = Differential.arrays(
        [TensorType(.float32, sizes: [1, 6, 7, channels])], range: -1...1, seed: 3)[0]
      let want = try Interpreter().run(
        module, function: module.functions[0], inputs: ["x": x], states: [:], dimensions: [:]
      ).outputs
      let build = try Objects.compiler().build(module, function: nil, dimensions: [:])
      for ((name, a), (_, b)) in zip(try build.executable.run(["x": x]), want) {
        #expect(Differential.error(a, b, ulps: 64, scale: 1) <= 1, "\(name)")
      }
    }
  }
}
