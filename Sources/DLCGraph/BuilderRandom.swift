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
  public init(_ builder: FunctionBuilder, key: Value, step: Value? = nil) {
    self.builder = builder
    self.key = builder.convert(key, .uint64)
    offset = step.map { step in
      let wide = builder.convert(step, .uint64)
      return builder.binary(.shift_left, wide, builder.constant(20, .uint64))
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
  ) -> Value { builder.randomBits(key: key, counter: counter(), shape, file: file, line: line) }

  /// float32 in [0, 1), multiples of 2^-24.
  public func uniform(
    _ shape: [Dimension], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    builder.uniform(key: key, counter: counter(), shape, file: file, line: line)
  }

  /// Standard normal float32 (Box and Muller 1958; magnitudes up to 5.7).
  public func normal(
    _ shape: [Dimension], file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let g = builder
    // 1 - u lies in (0, 1].
    let first = g.binary(.subtract, g.constant(1, .float32), uniform(shape, file: file, line: line))
    let second = uniform(shape, file: file, line: line)
    let radius = g.sqrt(g.log(first) * -2.0, file: file, line: line)
    return radius * g.cosine(second * (2 * Double.pi), file: file, line: line)
  }

  /// bool, true with the probability given for each element.
  public func bernoulli(
    _ probability: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let u = builder.convert(
      uniform(probability.shape, file: file, line: line), probability.dataType)
    return builder.compare(.less, u, probability, file: file, line: line)
  }

  /// int32 draws from softmax(logits) over the last axis, by the Gumbel-max rule.
  public func categorical(
    _ logits: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let g = builder
    let u = g.convert(uniform(logits.shape, file: file, line: line), logits.dataType)
    // u in [0, 1): moved off 0 by half a step.
    let noise = -g.log(-g.log(u + 0x1p-25))
    return g.argmax(logits + noise, axis: logits.rank - 1, file: file, line: line)
  }

  /// A random order of 0..<count, int32, all orders equally likely up to ties of 64-bit keys.
  public func permutation(
    _ count: Dimension, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    let g = builder
    let (high, low) = (bits([count], file: file, line: line), bits([count], file: file, line: line))
    let number = g.iota(.int32, [count], axis: 0, file: file, line: line)
    return g.sort([high, low, number], axis: 0, keys: 2, file: file, line: line)[2]
  }
}
