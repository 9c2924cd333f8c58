import DLCGraph
import DLCKernel
import DLCTensor

/// Every element combined with those before it along an axis.
extension RoutineWriter {
  mutating func prefix(_ g: PrefixGeometry) -> KernelCall {
    let sizes = sizes(0)
    let element = type(0)
    let out = destination(0)
    let outer = Array(sizes[..<g.axis])
    let inner = Array(sizes[(g.axis + 1)...])
    let (rows, columns, length) = (outer.reduce(1, *), inner.reduce(1, *), sizes[g.axis])
    let first = Carried(element, initial: g.combiner.identity(element))
    func combined(_ w: inout RoutineWriter, _ base: ScalarID?, _ x: ScalarID) -> ScalarID {
      base.map { w.apply(g.combiner.operation, element, $0, x) } ?? x
    }
    func line(_ w: inout RoutineWriter, _ row: IndexExpression, _ column: IndexExpression) {
      // Elements in groups, groups in groups: what came before a group is added to the running value
      // inside it, so that the rounding error grows with the logarithm of the length.
      let isGrouped = element.isFloat && (g.combiner == .sum || g.combiner == .product)
      let levels = isGrouped ? SumOrder.levels(length, chain: 1) : 0
      func run(_ w: inout RoutineWriter, _ level: Int, _ block: LoopVariable?, _ base: ScalarID?)
        -> ScalarID
      {
        let unit = (0..<level).reduce(1) { size, _ in size * SumOrder.group }
        let count = (length + unit - 1) / unit
        let extent = block.map { BlockExtent(total: count, size: SumOrder.group, index: $0) }
        let number = w.variable(count)
        return w.loop(number, [first], block: extent) { w, i, carried in
          if level > 0 {
            let before = combined(&w, base, carried[0])
            let group = run(&w, level - 1, number, before)
            return [combined(&w, carried[0], group)]
          }
          let here = g.reverse ? IndexExpression(length - 1) - i : i
          let place = delinearize(row, outer) + [here] + delinearize(column, inner)
          let x = w.e.evaluate(w.node.operands[0], place)
          let next = combined(&w, carried[0], x)
          let value = combined(&w, base, g.exclusive ? carried[0] : next)
          w.store(out, linearize(place, sizes), value, element)
          return [next]
        }[0]
      }
      _ = run(&w, levels, nil, nil)
    }
    if columns == 1 {
      let block = blocks(rows)
      each(rows, block: block) { w, row in line(&w, row, IndexExpression(0)) }
    } else {
      let row = tile(rows)
      let block = blocks(columns)
      each(columns, .vector(unroll: 1), block: block) { w, column in line(&w, row, column) }
    }
    return finish("prefix", flops: sizes.reduce(1, *))
  }
}
