public import DLCTensor

/// Random numbers of one key: every draw takes the next stream of Philox 4x32-10, so that results
/// depend on the key and on the order of the draws in the program, on nothing else.
///
/// ```swift
/// let random = RandomStream(g, key: g.input("seed", .int64))
/// g.output("noise", random.normal(["n", 3]))
/// g.output("coins", random.bernoulli(g.constant(0.5, .float32, [100])))  // bool
/// ```
public final class RandomStream {
  private let builder: FunctionBuilder
  private let key: Value
  /// Added to every stream number: the iteration of a loop, or a step counter.
  private let offset: Value?
  private var draws = 0

  /// The streams of a key, in a function that is being built.
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
    _ shape: [Size], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in g.randomBits(key: key, counter: counter(), shape) }
  }

  /// float32 in [0, 1), multiples of 2^-24.
  public func uniform(
    _ shape: [Size], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in g.uniform(key: key, counter: counter(), shape) }
  }

  /// Standard normal float32 (Box and Muller 1958; magnitudes up to 5.8).
  public func normal(
    _ shape: [Size], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in g.normal(bits: bits(shape), bits(shape)) }
  }

  /// bool, true with the probability given for each element, as float32: always for 1, never for 0.
  public func bernoulli(
    _ probability: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key, probability]) { g throws(DLCError) in
      try probability.needFloat("a probability")
      return g.bernoulli(bits: bits(probability.shape), probability)
    }
  }

  /// Standard Gumbel float32: from -2.8 to 16.6.
  public func gumbel(
    _ shape: [Size], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in g.gumbel(bits: bits(shape)) }
  }

  /// int32 draws from softmax(logits) over the last axis, by the Gumbel-max rule, in float32. What has the
  /// logit -inf is never drawn; where all have, the first is.
  public func categorical(
    _ logits: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key, logits]) { g throws(DLCError) in
      try logits.needFloat("what is drawn from")
      try logits.need(rank: 1, "what is drawn from")
      return g.categorical(bits: bits(logits.shape), logits)
    }
  }

  /// A random order of 0..<count, int32, all orders equally likely up to ties of 64-bit keys.
  public func permutation(
    _ count: Size, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.enter(file, line, [key]) { g in
      let (high, low) = (bits([count]), bits([count]))
      let number = g.iota(.int32, [count], axis: 0)
      return g.sort([high, low, number], axis: 0, keys: 2)[2]
    }
  }
}

/// Random numbers made of uint32 words, each in float32 and of the upper 24 bits of a word.
extension FunctionBuilder {
  private func upper(_ bits: Value) -> Value {
    binary(.shift_right_logical, bits, constant(8, .uint32))
  }

  /// Multiples of 2^-24 in [0, 1).
  package func uniform(bits: Value) -> Value { convert(upper(bits), .float32) * 0x1p-24 }

  package func normal(bits first: Value, _ second: Value) -> Value {
    // 1 - u lies in (0, 1].
    let radius = sqrt(log(1 - uniform(bits: first)) * -2.0)
    return radius * cosine(uniform(bits: second) * (2 * Double.pi))
  }

  /// -ln(-ln u), u odd multiples of 2^-24: neither 0 nor 1, and each a float32.
  package func gumbel(bits: Value) -> Value {
    let odd = binary(.or, upper(bits), constant(1, .uint32))
    return -log(-log(convert(odd, .float32) * 0x1p-24))
  }

  package func bernoulli(bits: Value, _ probability: Value) -> Value {
    // Numbers below 1 in float32 may round to 1 in a narrower type.
    compare(.less, uniform(bits: bits), convert(probability, .float32))
  }

  package func categorical(bits: Value, _ logits: Value) -> Value {
    let axis = logits.rank - 1
    // Relative to the largest, so that large logits leave room for the noise.
    let peak = max(logits, axes: [axis])
    let finite = select(unary(.is_finite, peak), peak, constant(0, like: peak))
    let relative = convert(logits - restore(finite, axes: [axis], to: logits.shape), .float32)
    return argmax(relative + gumbel(bits: bits), axis: axis)
  }
}
