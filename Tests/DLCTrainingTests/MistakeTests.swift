import DLCAutodiff
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTraining
import Testing

/// A wrong use of the builder, and what the error says about it.
private struct Mistake: CustomTestStringConvertible, Sendable {
  let name: String
  let message: String
  let line: Int
  let body: @Sendable (FunctionBuilder) -> Void
  var testDescription: String { name }

  init(
    _ name: String, _ message: String, line: Int = #line,
    _ body: @escaping @Sendable (FunctionBuilder) -> Void
  ) {
    self.name = name
    self.message = message
    self.line = line
    self.body = body
  }

  /// The lines of the entry: up to the next one.
  var lines: Range<Int> { line..<(mistakes.map(\.line).filter { $0 > line }.min() ?? line + 8) }
}

extension FunctionBuilder {
  fileprivate func matrix(_ name: String = "x", line: UInt = #line) -> Value {
    input(name, .float32, ["n", 3], line: line)
  }
  fileprivate func image(_ name: String = "x", line: UInt = #line) -> Value {
    input(name, .float32, ["n", 4, 8, 8], line: line)
  }
  fileprivate func sequence(_ name: String = "x", line: UInt = #line) -> Value {
    input(name, .float32, [5, "n", 4], line: line)
  }
}

private let mistakes: [Mistake] = operands + axes + shapes + layers + random + control + sizes

/// Operators, types and owners.
private let operands = [
  Mistake("add", "do not broadcast") { g in
    let (a, b) = (g.matrix(), g.input("z", .float32, ["n", 4]))
    g.output("y", a + b)
  },
  Mistake("operator on a line of its own", "do not broadcast") { g in
    let z = g.input("z", .float32, [7])
    let x = g.matrix()
    let y =
      x
      * z
    g.output("y", y)
  },
  Mistake("integer by fraction", "0.5 is no int32") { g in
    g.output("y", g.input("x", .int32, ["n"]) * 0.5)
  },
  Mistake("integer by infinity", "inf is no int64") { g in
    g.output("y", g.constant(.infinity, .int64))
  },
  Mistake("negative of unsigned", "-1.0 is no uint8") { g in g.output("y", g.constant(-1, .uint8))
  },
  Mistake("mixed types", "the operands are float32[n, 3] and float64[]") { g in
    g.output("y", g.matrix() - g.constant(1, .float64))
  },
  Mistake("and of floats", "and is not defined on float32") { g in
    let x = g.matrix()
    g.output("y", x & x)
  },
  Mistake("tanh of integers", "tanh needs floating-point") { g in
    g.output("y", g.tanh(g.input("x", .int32)))
  },
  Mistake("activation of integers", "is floating-point, this is int32[n]") { g in
    g.output("y", g.softplus(g.input("x", .int32, ["n"])))
  },
  Mistake("mean of integers", "what has a mean is floating-point") { g in
    g.output("y", g.mean(g.input("x", .int32, ["n"]), axes: [0]))
  },
  Mistake("sum of bools", "is not defined on bool") { g in
    g.output("y", g.sum(g.input("x", .bool, ["n"]), axes: [0]))
  },
  Mistake("clamp to fractions", "0.5 is no int32") { g in
    g.output("y", g.clamp(g.input("x", .int32, ["n"]), 0.5, 2))
  },
  Mistake("select by numbers", "the predicate") { g in
    let x = g.matrix()
    g.output("y", g.select(x, x, x))
  },
  Mistake("gradient of integers", "what is differentiated is floating-point") { g in
    let x = g.input("x", .int32, ["n"])
    g.output("y", g.gradient(of: g.sum(x, axes: [0]), by: [x])[0])
  },
  Mistake("gradient of a vector", "only a scalar has a gradient, this is float32[n, 3]") { g in
    let x = g.matrix()
    g.output("y", g.gradient(of: x * x, by: [x])[0])
  },
  Mistake("cotangent of another type", "the cotangent of float32[n, 3] is float32[]") { g in
    let x = g.matrix()
    g.output("y", g.vjp(of: [x * x], along: [g.constant(1)], by: [x])[0])
  },
  Mistake("cotangents missing", "1 outputs and 0 cotangents") { g in
    let x = g.matrix()
    g.output("y", g.vjp(of: [x], along: [], by: [x])[0])
  },
  Mistake("tangent of another type", "the tangent of float32[n, 3] is float32[]") { g in
    let x = g.matrix()
    g.output("y", g.jvp(of: [x * x], along: [(x, g.constant(1))])[0])
  },
  Mistake("tensor of too few elements", "has 6 elements, not the 2") { g in
    g.output("y", g.constant(Tensor([2, 3], [Float(1), 2])))
  },
  Mistake("tensor of negative size", "negative size") { g in
    g.output("y", g.constant(Tensor(zeros: .float32, [-2, 2])))
  },
  Mistake("tensor beyond memory", "is too large") { g in
    g.output("y", g.constant(Tensor(zeros: .float32, [1 << 40, 1 << 40])))
  },
  Mistake("input twice", "input 'x' is declared twice") { g in
    g.output("y", g.input("x") + g.input("x"))
  },
  Mistake("input and state", "is an input and a state") { g in
    g.output("y", g.parameter("x", [3]) + g.input("x", .float32, [3]))
  },
  Mistake("state of two shapes", "state 'w' is float32[3] elsewhere") { g in
    g.output("y", g.parameter("w", [3]) + g.parameter("w", [4]))
  },
  Mistake("nameless input", "an input has no name") { g in g.output("y", g.input("")) },
  Mistake("nameless output", "an output has no name") { g in g.output("", g.input("x")) },
  Mistake("output twice", "two outputs are named 'y'") { g in
    let x = g.input("x")
    g.output("y", x)
    g.output("y", x)
  },
  Mistake("update of nothing", "did you mean 'count'?") { g in
    g.update("counts", g.state("count") + 1)
  },
  Mistake("update of another type", "state 'count' is float32[], its update is float32[n, 3]") {
    g in
    _ = g.state("count")
    g.update("count", g.matrix())
  },
  Mistake("update twice", "is updated twice") { g in
    let c = g.state("count")
    g.update("count", c + 1)
    g.update("count", c + 2)
  },
]

