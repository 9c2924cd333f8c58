import DLCGraph
import DLCKernel
import DLCTensor

/// The factor L of a symmetric matrix L L^T.
extension RoutineWriter {
  /// Column by column; U = L^T is kept so that the inner loops run along memory.
  mutating func cholesky() -> KernelCall {
    let sizes = sizes(0)
    let element = type(0)
    let out = destination(0)
    let (n, batch) = matrices()
    let (upper, column) = (local(element, n * n), local(element, n))
    let zero = Carried(element, initial: .float(0), combiner: .sum)
    each(n * n, .vector(unroll: 1)) { w, i in w.store(upper, i, w.number(0, element), element) }
    each(n) { w, j in
      w.each(n, .vector(unroll: 1)) { w, i in
        let sum = w.loop(n, [zero]) { w, k, sums in
          // Rows of U that are not known yet are zero.
          let a = w.load(upper, k * n + j, element)
          let b = w.load(upper, k * n + i, element)
          return [
            w.apply(.binary(.add), element, sums[0], w.apply(.binary(.multiply), element, a, b))
          ]
        }
        let x = w.e.evaluate(w.node.operands[0], batch + [i, j])
        let y = w.e.evaluate(w.node.operands[0], batch + [j, i])
        let half = w.apply(
          .binary(.multiply), element, w.apply(.binary(.add), element, x, y),
          w.number(0.5, element))
        w.store(column, i, w.apply(.binary(.subtract), element, half, sum[0]), element)
      }
      let pivot = w.apply(.unary(.sqrt), element, w.load(column, j, element))
      w.each(n, .vector(unroll: 1)) { w, i in
        let value = w.apply(.binary(.divide), element, w.load(column, i, element), pivot)
        let (row, diagonal) = (w.position(i), w.position(j))
        let below = w.apply(.compare(.greater), .int64, row, diagonal)
        let equal = w.apply(.compare(.equal), .int64, row, diagonal)
        let lower = w.apply(.select, element, below, value, w.number(0, element))
        w.store(upper, j * n + i, w.apply(.select, element, equal, pivot, lower), element)
      }
    }
    each(n) { w, i in
      w.each(n, .vector(unroll: 1)) { w, j in
        let value = w.load(upper, j * n + i, element)
        w.store(out, linearize(batch + [i, j], sizes), value, element)
      }
    }
    return finish("cholesky", flops: sizes.reduce(1, *) * n)
  }
}
