package import DLCGraph
package import DLCTensor

/// Turns the padding and the input dilation of convolutions and windows into a pad before them, so
/// that no kernel tests bounds, and brings the output channels of convolution kernels to an end, so that
/// the weights of each lie at regular distances.
package struct MakePaddingExplicit: Pass {
  package init() {}
  package var name: String { "make-padding-explicit" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    // Kernels rely on this form, so the budget of optional rewrites does not apply.
    var unlimited = RewriteBudget()
    return try fixpoint(graph, Self.rules, &unlimited)
  }

  package static let rules: RuleTable = [
    RewriteRule("pad-convolution", at: [.convolution]) { (c, node) throws(DLCError) in
      guard case .convolution(let convolution) = node.operation else { return nil }
      var g = convolution.geometry
      guard
        (g.paddingLow + g.paddingHigh).contains(where: { $0 != 0 })
          || g.inputDilation.contains(where: { $0 != 1 })
      else { return nil }
      let zero = try c.constant(0, c.type(node.operands[0]).dataType)
      let axes = g.dimensions.input
      let pad = Pad(
        low: ([0, 0] + g.paddingLow.map { Size($0) }).placed(axes),
        high: ([0, 0] + g.paddingHigh.map { Size($0) }).placed(axes),
        interior: ([0, 0] + g.inputDilation.map { $0 - 1 }).placed(axes))
      let padded = try c.add(.pad(pad), [node.operands[0], zero])
      let none = g.strides.map { _ in 0 }
      (g.paddingLow, g.paddingHigh, g.inputDilation) = (none, none, g.strides.map { _ in 1 })
      let plain = Convolution(g, into: convolution.sumType)
      return try c.add(.convolution(plain), [padded, node.operands[1]])
    },
    RewriteRule("output-channels-first", at: [.convolution]) { (c, node) throws(DLCError) in
      guard case .convolution(var convolution) = node.operation else { return nil }
      let axes = convolution.geometry.dimensions.kernel
      guard axes[0] != 0, axes[0] != axes.count - 1 else { return nil }
      let kernel = try c.add(.transpose(Transpose(axes)), [node.operands[1]])
      convolution.geometry.dimensions.kernel = Array(axes.indices)
      return try c.add(.convolution(convolution), [node.operands[0], kernel])
    },
    RewriteRule("pad-window", at: [.reduceWindow]) { (c, node) throws(DLCError) in
      guard case .reduceWindow(let window) = node.operation else { return nil }
      var g = window.geometry
      guard (g.paddingLow + g.paddingHigh).contains(where: { $0 != 0 }) else { return nil }
      let type = c.type(node.operands[0]).dataType
      let fill = Tensor(g.combiner.identity(type), type)
      let identity = try c.add(.constant(Constant(fill)), [])
      let pad = Pad(
        low: g.paddingLow.map { Size($0) }, high: g.paddingHigh.map { Size($0) },
        interior: g.window.map { _ in 0 })
      let padded = try c.add(.pad(pad), [node.operands[0], identity])
      let none = g.window.map { _ in 0 }
      (g.paddingLow, g.paddingHigh) = (none, none)
      return try c.add(.reduceWindow(ReduceWindow(g)), [padded])
    },
  ]
}