private let axes = [
  Mistake("sum", "float32[n, 3] has no axis 2") { g in g.output("y", g.sum(g.matrix(), axes: [2]))
  },
  Mistake("sum from the end", "has no axis -3") { g in g.output("y", g.sum(g.matrix(), axes: [-3]))
  },
  Mistake("sum over one axis twice", "distinct") { g in
    g.output("y", g.sum(g.matrix(), axes: [1, -1]))
  },
  Mistake("max", "has no axis 5") { g in g.output("y", g.max(g.matrix(), axes: [5], keepAxes: true))
  },
  Mistake("mean", "has no axis 5") { g in g.output("y", g.mean(g.matrix(), axes: [5])) },
  Mistake("softmax", "has no axis 2") { g in g.output("y", g.softmax(g.matrix(), axis: 2)) },
  Mistake("softmax of a scalar", "has no axis -1") { g in g.output("y", g.softmax(g.input("x"))) },
  Mistake("log softmax", "has no axis 9") { g in g.output("y", g.logSoftmax(g.matrix(), axis: 9)) },
  Mistake("log sum exp", "has no axis 9") { g in g.output("y", g.logSumExp(g.matrix(), axis: 9)) },
  Mistake("argmax", "has no axis 2") { g in g.output("y", g.argmax(g.matrix(), axis: 2)) },
  Mistake("argmin", "has no axis -3") { g in g.output("y", g.argmin(g.matrix(), axis: -3)) },
  Mistake("iota", "has no axis 1") { g in g.output("y", g.iota(.int32, ["n"], axis: 1)) },
  Mistake("cumulative sum", "has no axis 9") { g in
    g.output("y", g.cumulativeSum(g.matrix(), axis: 9))
  },
  Mistake("concatenate", "has no axis 2") { g in
    let x = g.matrix()
    g.output("y", g.concatenate([x, x], axis: 2))
  },
  Mistake("slice", "has no axis 2") { g in
    g.output("y", g.slice(g.matrix(), axis: 2, from: 0, to: 1))
  },
  Mistake("reverse", "has no axis 2") { g in g.output("y", g.reverse(g.matrix(), axes: [2])) },
  Mistake("gather", "has no axis 5") { g in
    g.output("y", g.gatherAlong(5, g.matrix(), g.input("i", .int32, ["n", 1])))
  },
  Mistake("sort", "has no axis 5") { g in g.output("y", g.sort([g.matrix()], axis: 5)[0]) },
  Mistake("top k of a scalar", "at least 1 axis") { g in
    g.output("y", g.topK(g.input("x"), 1).values)
  },
  Mistake("transpose", "has no axis 2") { g in g.output("y", g.transpose(g.matrix(), [0, 2])) },
  Mistake("transpose of too few", "does not permute 2 axes") { g in
    g.output("y", g.transpose(g.matrix(), [0]))
  },
  Mistake("broadcast", "has no axis 4") { g in
    g.output("y", g.broadcast(g.matrix(), to: ["n", 3, 2], axes: [0, 4]))
  },
  Mistake("product", "has no axis 7") { g in
    let x = g.matrix()
    g.output("y", g.dotGeneral(x, x, lhsContracting: [7], rhsContracting: [1]))
  },
]

private let shapes = [
  Mistake("matmul of vectors", "at least 2 axes") { g in
    let x = g.input("x", .float32, ["n"])
    g.output("y", g.matmul(x, x))
  },
  Mistake("matmul", "cannot be multiplied as matrices") { g in
    g.output("y", g.matmul(g.matrix(), g.matrix("z")))
  },
  Mistake("linear", "takes rows of 4") { g in
    g.output("y", g.linear(g.matrix(), g.parameter("w", [5, 4])))
  },
  Mistake("linear with a vector", "the weight of a linear layer") { g in
    g.output("y", g.linear(g.matrix(), g.parameter("w", [3])))
  },
  Mistake("reshape", "has not as many elements") { g in
    g.output("y", g.reshape(g.input("x", .float32, [6]), [4]))
  },
  Mistake("broadcast to fewer axes", "cannot be broadcast") { g in
    g.output("y", g.broadcast(g.matrix(), to: [3]))
  },
  Mistake("broadcast of a size", "cannot be broadcast to 5") { g in
    g.output("y", g.broadcast(g.matrix(), to: ["n", 5]))
  },
  Mistake("concatenate nothing", "nothing to concatenate") { g in
    g.output("y", g.concatenate([], axis: 0))
  },
  Mistake("concatenate", "do not fit together") { g in
    g.output("y", g.concatenate([g.matrix(), g.image("z")], axis: 0))
  },
  Mistake("slice beyond", "is outside axis 1") { g in
    g.output("y", g.slice(g.matrix(), axis: 1, from: 0, to: 4))
  },
  Mistake("slice of too few axes", "need 2 entries") { g in
    g.output("y", g.slice(g.matrix(), from: [0], to: [2]))
  },
  Mistake("pad of too few axes", "need 2 entries") { g in
    g.output("y", g.pad(g.matrix(), 0, low: [0], high: [0]))
  },
  Mistake("pad inside beyond 64 bits", "beyond 64 bits") { g in
    let x = g.input("x", .int8, [Size(1 << 40)])
    g.output("y", g.pad(x, 0, low: [0], high: [0], interior: [(1 << 31) - 1]))
  },
  Mistake("sort nothing", "nothing to sort") { g in
    for value in g.sort([]) { g.output("y", value) }
    g.output("z", g.input("x"))
  },
  Mistake("diagonal of a vector", "a matrix has at least 2 axes") { g in
    g.output("y", g.diagonal(g.input("x", .float32, ["n"])))
  },
  Mistake("lower triangle of a scalar", "a matrix has at least 2 axes") { g in
    g.output("y", g.lowerTriangle(g.input("x")))
  },
  Mistake("cholesky", "square") { g in g.output("y", g.cholesky(g.matrix())) },
  Mistake("lu", "square") { g in g.output("y", g.lu(g.matrix()).pivots) },
  Mistake("solve", "do not belong to the matrices") { g in
    let a = g.input("a", .float32, [3, 3])
    g.output("y", g.triangularSolve(a, g.matrix()))
  },
  Mistake("pool with short strides", "with 1 strides and 2 paddings") { g in
    g.output("y", g.maxPool(g.image(), window: [2, 2], strides: [2]))
  },
  Mistake("pool with short padding", "with 2 strides and 1 paddings") { g in
    g.output("y", g.averagePool(g.image(), window: [2, 2], padding: [(1, 1)]))
  },
  Mistake("pool of many axes", "does not go over float32[n, 3]") { g in
    g.output("y", g.maxPool(g.matrix(), window: [2, 2, 2]))
  },
  Mistake("select and scatter", "need an entry for each") { g in
    g.output("y", g.selectAndScatter(g.matrix(), source: g.matrix("z"), window: [2], strides: [2]))
  },
  Mistake("dynamic slice", "start") { g in
    g.output("y", g.dynamicSlice(g.matrix(), at: [], sizes: [1, 1]))
  },
  Mistake("rows chosen by floats", "rows are chosen by integers") { g in
    g.output("y", g.embedding(g.matrix(), g.input("i", .float32, [2])))
  },
  Mistake("maxout", "the weight of maxout") { g in
    g.output("y", g.maxout(g.matrix(), g.matrix("w"), g.matrix("b")))
  },
  Mistake("attention", "do not belong together") { g in
    let q = g.matrix()
    g.output("y", g.attention(q, g.input("k", .float32, [6, 2]), q))
  },
]

