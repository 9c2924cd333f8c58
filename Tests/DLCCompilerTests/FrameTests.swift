import DLCCompiler
import DLCGraph
import DLCLowering
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Testing

/// Pads around what convolutions compute.
@Suite struct FrameTests {
  private static func check(
    framed: Int, _ build: @Sendable (FunctionBuilder, Value, Value) -> Void
  ) throws {
    var module = Module("m")
    try module.function("f") { g in
      build(
        g, g.input("x", .float32, [2, 6, 9, 11]), g.input("k", .float32, [8, 6, 3, 3]))
    }
    #expect(try ComparedRun(module, ulps: 64).regions.count { $0.frame != nil } == framed)
  }

  /// Rows, columns, unequal sides, and what is computed on the way: one kernel writes the inside.
  @Test func padsAreAroundConvolutions() throws {
    try Self.check(framed: 1) { g, x, k in
      let y = g.relu(g.convolution(x, k) + 0.25)
      g.output("y", g.pad(y, -2, low: [0, 0, 1, 0], high: [0, 0, 2, 3]))
    }
    try Self.check(framed: 1) { g, x, k in
      g.output("y", g.pad(g.convolution(x, k), 0, low: [1, 2, 0, 0], high: [0, 1, 0, 0]))
    }
    try Self.check(framed: 1) { g, x, k in
      let y = g.relu(g.convolution(x, k, strides: [2, 2], padding: [(1, 1), (1, 1)]))
      g.output(
        "y",
        g.maxPool(
          y, window: [1, 1, 3, 3], strides: [1, 1, 2, 2], padding: [(0, 0), (0, 0), (1, 1), (1, 1)])
      )
    }
  }

  /// Around a product, whose rows are pixels: nothing is copied, and what lies beside them is filled.
  @Test func padsAreAroundProducts() throws {
    var module = Module("m")
    try module.function("f") { g in
      let y = g.dotGeneral(
        g.input("x", .float32, [2, 7, 5, 24]), g.input("k", .float32, [24, 20]),
        lhsContracting: [3], rhsContracting: [0])
      g.output("y", g.pad(g.relu(y + 0.25), -2, low: [0, 1, 2, 0], high: [0, 3, 0, 1]))
    }
    #expect(try ComparedRun(module, ulps: 64).regions.count { $0.frame != nil } == 1)
  }

  /// By transforms, whose last lines go beyond the result; and around planes of three axes.
  @Test func padsAreAroundOtherConvolutions() throws {
    for height in [14, 15, 16] {
      var module = Module("m")
      try module.function("f") { g in
        let x = g.input("x", .float32, [2, 32, Size(height), 18])
        let y = g.convolution(
          x, g.input("k", .float32, [48, 32, 3, 3]), padding: [(1, 1), (1, 1)])
        g.output("y", g.pad(g.relu(y), 3, low: [0, 0, 2, 1], high: [0, 0, 1, 5]))
        g.output("z", g.relu(y))
      }
      try module.function("framed") { g in
        let x = g.input("x", .float32, [2, 32, Size(height), 18])
        let y = g.convolution(
          x, g.input("k", .float32, [48, 32, 3, 3]), padding: [(1, 1), (1, 1)])
        g.output("y", g.pad(g.relu(y), 3, low: [0, 0, 2, 1], high: [0, 0, 1, 5]))
      }
      let inputs = module.functions[0].inputs
      let arrays = Differential.arrays(inputs.map(\.type), range: -1...1, seed: 4)
      let given = Dictionary(uniqueKeysWithValues: zip(inputs.map(\.name), arrays))
      func result(_ name: String) throws -> Tensor {
        try Objects.compiler().compile(module, function: name).run(given)[0].value
      }
      #expect(try result("framed") == result("f"))
    }
    var module = Module("m")
    try module.function("f") { g in
      let x = g.input("x", .float32, [2, 3, 5, 6, 7])
      let y = g.convolution(x, g.input("k", .float32, [4, 3, 2, 2, 2]))
      g.output("y", g.pad(y, 1, low: [0, 0, 0, 1, 2], high: [0, 0, 0, 0, 1]))
      g.output(
        "all",
        g.pad(
          g.convolution(x, g.input("j", .float32, [4, 3, 2, 2, 2])), 1, low: [0, 0, 1, 1, 2],
          high: [0, 0, 0, 0, 1]))
    }
    _ = try ComparedRun(module, ulps: 64)
  }

  /// What is used elsewhere too, spread out, or looked at from another side is copied into its place.
  @Test func otherPadsAreNot() throws {
    try Self.check(framed: 0) { g, x, k in
      let y = g.convolution(x, k)
      g.output("y", g.pad(y, 0, low: [0, 0, 1, 1], high: [0, 0, 1, 1]))
      g.output("z", y)
    }
    try Self.check(framed: 0) { g, x, k in
      g.output(
        "y",
        g.pad(
          g.convolution(x, k), 0, low: [0, 0, 1, 1], high: [0, 0, 1, 1], interior: [0, 0, 1, 1]))
    }
    try Self.check(framed: 0) { g, x, k in
      let y = g.transpose(g.convolution(x, k), [0, 1, 3, 2])
      g.output("y", g.pad(y, 0, low: [0, 0, 1, 1], high: [0, 0, 1, 1]))
    }
    try Self.check(framed: 0) { g, x, k in
      let y = g.convolution(x, k)
      let shifted = g.slice(y, axis: 2, from: 1, to: 7) + g.slice(y, axis: 2, from: 0, to: 6)
      g.output("y", g.pad(shifted, 0, low: [0, 0, 1, 1], high: [0, 0, 1, 1]))
    }
  }
}
