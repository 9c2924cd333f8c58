package import DLCGraph
package import DLCTensor

/// Moves per-channel scales (batch norm in inference) into the weights of the convolution or linear
/// layer before them. Weights and scales must be steady: the scaled weights are then prepared once. The product
/// must have no other use, which would need it a second time.
package struct FoldScales: Pass {
  package init() {}
  package var name: String { "fold-scales" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    try fixpoint(graph, Self.rules, &budget)
  }

  /// The one axis that a steady per-channel factor varies along, and the vector itself.
  private static func channelFactor(_ c: inout RewriteContext, _ value: ValueID) -> (
    axis: Int, vector: ValueID
  )? {
    guard case (.broadcast(let b), let x)? = c.operation(value), b.axes.count == 1,
      c.isSteady(x[0]),
      c.type(x[0]).shape == [b.shape[b.axes[0]]]
    else { return nil }
    return (b.axes[0], x[0])
  }

  /// The product under a scale: its weights, and the weight axis that makes the result's axis.
  private static func weights(_ c: inout RewriteContext, _ value: ValueID, axis: Int) -> (
    operands: [ValueID], operation: Operation, weightAxis: Int
  )? {
    guard let (operation, operands) = c.operation(value), c.uses(value) == 1,
      c.isSteady(operands.last ?? value)
    else { return nil }
    switch operation {
    // Factors of a narrower type would be scaled with its precision.
    case .convolution(let convolution) where convolution.sumType == nil:
      let dimensions = convolution.geometry.dimensions
      return axis == dimensions.output[1] ? (operands, operation, dimensions.kernel[0]) : nil
    case .dotGeneral(let d) where d.sumType == nil:
      let g = d.geometry
      let rank = c.type(value).rank
      let free = g.rhsFree(c.type(operands[1]).rank)
      let first = rank - free.count
      return axis >= first ? (operands, operation, free[axis - first]) : nil
    default: return nil
    }
  }

  private static func isScalable(_ c: inout RewriteContext, _ value: ValueID, axis: Int) -> Bool {
    weights(&c, value, axis: axis) != nil
  }

  package static let rules: RuleTable = [
    RewriteRule("scale-into-weights", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .multiply || b.function == .divide
      else { return nil }
      let orders = b.function == .multiply ? [(0, 1), (1, 0)] : [(0, 1)]
      for (product, factor) in orders {
        guard let (axis, vector) = channelFactor(&c, node.operands[factor]),
          let (operands, operation, weightAxis) = weights(&c, node.operands[product], axis: axis)
        else { continue }
        let weight = operands[1]
        let spread = try c.add(
          .broadcast(Broadcast(c.type(weight).shape, axes: [weightAxis])), [vector])
        let scaled = try c.binary(b.function, weight, spread)
        return try c.add(operation, [operands[0], scaled])
      }
      return nil
    },
    // (y + b) s = y s + b s, where y can take the scale and b s is prepared.
    RewriteRule("scale-before-shift", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .multiply else { return nil }
      for (sum, factor) in [(0, 1), (1, 0)] {
        guard let (axis, vector) = channelFactor(&c, node.operands[factor]),
          case (.binary(let inner), let terms)? = c.operation(node.operands[sum]),
          inner.function == .add || inner.function == .subtract, c.uses(node.operands[sum]) == 1,
          isScalable(&c, terms[0], axis: axis),
          let (shiftAxis, shift) = channelFactor(&c, terms[1]), shiftAxis == axis
        else { continue }
        let scaled = try c.binary(.multiply, terms[0], node.operands[factor])
        let moved = try c.binary(.multiply, shift, vector)
        let spread = try c.add(.broadcast(Broadcast(c.type(scaled).shape, axes: [axis])), [moved])
        return try c.binary(inner.function, scaled, spread)
      }
      return nil
    },
  ]
}
