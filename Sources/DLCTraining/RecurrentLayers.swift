public import DLCGraph
public import DLCTensor

extension Layers {
  /// The cells of `recurrent`.
  public enum Cell: String, Sendable, CaseIterable {
    /// Those of `FunctionBuilder.rnn` (tanh), `lstm` and `gru`.
    case rnn, lstm, gru

    /// How many arrays the state of a layer has: h, and c of an LSTM.
    var states: Int { self == .lstm ? 2 : 1 }
    /// How many projections of the size of a state a layer has.
    var gates: Int {
      switch self {
      case .rnn: 1
      case .lstm: 4
      case .gru: 3
      }
    }
  }

  /// Stacked recurrent layers over x [T, n, d] from zero states; all hidden states of the last one.
  /// Parameters `name.k.w_ih`, `w_hh`, `b_ih`, `b_hh`, gates in the order of `lstm` and `gru`.
  ///
  /// ```swift
  /// let x = g.input("x", .float32, [5, "n", 3])  // time comes first
  /// g.output("h", Layers(g).recurrent("lstm", .lstm, x, size: 4, layers: 2))  // [5, n, 4]
  /// ```
  public func recurrent(
    _ name: String, _ cell: Cell, _ x: Value, size: Size, layers: Int = 1,
    file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    layer(name, file, line, [x]) { g throws(DLCError) in
      try x.need(rank: 3, "a sequence [T, n, d]")
      return recurrent(name, cell, x, size: size, layers: layers, state: []).sequence
    }
  }

  /// The same from a state, which it gives back as the last step left it: what is computed of a sequence
  /// does not depend on where it was cut.
  /// - Parameter state: arrays [n, size], for each layer h and, of an LSTM, c after it; as
  ///   `recurrentState` makes them.
  public func recurrent(
    _ name: String, _ cell: Cell, _ x: Value, size: Size, layers: Int = 1, state: [Value],
    file: StaticString = #fileID, line: UInt = #line
  ) -> (sequence: Value, state: [Value]) {
    stacked(name, cell, x, size, layers, state, file, line, "a sequence [T, n, d]", rank: 3) {
      g, projected, state, weights in
      switch cell {
      case .rnn:
        let (all, last) = g.rnn(
          projected: projected, h0: state[0], hidden: weights.hidden, bias: weights.bias)
        return (all, [last])
      case .lstm:
        let (all, h, c) = g.lstm(
          projected: projected, h0: state[0], c0: state[1], hidden: weights.hidden,
          bias: weights.bias)
        return (all, [h, c])
      case .gru:
        let (all, last) = g.gru(
          projected: projected, h0: state[0], hidden: weights.hidden, bias: weights.bias)
        return (all, [last])
      }
    }
  }

  /// One step of the same layers for x [n, d], as inside of a loop that carries the state.
  /// - Returns: h of the last layer [n, size], and the next state.
  public func recurrentStep(
    _ name: String, _ cell: Cell, _ x: Value, size: Size, layers: Int = 1, state: [Value],
    file: StaticString = #fileID, line: UInt = #line
  ) -> (output: Value, state: [Value]) {
    let (output, state) = stacked(
      name, cell, x, size, layers, state, file, line, "one step [n, d]", rank: 2
    ) { g, projected, state, weights in
      let next =
        switch cell {
        case .rnn: g.rnnCell(projected, state, weights.hidden, weights.bias)
        case .lstm: g.lstmCell(projected, state, weights.hidden, weights.bias)
        case .gru: g.gruCell(projected, state, weights.hidden, weights.bias)
        }
      return (next[0], next)
    }
    return (output, state)
  }

  /// The state of `recurrent` before a sequence: zeros.
  public func recurrentState(
    _ cell: Cell, _ count: Size, size: Size, layers: Int = 1, file: StaticString = #fileID,
    line: UInt = #line
  ) -> [Value] {
    (0..<max(layers, 0) * cell.states).map { _ in
      g.enter(file, line, []) { $0.constant(0, dataType, [count, size]) }
    }
  }

  /// All layers, one after the other.
  /// - Parameters:
  ///   - state: zeros when there is none.
  ///   - run: gets the projections of a layer's input, its state, and its weights for that; gives its
  ///     output and its next state.
  private func stacked(
    _ name: String, _ cell: Cell, _ x: Value, _ size: Size, _ layers: Int, _ state: [Value],
    _ file: StaticString, _ line: UInt, _ what: String, rank: Int,
    run: (FunctionBuilder, Value, [Value], (hidden: Value, bias: Value)) -> (Value, [Value])
  ) -> (Value, [Value]) {
    layer(name, file, line, [x] + state, failing: { p in (p, state.map { _ in p }) }) {
      g throws(DLCError) in
      guard x.rank == rank else { throw DLCError(.type, "\(what) is wanted, this is \(x.type)") }
      try positive(layers, "layers")
      let count = cell.states
      guard state.isEmpty || state.count == layers * count else {
        throw DLCError(
          .graph,
          "\(layers) layers of \(cell.rawValue) have a state of \(layers * count) arrays, \(state.count) are given"
        )
      }
      var sequence = x
      var next: [Value] = []
      for layer in 0..<layers where !sequence.isPoisoned {
        let inner = scope("\(name).\(layer)")
        let wide = size * Size(cell.gates)
        let wi = inner.parameter("w_ih", [wide, sequence.shape[rank - 1]], fan(size))
        let wh = inner.parameter("w_hh", [wide, size], fan(size))
        let bi = inner.parameter("b_ih", [wide], fan(size))
        let bh = inner.parameter("b_hh", [wide], fan(size))
        let zero = g.constant(0, x.dataType, [x.shape[rank - 2], size])
        let own =
          state.isEmpty
          ? [Value](repeating: zero, count: count)
          : Array(state[layer * count..<(layer + 1) * count])
        let (output, last) = run(g, g.linear(sequence, wi, bi), own, (wh, bh))
        sequence = output
        next += last
      }
      return (sequence, next)
    }
  }
}
