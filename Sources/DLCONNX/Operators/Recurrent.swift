import DLCGraph
import DLCTensor

/// LSTM, GRU and RNN: a `scan` per direction, with the products of the inputs taken before it.
enum RecurrentOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("LSTM", inputs: 8) { c throws(ImportStop) in
      try Recurrence(c, gates: 4, states: 2).results()
    },
    OperatorMapping("GRU", inputs: 6) { c throws(ImportStop) in
      try Recurrence(c, gates: 3, states: 1).results()
    },
    OperatorMapping("RNN", inputs: 6) { c throws(ImportStop) in
      try Recurrence(c, gates: 1, states: 1).results()
    },
    OperatorMapping("DynamicQuantizeLSTM", domain: MicrosoftOperators.domain, inputs: 12) {
      c throws(ImportStop) in
      try Recurrence(c, gates: 4, states: 2, isQuantized: true).results()
    },
  ]
}

/// The activation functions that a recurrent operator can name.
private struct Activation {
  let name: String
  let alpha: Double
  let beta: Double

  static let defaults: [String: (alpha: Double, beta: Double)] = [
    "affine": (1, 0), "relu": (0, 0), "leakyrelu": (0.01, 0), "thresholdedrelu": (1, 0),
    "tanh": (0, 0), "scaledtanh": (1, 1), "sigmoid": (0, 0), "hardsigmoid": (0.2, 0.5),
    "elu": (1, 0), "softsign": (0, 0), "softplus": (0, 0),
  ]

  func callAsFunction(_ g: FunctionBuilder, _ x: Value) -> Value {
    func number(_ v: Double) -> Value { g.constant(Tensor(splat: v, x.dataType, [])) }
    switch name {
    case "affine": return x * number(alpha) + number(beta)
    case "relu": return g.maximum(x, number(0))
    case "leakyrelu": return g.select(x < number(0), x * number(alpha), x)
    case "thresholdedrelu": return g.select(x > number(alpha), x, number(0))
    case "scaledtanh": return g.tanh(x * number(beta)) * number(alpha)
    case "sigmoid": return g.logistic(x)
    case "hardsigmoid": return g.clamp(x * number(alpha) + number(beta), 0, 1)
    case "elu":
      return g.select(x < number(0), g.unary(.exponential_minus_one, x) * number(alpha), x)
    case "softsign": return x / (g.abs(x) + number(1))
    case "softplus": return g.softplus(x)
    default: return g.tanh(x)
    }
  }
}

/// The weights of one direction, which rows of numbers are multiplied with.
private struct RecurrentWeights {
  let c: NodeContext
  /// [out, in]; of small integers, less their zeros, [in, out].
  let matrix: Value
  /// Of small integers: one for all, or one for each output.
  var scale: Value?

  /// Rows [..., in] as rows [..., out]. Small integers meet rows that are quantised by their own range.
  func product(_ x: Value) -> Value {
    let g = c.g
    guard let scale else {
      return g.dotGeneral(x, matrix, lhsContracting: [-1], rhsContracting: [1])
    }
    let (levels, step, zero) = QuantizationOperators.dynamicallyQuantized(c, x)
    let centred = g.convert(levels, .int32) - g.convert(zero, .int32)
    let sums = g.dotGeneral(centred, matrix, lhsContracting: [-1], rhsContracting: [0])
    return g.convert(sums, .float32) * (step * scale)
  }
}

private struct Recurrence {
  let c: NodeContext
  let gates: Int
  let states: Int
  let hidden: Int
  let isBatchFirst: Bool
  /// Whether weights are small integers, [directions, in, out], with their scales and zeros.
  let isQuantized: Bool
  let directions: [Bool]
  let clip: Double?
  let activations: [Activation]
  /// [T, B, I]
  let x: Value
  let lengths: Value?

  init(_ c: NodeContext, gates: Int, states: Int, isQuantized: Bool = false) throws(ImportStop) {
    self.c = c
    self.isQuantized = isQuantized
    self.gates = gates
    self.states = states
    isBatchFirst = try c.integer("layout", 0) == 1
    let input = try c.operand(0)
    guard input.rank == 3 else {
      throw c.fail("the input is \(input.type), which is not of three axes")
    }
    x = isBatchFirst ? c.g.transpose(input, [1, 0, 2]) : input
    switch try c.text("direction", "forward").lowercased() {
    case "forward": directions = [false]
    case "reverse": directions = [true]
    case "bidirectional": directions = [false, true]
    case let other: throw c.fail("direction '\(other)' is not known")
    }
    let weights = try c.operand(2)
    guard weights.rank == 3 else { throw c.fail("the recurrent weights are \(weights.type)") }
    hidden = try c.integer("hidden_size", try c.number(weights.shape[isQuantized ? 1 : 2]))
    guard 1...Int(Int32.max) ~= hidden else { throw c.fail("the hidden size is \(hidden)") }
    let (inner, outer) = (Size(hidden), Size(gates * hidden))
    guard
      weights.shape == [Size(directions.count)] + (isQuantized ? [inner, outer] : [outer, inner])
    else {
      throw c.fail("the recurrent weights are \(weights.type) for a hidden size of \(hidden)")
    }
    clip = try c.real("clip")
    activations = try Self.activations(
      c, count: gates == 1 ? 1 : gates == 3 ? 2 : 3, directions.count)
    lengths = c.optional(4).map { c.g.convert($0, .int64) }
  }

