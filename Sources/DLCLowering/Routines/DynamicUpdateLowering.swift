import DLCGraph
import DLCKernel
import DLCTensor

/// An array put in its place in another, which starts where data say.
extension RoutineWriter {
  mutating func dynamicUpdate() -> KernelCall {
    let (to, update) = (sizes(0), sizes(1))
    let element = type(0)
    let out = destination(0)
    let starts = to.indices.map { axis in
      e.bound(node.operands[axis + 2], [], extent: to[axis] - update[axis] + 1)
    }
    var coordinate = update.map { _ in IndexExpression(0) }
    let first = schedule.tileAxes
    for axis in 0..<first { coordinate[axis] = tile(update[axis]) }
    func walk(_ w: inout RoutineWriter, _ axis: Int) {
      if axis == update.count {
        let place = linearize(zip(coordinate, starts).map { $0 + $1 }, to)
        w.store(out, place, w.e.evaluate(w.node.operands[1], coordinate), element)
        return
      }
      let isLast = axis == update.count - 1
      w.each(update[axis], isLast ? .vector(unroll: 1) : .serial) { w, i in
        coordinate[axis] = i
        walk(&w, axis + 1)
      }
    }
    walk(&self, first)
    return finish("update", flops: 0)
  }
}
