public import DLCGraph
public import DLCTensor

/// Recurrent layers over time-major sequences x [T, n, d]. Input projections are one product over all
/// steps; the loop is a scan.
extension FunctionBuilder {
  /// Throws unless projections [T, n, gates h], states [n, h] and weights [gates h, h] belong together.
  private func match(
    _ projected: Value, _ states: [Value], _ hidden: Value, _ bias: Value?, gates: Int
  ) throws(DLCError) {
    guard projected.rank == 3 else {
      throw DLCError(.type, "projections are [T, n, \(gates) h], these are \(projected.type)")
    }
    for state in states where state.rank != 2 || state.shape[0] != projected.shape[1] {
      throw DLCError(
        .type,
        "the projections are \(projected.type), so that states are [\(projected.shape[1]), h]; this is \(state.type)"
      )
    }
    let size = states[0].shape[1]
    let wide = size * Size(gates)
    guard projected.shape[2] == wide else {
      throw DLCError(
        .type, "a state \(states[0].type) needs projections of \(wide), these are \(projected.type)"
      )
    }
    guard hidden.shape == [wide, size] else {
      throw DLCError(
        .type,
        "a state \(states[0].type) needs weights [\(wide), \(size)], these are \(hidden.type)")
    }
    if let bias, bias.shape != [wide] {
      throw DLCError(.type, "the bias is [\(wide)], this is \(bias.type)")
    }
  }

  /// h_t = tanh(projected_t + h_(t-1) W_h^T + b) for projected [T, n, h].
  /// - Returns: all hidden states, and the last one.
  public func rnn(
    projected: Value, h0: Value, hidden: Value, bias: Value? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) -> (all: Value, last: Value) {
    enter(file, line, [projected, h0, hidden, bias], failing: { ($0, $0) }) { _ throws(DLCError) in
      try match(projected, [h0], hidden, bias, gates: 1)
      return scope("rnn") {
        let (carried, outputs) = scan(carried: [h0], inputs: [projected]) { g, state, step in
          let next = g.rnnCell(step[0], state, hidden, bias)
          return (next, [next[0]])
        }
        return (outputs[0], carried[0])
      }
    }
  }

  /// One LSTM layer with gates in the order i, f, g, o: projected [T, n, 4h], W_h [4h, h]
  /// (Hochreiter and Schmidhuber 1997).
  public func lstm(
    projected: Value, h0: Value, c0: Value, hidden: Value, bias: Value? = nil,
    file: StaticString = #fileID, line: UInt = #line
  ) -> (all: Value, h: Value, c: Value) {
    enter(file, line, [projected, h0, c0, hidden, bias], failing: { ($0, $0, $0) }) {
      _ throws(DLCError) in
      try match(projected, [h0, c0], hidden, bias, gates: 4)
      return scope("lstm") {
        let (carried, outputs) = scan(carried: [h0, c0], inputs: [projected]) { g, state, step in
          let next = g.lstmCell(step[0], state, hidden, bias)
          return (next, [next[0]])
        }
        return (outputs[0], carried[0], carried[1])
      }
    }
  }

  /// One GRU layer with gates in the order r, z, n and n = tanh(x_n + r (W_hn h + b_hn)):
  /// projected [T, n, 3h], W_h [3h, h] (Cho et al. 2014, in cuDNN's form).
  public func gru(
    projected: Value, h0: Value, hidden: Value, bias: Value? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) -> (all: Value, last: Value) {
    enter(file, line, [projected, h0, hidden, bias], failing: { ($0, $0) }) { _ throws(DLCError) in
      try match(projected, [h0], hidden, bias, gates: 3)
      return scope("gru") {
        let (carried, outputs) = scan(carried: [h0], inputs: [projected]) { g, state, step in
          let next = g.gruCell(step[0], state, hidden, bias)
          return (next, [next[0]])
        }
        return (outputs[0], carried[0])
      }
    }
  }

  // MARK: One step

  /// The next state [h] of `rnn`, for the projection [n, h] of one step.
  func rnnCell(_ projected: Value, _ state: [Value], _ hidden: Value, _ bias: Value?) -> [Value] {
    [tanh(projected + linear(state[0], hidden, bias))]
  }

  /// The next state [h, c] of `lstm`.
  func lstmCell(_ projected: Value, _ state: [Value], _ hidden: Value, _ bias: Value?) -> [Value] {
    let size = state[0].shape[1]
    let gates = projected + linear(state[0], hidden, bias)
    func gate(_ k: Int) -> Value {
      slice(gates, axis: 1, from: size * Size(k), to: size * Size(k + 1))
    }
    let c = logistic(gate(1)) * state[1] + logistic(gate(0)) * tanh(gate(2))
    return [logistic(gate(3)) * tanh(c), c]
  }

  /// The next state [h] of `gru`.
  func gruCell(_ projected: Value, _ state: [Value], _ hidden: Value, _ bias: Value?) -> [Value] {
    let size = state[0].shape[1]
    let recurrent = linear(state[0], hidden, bias)
    func part(_ v: Value, _ k: Int) -> Value {
      slice(v, axis: 1, from: size * Size(k), to: size * Size(k + 1))
    }
    let r = logistic(part(projected, 0) + part(recurrent, 0))
    let z = logistic(part(projected, 1) + part(recurrent, 1))
    let n = tanh(part(projected, 2) + r * part(recurrent, 2))
    return [(1 - z) * n + z * state[0]]
  }

  /// sin and cos of position over geometric wavelengths, [length, size] (Vaswani et al. 2017).
  /// - Parameter size: even.
  public func sinusoidalPositions(
    _ length: Size, _ size: Int, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, []) { _ throws(DLCError) in
      guard size >= 2, size % 2 == 0 else {
        throw DLCError(.graph, "positions have a positive even size, not \(size)")
      }
      let half = size / 2
      let shape: [Size] = [length, Size(half)]
      let position = iota(.float32, shape, axis: 0)
      let rate = exponential(
        iota(.float32, shape, axis: 1) * (-9.210340371976184 / Double(half)))
      return concatenate([sine(position * rate), cosine(position * rate)], axis: 1)
    }
  }

  /// x [n, T, d] as heads [n, H, T, d / H].
  public func splitHeads(
    _ x: Value, _ heads: Int, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      try positive(heads, "heads")
      guard x.rank == 3 else { throw DLCError(.type, "heads are of [n, T, d], this is \(x.type)") }
      if let size = x.shape[2].constant, size % heads != 0 {
        throw DLCError(.type, "a size of \(size) does not divide into \(heads) heads")
      }
      let size = x.shape[2] / Size(heads)
      return transpose(
        reshape(x, [x.shape[0], x.shape[1], Size(heads), size]), [0, 2, 1, 3])
    }
  }

  /// Heads [n, H, T, d / H] side by side as [n, T, d].
  public func mergeHeads(
    _ x: Value, _ size: Size, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x]) { _ throws(DLCError) in
      guard x.rank == 4 else { throw DLCError(.type, "heads are [n, H, T, d], this is \(x.type)") }
      return reshape(transpose(x, [0, 2, 1, 3]), [x.shape[0], x.shape[2], size])
    }
  }
}
