import DLCGraph
import DLCKernel
import DLCTensor

/// Products that are computed element by element inside a region.
extension RegionEvaluator {
  /// The sums of more parts than this are not kept.
  private static var spreadLimit: Int { 1 << 17 }

  /// The factors of one step of a product.
  private typealias Factors = (inout RegionEvaluator, IndexExpression) -> (ScalarID, ScalarID)

  mutating func contraction(_ node: Node, _ g: ContractionGeometry, _ c: [IndexExpression])
    -> ScalarID
  {
    let (a, b) = (graph.sizes(node.operands[0]), graph.sizes(node.operands[1]))
    let type = graph.type(node.results[0]).dataType
    let extents = g.lhsContracting.map { a[$0] }
    return depthSum(type, extents.reduce(1, *)) { e, step in
      let taps = delinearize(step, extents)
      var position = c.makeIterator()
      var (ac, bc) = (a.map { _ in IndexExpression(0) }, b.map { _ in IndexExpression(0) })
      for (x, y) in zip(g.lhsBatch, g.rhsBatch) {
        ac[x] = position.next()!
        bc[y] = ac[x]
      }
      for axis in g.lhsFree(a.count) { ac[axis] = position.next()! }
      for axis in g.rhsFree(b.count) { bc[axis] = position.next()! }
      for (tap, (x, y)) in zip(taps, zip(g.lhsContracting, g.rhsContracting)) {
        ac[x] = tap
        bc[y] = tap
      }
      return (
        e.widened(e.evaluate(node.operands[0], ac), node.operands[0], to: type),
        e.widened(e.evaluate(node.operands[1], bc), node.operands[1], to: type)
      )
    }
  }

  /// A factor as the type of the sums holds it.
  private mutating func widened(_ id: ScalarID, _ value: ValueID, to type: DataType) -> ScalarID {
    let from = graph.type(value).dataType
    if from == type { return id }
    return apply(.convert(type), from, id)
  }

  /// The sum of `depth` products in the order of all products (see `SumOrder`); stands in the current
  /// scope.
  private mutating func depthSum(_ type: DataType, _ depth: Int, _ factors: Factors) -> ScalarID {
    cost += 2 * depth + 2
    productDepth = max(productDepth, depth)
    let size = SumOrder.productPart(depth)
    let step = variable(depth)
    if depth <= size || !type.isFloat {
      return part(type, step, BlockExtent(depth), factors)
    }
    let count = (depth + size - 1) / size
    let number = variable(count)
    if let spreadWidth, count <= Self.spreadLimit {
      return spreadSum(type, depth, count, spreadWidth, factors)
    }
    return total(type, number) { e, _ in
      e.part(type, step, BlockExtent(total: depth, size: size, index: number), factors)
    }
  }

  /// One product after the other.
  private mutating func part(
    _ type: DataType, _ step: LoopVariable, _ extent: BlockExtent? = nil, _ factors: Factors
  ) -> ScalarID {
    let zero = Carried(type, initial: type.isFloat ? .float(0) : .integer(0))
    return loop(step, [zero], block: extent) { e, i, sums in
      let (a, b) = factors(&e, i)
      if type.isFloat { return [e.define(.multiplyAdd(type, [a, b, sums[0]]))] }
      let product = e.apply(.binary(.multiply), type, a, b)
      return [e.apply(.binary(.add), type, sums[0], product)]
    }[0]
  }

  /// The sum of what `term` gives. -0 changes nothing, not even the sign of a zero: the first term stays as
  /// it is.
  private mutating func total(
    _ type: DataType, _ turn: LoopVariable,
    _ term: (inout RegionEvaluator, IndexExpression) -> ScalarID
  ) -> ScalarID {
    loop(turn, [Carried(type, initial: .float(-0.0), combiner: .sum)]) { e, i, sums in
      let value = term(&e, i)
      return [e.apply(.binary(.add), type, sums[0], value)]
    }[0]
  }

  /// Few elements: the parts of one run side by side in lanes, and are added afterwards.
  private mutating func spreadSum(
    _ type: DataType, _ depth: Int, _ count: Int, _ width: Int, _ factors: Factors
  ) -> ScalarID {
    let size = SumOrder.productPart(depth)
    let sums = local(type, count)
    let whole = depth / size
    each(whole, .vector(unroll: 1, width: width)) { e, lane in
      let sum = e.part(type, e.variable(size)) { factors(&$0, lane * size + $1) }
      e.store(sums, lane, sum, type)
    }
    if whole < count {
      let sum = part(type, variable(depth - whole * size)) { factors(&$0, $1 + whole * size) }
      store(sums, IndexExpression(whole), sum, type)
    }
    return total(type, variable(count)) { e, turn in e.load(sums, turn, type) }
  }

  mutating func convolution(_ node: Node, _ g: ConvolutionGeometry, _ c: [IndexExpression])
    -> ScalarID
  {
    let (dimensions, operands) = (g.dimensions, node.operands)
    let kernel = graph.sizes(operands[1]).picked(dimensions.kernel)
    let c = c.picked(dimensions.output)
    let perGroup = max(kernel[0] / g.groups, 1)
    let type = graph.type(node.results[0]).dataType
    let group = g.groups == 1 ? IndexExpression(0) : c[1].quotient(perGroup)
    return inlineReduction(type, .sum, Array(kernel.dropFirst())) { e, taps in
      var position = [c[0], group * kernel[1] + taps[0]]
      for i in g.strides.indices {
        position.append(c[i + 2] * g.strides[i] + taps[i + 1] * g.kernelDilation[i])
      }
      let x = e.evaluate(operands[0], position.placed(dimensions.input))
      let weight = e.evaluate(operands[1], ([c[1]] + taps).placed(dimensions.kernel))
      return e.apply(
        .binary(.multiply), type, e.widened(x, operands[0], to: type),
        e.widened(weight, operands[1], to: type))
    }
  }
}