  private static func activations(_ c: NodeContext, count: Int, _ directions: Int)
    throws(ImportStop)
    -> [Activation]
  {
    let usual =
      count == 1 ? ["Tanh"] : count == 2 ? ["Sigmoid", "Tanh"] : ["Sigmoid", "Tanh", "Tanh"]
    let names =
      try c.texts("activations") ?? Array([[String]](repeating: usual, count: directions).joined())
    guard names.count == count * directions else {
      throw c.fail("\(names.count) activations for \(count * directions)")
    }
    var alphas = (try c.reals("activation_alpha") ?? [])[...]
    var betas = (try c.reals("activation_beta") ?? [])[...]
    var result: [Activation] = []
    for name in names {
      let key = name.lowercased()
      guard let usual = Activation.defaults[key] else {
        throw c.fail("activation '\(name)' is not known")
      }
      // The lists hold a number for each activation that takes one.
      let takesAlpha = [
        "affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu",
      ].contains(key)
      let takesBeta = ["affine", "scaledtanh", "hardsigmoid"].contains(key)
      let alpha = takesAlpha ? alphas.popFirst() ?? usual.alpha : usual.alpha
      let beta = takesBeta ? betas.popFirst() ?? usual.beta : usual.beta
      result.append(Activation(name: key, alpha: alpha, beta: beta))
    }
    return result
  }

  /// One direction's part of an operand whose first axis are directions.
  private func part(_ v: Value, _ direction: Int) -> Value {
    let g = c.g
    return g.reshape(
      g.slice(v, axis: 0, from: Size(direction), to: Size(direction + 1)),
      Array(v.shape.dropFirst()))
  }

  /// The rows of one gate.
  private func gate(_ v: Value, _ number: Int) -> Value {
    c.g.slice(v, axis: -1, from: Size(number * hidden), to: Size((number + 1) * hidden))
  }

  func results() throws(ImportStop) -> [Value?] {
    let g = c.g
    var (sequences, finals): ([Value], [[Value]]) = ([], [])
    for (number, isReverse) in directions.enumerated() {
      let (sequence, last) = try run(number, isReverse)
      sequences.append(c.unsqueezed(sequence, [1]))
      finals.append(last.map { c.unsqueezed($0, [0]) })
    }
    // [T, D, B, H] and [D, B, H].
    let whole = g.concatenate(sequences, axis: 1)
    var results = [isBatchFirst ? g.transpose(whole, [2, 0, 1, 3]) : whole]
    for state in 0..<states {
      let last = g.concatenate(finals.map { $0[state] }, axis: 0)
      results.append(isBatchFirst ? g.transpose(last, [1, 0, 2]) : last)
    }
    return results
  }

  /// Steps of each sequence in the opposite order: all of them, or as many as its length says.
  private func reversed(_ v: Value) -> Value {
    let g = c.g
    guard let lengths else { return g.reverse(v, axes: [0]) }
    let step = g.iota(.int64, v.shape, axis: 0)
    let length = g.broadcast(lengths, to: v.shape, axes: [1])
    return g.gatherAlong(0, v, g.select(step < length, length - 1.0 - step, step))
  }

  private func initial(_ index: Int, _ direction: Int) throws(ImportStop) -> Value {
    let g = c.g
    guard let given = c.optional(index) else {
      return g.constant(0, x.dataType, [x.shape[1], Size(hidden)])
    }
    return part(isBatchFirst ? g.transpose(given, [1, 0, 2]) : given, direction)
  }

  /// Operand 1 or 2 for a direction.
  private func weights(_ index: Int, _ direction: Int) throws(ImportStop) -> RecurrentWeights {
    let g = c.g
    let matrix = try c.operand(index)
    guard matrix.rank == 3 else { throw c.fail("weights are \(matrix.type)") }
    let own = part(matrix, direction)
    guard isQuantized else { return RecurrentWeights(c: c, matrix: own) }
    let scale = try c.operand(6 + 2 * index)
    let shapes = [[Size(directions.count)], [Size(directions.count), matrix.shape[2]]]
    guard shapes.contains(scale.shape), shapes.contains(try c.operand(7 + 2 * index).shape) else {
      throw c.fail("scales \(scale.type) do not belong to weights \(matrix.type)")
    }
    let zero = g.convert(part(try c.operand(7 + 2 * index), direction), .int32)
    return RecurrentWeights(
      c: c, matrix: g.convert(own, .int32) - zero, scale: part(scale, direction))
  }

