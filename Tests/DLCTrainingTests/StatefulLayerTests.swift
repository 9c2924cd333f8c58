import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCTraining
import Testing

/// Layers that are given their state, and draws from logits.
@Suite struct StatefulLayerTests {
  /// The results of a function of those arrays, from parameters of one seed.
  static func run(
    _ inputs: [(String, Tensor)], _ body: (FunctionBuilder, [Value]) -> [Value]
  ) throws -> [Tensor] {
    var module = Module("m")
    try module.function("f") { g in
      let values = inputs.map { name, array in
        g.input(name, array.dataType, array.shape.map { Size($0) })
      }
      for (index, value) in body(g, values).enumerated() { g.output("\(index)", value) }
    }
    let executable = try Compiler().compile(module, function: "f", dimensions: [:])
    try executable.initializeState(seed: 5)
    return try executable.run(Dictionary(uniqueKeysWithValues: inputs)).map(\.value)
  }

  static func numbers(_ shape: [Int]) -> Tensor {
    Differential.arrays([TensorType(.float32, shape.map { Size($0) })], range: -1...1, seed: 3)[0]
  }

  /// The largest difference of two arrays.
  static func distance(_ a: Tensor, _ b: Tensor) -> Double {
    a.shape == b.shape ? zip(a.doubles, b.doubles).map { abs($0 - $1) }.max() ?? 0 : .infinity
  }

  /// A sequence whole, in two parts, and step by step in a loop.
  @Test(arguments: Layers.Cell.allCases) func stateCarriesASequence(_ cell: Layers.Cell) throws {
    let results = try Self.run([("x", Self.numbers([7, 2, 3]))]) { g, inputs in
      let (l, x) = (Layers(g), inputs[0])
      let whole = l.recurrent("r", cell, x, size: 5, layers: 2)
      let start = l.recurrentState(cell, 2, size: 5, layers: 2)
      func part(_ from: Size, _ to: Size, _ state: [Value]) -> (sequence: Value, state: [Value]) {
        l.recurrent(
          "r", cell, g.slice(x, axis: 0, from: from, to: to), size: 5, layers: 2, state: state)
      }
      let first = part(0, 3, start)
      let second = part(3, 7, first.state)
      let (last, steps) = g.scan(carried: start, inputs: [x]) { g, state, step in
        let (y, next) = l.recurrentStep(
          "r", cell, step[0], size: 5, layers: 2, state: state)
        return (next, [y])
      }
      return [whole, g.concatenate([first.sequence, second.sequence], axis: 0), steps[0]]
        + second.state + last
    }
    #expect(Self.distance(results[0], results[1]) == 0)
    #expect(Self.distance(results[0], results[2]) < 1e-6)
    let count = (results.count - 3) / 2
    #expect(count == (cell == .lstm ? 4 : 2))
    for index in 3..<3 + count {
      #expect(Self.distance(results[index], results[index + count]) < 1e-6)
    }
  }

  @Test func aStateOfAnotherSizeIsAMistake() throws {
    let error = #expect(throws: DLCError.self) {
      _ = try Self.run([("x", Self.numbers([7, 2, 3]))]) { g, inputs in
        let l = Layers(g)
        let state = l.recurrentState(.gru, 2, size: 5)
        return [l.recurrent("r", .lstm, inputs[0], size: 5, state: state).sequence]
      }
    }
    #expect(
      "\(try #require(error))".contains("1 layers of lstm have a state of 2 arrays, 1 are given"))
  }

  /// A cached block over one position after the other, and over a few together, gives what the block gives
  /// for all.
  @Test func cachedAttentionIsAttention() throws {
    let results = try Self.run([("x", Self.numbers([2, 6, 8]))]) { g, inputs in
      let (l, x) = (Layers(g), inputs[0])
      let whole = l.transformerBlock("b", x, heads: 2, causal: true)
      let empty = l.attentionCache(2, length: 9, heads: 2, size: 8)
      let positions = g.iota(.int32, [6], axis: 0)
      let (last, steps) = g.scan(
        carried: empty.arrays, inputs: [g.transpose(x, [1, 0, 2]), positions]
      ) { g, carried, step in
        let (y, next) = l.transformerBlock(
          "b", g.reshape(step[0], [2, 1, 8]), heads: 2, cache: .init(carried), at: step[1])
        return (next.arrays, [g.reshape(y, [2, 8])])
      }
      func part(_ from: Int, _ to: Int, _ cache: Layers.AttentionCache) -> (
        output: Value, cache: Layers.AttentionCache
      ) {
        l.transformerBlock(
          "b", g.slice(x, axis: 1, from: Size(from), to: Size(to)), heads: 2, cache: cache,
          at: g.constant(Double(from), .int32))
      }
      let first = part(0, 4, empty)
      let second = part(4, 6, first.cache)
      return [
        whole, g.transpose(steps[0], [1, 0, 2]),
        g.concatenate([first.output, second.output], axis: 1), last[0], second.cache.keys,
      ]
    }
    #expect(Self.distance(results[0], results[1]) < 1e-5)
    #expect(Self.distance(results[0], results[2]) < 1e-5)
    #expect(Self.distance(results[3], results[4]) < 1e-5)
  }

  /// Draws for many rows of the same logits, of which none is the same.
  static func tokens(_ temperature: Double, _ k: Int32, _ p: Double) throws -> Set<Int64> {
    let logits = Tensor([5], [1, 3, 2, 2.5, -1] as [Float])
    let results = try run([
      ("logits", logits), ("t", Tensor(splat: temperature, .float32, [])), ("k", Tensor([], [k])),
      ("p", Tensor(splat: p, .float32, [])),
    ]) { g, v in
      let random = RandomStream(g, key: g.constant(7, .int64))
      let all = g.broadcast(v[0], to: [2000, 5])
      return [g.token(all, temperature: v[1], topK: v[2], topP: v[3], random)]
    }
    return Set(results[0].integers.map { Int64($0) })
  }

  @Test func drawsKeepToTopKAndTopP() throws {
    #expect(try Self.tokens(1, 0, 1) == [0, 1, 2, 3, 4])
    #expect(try Self.tokens(1, 9, 1) == [0, 1, 2, 3, 4])
    #expect(try Self.tokens(1, 1, 1) == [1])
    #expect(try Self.tokens(1, 3, 1) == [1, 2, 3])
    // Probabilities 0.47, 0.28, 0.17, 0.06, 0.01 of 1, 3, 2, 0, 4.
    #expect(try Self.tokens(1, 0, 0.4) == [1])
    #expect(try Self.tokens(1, 0, 0.6) == [1, 3])
    #expect(try Self.tokens(1, 0, 0.8) == [1, 2, 3])
    // Of those that top-k keeps: 0.62 and 0.38.
    #expect(try Self.tokens(1, 2, 0.6) == [1])
    #expect(try Self.tokens(1, 0, 0) == [1])
    // A temperature of 0 takes the largest, a high one evens them out.
    #expect(try Self.tokens(0, 0, 1) == [1])
    #expect(try Self.tokens(100, 4, 1) == [0, 1, 2, 3])
  }

  /// PyTorch counts the fan in of a transposed convolution over the weight's second axis.
  @Test func transposedConvolutionsStartAsPyTorchs() throws {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.input("x", .float32, [1, 64, 7, 7])
      g.output(
        "y", Layers(g).transposedConvolution("t", x, 32, kernel: 4, stride: 2, padding: 1))
    }
    let bound = 1 / (32.0 * 16).squareRoot()
    for name in ["t.w", "t.b"] {
      #expect(module.state(name)?.initializer == .uniform(-bound, bound))
    }
  }
}
