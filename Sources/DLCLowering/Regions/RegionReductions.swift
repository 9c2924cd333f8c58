import DLCGraph
import DLCKernel
import DLCTensor

/// Values of a region that take a loop over other values: reductions, windows, positions of extremes.
extension RegionEvaluator {
  /// Serial loops over `extents` that combine what `element` gives; stands in the current scope.
  mutating func inlineReduction(
    _ type: DataType, _ combiner: Combiner, _ extents: [Int],
    _ element: (inout RegionEvaluator, [IndexExpression]) -> ScalarID
  ) -> ScalarID {
    let variables = extents.map { variable($0) }
    cost += extents.reduce(2, *)
    return reduce(variables[...], [Carried(type, combiner)]) { e in
      [element(&e, variables.map { IndexExpression($0) })]
    }[0]
  }

  mutating func window(_ node: Node, _ g: WindowGeometry, _ c: [IndexExpression])
    -> ScalarID
  {
    let axes = g.window.indices.filter { g.window[$0] > 1 }
    return inlineReduction(
      graph.type(node.results[0]).dataType, g.combiner, axes.map { g.window[$0] }
    ) { e, taps in
      var position = c.indices.map { c[$0] * g.strides[$0] }
      for (tap, axis) in zip(taps, axes) {
        position[axis] = position[axis] + tap * g.dilation[axis]
      }
      return e.evaluate(node.operands[0], position)
    }
  }

  mutating func argReduction(
    _ node: Node, _ largest: Bool, _ axis: Int, _ c: [IndexExpression]
  ) -> ScalarID {
    extreme(
      graph.type(node.operands[0]).dataType, graph.type(node.results[0]).dataType, largest,
      count: graph.sizes(node.operands[0])[axis]
    ) { e, v in
      var position = c
      position.insert(v, at: axis)
      return (e.evaluate(node.operands[0], position), v)
    }
  }

  mutating func argWindow(
    _ node: Node, _ g: ArgWindowGeometry, _ c: [IndexExpression]
  ) -> ScalarID {
    let sizes = graph.sizes(node.operands[0])
    return extreme(
      graph.type(node.operands[0]).dataType, .int32, g.largest, count: g.window.reduce(1, *)
    ) { e, v in
      let taps = delinearize(v, g.window)
      let position = c.indices.map { c[$0] * g.strides[$0] + taps[$0] * g.dilation[$0] }
      let number = linearize(Array(position[g.leading...]), Array(sizes[g.leading...]))
      return (e.evaluate(node.operands[0], position), number)
    }
  }

  /// The number of the first extreme of `count` elements; a NaN counts as the extreme.
  private mutating func extreme(
    _ type: DataType, _ indexType: DataType, _ largest: Bool, count: Int,
    _ element: (inout RegionEvaluator, IndexExpression) -> (ScalarID, number: IndexExpression)
  ) -> ScalarID {
    cost += 4 * count
    let carried = [
      Carried(type, initial: Combiner.maximum.identity(type)),
      Carried(indexType, initial: .integer(0)),
    ]
    return loop(count, carried) { e, v, best in
      let (x, number) = element(&e, v)
      let here = e.position(number, indexType)
      // Better than the best, or the first element at all, or the first NaN.
      let turn = e.position(v)
      let first = e.apply(.compare(.equal), .int64, turn, e.number(0, .int64))
      var better = e.apply(.compare(largest ? .greater : .less), type, x, best[0])
      if type.isFloat {
        let isNaN = e.apply(.compare(.not_equal), type, x, x)
        let bestIsNumber = e.apply(.compare(.equal), type, best[0], best[0])
        let either = e.apply(.binary(.or), .bool, better, isNaN)
        better = e.apply(.binary(.and), .bool, either, bestIsNumber)
      }
      let takes = e.apply(.binary(.or), .bool, better, first)
      return [
        e.apply(.select, type, takes, x, best[0]),
        e.apply(.select, indexType, takes, here, best[1]),
      ]
    }[1]
  }
}
