import DLCAutodiff
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTraining
import Foundation
import Testing

/// Layers against PyTorch in double precision (Tools/equations.py), values and gradients.
@Suite struct LayerTests {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../Fixtures/equations").standardizedFileURL.path

  static let cases: [(name: String, layer: @Sendable (Layers, Value) -> Value)] = [
    (
      "group_norm",
      { l, x in
        l.g.groupNorm(
          x, groups: 3, gamma: l.parameter("w", [6], .zeros), beta: l.parameter("b", [6], .zeros))
      }
    ),
    (
      "batch_norm",
      { l, x in
        l.g.batchNorm(
          x, gamma: l.parameter("w", [6], .zeros), beta: l.parameter("b", [6], .zeros)
        ).y
      }
    ),
    ("rms_norm", { l, x in l.g.rmsNorm(x, gamma: l.parameter("w", [6], .zeros)) }),
    (
      "average_pool",
      { l, x in
        l.g.averagePool(x, window: [3, 3], strides: [2, 2], padding: [(1, 1), (1, 1)])
      }
    ),
    (
      "max_pool",
      { l, x in l.g.maxPool(x, window: [3, 3], strides: [2, 2], padding: [(1, 1), (1, 1)]) }
    ),
    ("upsample", { l, x in l.g.upsampleNearest(x, 2) }),
    ("convolution1", { l, x in l.convolution("", x, 5, kernel: 3, stride: 2, padding: 1) }),
    ("convolution2", { l, x in l.convolution("", x, 5, kernel: 3, stride: 2, padding: 1) }),
    ("convolution3", { l, x in l.convolution("", x, 4, kernel: 3, padding: 1) }),
    ("depthwise", { l, x in l.convolution("", x, 6, kernel: 3, padding: 1, groups: 6) }),
    ("transposed", { l, x in l.transposedConvolution("", x, 4, kernel: 3, stride: 2, padding: 1) }),
    ("rnn", { l, x in l.recurrent("r", .rnn, x, size: 5, layers: 2) }),
    ("lstm", { l, x in l.recurrent("r", .lstm, x, size: 5, layers: 2) }),
    ("gru", { l, x in l.recurrent("r", .gru, x, size: 5, layers: 2) }),
    ("transformer_block", { l, x in l.transformerBlock("b", x, heads: 2, causal: true) }),
  ]

  @Test(arguments: cases.indices) func agreesWithPyTorch(_ index: Int) throws {
    let (name, layer) = Self.cases[index]
    for function in ["forward", "gradient"] {
      var groups: [String: [String: Tensor]] = ["i": [:], "p": [:], "o": [:]]
      for (key, value) in try Npz.read("\(Self.folder)/layers.\(name).\(function).plain.npz") {
        let split = key.split(separator: "/", maxSplits: 1).map(String.init)
        // A layer without a name of its own has parameters ".w" and ".b".
        var own = split[1]
        if name.contains("conv") || name == "depthwise" || name == "transposed" {
          if split[0] == "p" { own = "." + own }
          if split[0] == "o", own == "d_w" || own == "d_b" { own = "d_." + own.dropFirst(2) }
        }
        groups[split[0]]![own] = value
      }
      var module = Module("layer")
      let shape = groups["i"]!["x"]!.shape.map { Size($0) }
      try module.function("forward") { g in
        g.output("y", layer(Layers(g), g.input("x", .float32, shape)))
      }
      try Gradient.addPullback(to: &module, function: "forward", named: "gradient")
      let executable = try Compiler().compile(module, function: function)
      let used = Set(executable.states.map(\.name))
      try executable.setState(groups["p"]!.filter { used.contains($0.key) })
      for (output, value) in try executable.run(groups["i"]!) {
        let want = try #require(groups["o"]![output], "\(name) \(output)")
        let size = want.doubles.map { abs($0) }.max() ?? 0
        let off = zip(value.doubles, want.doubles).map { abs($0 - $1) }.max() ?? 0
        #expect(
          value.shape == want.shape && off <= 2e-5 * max(size, 1),
          "\(name) \(output) is off by \(off) of \(size)")
      }
    }
  }

  @Test func dropoutKeepsTheMean() throws {
    var module = Module("dropout")
    try module.function("forward") { g in
      let random = RandomStream(g, key: g.input("seed", .int64))
      g.output("y", g.dropout(g.constant(1, .float32, [20000]), rate: 0.25, random))
    }
    let executable = try Compiler().compile(module)
    let y = try executable.run(["seed": Tensor([], [Int64(1)])])[0].value.doubles
    let zeros = Double(y.filter { $0 == 0 }.count) / 20000
    #expect(abs(zeros - 0.25) < 0.01 && y.allSatisfy { $0 == 0 || abs($0 - 4.0 / 3) < 1e-6 })
  }
}
