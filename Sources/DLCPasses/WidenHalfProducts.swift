package import DLCGraph
package import DLCTensor

/// Products of half floats are summed in float32 and rounded once.
package struct WidenHalfProducts: Pass {
  package init() {}
  package var name: String { "widen-half-products" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    // Kernels rely on this form, so the budget of optional rewrites does not apply.
    var unlimited = RewriteBudget()
    return try graph.rewritten(Self.rules, &unlimited)
  }

  package static let rules: [RewriteRule] = [
    RewriteRule("widen-half-product") { (c, node) throws(DLCError) in
      switch node.operation {
      case .dotGeneral, .convolution: break
      default: return nil
      }
      let type = c.type(node.operands[0]).dataType
      guard type == .float16 || type == .bfloat16 else { return nil }
      var wide: [ValueID] = []
      for operand in node.operands {
        wide.append(try c.add(.convert(Convert(.float32)), [operand]))
      }
      let product = try c.add(node.operation, wide)
      return try c.add(.convert(Convert(type)), [product])
    },
    RewriteRule("widen-half-reduction") { (c, node) throws(DLCError) in
      switch node.operation {
      case .reduce(let r): if r.combiner != .sum && r.combiner != .product { return nil }
      case .reduceWindow(let w):
        if w.geometry.combiner != .sum && w.geometry.combiner != .product { return nil }
      default: return nil
      }
      let type = c.type(node.operands[0]).dataType
      guard type == .float16 || type == .bfloat16 else { return nil }
      let wide = try c.add(.convert(Convert(.float32)), [node.operands[0]])
      let result = try c.add(node.operation, [wide])
      return try c.add(.convert(Convert(type)), [result])
    },
  ]
}
