public import DLCTensor

/// Random numbers of one key: every draw takes the next stream of Philox 4x32-10, so that results
/// depend on the key and on the order of the draws in the program, on nothing else.
public final class RandomStream {
  private let builder: FunctionBuilder
  private let key: Value
  /// Added to every stream number: the iteration of a loop, or a step counter.
  private let offset: Value?
  private var draws = 0

  /// - Parameters:
  ///   - key: an integer scalar, such as a seed.
  ///   - step: an integer scalar that sets apart the draws of different iterations.
  public init(
    _ builder: FunctionBuilder, key: Value, step: Value? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) {
    self.builder = builder
    func word(_ number: Value, _ what: String) -> Value {
      builder.enter(file, line, [number]) { g throws(DLCError) in
        guard number.rank == 0, number.dataType.isInteger else {
          throw DLCError(
            .type, "the \(what) of random numbers is an integer scalar, this is \(number.type)")
        }
        return g.convert(number, .uint64)
      }
    }
    self.key = word(key, "key")
    offset = step.map { step in
      let wide = word(step, "step")
      return builder.enter(file, line, [wide]) { g in
        g.binary(.shift_left, wide, g.constant(20, .uint64))
      }
    }
  }

  private func counter() -> Value {
    draws += 1
    let number = builder.constant(Double(draws), .uint64)
    return offset.map { builder.binary(.add, $0, number) } ?? number
  }

  /// uint32 words.
  public func bits(
    _ shape: [Dimension], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in g.randomBits(key: key, counter: counter(), shape) }
  }

  /// float32 in [0, 1), multiples of 2^-24.
  public func uniform(
    _ shape: [Dimension], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in g.uniform(key: key, counter: counter(), shape) }
  }

  /// Standard normal float32 (Box and Muller 1958; magnitudes up to 5.7).
  public func normal(
    _ shape: [Dimension], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in
      // 1 - u lies in (0, 1].
      let first = g.binary(.subtract, g.constant(1, .float32), uniform(shape))
      let second = uniform(shape)
      let radius = g.sqrt(g.log(first) * -2.0)
      return radius * g.cosine(second * (2 * Double.pi))
    }
  }

  /// bool, true with the probability given for each element.
  public func bernoulli(
    _ probability: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key, probability]) { g throws(DLCError) in
      try probability.needFloat("a probability")
      let u = g.convert(uniform(probability.shape), probability.dataType)
      return g.compare(.less, u, probability)
    }
  }

  /// int32 draws from softmax(logits) over the last axis, by the Gumbel-max rule.
  public func categorical(
    _ logits: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key, logits]) { g throws(DLCError) in
      try logits.needFloat("what is drawn from")
      try logits.need(rank: 1, "what is drawn from")
      let u = g.convert(uniform(logits.shape), logits.dataType)
      // u in [0, 1): moved off 0 by half a step.
      let noise = -g.log(-g.log(u + 0x1p-25))
      return g.argmax(logits + noise, axis: -1)
    }
  }

  /// A random order of 0..<count, int32, all orders equally likely up to ties of 64-bit keys.
  public func permutation(
    _ count: Dimension, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in
      let (high, low) = (bits([count]), bits([count]))
      let number = g.iota(.int32, [count], axis: 0)
      return g.sort([high, low, number], axis: 0, keys: 2)[2]
    }
  }
}
