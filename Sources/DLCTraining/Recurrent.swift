public import DLCGraph
public import DLCTensor

/// Recurrent layers over time-major sequences x [T, n, d]. Input projections are one product over all
/// steps; the loop is a scan.
extension FunctionBuilder {
  /// h_t = tanh(projected_t + h_(t-1) W_h^T + b) for projected [T, n, h].
  /// - Returns: all hidden states, and the last one.
  public func rnn(projected: Value, h0: Value, hidden: Value, bias: Value? = nil) -> (
    all: Value, last: Value
  ) {
    named("rnn") {
      let (carried, outputs) = scan(carried: [h0], inputs: [projected]) { g, state, step in
        let h = g.tanh(step[0] + g.linear(state[0], hidden, bias))
        return ([h], [h])
      }
      return (outputs[0], carried[0])
    }
  }

  /// One LSTM layer with gates in the order i, f, g, o: projected [T, n, 4h], W_h [4h, h]
  /// (Hochreiter and Schmidhuber 1997).
  public func lstm(projected: Value, h0: Value, c0: Value, hidden: Value, bias: Value? = nil) -> (
    all: Value, h: Value, c: Value
  ) {
    named("lstm") {
      let size = h0.shape[1]
      let (carried, outputs) = scan(carried: [h0, c0], inputs: [projected]) { g, state, step in
        let gates = step[0] + g.linear(state[0], hidden, bias)
        func gate(_ k: Int) -> Value {
          g.slice(gates, axis: 1, from: size * Dimension(k), to: size * Dimension(k + 1))
        }
        let c = g.logistic(gate(1)) * state[1] + g.logistic(gate(0)) * g.tanh(gate(2))
        let h = g.logistic(gate(3)) * g.tanh(c)
        return ([h, c], [h])
      }
      return (outputs[0], carried[0], carried[1])
    }
  }

  /// One GRU layer with gates in the order r, z, n and n = tanh(x_n + r (W_hn h + b_hn)):
  /// projected [T, n, 3h], W_h [3h, h] (Cho et al. 2014, in cuDNN's form).
  public func gru(projected: Value, h0: Value, hidden: Value, bias: Value? = nil) -> (
    all: Value, last: Value
  ) {
    named("gru") {
      let size = h0.shape[1]
      let (carried, outputs) = scan(carried: [h0], inputs: [projected]) { g, state, step in
        let recurrent = g.linear(state[0], hidden, bias)
        func part(_ v: Value, _ k: Int) -> Value {
          g.slice(v, axis: 1, from: size * Dimension(k), to: size * Dimension(k + 1))
        }
        let r = g.logistic(part(step[0], 0) + part(recurrent, 0))
        let z = g.logistic(part(step[0], 1) + part(recurrent, 1))
        let n = g.tanh(part(step[0], 2) + r * part(recurrent, 2))
        let h = (1 - z) * n + z * state[0]
        return ([h], [h])
      }
      return (outputs[0], carried[0])
    }
  }

  /// sin and cos of position over geometric wavelengths, [length, size] (Vaswani et al. 2017).
  public func sinusoidalPositions(_ length: Dimension, _ size: Int) -> Value {
    let half = size / 2
    let shape: [Dimension] = [length, Dimension(half)]
    let position = iota(.float32, shape, axis: 0)
    let rate = exponential(
      iota(.float32, shape, axis: 1) * (-9.210340371976184 / Double(Swift.max(half, 1))))
    return concatenate([sine(position * rate), cosine(position * rate)], axis: 1)
  }

  /// x [n, T, d] as heads [n, H, T, d / H].
  public func splitHeads(_ x: Value, _ heads: Int) -> Value {
    let size = x.shape[2] / Dimension(heads)
    return transpose(reshape(x, [x.shape[0], x.shape[1], Dimension(heads), size]), [0, 2, 1, 3])
  }

  /// Heads [n, H, T, d / H] side by side as [n, T, d].
  public func mergeHeads(_ x: Value, _ size: Dimension) -> Value {
    reshape(transpose(x, [0, 2, 1, 3]), [x.shape[0], x.shape[2], size])
  }
}