  private func run(_ direction: Int, _ isReverse: Bool) throws(ImportStop) -> (Value, [Value]) {
    let g = c.g
    let (w, r) = (try weights(1, direction), try weights(2, direction))
    let steps = isReverse ? reversed(x) : x
    let sizes = [Size(gates * hidden), x.shape[2]]
    guard w.matrix.shape == (isQuantized ? sizes.reversed() : sizes) else {
      throw c.fail("the weights are \(w.matrix.type) for inputs of \(x.shape[2]) numbers")
    }
    var inputs = w.product(steps)
    var recurrentBias: Value?
    if let bias = c.optional(3) {
      let both = part(bias, direction)
      let size = Size(gates * hidden)
      inputs = inputs + g.slice(both, axis: 0, from: 0, to: size)
      recurrentBias = g.slice(both, axis: 0, from: size, to: size * 2)
    }
    let peephole = c.optional(7).map { part($0, direction) }
    var start = [try initial(5, direction)]
    if states == 2 { start.append(try initial(6, direction)) }
    let count = activations.count / directions.count
    let functions = Array(activations[direction * count..<(direction + 1) * count])
    let couples = try c.flag("input_forget")
    let resetsLate = try c.flag("linear_before_reset")
    var slices = [inputs]
    if let lengths {
      let step = g.iota(.int64, [x.shape[0], x.shape[1]], axis: 0)
      slices.append(step < g.broadcast(lengths, to: step.shape, axes: [1]))
    }
    let made = g.scan(carried: start, inputs: slices) { g, carried, parts in
      let product = r.product(carried[0])
      var next: [Value]
      switch gates {
      case 4:
        let sum = parts[0] + product + (recurrentBias ?? c.scalar(0, x.dataType))
        next = lstm(g, sum, carried, peephole, functions, couples)
      case 3:
        next = [
          gru(g, parts[0], product, carried[0], r.matrix, recurrentBias, functions, resetsLate)
        ]
      default:
        let sum = parts[0] + product + (recurrentBias ?? c.scalar(0, x.dataType))
        next = [functions[0](g, clipped(g, sum))]
      }
      var output = next[0]
      if parts.count == 2 {
        // A sequence that has ended keeps its state and gives zeros.
        let isOn = g.broadcast(c.unsqueezed(parts[1], [1]), to: output.shape)
        output = g.select(isOn, output, c.scalar(0, output.dataType))
        next = zip(next, carried).map { g.select(isOn, $0, $1) }
      }
      return (next, [output])
    }
    let sequence = isReverse ? reversed(made.outputs[0]) : made.outputs[0]
    return (sequence, made.carried)
  }

  private func clipped(_ g: FunctionBuilder, _ v: Value) -> Value {
    clip.map { $0 > 0 ? g.clamp(v, -$0, $0) : v } ?? v
  }

  /// Gates in the order input, output, forget, cell.
  private func lstm(
    _ g: FunctionBuilder, _ sum: Value, _ carried: [Value], _ peephole: Value?,
    _ f: [Activation], _ couples: Bool
  ) -> [Value] {
    let cell = carried[1]
    func peeped(_ number: Int, _ place: Int, _ state: Value) -> Value {
      let part = gate(sum, number)
      return clipped(g, peephole.map { part + gate($0, place) * state } ?? part)
    }
    let input = f[0](g, peeped(0, 0, cell))
    let forget =
      couples
      ? g.constant(Tensor(splat: 1, input.dataType, [])) - input : f[0](g, peeped(2, 2, cell))
    let candidate = f[1](g, clipped(g, gate(sum, 3)))
    let next = forget * cell + input * candidate
    let output = f[0](g, peeped(1, 1, next))
    return [output * f[2](g, next), next]
  }

  /// Gates in the order update, reset, hidden.
  private func gru(
    _ g: FunctionBuilder, _ input: Value, _ product: Value, _ state: Value, _ r: Value,
    _ bias: Value?, _ f: [Activation], _ resetsLate: Bool
  ) -> Value {
    func biased(_ v: Value, _ number: Int) -> Value { bias.map { v + gate($0, number) } ?? v }
    let update = f[0](g, clipped(g, biased(gate(input, 0) + gate(product, 0), 0)))
    let reset = f[0](g, clipped(g, biased(gate(input, 1) + gate(product, 1), 1)))
    let hiddenPart: Value
    if resetsLate {
      hiddenPart = gate(input, 2) + reset * biased(gate(product, 2), 2)
    } else {
      let rows = c.g.slice(r, axis: 0, from: Size(2 * hidden), to: Size(3 * hidden))
      let late = g.dotGeneral(reset * state, rows, lhsContracting: [1], rhsContracting: [1])
      hiddenPart = biased(gate(input, 2) + late, 2)
    }
    let candidate = f[1](g, clipped(g, hiddenPart))
    return (g.constant(Tensor(splat: 1, update.dataType, [])) - update) * candidate + update * state
  }
}
