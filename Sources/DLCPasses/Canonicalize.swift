package import DLCGraph
package import DLCTensor

/// Brings equal computations to one form: merged views, constants on the right.
package struct Canonicalize: Pass {
  package init() {}
  package var name: String { "canonicalize" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    try fixpoint(graph, Self.rules, &budget)
  }

  package static let rules: RuleTable = [
    RewriteRule("reshape-of-reshape", at: [.reshape]) { (c, node) throws(DLCError) in
      guard case .reshape(let outer) = node.operation,
        case (.reshape, let inner)? = c.operation(node.operands[0])
      else { return nil }
      return try c.add(.reshape(outer), inner)
    },
    RewriteRule("identity-reshape", at: [.reshape]) { (c, node) throws(DLCError) in
      guard case .reshape(let r) = node.operation, c.type(node.operands[0]).shape == r.shape else {
        return nil
      }
      return node.operands[0]
    },
    RewriteRule("identity-transpose", at: [.transpose]) { (c, node) throws(DLCError) in
      guard case .transpose(let t) = node.operation, t.permutation == Array(t.permutation.indices)
      else { return nil }
      return node.operands[0]
    },
    RewriteRule("transpose-of-transpose", at: [.transpose]) { (c, node) throws(DLCError) in
      guard case .transpose(let outer) = node.operation,
        case (.transpose(let inner), let x)? = c.operation(node.operands[0])
      else { return nil }
      return try c.add(.transpose(Transpose(outer.permutation.map { inner.permutation[$0] })), x)
    },
    RewriteRule("identity-broadcast", at: [.broadcast]) { (c, node) throws(DLCError) in
      guard case .broadcast(let b) = node.operation, c.type(node.operands[0]).shape == b.shape
      else { return nil }
      return node.operands[0]
    },
    RewriteRule("broadcast-of-broadcast", at: [.broadcast]) { (c, node) throws(DLCError) in
      guard case .broadcast(let outer) = node.operation,
        case (.broadcast(let inner), let x)? = c.operation(node.operands[0])
      else { return nil }
      return try c.add(
        .broadcast(Broadcast(outer.shape, axes: inner.axes.map { outer.axes[$0] })), x)
    },
    // A reshape that only adds axes of size 1 before a broadcast: the broadcast can place the axes.
    RewriteRule("broadcast-of-unit-reshape", at: [.broadcast]) { (c, node) throws(DLCError) in
      guard case .broadcast(let b) = node.operation,
        case (.reshape(let r), let x)? = c.operation(node.operands[0])
      else { return nil }
      let inner = c.type(x[0]).shape
      let real = r.shape.indices.filter { r.shape[$0] != 1 }
      guard inner.allSatisfy({ $0 != 1 }), real.map({ r.shape[$0] }) == inner else { return nil }
      return try c.add(.broadcast(Broadcast(b.shape, axes: real.map { b.axes[$0] })), x)
    },
    RewriteRule("identity-slice", at: [.slice]) { (c, node) throws(DLCError) in
      guard case .slice(let s) = node.operation, s.starts.allSatisfy({ $0 == 0 }),
        s.strides.allSatisfy({ $0 == 1 }),
        s.limits == c.type(node.operands[0]).shape
      else { return nil }
      return node.operands[0]
    },
    RewriteRule("slice-of-slice", at: [.slice]) { (c, node) throws(DLCError) in
      guard case .slice(let outer) = node.operation,
        case (.slice(let inner), let x)? = c.operation(node.operands[0])
      else { return nil }
      let starts = outer.starts.indices.map {
        inner.starts[$0] + outer.starts[$0] * Size(inner.strides[$0])
      }
      let strides = outer.strides.indices.map { inner.strides[$0] * outer.strides[$0] }
      let limits = starts.indices.map { axis -> Size in
        let count = c.graph.type(node.operands[0]).shape[axis] == 0 ? 0 : sizeAfter(outer, axis)
        return count == 0 ? starts[axis] : starts[axis] + (count - 1) * Size(strides[axis]) + 1
      }
      return try c.add(.slice(Slice(starts, limits, strides: strides)), x)
    },
    // Derivatives have been taken by now.
    RewriteRule("stop-gradient", at: [.unary]) { (c, node) throws(DLCError) in
      guard case .unary(let u) = node.operation, u.function == .stop_gradient else { return nil }
      return node.operands[0]
    },
    RewriteRule("identity-convert", at: [.convert]) { (c, node) throws(DLCError) in
      // Of a half float that was computed, it is the rounding.
      guard case .convert(let v) = node.operation, c.type(node.operands[0]).dataType == v.target,
        v.target == v.target.computeType
      else { return nil }
      return node.operands[0]
    },
    RewriteRule("identity-pad", at: [.pad]) { (c, node) throws(DLCError) in
      guard case .pad(let p) = node.operation, (p.low + p.high).allSatisfy({ $0 == 0 }),
        p.interior.allSatisfy({ $0 == 0 })
      else { return nil }
      return node.operands[0]
    },
    RewriteRule("single-concatenate", at: [.concatenate]) { (c, node) throws(DLCError) in
      guard case .concatenate = node.operation, node.operands.count == 1 else { return nil }
      return node.operands[0]
    },
    RewriteRule("empty-reverse", at: [.reverse]) { (c, node) throws(DLCError) in
      guard case .reverse(let r) = node.operation,
        r.axes.allSatisfy({ c.type(node.operands[0]).shape[$0] == 1 })
      else { return nil }
      return node.operands[0]
    },
    RewriteRule("empty-reduce", at: [.reduce]) { (c, node) throws(DLCError) in
      guard case .reduce(let r) = node.operation, r.axes.isEmpty else { return nil }
      return node.operands[0]
    },
    RewriteRule("constant-to-the-right", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .add || b.function == .multiply,
        c.splat(node.operands[0]) != nil, c.splat(node.operands[1]) == nil
      else { return nil }
      return try c.add(node.operation, [node.operands[1], node.operands[0]])
    },
  ]

  private static func sizeAfter(_ s: Slice, _ axis: Int) -> Size {
    (s.limits[axis] - s.starts[axis] + Size(s.strides[axis] - 1)) / Size(s.strides[axis])
  }
}
