package import DLCTensor

/// Runs a graph for each slice of the stacked operands along their first axis (from the last one, in
/// reverse), with values carried from one iteration to the next. Operands: carried values, stacked
/// inputs [length, ...], captured values. Results: carried values, stacked outputs [length, ...].
package struct Scan: ControlOperator {
  package var body: Graph
  package var length: Size
  package var carried: Int
  package var stacked: Int
  package var reverse: Bool
  package init(body: Graph, length: Size, carried: Int, stacked: Int, reverse: Bool) {
    self.body = body
    self.length = length
    self.carried = carried
    self.stacked = stacked
    self.reverse = reverse
  }

  package static let mnemonics = ["scan"]
  package var mnemonic: String { "scan" }
  package var attributes: [Attribute] {
    [
      Attribute("length", .dimensions([length])), Attribute("carried", .integer(carried)),
      Attribute("stacked", .integer(stacked)), Attribute("reverse", .flag(reverse)),
    ]
  }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    body = try attributes.region()
    length = try attributes.dimension("length")
    carried = try attributes.integer("carried")
    stacked = try attributes.integer("stacked")
    reverse = try attributes.flag("reverse")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try require(
      carried >= 0 && stacked >= 0 && carried <= operands.count
        && stacked <= operands.count - carried && carried <= body.results.count, "scan-counts",
      "\(carried) carried and \(stacked) stacked values do not fit the operands")
    var types = operands
    for index in carried..<carried + stacked {
      try require(
        operands[index].rank >= 1 && operands[index].shape[0] == length, "scan-length",
        "\(operands[index]) is not stacked \(length) times")
      types[index].shape.removeFirst()
    }
    if let length = length.constant {
      try require(
        length >= 0 && length <= TensorType.maximumElementCount, "scan-length",
        "length \(length) is out of range")
    }
    try requireArguments(body.arguments, types, "scan-arguments")
    let results = body.resultTypes
    try require(
      Array(results[..<carried]) == Array(operands[..<carried]), "scan-results",
      "the body gives \(results[..<carried]) for carried \(operands[..<carried])")
    return Array(results[..<carried])
      + results[carried...].map { TensorType($0.dataType, [length] + $0.shape) }
  }

  package var flow: ControlFlow {
    .loop(
      ControlLoop(
        carried: carried, stacks: carried..<carried + stacked, condition: nil,
        body: ControlFlow.Arm("body", body, carried + stacked..<body.arguments.count),
        count: length, reverse: reverse))
  }

  package func trimmed(to used: [Bool]) throws(DLCError) -> TrimmedControl? {
    // Carried values that are used, or that something used depends on.
    var keep = Set(used.indices.filter { used[$0] })
    while true {
      let live = body.live(for: keep)
      let more = (0..<carried).filter {
        live.contains(body.argumentValues[$0]) && !keep.contains($0)
      }
      if more.isEmpty { break }
      keep.formUnion(more)
    }
    let kept = keep.sorted()
    // A carried value that is written but not read needs its argument all the same.
    let (small, arguments) = try body.pruned(
      to: kept, keepingArguments: Set(kept.filter { $0 < carried }))
    if arguments.count == body.arguments.count && kept.count == used.count { return nil }
    let scan = Scan(
      body: small, length: length, carried: kept.count { $0 < carried },
      stacked: arguments.count { (carried..<carried + stacked).contains($0) }, reverse: reverse)
    return TrimmedControl(operation: .scan(scan), operands: arguments, results: kept)
  }

  package static var samples: [OperatorSample] {
    let (state, input) = (TensorType(.float32, [3, 5]), TensorType(.float32, [3, 4]))
    let (w, u) = (TensorType(.float32, [5, 4]), TensorType(.float32, [5, 5]))
    let cell = regionSample([state, input, w, u]) { g, x in
      let h = g.tanh(g.linear(x[1], x[2]) + g.linear(x[0], x[3]))
      return [h, h * 2.0, g.sum(h, axes: [1])]
    }
    let sum = regionSample([TensorType(.float64), TensorType(.float64)]) { g, x in
      [x[0] * 0.5 + x[1], x[0]]
    }
    var samples = [false, true].map { reverse in
      OperatorSample(
        .scan(Scan(body: cell, length: 6, carried: 1, stacked: 1, reverse: reverse)),
        [state, TensorType(.float32, [6, 3, 4]), w, u], range: -1...1)
    }
    for length in [0, 1, 9] {
      samples.append(
        OperatorSample(
          .scan(
            Scan(body: sum, length: Size(length), carried: 1, stacked: 1, reverse: false)),
          [TensorType(.float64), TensorType(.float64, [Size(length)])]))
    }
    return samples
  }
}
