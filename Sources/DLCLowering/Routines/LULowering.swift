import DLCGraph
import DLCKernel
import DLCTensor

/// P A = L U with row exchanges.
extension RoutineWriter {
  /// Right-looking elimination with row exchanges, in the place of the result.
  mutating func lu() -> KernelCall {
    let sizes = sizes(0)
    let element = type(0)
    let (out, pivots, permutation) = (destination(0), destination(1), destination(2))
    let (n, batch) = matrices()
    let rows = Array(sizes.dropLast())
    func at(_ i: IndexExpression, _ j: IndexExpression) -> IndexExpression {
      linearize(batch + [i, j], sizes)
    }
    each(n) { w, i in
      w.store(permutation, linearize(batch + [i], rows), w.position(i, .int32), .int32)
      w.each(n, .vector(unroll: 1)) { w, j in
        w.store(out, at(i, j), w.e.evaluate(w.node.operands[0], batch + [i, j]), element)
      }
    }
    each(n) { w, j in
      let best = w.loop(
        n,
        [
          Carried(element, initial: .float(-1)),
          Carried(.int64, initial: .integer(0)),
        ]
      ) { w, i, best in
        let size = w.apply(.unary(.abs), element, w.load(out, at(i, j), element))
        let (row, start) = (w.position(i), w.position(j))
        let isFirst = w.apply(.compare(.equal), .int64, row, start)
        let isLater = w.apply(.compare(.greater), .int64, row, start)
        let larger = w.apply(.compare(.greater), element, size, best[0])
        let better = w.apply(.binary(.and), .bool, isLater, larger)
        let takes = w.apply(.binary(.or), .bool, isFirst, better)
        return [
          w.apply(.select, element, takes, size, best[0]),
          w.apply(.select, .int64, takes, row, best[1]),
        ]
      }
      let p = w.bind(best[1], extent: n)
      w.store(pivots, linearize(batch + [j], rows), w.position(p, .int32), .int32)
      let (here, there) = (linearize(batch + [j], rows), linearize(batch + [p], rows))
      let (a, b) = (w.load(permutation, here, .int32), w.load(permutation, there, .int32))
      w.store(permutation, here, b, .int32)
      w.store(permutation, there, a, .int32)
      w.each(n, .vector(unroll: 1)) { w, c in
        let (x, y) = (w.load(out, at(j, c), element), w.load(out, at(p, c), element))
        w.store(out, at(j, c), y, element)
        w.store(out, at(p, c), x, element)
      }
      let diagonal = w.load(out, at(j, j), element)
      w.each(n) { w, i in
        let below = w.apply(.compare(.greater), .int64, w.position(i), w.position(j))
        let before = w.load(out, at(i, j), element)
        let factor = w.apply(.binary(.divide), element, before, diagonal)
        w.each(n, .vector(unroll: 1)) { w, c in
          let right = w.apply(.compare(.greater), .int64, w.position(c), w.position(j))
          let applies = w.apply(.binary(.and), .bool, below, right)
          let product = w.apply(
            .binary(.multiply), element, factor, w.load(out, at(j, c), element))
          let term = w.apply(.select, element, applies, product, w.number(0, element))
          let value = w.apply(.binary(.subtract), element, w.load(out, at(i, c), element), term)
          w.store(out, at(i, c), value, element)
        }
        w.store(out, at(i, j), w.apply(.select, element, below, factor, before), element)
      }
    }
    return finish("lu", flops: sizes.reduce(1, *) * n)
  }
}
