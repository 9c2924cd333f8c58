import DLCGraph
import DLCTensor

/// An LSTM or a GRU that a graph has as a scan over projections of its input.
struct RecurrentLayer {
  enum Kind: String {
    case lstm = "LSTM"
    case gru = "GRU"
  }

  /// What one gate adds up before its activation function.
  struct Gate {
    var input: WeightBlock
    var hidden: WeightBlock
    /// Of the input's half and of the state's, as ONNX has them.
    var biases: (input: WeightBlock?, hidden: WeightBlock?) = (nil, nil)
  }

  let kind: Kind
  /// In ONNX's order: i, o, f, c or z, r, h.
  let gates: [Gate]
  /// The sequence [T, n, d].
  let sequence: ValueID
  /// h and c before the first step; nil for zeros.
  let start: [ValueID?]
  let size: Int
  let isReverse: Bool
  let resetsLate: Bool
  /// The positions of h and c among what is carried.
  let places: [Int]
  /// The nodes that give the projections and zeros.
  let members: Set<Int>

  /// The scan of a node, when it is one.
  init?(_ node: Node, _ graph: Graph) {
    guard case .loop(let loop)? = node.operation.flow, loop.condition == nil,
      !loop.stacks.isEmpty, 1...2 ~= loop.carried
    else { return nil }
    let body = loop.body.graph
    let carried = Array(body.argumentValues[..<loop.carried])
    guard
      carried.allSatisfy({ body.type($0).rank == 2 && body.type($0) == body.type(carried[0]) }),
      body.type(carried[0]).dataType == .float32,
      let size = body.type(carried[0]).shape[1].constant
    else { return nil }
    var captured: [ValueID: ValueID] = [:]
    for (argument, operand) in zip(
      body.argumentValues[(loop.carried + loop.stacks.count)...],
      node.operands[loop.body.operands])
    {
      captured[argument] = operand
    }
    let orders = loop.carried == 2 ? [[0, 1], [1, 0]] : [[0]]
    for order in orders {
      var step = RecurrentStep(
        body, hidden: carried[order[0]], cell: order.count == 2 ? carried[order[1]] : nil,
        size: size, captured: captured, outer: graph)
      let next = order.map { body.results[$0].value }
      guard let found = step.match(next),
        body.results[loop.carried...].allSatisfy({ step.same($0.value, next[0]) })
      else { continue }
      let stacks = Dictionary(
        uniqueKeysWithValues: zip(
          body.argumentValues[loop.carried...], node.operands[loop.stacks]))
      var projections = LinearTerms(graph) { $0 }
      guard let (sequence, gates) = Self.projected(found.gates, stacks, &projections) else {
        continue
      }
      kind = found.kind
      self.gates = gates
      self.sequence = sequence
      self.size = size
      start = order.map { projections.splat(node.operands[$0]) == 0 ? nil : node.operands[$0] }
      isReverse = loop.reverse
      resetsLate = found.resetsLate
      places = order
      members = projections.members
      return
    }
    return nil
  }

  /// The gates with the weights that all their inputs are projected with, from one sequence.
  private static func projected(
    _ gates: [RecurrentStep.Gate], _ stacks: [ValueID: ValueID], _ terms: inout LinearTerms
  ) -> (ValueID, [Gate])? {
    var sequences: Set<ValueID> = []
    var results: [Gate] = []
    for gate in gates {
      guard let stack = stacks[gate.input.value] else { return nil }
      var weights: WeightBlock?
      var biases: [WeightBlock] = []
      for term in terms.terms(stack, gate.input.columns) {
        switch term {
        case .product(let x, let block) where weights == nil:
          weights = block
          sequences.insert(x)
        case .bias(let block): biases.append(block)
        default: return nil
        }
      }
      guard let weights, weights.outputs.count == gate.hidden.outputs.count else { return nil }
      biases += gate.biases
      var result = Gate(input: weights, hidden: gate.hidden)
      if let inner = gate.resetBiases {
        guard biases.count <= 1, inner.count <= 1 else { return nil }
        result.biases = (biases.first, inner.first)
      } else {
        guard biases.count <= 2 else { return nil }
        result.biases = (biases.first, biases.dropFirst().first)
      }
      results.append(result)
    }
    guard let sequence = sequences.first, sequences.count == 1,
      terms.graph.type(sequence).rank == 3
    else { return nil }
    return (sequence, results)
  }

  /// The values that the operator takes by name.
  var operands: Set<ValueID> {
    var values = Set(start.compactMap(\.self))
    values.insert(sequence)
    for gate in gates {
      for block in [gate.input, gate.hidden, gate.biases.input, gate.biases.hidden] {
        if let block { values.insert(block.value) }
      }
    }
    return values
  }

  /// Adds the operator; gives the names of the scan's results.
  func add(_ node: Node, _ exporter: GraphExporter, _ names: [ValueID: String]) throws(DLCError)
    -> [String]
  {
    func unsqueezed(_ value: String) -> String {
      exporter.emit("Unsqueeze", [value, exporter.integers([0])])
    }
    var inputs = [names[sequence]!]
    for blocks in [gates.map(\.input), gates.map(\.hidden)] {
      inputs.append(unsqueezed(joined(blocks, exporter, names)))
    }
    let biases = gates.map(\.biases.input) + gates.map(\.biases.hidden)
    let hasBias = biases.contains { $0 != nil }
    inputs.append(hasBias ? unsqueezed(joined(biases, exporter, names)) : "")
    inputs.append("")
    for value in start { inputs.append(value.map { unsqueezed(names[$0]!) } ?? "") }
    while inputs.last == "" { inputs.removeLast() }
    var attributes: [String: ONNXAttribute] = ["hidden_size": .integer(size)]
    if isReverse { attributes["direction"] = .text(Array("reverse".utf8)) }
    if resetsLate { attributes["linear_before_reset"] = .integer(1) }
    let made = exporter.emit(kind.rawValue, inputs, attributes, outputs: 1 + places.count)
    func squeezed(_ value: String, _ axis: Int) -> String {
      exporter.emit("Squeeze", [value, exporter.integers([axis])])
    }
    var results = [String](repeating: "", count: places.count)
    for (index, place) in places.enumerated() { results[place] = squeezed(made[1 + index], 0) }
    let steps = node.results.count - places.count
    return steps == 0
      ? results : results + [String](repeating: squeezed(made[0], 1), count: steps)
  }

  /// Blocks one after the other along the first axis; zeros for those that are not there.
  private func joined(
    _ blocks: [WeightBlock?], _ exporter: GraphExporter, _ names: [ValueID: String]
  ) -> String {
    var runs: [WeightBlock?] = []
    for block in blocks {
      if let block, let last = runs.last ?? nil, last.value == block.value,
        last.isTransposed == block.isTransposed, last.outputs.upperBound == block.outputs.lowerBound
      {
        runs[runs.count - 1]!.outputs = last.outputs.lowerBound..<block.outputs.upperBound
      } else {
        runs.append(block)
      }
    }
    let parts = runs.map { block -> String in
      guard let block else { return exporter.constant(Tensor(zeros: .float32, [size])) }
      var name = names[block.value]!
      if block.isTransposed { name = exporter.transpose(name, [1, 0]) }
      guard block.outputs.count < block.count else { return name }
      return exporter.emit(
        "Slice",
        [
          name, exporter.integers([block.outputs.lowerBound]),
          exporter.integers([block.outputs.upperBound]), exporter.integers([0]),
        ])
    }
    return parts.count == 1 ? parts[0] : exporter.emit("Concat", parts, ["axis": .integer(0)])
  }
}
