import DLCGraph
import DLCKernel
import DLCTensor

/// A X = B with a triangular A.
extension RoutineWriter {
  /// Row by row of X, blocks of columns as tiles.
  mutating func solve(_ lower: Bool, _ transpose: Bool, _ unit: Bool) -> KernelCall {
    let shape = sizes(1)
    let element = type(0)
    let out = destination(0)
    let (n, batch) = matrices()
    let columns = shape.last!
    let block = blocks(columns)
    let forward = lower != transpose
    let zero = Carried(element, initial: .float(0), combiner: .sum)
    each(n) { w, step in
      let i = forward ? step : IndexExpression(n - 1) - step
      w.each(columns, .vector(unroll: 1), block: block) { w, c in
        let sum = w.loop(n, [zero]) { w, j, sums in
          let a = w.e.evaluate(w.node.operands[0], batch + (transpose ? [j, i] : [i, j]))
          let x = w.load(out, linearize(batch + [j, c], shape), element)
          let (row, other) = (w.position(i), w.position(j))
          let known = w.apply(.compare(forward ? .less : .greater), .int64, other, row)
          let product = w.apply(.binary(.multiply), element, a, x)
          let term = w.apply(.select, element, known, product, w.number(0, element))
          return [w.apply(.binary(.add), element, sums[0], term)]
        }
        let b = w.e.evaluate(w.node.operands[1], batch + [i, c])
        var value = w.apply(.binary(.subtract), element, b, sum[0])
        if !unit {
          let diagonal = w.e.evaluate(w.node.operands[0], batch + [i, i])
          value = w.apply(.binary(.divide), element, value, diagonal)
        }
        w.store(out, linearize(batch + [i, c], shape), value, element)
      }
    }
    return finish("solve", flops: shape.reduce(1, *) * n)
  }
}
