public import DLCGraph
import DLCTensor

/// Draws from logits, as the loop of a language model makes them.
extension FunctionBuilder {
  /// int32 draws [...] from softmax(logits / temperature) over the last axis of logits [..., V], of those
  /// entries alone that top-k and then top-p (Holtzman et al. 2020) keep. A temperature of 0 takes the
  /// largest.
  /// - Parameters:
  ///   - temperature: a float32 scalar.
  ///   - topK: an int32 scalar: so many of the largest are kept; 0 or less: all.
  ///   - topP: a float32 scalar: the largest are kept whose predecessors have a probability less than this
  ///     together; the largest always is, and from 1 on all are.
  public func token(
    _ logits: Value, temperature: Value, topK: Value? = nil, topP: Value? = nil,
    _ random: RandomStream, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [logits, temperature, topK, topP]) { g throws(DLCError) in
      try logits.needFloat("logits")
      try scalar(temperature, .float32, "the temperature")
      let isWarm = g.compare(.greater, temperature, g.constant(0, .float32))
      let scaled = logits / g.select(isWarm, temperature, g.constant(1, .float32))
      let k = g.select(isWarm, topK ?? g.constant(0, .int32), g.constant(1, .int32))
      return random.categorical(g.likeliest(scaled, k: k, p: topP))
    }
  }

  private func scalar(_ x: Value, _ type: DataType, _ what: String) throws(DLCError) {
    guard x.type == TensorType(type) else {
      throw DLCError(.type, "\(what) is a \(type) scalar, this is \(x.type)")
    }
  }

  /// Logits [..., V] with -inf for what top-k and top-p leave out; see `token`. Of equal ones the first
  /// are kept.
  package func likeliest(
    _ logits: Value, k: Value? = nil, p: Value? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [logits, k, p]) { g throws(DLCError) in
      try logits.need(rank: 1, "logits")
      let shape = logits.shape
      let rank = g.iota(.int32, shape, axis: -1)
      let sorted = g.sort([logits, rank], descending: true)
      let none = g.constant(-.infinity, like: logits)
      var keep: Value?
      if let k {
        try scalar(k, .int32, "k")
        keep =
          g.compare(.less, rank, g.broadcast(k, to: shape))
          | g.broadcast(g.compare(.less_equal, k, g.constant(0, .int32)), to: shape)
      }
      if let p {
        try scalar(p, .float32, "p")
        let rest = keep.map { g.select($0, sorted[0], none) } ?? sorted[0]
        let before = g.cumulativeSum(g.softmax(rest), axis: -1, exclusive: true)
        let all = g.compare(.greater_equal, p, g.constant(1, .float32))
        let enough =
          g.compare(.less, before, g.broadcast(g.convert(p, before.dataType), to: shape))
          | g.compare(.equal, rank, g.constant(0, like: rank)) | g.broadcast(all, to: shape)
        keep = keep.map { $0 & enough } ?? enough
      }
      guard let keep else { return logits }
      let isKept = g.scatterAlong(
        -1, g.constant(0, .bool, shape), sorted[1], keep, nil)
      return g.select(isKept, logits, none)
    }
  }
}
