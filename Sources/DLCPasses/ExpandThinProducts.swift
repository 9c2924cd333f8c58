package import DLCGraph
package import DLCTensor

/// A product with one row or one column has no reuse to tile for: it becomes an elementwise product
/// and a sum, which stream the larger operand once in the order in which it lies.
package struct ExpandThinProducts: Pass {
  package init() {}
  package var name: String { "expand-thin-products" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    try graph.rewritten(Self.rules, &budget)
  }

  package static let rules: [RewriteRule] = [
    RewriteRule("expand-thin-product") { (c, node) throws(DLCError) in
      guard case .dotGeneral(let d) = node.operation else { return nil }
      let g = d.geometry
      let (a, b) = (c.type(node.operands[0]), c.type(node.operands[1]))
      guard a.isStatic, b.isStatic, a.dataType != .float16, a.dataType != .bfloat16 else {
        return nil
      }
      let (aFree, bFree) = (g.lhsFree(a.rank), g.rhsFree(b.rank))
      let rows = aFree.reduce(1) { $0 * a.sizes[$1] }
      let columns = bFree.reduce(1) { $0 * b.sizes[$1] }
      let depth = g.lhsContracting.reduce(1) { $0 * a.sizes[$1] }
      guard rows == 1 || columns == 1, depth >= 2 else { return nil }
      // Axes of the sum: batch, rows, columns, with the depth last where the larger operand has it last.
      let larger = columns > 1 ? (g.rhsContracting, b.rank) : (g.lhsContracting, a.rank)
      let depthLast = larger.0.contains(larger.1 - 1) || rows * columns == 1
      let (nb, na, nf, nk) = (g.lhsBatch.count, aFree.count, bFree.count, g.lhsContracting.count)
      let depthAt = depthLast ? nb + na + nf : nb
      let freeAt = depthLast ? nb : nb + nk
      var shape = [Dimension](repeating: 1, count: nb + na + nf + nk)
      func place(_ operand: ValueID, _ type: TensorType, _ axes: [(axis: Int, at: Int)])
        throws(DLCError) -> ValueID
      {
        let order = axes.sorted { $0.at < $1.at }
        var moved = operand
        if order.map(\.axis) != Array(0..<type.rank) {
          moved = try c.add(.transpose(Transpose(order.map(\.axis))), [operand])
        }
        return try c.add(.broadcast(Broadcast(shape, axes: order.map(\.at))), [moved])
      }
      var (left, right): ([(axis: Int, at: Int)], [(axis: Int, at: Int)]) = ([], [])
      for i in 0..<nb {
        left.append((g.lhsBatch[i], i))
        right.append((g.rhsBatch[i], i))
      }
      for i in 0..<na { left.append((aFree[i], freeAt + i)) }
      for i in 0..<nf { right.append((bFree[i], freeAt + na + i)) }
      for i in 0..<nk {
        left.append((g.lhsContracting[i], depthAt + i))
        right.append((g.rhsContracting[i], depthAt + i))
      }
      for (axis, at) in left { shape[at] = a.shape[axis] }
      for (axis, at) in right { shape[at] = b.shape[axis] }
      let x = try place(node.operands[0], a, left)
      let y = try place(node.operands[1], b, right)
      let product = try c.binary(.multiply, x, y)
      return try c.add(.reduce(Reduce(.sum, axes: Array(depthAt..<depthAt + nk))), [product])
    }
  ]
}
