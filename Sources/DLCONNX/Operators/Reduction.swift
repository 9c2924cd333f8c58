import DLCGraph
import DLCTensor

/// Reductions. Axes are an attribute, and later an operand.
enum ReductionOperators {
  private typealias Body = @Sendable (NodeContext, Value, [Int], Bool) throws(ImportStop) -> Value

  static let all: [OperatorMapping] =
    both("ReduceSum", since: 13) { c, x, axes, keeps throws(ImportStop) in
      c.g.sum(x, axes: axes, keepAxes: keeps)
    }
    + both("ReduceMean") { c, x, axes, keeps throws(ImportStop) in mean(c, x, axes, keeps) }
    + both("ReduceProd") { c, x, axes, keeps throws(ImportStop) in
      c.g.product(x, axes: axes, keepAxes: keeps)
    }
    + both("ReduceMax") { c, x, axes, keeps throws(ImportStop) in
      c.g.reduce(.maximum, x, axes: axes, keepAxes: keeps)
    }
    + both("ReduceMin") { c, x, axes, keeps throws(ImportStop) in
      c.g.reduce(.minimum, x, axes: axes, keepAxes: keeps)
    }
    + both("ReduceL1") { c, x, axes, keeps throws(ImportStop) in
      c.g.sum(x.dataType.isSigned ? c.g.abs(x) : x, axes: axes, keepAxes: keeps)
    }
    + both("ReduceL2") { c, x, axes, keeps throws(ImportStop) in
      rooted(c, c.g.sum(x * x, axes: axes, keepAxes: keeps))
    }
    + both("ReduceSumSquare") { c, x, axes, keeps throws(ImportStop) in
      c.g.sum(x * x, axes: axes, keepAxes: keeps)
    }
    + both("ReduceLogSum") { c, x, axes, keeps throws(ImportStop) in
      c.g.log(c.g.sum(x, axes: axes, keepAxes: keeps))
    }
    + both("ReduceLogSumExp") { c, x, axes, keeps throws(ImportStop) in logSumExp(c, x, axes, keeps)
    }

  /// An entry for each form.
  /// - Parameter since: the version that makes the axes an operand.
  private static func both(_ name: String, since: Int = 18, _ body: @escaping Body)
    -> [OperatorMapping]
  {
    [
      OperatorMapping(name, inputs: 1) { c throws(ImportStop) in
        let x = try c.operand(0)
        let axes = try c.axes(try c.integers("axes") ?? Array(0..<x.rank), rank: x.rank)
        return [try body(c, x, axes, try c.flag("keepdims", true))]
      },
      OperatorMapping(name, since: since, inputs: 2, statics: ["axes"]) { c throws(ImportStop) in
        let x = try c.operand(0)
        // An absent or empty list means all axes, unless it is said that it means none.
        var axes = try c.integers(orNil: 1) ?? []
        if axes.isEmpty {
          if try c.flag("noop_with_empty_axes") { return [try noop(c, x, body)] }
          axes = Array(0..<x.rank)
        }
        return [try body(c, x, try c.axes(axes, rank: x.rank), try c.flag("keepdims", true))]
      },
    ]
  }

  /// A reduction over no axes: what it does to single elements.
  private static func noop(_ c: NodeContext, _ x: Value, _ body: Body) throws(ImportStop) -> Value {
    let one = c.unsqueezed(x, [x.rank])
    return try body(c, one, [x.rank], false)
  }

  private static func mean(_ c: NodeContext, _ x: Value, _ axes: [Int], _ keeps: Bool) -> Value {
    let count = axes.reduce(Size(1)) { $0 * x.shape[$1] }
    return c.g.sum(x, axes: axes, keepAxes: keeps) / c.g.dimension(count, x.dataType)
  }

  private static func rooted(_ c: NodeContext, _ x: Value) -> Value {
    x.dataType.isFloat
      ? c.g.sqrt(x) : c.g.convert(c.g.sqrt(c.g.convert(x, .float64)), x.dataType)
  }

  /// With the largest element taken out, where that is a number.
  private static func logSumExp(_ c: NodeContext, _ x: Value, _ axes: [Int], _ keeps: Bool) -> Value
  {
    let g = c.g
    let peak = g.reduce(.maximum, x, axes: axes, keepAxes: true)
    let shift = g.select(g.isFinite(peak), peak, c.scalar(0, x.dataType))
    let total = g.sum(g.exponential(x - shift), axes: axes, keepAxes: true)
    let result = g.log(total) + shift
    return keeps
      ? result
      : g.reshape(result, x.shape.indices.filter { !axes.contains($0) }.map { x.shape[$0] })
  }
}