private let layers = [
  Mistake("linear of a scalar", "at least 1 axis") { g in
    g.output("y", Layers(g).linear("l", g.input("x"), 2))
  },
  Mistake("linear of negative size", "negative size") { g in
    g.output("y", Layers(g).linear("l", g.matrix(), -2))
  },
  Mistake("convolution of a matrix", "at least 3 axes") { g in
    g.output("y", Layers(g).convolution("c", g.matrix(), 2, kernel: 3))
  },
  Mistake("kernel", "kernel must be positive, not -3") { g in
    g.output("y", Layers(g).convolution("c", g.image(), 2, kernel: -3))
  },
  Mistake("large kernel", "does not fit") { g in
    g.output("y", Layers(g).convolution("c", g.image(), 2, kernel: 9))
  },
  Mistake("stride", "stride must be positive, not 0") { g in
    g.output("y", Layers(g).convolution("c", g.image(), 2, kernel: 3, stride: 0))
  },
  Mistake("groups", "groups must be positive, not 0") { g in
    g.output("y", Layers(g).convolution("c", g.image(), 2, kernel: 3, groups: 0))
  },
  Mistake("uneven groups", "4 channels do not divide into 3 groups") { g in
    g.output("y", Layers(g).convolution("c", g.image(), 3, kernel: 3, groups: 3))
  },
  Mistake("transposed convolution", "at least 3 axes") { g in
    g.output("y", Layers(g).transposedConvolution("c", g.matrix(), 2, kernel: 3, stride: 1))
  },
  Mistake("transposed strides", "need 2 entries each") { g in
    let k = g.parameter("k", [4, 2, 3, 3])
    g.output("y", g.transposedConvolution(g.image(), k, strides: [2]))
  },
  Mistake("group norm", "groups must be positive") { g in
    g.output("y", Layers(g).groupNorm("n", g.image(), groups: 0))
  },
  Mistake("batch norm of a vector", "at least 2 axes") { g in
    g.output("y", Layers(g).batchNorm("n", g.input("x", .float32, ["n"])))
  },
  Mistake("batch norm in a loop", "updated inside a loop") { g in
    let l = Layers(g)
    let x = g.matrix()
    g.output(
      "y",
      g.scan(carried: [x], length: 2) { _, c, _ in
        ([l.batchNorm("n", c[0])], [])
      }.carried[0])
  },
  Mistake("layer norm of a scalar", "at least 1 axis") { g in
    g.output("y", Layers(g).layerNorm("n", g.input("x")))
  },
  Mistake("rms norm of a scalar", "at least 1 axis") { g in
    g.output("y", Layers(g).rmsNorm("n", g.input("x")))
  },
  Mistake("embedding of floats", "rows are chosen by integers") { g in
    g.output("y", Layers(g).embedding("e", g.matrix(), count: 4, size: 2))
  },
  Mistake("recurrent of a matrix", "at least 3 axes") { g in
    g.output("y", Layers(g).recurrent("r", .gru, g.matrix(), size: 2))
  },
  Mistake("no layers", "layers must be positive, not 0") { g in
    g.output("y", Layers(g).recurrent("r", .lstm, g.sequence(), size: 2, layers: 0))
  },
  Mistake("gru", "needs projections of 9") { g in
    let h = g.constant(0, .float32, ["n", 3])
    g.output("y", g.gru(projected: g.sequence(), h0: h, hidden: g.parameter("w", [9, 3])).all)
  },
  Mistake("lstm", "states are [n, h]") { g in
    let h = g.constant(0, .float32, [1])
    g.output("y", g.lstm(projected: g.sequence(), h0: h, c0: h, hidden: h).all)
  },
  Mistake("rnn", "projections are [T, n, 1 h]") { g in
    let x = g.matrix()
    g.output("y", g.rnn(projected: x, h0: x, hidden: x).last)
  },
  Mistake("self-attention of a matrix", "takes [n, T, d]") { g in
    g.output("y", Layers(g).selfAttention("a", g.matrix(), heads: 1))
  },
  Mistake("no heads", "heads must be positive, not 0") { g in
    g.output("y", Layers(g).selfAttention("a", g.sequence(), heads: 0))
  },
  Mistake("uneven heads", "does not divide into 3 heads") { g in
    g.output("y", Layers(g).transformerBlock("b", g.sequence(), heads: 3, causal: true))
  },
  Mistake("merging heads", "heads are [n, H, T, d]") { g in
    g.output("y", g.mergeHeads(g.matrix(), 4))
  },
  Mistake("upsampling", "at least 2 axes") { g in
    g.output("y", g.upsampleNearest(g.input("x", .float32, ["n"]), 2))
  },
  Mistake("positions", "positive even size, not 3") { g in
    g.output("y", g.sinusoidalPositions("n", 3))
  },
  Mistake("error of two shapes", "the prediction is float32[n, 3], the target float32[n]") { g in
    g.output("y", g.meanSquaredError(g.matrix(), g.input("t", .float32, ["n"])))
  },
  Mistake("labels as floats", "labels are integers") { g in
    g.output("y", g.softmaxCrossEntropy(g.matrix(), g.input("t", .float32, ["n"])))
  },
  Mistake("labels of another shape", "need labels [n]") { g in
    g.output("y", g.accuracy(g.matrix(), g.input("t", .int32, ["n", 3])))
  },
  Mistake("cross-entropy of a scalar", "at least 1 axis") { g in
    g.output("y", g.softmaxCrossEntropy(g.input("x"), g.input("t", .int32)))
  },
  Mistake("binary cross-entropy", "the target int32[n, 3]") { g in
    g.output("y", g.binaryCrossEntropy(logits: g.matrix(), g.input("t", .int32, ["n", 3])))
  },
  Mistake("optimizer without its slots", "keeps 'm', which is not given") { g in
    let w = g.parameter("w", [3])
    let (next, slots) = Optimizer.adam().step(
      w, gradient: w, [:], lr: g.constant(1), t: g.constant(1, .int32))
    g.output("y", next + slots["v"]!)
  },
  Mistake("gradient of another shape", "the gradient of a parameter float32[3] is float32[n, 3]") {
    g in
    let w = g.parameter("w", [3])
    g.output(
      "y",
      Optimizer.gradientDescent.step(
        w, gradient: g.matrix(), [:], lr: g.constant(1), t: g.constant(1, .int32)
      ).theta)
  },
  Mistake("schedule", "the step is an integer scalar") { g in
    g.output("y", Schedule.constant.rate(g, base: 1, g.matrix()))
  },
]

