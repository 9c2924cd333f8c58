/// What things cost in vector instructions for each vector of elements: the one table that fusion,
/// recomputation, saved values, schedules and reports ask.
package enum InstructionCost {
  /// A load or a store of neighbouring elements.
  package static let access = 1
  /// An element at a position that other data give.
  package static let gather = 4
  /// A word of the Philox stream.
  package static let randomBits = 80
  /// What a reduction adds for each element: combining it.
  package static let combine = 1
  /// Saving a value and reading it later, with what that takes from the caches: computing a value again
  /// for less is cheap.
  package static let keeping = 24

  /// Whether an operation is a long chain of instructions, each of which waits for the one before: the processor looks
  /// ahead over two or three such chains, so several of them are written side by side.
  package static func isChain(_ operation: ScalarOperation) -> Bool {
    switch operation {
    case .unary(.exponential), .unary(.exponential_minus_one), .unary(.log), .unary(.tanh),
      .unary(.logistic), .unary(.erf), .unary(.erfc):
      true
    default: false
    }
  }

  package static func of(_ operation: ScalarOperation) -> Int {
    switch operation {
    case .unary(let f):
      switch f {
      case .negate, .abs, .sign, .floor, .ceil, .round_nearest_even, .not, .is_finite: 1
      case .stop_gradient: 0
      case .sqrt, .rsqrt: 6
      default: 16
      }
    case .binary(let f):
      switch f {
      case .divide: 5
      case .remainder, .power, .atan2: 24
      case .maximum, .minimum: 2
      default: 1
      }
    case .compare, .select: 1
    case .clamp: 3
    case .convert: 2
    case .reinterpret: 1
    }
  }
}
