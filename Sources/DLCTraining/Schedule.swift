public import DLCGraph
import DLCTensor

/// A learning rate as a function of the step, computed in the graph.
public indirect enum Schedule: Hashable, Sendable {
  case constant
  /// Multiplied by `factor` every `every` steps.
  case step(every: Int, factor: Double = 0.1)
  /// Half a cosine from the base rate to `final` times it over `total` steps.
  case cosine(total: Int, final: Double = 0)
  /// Rises linearly over `steps` steps, then follows another schedule from its beginning.
  case warmup(steps: Int, then: Schedule = .constant)
  /// Rises for `rise` of `total` steps from 1/25 of the base rate to it, then falls to 1/10,000 of it,
  /// both along cosines (Smith and Topin 2019).
  case oneCycle(total: Int, rise: Double = 0.3)

  /// Throws `.usage` for numbers that no schedule has.
  func validate(_ place: String) throws(DLCError) {
    func require(_ holds: Bool, _ what: String, _ value: String, _ range: String) throws(DLCError) {
      if !holds {
        throw DLCError(
          .usage, "\(what) of the schedule is \(value): it must be \(range)", at: place)
      }
    }
    switch self {
    case .constant: break
    case .step(let every, let factor):
      try require(every >= 1, "the interval", "\(every)", "positive")
      try require(factor.isFinite && factor >= 0, "the factor", "\(factor)", "a number from 0 on")
    case .cosine(let total, let final):
      try require(total >= 1, "the total", "\(total)", "positive")
      try require(final.isFinite && final >= 0, "the final share", "\(final)", "a number from 0 on")
    case .oneCycle(let total, let rise):
      try require(total >= 1, "the total", "\(total)", "positive")
      try require(rise > 0 && rise < 1, "the rise", "\(rise)", "between 0 and 1")
    case .warmup(let steps, let then):
      try require(steps >= 1, "the warm-up", "\(steps)", "positive")
      try then.validate(place)
    }
  }

  /// The rate at step t, an int32 scalar that counts from 1.
  public func rate(
    _ g: FunctionBuilder, base: Double, _ t: Value, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    g.enter(file, line, [t]) { g throws(DLCError) in
      guard t.rank == 0, t.dataType.isInteger else {
        throw DLCError(.type, "the step is an integer scalar, this is \(t.type)")
      }
      try validate("")
      guard base.isFinite else { throw DLCError(.usage, "the base of the rate is \(base)") }
      let steps = g.convert(t, .float32) - 1
      return factor(g, steps) * base
    }
  }

  private func factor(_ g: FunctionBuilder, _ steps: Value) -> Value {
    func number(_ x: Double) -> Value { g.constant(x, .float32) }
    /// From a to b along a cosine while x goes from 0 to 1.
    func glide(_ a: Double, _ b: Double, _ x: Value) -> Value {
      let inside = g.minimum(g.maximum(x, number(0)), number(1))
      return (g.cosine(inside * Double.pi) + 1) * ((a - b) / 2) + b
    }
    switch self {
    case .constant: return number(1)
    case .step(let every, let factor):
      let times = g.unary(.floor, steps / Double(max(every, 1)))
      return g.power(number(factor), times)
    case .cosine(let total, let final): return glide(1, final, steps / Double(max(total, 1)))
    case .warmup(let count, let then):
      let rise = (steps + 1) / Double(max(count, 1))
      let later = then.factor(g, g.maximum(steps - Double(count), number(0)))
      return g.select(g.compare(.less, steps, number(Double(count))), rise, later)
    case .oneCycle(let total, let rise):
      let top = Double(max(total, 1)) * rise
      let up = glide(1 / 25.0, 1, steps / max(top, 1))
      let down = glide(1, 1e-4, (steps - top) / max(Double(total) - top, 1))
      return g.select(g.compare(.less, steps, number(top)), up, down)
    }
  }
}