private let random = [
  Mistake("key", "the key of random numbers is an integer scalar") { g in
    g.output("y", RandomStream(g, key: g.input("seed")).uniform([3]))
  },
  Mistake("step", "the step of random numbers is an integer scalar") { g in
    let x = g.matrix()
    g.output("y", RandomStream(g, key: g.constant(1, .int64), step: x).normal([3]))
  },
  Mistake("rate", "from 0 to 1, not 2.0") { g in
    g.output("y", g.dropout(g.matrix(), rate: 2, RandomStream(g, key: g.constant(1, .int64))))
  },
  Mistake("rate that is none", "from 0 to 1, not nan") { g in
    g.output("y", g.dropout(g.matrix(), rate: .nan, RandomStream(g, key: g.constant(1, .int64))))
  },
  Mistake("probability", "a probability is floating-point") { g in
    let stream = RandomStream(g, key: g.constant(1, .int64))
    g.output("y", stream.bernoulli(g.input("p", .int32)))
  },
  Mistake("categorical", "at least 1 axis") { g in
    let stream = RandomStream(g, key: g.constant(1, .int64))
    g.output("y", stream.categorical(g.input("p")))
  },
  Mistake("bits", "uint64 scalars") { g in
    g.output("y", g.randomBits(key: g.input("x"), counter: g.input("z"), [2]))
  },
]

