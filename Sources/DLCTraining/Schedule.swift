public import DLCGraph
import DLCTensor

/// The rate as a graph.
extension Schedule {
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
      guard isResolved else {
        throw DLCError(
          .usage, "the schedule is measured in epochs or in runs: a step alone has neither",
          remedy: "give its lengths in steps, or train with a Trainer")
      }
      guard base.isFinite else { throw DLCError(.usage, "the base of the rate is \(base)") }
      let steps = g.convert(t, .float32) - 1
      return factor(g, steps) * base
    }
  }

  private func factor(_ g: FunctionBuilder, _ steps: Value) -> Value {
    func number(_ x: Double) -> Value { g.constant(x, .float32) }
    func number(of length: Length) -> Double { max(length.number, 1) }
    /// From a to b along a cosine while x goes from 0 to 1.
    func glide(_ a: Double, _ b: Double, _ x: Value) -> Value {
      let inside = g.minimum(g.maximum(x, number(0)), number(1))
      return (g.cosine(inside * Double.pi) + 1) * ((a - b) / 2) + b
    }
    switch self {
    case .constant: return number(1)
    case .step(let every, let factor):
      let times = g.unary(.floor, steps / number(of: every))
      return g.power(number(factor), times)
    case .cosine(let total, let final): return glide(1, final, steps / number(of: total))
    case .warmup(let count, let then):
      let rise = (steps + 1) / number(of: count)
      let later = then.factor(g, g.maximum(steps - number(of: count), number(0)))
      return g.select(g.compare(.less, steps, number(number(of: count))), rise, later)
    case .oneCycle(let total, let rise):
      let top = number(of: total) * rise
      let up = glide(1 / 25.0, 1, steps / max(top, 1))
      let down = glide(1, 1e-4, (steps - top) / max(number(of: total) - top, 1))
      return g.select(g.compare(.less, steps, number(top)), up, down)
    }
  }
}
