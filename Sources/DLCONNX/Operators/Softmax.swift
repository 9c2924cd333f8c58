import DLCGraph
import DLCTensor

/// Softmax and its kin. Before version 13 they are over all axes from one on, seen as one.
enum SoftmaxOperators {
  private typealias Body = @Sendable (NodeContext, Value, Int) throws(ImportStop) -> Value

  static let all: [OperatorMapping] =
    both("Softmax") { c, x, axis throws(ImportStop) in c.g.softmax(x, axis: axis) }
    + both("LogSoftmax") { c, x, axis throws(ImportStop) in c.g.logSoftmax(x, axis: axis) }
    + both("Hardmax", hardmax)

  private static func both(_ name: String, _ body: @escaping Body) -> [OperatorMapping] {
    [
      OperatorMapping(name, inputs: 1) { c throws(ImportStop) in
        let x = try c.operand(0)
        let axis = try c.integer("axis", 1)
        guard axis >= -x.rank, axis <= x.rank else {
          throw c.fail("axis \(axis) is out of range for rank \(x.rank)")
        }
        let first = axis < 0 ? axis + x.rank : axis
        if first == x.rank - 1 { return [try body(c, x, first)] }
        let rows = c.flattened(x, at: first)
        return [c.g.reshape(try body(c, rows, 1), x.shape)]
      },
      OperatorMapping(name, since: 13, inputs: 1) { c throws(ImportStop) in
        let x = try c.operand(0)
        return [try body(c, x, try c.axis(try c.integer("axis", -1), rank: x.rank))]
      },
    ]
  }

  /// 1 at the first of the largest elements, else 0.
  private static let hardmax: Body = { c, x, axis throws(ImportStop) in
    let g = c.g
    let largest = g.restore(g.argmax(x, axis: axis, .int64), axes: [axis], to: x.shape)
    return g.convert(largest .== g.iota(.int64, x.shape, axis: axis), x.dataType)
  }
}