private let control = [
  Mistake("cond-none", "the graphs give [] and [float32[n, 3]]") { g in
    let x = g.matrix()
    _ =
      g.cond(g.input("p", .bool)) { _ in
        []
      } otherwise: { _ in
        [x]
      }[0]
  },
  Mistake("bias", "the bias of a linear layer is float32[7, 1, 1]") { g in
    _ = g.linear(g.matrix(), g.parameter("w", [5, 3]), g.parameter("b", [7, 1, 1]))
  },
  Mistake("gamma", "gamma is float32[7, 1, 3]") { g in
    _ = g.layerNorm(g.matrix(), g.parameter("g", [7, 1, 3]), g.parameter("b", [3]))
  },
  Mistake("channels", "gamma is float32[3], this is float32[]") { g in
    _ = g.batchNorm(g.matrix(), gamma: g.parameter("g", []), beta: g.parameter("b", [3]))
  },
  Mistake("epsilon", "epsilon is a number from 0 on, not -1.0") { g in
    _ = g.layerNorm(g.matrix(), g.parameter("g", [3]), g.parameter("b", [3]), epsilon: -1)
  },
  Mistake("clamp", "a clamp is from 2.0 to 1.0") { g in _ = g.clamp(g.matrix(), 2, 1) },
  Mistake("momentum", "the momentum of a batch norm is from 0 to 1, not 7.0") { g in
    _ = Layers(g).batchNorm("norm", g.matrix(), momentum: 7)
  },
  Mistake("initial-half", "the initial value 0.5 is no int32") { g in
    _ = g.state("w", .int32, [3], .constant(0.5))
  },
  Mistake("initial-range", "the initial value 200.0 is no int8") { g in
    _ = g.state("w", .int8, [3], .constant(200))
  },
  Mistake("initial-infinite", "the initial value 1000000000.0 is no float16") { g in
    _ = g.parameter("w", [3], .constant(1e9), .float16)
  },
  Mistake("initial-integers", "int32 values have no random initialiser") { g in
    _ = g.parameter("w", [3], .glorotUniform, .int32)
  },
  Mistake("initial-order", "uniform from 2.0 to 1.0") { g in
    _ = g.parameter("w", [3], .uniform(2, 1))
  },
  Mistake("initial-nan", "an initialiser is normal with mean nan") { g in
    _ = g.parameter("w", [3], .normal(mean: .nan, deviation: 1))
  },
  Mistake("dimension-range", "300 is no int8") { g in _ = g.dimension(300, .int8) },
  Mistake("schedule", "the total of the schedule is 0") { g in
    _ = Schedule.cosine(total: 0).rate(g, base: 1, g.input("t", .int32))
  },
  Mistake("length", "a scan without inputs needs a length") { g in
    g.output("y", g.scan(carried: [g.matrix()]) { _, c, _ in (c, []) }.carried[0])
  },
  Mistake("scalar input", "along the first axis of its inputs") { g in
    g.output("y", g.scan(carried: [], inputs: [g.input("x")]) { _, _, v in ([], v) }.outputs[0])
  },
  Mistake("other length", "not stacked 4 times") { g in
    let x = g.sequence()
    g.output("y", g.scan(carried: [], inputs: [x], length: 4) { _, _, v in ([], v) }.outputs[0])
  },
  Mistake("carried count", "does not give the 1 values") { g in
    let (c, o) = g.scan(carried: [g.matrix()], length: 3) { _, c, _ in ([], [c[0]]) }
    g.output("y", c[0] + o[0])
  },
  Mistake("carried type", "the body gives") { g in
    g.output(
      "y",
      g.scan(carried: [g.matrix()], length: 3) { g, c, _ in ([g.sum(c[0], axes: [0])], []) }
        .carried[0])
  },
  Mistake("inside the body", "do not broadcast") { g in
    let (c, o) = g.scan(carried: [g.matrix()], length: 3) { g, c, _ in
      let bad = c[0] + g.constant(0, .float32, [7])
      return ([bad], [bad])
    }
    g.output("y", c[0] + o[0])
  },
  Mistake("value of a body", "used outside of it") { g in
    var leak: Value?
    _ = g.scan(carried: [g.matrix()], length: 3) { g, c, _ in
      leak = c[0] * 2
      return (c, [])
    }
    g.output("y", leak! + 1)
  },
  Mistake("value of a branch", "used outside of it") { g in
    let x = g.matrix()
    var leak: Value?
    _ = g.cond(
      g.input("p", .bool), then: { _ in [x] },
      otherwise: { g in
        leak = g.tanh(x)
        return [leak!]
      })
    g.output("y", leak!)
  },
  Mistake("value of a body in another one", "used outside of it") { g in
    let x = g.matrix()
    var leak: Value?
    _ = g.scan(carried: [x], length: 3) { _, c, _ in
      leak = c[0]
      return (c, [])
    }
    g.output("y", g.scan(carried: [x], length: 3) { _, _, _ in ([leak!], []) }.carried[0])
  },
  Mistake("output in a body", "output 'z' is named inside") { g in
    let x = g.matrix()
    g.output(
      "y",
      g.scan(carried: [x], length: 3) { g, c, _ in
        g.output("z", c[0])
        return (c, [])
      }.carried[0])
  },
  Mistake("input in a body", "input 'z' is declared inside") { g in
    g.output(
      "y",
      g.scan(carried: [g.matrix()], length: 3) { g, c, _ in
        ([c[0] + g.input("z")], [])
      }.carried[0])
  },
  Mistake("predicate", "the predicate is not a bool scalar") { g in
    let x = g.matrix()
    g.output("y", g.cond(x, then: { _ in [x] }, otherwise: { _ in [x] })[0])
  },
  Mistake("branches", "the graphs give") { g in
    let x = g.matrix()
    let p = g.input("p", .bool)
    g.output("y", g.cond(p, then: { _ in [x] }, otherwise: { g in [g.sum(x, axes: [0])] })[0])
  },
  Mistake("condition", "not a bool scalar") { g in
    let loop = g.whileLoop([g.matrix()], condition: { _, c in c[0] }, body: { _, c in c })
    g.output("y", loop[0])
  },
  Mistake("body of a while loop", "the body gives") { g in
    let loop = g.whileLoop(
      [g.matrix()], condition: { g, _ in g.constant(1, .bool) }, body: { _, _ in [] })
    g.output("y", loop[0])
  },
  Mistake("bound", "must be positive, not -3") { g in
    let loop = g.whileLoop(
      [g.input("x")], bound: -3, condition: { g, _ in g.constant(0, .bool) }, body: { $1 })
    g.output("y", loop[0])
  },
  Mistake("derivative without a bound", "without a bound") { g in
    let x = g.input("x")
    let loop = g.whileLoop(
      [x], condition: { g, _ in g.constant(0, .bool) }, body: { _, c in [c[0] * 2] })
    g.output("y", g.gradient(of: loop[0], by: [x])[0])
  },
  Mistake("derivative inside by what others depend on", "others from around it depend on") { g in
    let w = g.input("w")
    let h = w * w
    let (c, _) = g.scan(carried: [w], length: 2) { g, c, _ in
      (g.gradient(of: c[0] * h, by: [w]), [])
    }
    g.output("y", c[0])
  },
  Mistake("derivative of an outer value", "is differentiated inside of it") { g in
    let w = g.input("w")
    let h = w * w
    let (c, _) = g.scan(carried: [w], length: 2) { g, c, _ in (g.gradient(of: h, by: [w]), []) }
    g.output("y", c[0])
  },
]

