package import DLCTensor

/// A learning rate as a function of the step, computed in the graph.
public indirect enum Schedule: Hashable, Sendable {
  /// A part of a run.
  public enum Length: Hashable, Sendable, ExpressibleByIntegerLiteral {
    /// Steps of the optimizer.
    case steps(Int)
    /// Passes over the data.
    case epochs(Double)
    /// A share of the whole run, from 0 to 1.
    case run(Double)

    /// So many steps.
    public init(integerLiteral steps: Int) { self = .steps(steps) }

    package var number: Double {
      switch self {
      case .steps(let count): Double(count)
      case .epochs(let count): count
      case .run(let share): share
      }
    }

    /// The steps that it takes; nil while that depends on the run.
    package var steps: Int? {
      if case .steps(let count) = self { return count }
      return nil
    }

    fileprivate func resolved(_ stepsPerEpoch: Int, _ epochs: Int) -> Length {
      func count(_ passes: Double) -> Length {
        .steps(max(1, Int((passes * Double(stepsPerEpoch)).rounded())))
      }
      return switch self {
      case .steps: self
      case .epochs(let passes): count(passes)
      case .run(let share): count(share * Double(epochs))
      }
    }
  }

  /// The base rate at every step.
  case constant
  /// Multiplied by `factor` after every `every`.
  case step(every: Length, factor: Double = 0.1)
  /// Half a cosine from the base rate to `final` times it, and then that.
  case cosine(total: Length, final: Double = 0)
  /// Rises linearly, then follows another schedule from its beginning.
  case warmup(steps: Length, then: Schedule = .constant)
  /// Rises for `rise` of the total from 1/25 of the base rate to it, then falls to 1/10,000 of it,
  /// both along cosines (Smith and Topin 2019).
  case oneCycle(total: Length, rise: Double = 0.3)

  /// Half a cosine from the base rate to 0 over the whole run.
  public static let cosine = Schedule.cosine(total: .run(1))

  /// `step` with a length in steps.
  public static func step(every: Int, factor: Double = 0.1) -> Schedule {
    .step(every: .steps(every), factor: factor)
  }
  /// `cosine` with a length in steps.
  public static func cosine(total: Int, final: Double = 0) -> Schedule {
    .cosine(total: .steps(total), final: final)
  }
  /// `warmup` with a length in steps.
  public static func warmup(steps: Int, then: Schedule = .constant) -> Schedule {
    .warmup(steps: .steps(steps), then: then)
  }
  /// `oneCycle` with a length in steps.
  public static func oneCycle(total: Int, rise: Double = 0.3) -> Schedule {
    .oneCycle(total: .steps(total), rise: rise)
  }

  /// The same with all lengths in steps.
  package func resolved(stepsPerEpoch: Int, epochs: Int) -> Schedule {
    func steps(_ length: Length) -> Length { length.resolved(stepsPerEpoch, epochs) }
    switch self {
    case .constant: return self
    case .step(let every, let factor): return .step(every: steps(every), factor: factor)
    case .cosine(let total, let final): return .cosine(total: steps(total), final: final)
    case .warmup(let rise, let then):
      return .warmup(
        steps: steps(rise), then: then.resolved(stepsPerEpoch: stepsPerEpoch, epochs: epochs))
    case .oneCycle(let total, let rise): return .oneCycle(total: steps(total), rise: rise)
    }
  }

  /// Whether all its lengths are in steps.
  package var isResolved: Bool {
    switch self {
    case .constant: true
    case .step(let length, _), .cosine(let length, _), .oneCycle(let length, _):
      length.steps != nil
    case .warmup(let length, let then): length.steps != nil && then.isResolved
    }
  }

  /// Throws `.usage` for numbers that no schedule has.
  package func validate(_ place: String) throws(DLCError) {
    func require(_ holds: Bool, _ what: String, _ value: String, _ range: String) throws(DLCError) {
      if !holds {
        throw DLCError(
          .usage, "\(what) of the schedule is \(value): it must be \(range)", at: place)
      }
    }
    func require(_ length: Length, _ what: String) throws(DLCError) {
      switch length {
      case .steps(let count): try require(count >= 1, what, "\(count)", "positive")
      case .epochs(let count):
        try require(
          count > 0 && count < 1e9, what, "\(count) epochs", "a positive number of epochs")
      case .run(let share):
        try require(share > 0 && share <= 1, what, "\(share) of the run", "more than 0, at most 1")
      }
    }
    switch self {
    case .constant: break
    case .step(let every, let factor):
      try require(every, "the interval")
      try require(factor.isFinite && factor >= 0, "the factor", "\(factor)", "a number from 0 on")
    case .cosine(let total, let final):
      try require(total, "the total")
      try require(final.isFinite && final >= 0, "the final share", "\(final)", "a number from 0 on")
    case .oneCycle(let total, let rise):
      try require(total, "the total")
      try require(rise > 0 && rise < 1, "the rise", "\(rise)", "between 0 and 1")
    case .warmup(let steps, let then):
      try require(steps, "the warm-up")
      try then.validate(place)
    }
  }
}

extension Schedule.Length: CustomStringConvertible {
  /// As `--schedule` of `dlc train` is written.
  public var description: String {
    switch self {
    case .steps(let count): "\(count) steps"
    case .epochs(let count): "\(count) epochs"
    case .run(let share): "\(share) of the run"
    }
  }
}
