import DLCGraph
import DLCTensor

/// The body of a scan, which is compared with one step of an LSTM and of a GRU.
struct RecurrentStep {
  struct Gate {
    /// Columns of a slice of a stack.
    var input: (value: ValueID, columns: Range<Int>)
    var hidden: WeightBlock
    var biases: [WeightBlock]
    /// Those that the reset gate multiplies; nil where it multiplies the state, or nothing.
    var resetBiases: [WeightBlock]?
  }

  struct Match {
    var kind: RecurrentLayer.Kind
    var gates: [Gate]
    var resetsLate = false
  }

  private let body: Graph
  private let hidden: ValueID
  private let cell: ValueID?
  private let size: Int
  private let captured: [ValueID: ValueID]
  private let outer: Graph
  private var linear: LinearTerms

  /// - Parameter captured: what arguments are around the scan.
  init(
    _ body: Graph, hidden: ValueID, cell: ValueID?, size: Int, captured: [ValueID: ValueID],
    outer: Graph
  ) {
    self.body = body
    self.hidden = hidden
    self.cell = cell
    self.size = size
    self.captured = captured
    self.outer = outer
    linear = LinearTerms(body) { captured[$0] }
  }

  /// - Parameter next: h and, of an LSTM, c after the step.
  mutating func match(_ next: [ValueID]) -> Match? {
    if let cell { return lstm(next[0], next[1], cell) }
    return gru(next[0])
  }

  /// h = o tanh(c), c = f c + i g
  private mutating func lstm(_ h: ValueID, _ c: ValueID, _ cell: ValueID) -> Match? {
    for (o, squashed) in operands(.multiply, h) {
      guard let output = unary(.logistic, o), let state = unary(.tanh, squashed), same(state, c)
      else { continue }
      for (kept, new) in operands(.add, c) {
        for (f, old) in operands(.multiply, kept) where old == cell {
          for (i, g) in operands(.multiply, new) {
            guard let forget = unary(.logistic, f), let input = unary(.logistic, i),
              let candidate = unary(.tanh, g)
            else { continue }
            let gates = [input, output, forget, candidate].compactMap { gate($0, hidden) }
            if gates.count == 4 { return Match(kind: .lstm, gates: gates) }
          }
        }
      }
    }
    return nil
  }

  /// h = (1 - z) n + z h
  private mutating func gru(_ h: ValueID) -> Match? {
    for (new, kept) in operands(.add, h) {
      for (z, old) in operands(.multiply, kept) where old == hidden {
        for (rest, n) in operands(.multiply, new) {
          guard let update = unary(.logistic, z), let candidate = unary(.tanh, n),
            isComplement(rest, of: z), let gate = gate(update, hidden)
          else { continue }
          if let (reset, last, isLate) = reset(candidate) {
            return Match(kind: .gru, gates: [gate, reset, last], resetsLate: isLate)
          }
        }
      }
    }
    return nil
  }

  /// x + r (W h + b), or x + W (r h) + b
  private mutating func reset(_ candidate: ValueID) -> (reset: Gate, last: Gate, isLate: Bool)? {
    guard let sum = sum(candidate), let input = sum.input else { return nil }
    if let (rows, weights) = sum.product {
      for (r, old) in operands(.multiply, rows) where old == hidden {
        if let inner = unary(.logistic, r), let gate = gate(inner, hidden) {
          return (gate, Gate(input: input, hidden: weights, biases: sum.biases), false)
        }
      }
      return nil
    }
    guard let scaled = sum.other else { return nil }
    for (r, late) in operands(.multiply, scaled) {
      guard let inner = unary(.logistic, r), let gate = gate(inner, hidden),
        let part = self.sum(late), part.input == nil, part.other == nil,
        let (rows, weights) = part.product, rows == hidden
      else { continue }
      let last = Gate(
        input: input, hidden: weights, biases: sum.biases, resetBiases: part.biases)
      return (gate, last, true)
    }
    return nil
  }

  // MARK: Sums

  private struct Sum {
    var input: (value: ValueID, columns: Range<Int>)?
    var product: (rows: ValueID, weights: WeightBlock)?
    var biases: [WeightBlock] = []
    var other: ValueID?
  }

  /// What a value [n, h] is the sum of; nil for more than one term of a kind but biases.
  private mutating func sum(_ value: ValueID) -> Sum? {
    guard body.type(value).shape.last?.constant == size else { return nil }
    var result = Sum()
    for term in linear.terms(value, 0..<size) {
      switch term {
      case .bias(let block): result.biases.append(block)
      case .product(let rows, let block):
        guard result.product == nil else { return nil }
        result.product = (rows, block)
      case .value(let value, let columns):
        if captured[value] == nil, body.argument(value) != nil, value != hidden, value != cell {
          guard result.input == nil else { return nil }
          result.input = (value, columns)
        } else {
          guard result.other == nil, columns == 0..<size,
            body.type(value).shape.last?.constant == size
          else { return nil }
          if isZero(value) { continue }
          result.other = value
        }
      }
    }
    return result
  }

  private mutating func gate(_ value: ValueID, _ state: ValueID) -> Gate? {
    guard let sum = sum(value), let input = sum.input, let (rows, weights) = sum.product,
      rows == state, sum.other == nil
    else { return nil }
    return Gate(input: input, hidden: weights, biases: sum.biases)
  }

  // MARK: Operations

  /// Both orders of the operands of a commutative operation.
  private func operands(_ f: BinaryFunction, _ value: ValueID) -> [(ValueID, ValueID)] {
    guard let node = body.definition(value), case .binary(let o) = node.operation, o.function == f
    else { return [] }
    return [(node.operands[0], node.operands[1]), (node.operands[1], node.operands[0])]
  }

  private func unary(_ f: UnaryFunction, _ value: ValueID) -> ValueID? {
    guard let node = body.definition(value), case .unary(let o) = node.operation, o.function == f
    else { return nil }
    return node.operands[0]
  }

  /// Whether a value is 1 less another.
  private func isComplement(_ value: ValueID, of z: ValueID) -> Bool {
    guard let node = body.definition(value), case .binary(let o) = node.operation,
      o.function == .subtract
    else { return false }
    return number(node.operands[0]) == 1 && same(node.operands[1], z)
  }

  private func isZero(_ value: ValueID) -> Bool { number(value) == 0 }

  /// The number that a value is everywhere, here or around the scan.
  private func number(_ value: ValueID) -> Double? {
    let base = body.viewed(value)
    let source = captured[base]
    var terms = LinearTerms(source == nil ? body : outer) { $0 }
    return terms.splat(source ?? base)
  }

  /// Whether two values are computed alike from the same, in few steps.
  func same(_ a: ValueID, _ b: ValueID) -> Bool {
    var budget = 256
    return same(a, b, &budget)
  }

  private func same(_ a: ValueID, _ b: ValueID, _ budget: inout Int) -> Bool {
    if a == b { return true }
    budget -= 1
    guard budget > 0,
      let (p, q) = body.definition(a).flatMap({ p in body.definition(b).map { (p, $0) } }),
      p.operation == q.operation, p.operands.count == q.operands.count,
      p.results.firstIndex(of: a) == q.results.firstIndex(of: b)
    else { return false }
    for (x, y) in zip(p.operands, q.operands) where !same(x, y, &budget) { return false }
    return true
  }
}

extension Graph {
  /// What a value shows through broadcasts and reshapes.
  fileprivate func viewed(_ value: ValueID) -> ValueID {
    var value = value
    while let node = definition(value) {
      switch node.operation {
      case .broadcast, .reshape: value = node.operands[0]
      default: return value
      }
    }
    return value
  }
}