private let sizes = [
  Mistake("undeclared", "dimension 'm' is not declared") { g in
    g.output("y", g.input("x", .float32, ["m"]))
  },
  Mistake("mistyped", "did you mean 'batch'?") { g in
    g.output("y", g.reshape(g.matrix(), ["batchh"]))
  },
  Mistake("no name", "'' is not a dimension") { g in g.output("y", g.input("x", .float32, [""])) },
  Mistake("no dimension", "'a b' is not a dimension") { g in
    g.output("y", g.constant(0, .float32, ["a b"]))
  },
  Mistake("no name of a dimension", "'a-b' cannot name a dimension") { g in
    g.output("y", g.constant(0, .float32, [Size(name: "a-b")]))
  },
  Mistake("negative", "negative size") { g in g.output("y", g.input("x", .float32, [-1])) },
  Mistake("division by zero", "size 'n' is divided by 0") { g in
    g.output("y", g.input("x", .float32, [Size("n") / 0]))
  },
  Mistake("beyond 64 bits", "beyond 64 bits") { g in
    g.output("y", g.input("x", .float32, [Size(1 << 40) * Size(1 << 40)]))
  },
  Mistake("sum beyond 64 bits", "beyond 64 bits") { g in
    g.output("y", g.input("x", .float32, [Size(Int.max) + 1]))
  },
  Mistake("too many elements", "is too large") { g in
    g.output("y", g.constant(0, .float32, [Size(1 << 30), Size(1 << 30)]))
  },
  Mistake("too many axes", "rank 17") { g in
    g.output("y", g.input("x", .float32, [Size](repeating: 1, count: 17)))
  },
  Mistake("parameter", "dimension 'd' is not declared") { g in
    g.output("y", Layers(g).linear("l", g.matrix(), "d"))
  },
]

@Suite struct MistakeTests {
  private func build(_ body: (FunctionBuilder) -> Void) throws {
    var module = Module("m")
    module.dimension("n", default: 4)
    module.dimension("batch", default: 4)
    try module.function("f", body)
  }

  /// One error, which says what is wrong and on which line of this file.
  @Test(arguments: mistakes)
  fileprivate func namesTheMistakeAndTheLine(_ mistake: Mistake) throws {
    let error = try #require(throws: DLCError.self) { try build(mistake.body) }
    #expect(error.others == [], "\(error)")
    #expect("\(error)".contains(mistake.message), "\(error)")
    #expect(!"\(error)".contains("called at"), "no line of dlc's own: \(error)")
    let parts = error.location.split(separator: "DLCTrainingTests/MistakeTests.swift:")
    let line = parts.last.flatMap { Int($0.prefix { $0.isNumber }) }
    #expect(
      error.location.contains("DLCTrainingTests/") && mistake.lines.contains(line ?? 0), "\(error)")
    #expect(!error.location.contains("Sources") && !error.location.contains("DLCGraph/"))
  }

  /// A mistake that comes up through a public call inside of dlc is said of the user's call alone.
  @Test func buildersNameNoLineInside() throws {
    let error = try #require(throws: DLCError.self) {
      try build { g in _ = g.fail(DLCError(.graph, "inside").called("DLCGraph/Inside.swift", 3)) }
    }
    #expect(error.call.isEmpty && !"\(error)".contains("Inside.swift"), "\(error)")
  }

  /// Whatever is given a poisoned value does nothing: the first mistake is the only one.
  @Test func everythingGoesOnAfterAMistake() throws {
    let error = try #require(throws: DLCError.self) {
      try build { g in
        let (x, l) = (g.matrix(), Layers(g))
        let bad = x + g.input("z", .float32, ["n", 4])
        let stream = RandomStream(g, key: g.constant(1, .int64))
        let all = [
          g.linear(bad, bad), l.linear("a", bad, 2), l.convolution("b", bad, 2, kernel: 3),
          l.transposedConvolution("c", bad, 2, kernel: 3, stride: 2), l.layerNorm("d", bad),
          l.groupNorm("e", bad, groups: 2), l.batchNorm("f", bad), l.rmsNorm("g", bad),
          l.embedding("h", bad, count: 2, size: 2), l.recurrent("i", .lstm, bad, size: 3),
          l.selfAttention("j", bad, heads: 2), l.transformerBlock("k", bad, heads: 2, causal: true),
          g.softmax(bad), g.logSoftmax(bad), g.mean(bad, axes: [7]), g.sort([bad, x])[1],
          g.topK(bad, 2).indices, g.lu(bad).pivots, g.gradient(of: bad, by: [x, bad])[1],
          g.jvp(of: [bad], along: [(x, x)])[0], g.dropout(bad, rate: 0.5, stream),
          stream.categorical(bad), g.softmaxCrossEntropy(bad, bad), g.accuracy(bad, bad),
          g.attention(bad, x, bad), g.splitHeads(bad, 2), g.concatenate([x, bad], axis: 5),
          g.scan(carried: [x], inputs: [bad], length: 3) { g, c, v in ([c[0] * v[0]], v) }.outputs[
            0],
          g.whileLoop([bad], condition: { g, c in g.sum(c[0], axes: [9]) }, body: { $1 })[0],
          g.cond(bad, then: { _ in [x] }, otherwise: { _ in [bad] })[0],
          g.call("part", [bad]) { [$1[0] + x] }[0], g.reshape(x, [bad.shape[0], bad.shape[11]]),
          g.slice(x, axis: 1, from: 0, to: bad.shape.last! / 2), -bad * 2 + x,
          Optimizer.adam().step(bad, gradient: x, [:], lr: x, t: x).slots["m"] ?? bad,
        ]
        for (number, value) in all.enumerated() { g.output("y\(number)", value) }
        g.update("count", bad)
      }
    }
    #expect(error.others == [], "\(error)")
    #expect(error.message.contains("do not broadcast"))
  }

  @Test func reportsIndependentMistakes() throws {
    let error = try #require(throws: DLCError.self) {
      try build { g in
        let x = g.matrix()
        let bad = g.sum(x, axes: [4])
        g.output("a", bad * 2)
        g.output("b", g.tanh(g.input("i", .int32)))
        _ = g.scan(carried: [x], length: 2) { g, c, _ in ([g.softmax(c[0], axis: 8)], []) }
      }
    }
    #expect(error.others.count == 2, "\(error)")
    #expect("\(error)".split(separator: "\n").count == 3)
    for part in ["has no axis 4", "tanh needs", "has no axis 8"] {
      #expect("\(error)".contains(part), "\(error)")
    }
  }

  /// Values and builders of a function that is done are mistakes in the next one, on its lines.
  @Test func valuesBelongToTheirFunction() throws {
    var module = Module("m")
    var old: (FunctionBuilder, Value)?
    try module.function("a") { g in
      let x = g.input("x", .float32, [2])
      old = (g, x * x)
      g.output("y", x)
    }
    let (builder, value) = try #require(old)
    let uses: [(String, (FunctionBuilder, Value) -> Void)] = [
      ("output", { g, _ in g.output("y", value) }),
      ("operator", { g, x in g.output("y", value + x) }),
      ("operator alone", { g, x in g.output("y", -(value * 2.0)) }),
      ("function", { g, x in g.output("y", g.tanh(value)) }),
      ("layer", { g, x in g.output("y", Layers(g).linear("l", value, 2)) }),
      ("update", { g, _ in g.update("s", value) }),
      ("builder", { g, _ in g.output("y", builder.constant(1)) }),
      ("layer's builder", { g, x in g.output("y", Layers(builder).linear("l", x, 2)) }),
      (
        "scan",
        { g, x in
          g.output("y", g.scan(carried: [value], length: 2) { _, c, _ in (c, []) }.carried[0])
        }
      ),
      (
        "capture",
        { g, x in
          g.output(
            "y", g.scan(carried: [x], length: 2) { _, c, _ in ([c[0] + value], []) }.carried[0])
        }
      ),
    ]
    for (name, use) in uses {
      let error = try #require(throws: DLCError.self, "\(name)") {
        try module.function("b") { g in
          _ = g.state("s", .float32, [2])
          use(g, g.input("x", .float32, [2]))
        }
      }
      #expect("\(error)".contains("another function"), "\(name): \(error)")
      #expect("\(error)".contains("DLCTrainingTests/MistakeTests.swift:"), "\(name): \(error)")
      #expect(module.functions.count == 1 && module.states.isEmpty)
    }
  }

  /// While a loop is built all calls add to it, whichever builder they are called on.
  @Test func outerBuildersAddToTheOpenLoop() throws {
    var (inner, outer) = (Module("m"), Module("m"))
    try inner.function("f") { g in
      let x = g.input("x", .float32, [3])
      g.output(
        "y",
        g.scan(carried: [x], length: 3) { g, c, _ in
          ([Layers(g).linear("l", g.tanh(c[0]), 3)], [])
        }.carried[0])
    }
    try outer.function("f") { g in
      let x = g.input("x", .float32, [3])
      let l = Layers(g)
      g.output(
        "y",
        g.scan(carried: [x], length: 3) { _, c, _ in
          ([l.linear("l", g.tanh(c[0]), 3)], [])
        }.carried[0])
    }
    #expect(inner.states == outer.states)
    func operations(_ module: Module) -> [String] {
      module.functions[0].graph.nodes.flatMap { node in
        [node.operation.mnemonic]
          + node.operation.regions.flatMap { $0.nodes.map(\.operation.mnemonic) }
      }
    }
    #expect(operations(inner) == operations(outer))
    #expect(operations(inner).contains("tanh"))
  }

  /// Negative axes count from the end, in every function that takes axes.
  @Test func negativeAxesCountFromTheEnd() throws {
    try build { g in
      let x = g.input("x", .float32, [2, 3, 4])
      let i = g.input("i", .int32, [2, 3, 4])
      let pairs: [(Value, Value)] = [
        (g.sum(x, axes: [-1, 0]), g.sum(x, axes: [2, 0])),
        (g.max(x, axes: [-2], keepAxes: true), g.max(x, axes: [1], keepAxes: true)),
        (g.mean(x, axes: [-3]), g.mean(x, axes: [0])),
        (g.argmax(x, axis: -2), g.argmax(x, axis: 1)),
        (g.argmin(x, axis: -1), g.argmin(x, axis: 2)),
        (g.softmax(x, axis: -2), g.softmax(x, axis: 1)),
        (g.logSoftmax(x, axis: -2), g.logSoftmax(x, axis: 1)),
        (g.logSumExp(x, axis: -2), g.logSumExp(x, axis: 1)),
        (g.slice(x, axis: -1, from: 1, to: 2), g.slice(x, axis: 2, from: 1, to: 2)),
        (g.concatenate([x, x], axis: -2), g.concatenate([x, x], axis: 1)),
        (g.reverse(x, axes: [-1]), g.reverse(x, axes: [2])),
        (g.transpose(x, [-1, 0, -2]), g.transpose(x, [2, 0, 1])),
        (
          g.broadcast(x, to: [2, 3, 4, 5], axes: [0, 1, -2]),
          g.broadcast(x, to: [2, 3, 4, 5], axes: [0, 1, 2])
        ),
        (g.iota(.int32, [2, 3], axis: -1), g.iota(.int32, [2, 3], axis: 1)),
        (g.gatherAlong(-2, x, i), g.gatherAlong(1, x, i)),
        (g.cumulativeSum(x, axis: -3), g.cumulativeSum(x, axis: 0)),
        (g.cumulativeMaximum(x, axis: -1), g.cumulativeMaximum(x, axis: 2)),
        (g.sort([x], axis: -2)[0], g.sort([x], axis: 1)[0]),
        (
          g.dotGeneral(
            x, x, lhsBatch: [-3], rhsBatch: [0], lhsContracting: [-1], rhsContracting: [-1]),
          g.dotGeneral(x, x, lhsBatch: [0], rhsBatch: [0], lhsContracting: [2], rhsContracting: [2])
        ),
      ]
      for (index, (a, b)) in pairs.enumerated() {
        #expect(a.type == b.type, "pair \(index)")
        let (left, right) = (g.graph.definition(a.id), g.graph.definition(b.id))
        #expect(left?.operation == right?.operation, "pair \(index)")
        g.output("y\(index)", a)
      }
    }
  }

  /// A tensor that could not be made is refused by whatever is given it, with its own line.
  @Test func tensorsKnowWhatIsWrongWithThem() throws {
    let line = #line + 1
    let bad = Tensor([2, 3], [Float(1), 2])
    #expect(bad.count == 0 && bad.doubles == [] && bad.problem != nil)
    var module = Module("m")
    try module.function("f") { g in g.output("y", g.parameter("w", [2, 3]) + g.input("x")) }
    let executable = try Compiler().compile(module)
    let function = try #require(module.function("f"))
    var results = [bad]
    let uses: [() throws -> Void] = [
      { try module.setValue(bad, of: "w") }, { try executable.setState(["w": bad]) },
      { _ = try executable.run(["x": bad]) }, { try Npz.write([("a", bad)], to: "/dev/null") },
      { try Safetensors.write([("a", bad)], to: "/dev/null") },
      {
        try executable.initializeState(seed: 1)
        try executable.run(["x": Tensor([], [Float(1)])], into: &results)
      },
      {
        _ = try Interpreter().run(
          module, function: function, inputs: ["x": bad],
          states: ["w": Tensor(zeros: .float32, [2, 3])], dimensions: [:])
      },
    ]
    for (number, use) in uses.enumerated() {
      let error = try #require(throws: DLCError.self, "use \(number)") { try use() }
      #expect("\(error)".contains("MistakeTests.swift:\(line)"), "use \(number): \(error)")
    }
  }

  /// What throws says which call it was: the user's, however many of dlc's it went through.
  @Test func throwingCallsNameTheirLine() throws {
    var module = Module("m")
    module.dimension("n", default: 2)
    try module.function("loss") { g in
      let y = Layers(g).linear("l", g.matrix(), 1)
      g.output("loss", g.mean(y, axes: [0, 1]))
    }
    let function = try #require(module.function("loss"))
    let executable = try Compiler().compile(module, dimensions: ["n": 2])
    let data = ["x": Tensor(zeros: .float32, [4, 3])]
    func step() throws -> TrainingStep {
      try TrainingStep(
        module, phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: 0.1))])
    }
    var results: [Tensor] = []
    let uses: [(line: UInt, call: () throws -> Void)] = [
      (#line, { _ = try executable.run([:]) }),
      (#line, { try executable.run(data, into: &results) }),
      (#line, { try executable.setState(["l.W": Tensor([], [Float(1)])]) }),
      (#line, { try module.setValue(Tensor([], [Float(1)]), of: "l.w") }),
      (#line, { _ = try module.bind(explicit: ["q": 1]) }),
      (#line, { _ = try Compiler().compile(module, function: "gradient") }),
      (#line, { _ = try Compiler().compile(module, dimensions: ["n": -1]) }),
      (#line, { _ = try Size("n").evaluate([:]) }),
      (#line, { _ = try Size(parsing: "2 +") }),
      (#line, { _ = try Module(contentsOf: "/nonexistent/model.pb") }),
      (#line, { _ = try Executable(contentsOf: "/nonexistent/model.dlc") }),
      (#line, { try module.save("/nonexistent/model.pb") }),
      (#line, { _ = try Npz.read("/nonexistent/data.npz") }),
      (#line, { try Npz.write([("a", data["x"]!), ("a", data["x"]!)], to: "/dev/null") }),
      (#line, { try Safetensors.write([("a", data["x"]!), ("a", data["x"]!)], to: "/dev/null") }),
      (#line, { try Safetensors.write([("__metadata__", data["x"]!)], to: "/dev/null") }),
      (#line, { _ = try Trainer(step(), data: [:], options: .init(batch: 2, epochs: 1)) }),
      (#line, { _ = try Trainer(step(), data: data, options: .init(batch: -2, epochs: 1)) }),
      (
        #line,
        {
          try Trainer(step(), data: data, options: .init(batch: 2, epochs: 1)).setState([
            "v": data["x"]!
          ])
        }
      ),
      (
        #line, { _ = try Trainer(step(), data: data, options: .init(batch: 2, epochs: 1)).resume() }
      ),
      (#line, { _ = try step().stepFunction("loss") }),
      (
        #line,
        {
          _ = try Interpreter().run(
            module, function: function, inputs: [:], states: [:], dimensions: ["n": 2])
        }
      ),
    ]
    for (number, use) in uses.enumerated() {
      let error = try #require(throws: DLCError.self, "use \(number)") { try use.call() }
      let places = (use.line...use.line + 4).map { "MistakeTests.swift:\($0)]" }
      #expect(places.contains { "\(error)".contains($0) }, "use \(number): \(error)")
    }
  }

  /// A module whose function fails is as it was.
  @Test func aFailedFunctionLeavesTheModule() throws {
    var module = Module("m")
    try module.function("f") { g in g.output("y", g.parameter("w", [2])) }
    let before = module
    for (name, message) in [("f", "is there already"), ("", "has no name"), ("g", "gives nothing")]
    {
      let error = try #require(throws: DLCError.self) {
        try module.function(name) { g in _ = g.parameter("v", [3]) }
      }
      #expect(
        "\(error)".contains(message) && "\(error)".contains("MistakeTests.swift:"), "\(error)")
      #expect(module == before)
    }
  }
}
