package import DLCGraph
package import DLCTensor

/// Directional algebraic rules that are exact in floating-point arithmetic.
package struct SimplifyAlgebra: Pass {
  package init() {}
  package var name: String { "simplify-algebra" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    try fixpoint(graph, Self.rules, &budget)
  }

  private static func binary(_ name: String, _ function: BinaryFunction, _ right: Double)
    -> RewriteRule
  {
    RewriteRule(name) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == function,
        c.isSplat(node.operands[1], right)
      else { return nil }
      return node.operands[0]
    }
  }

  private static func involution(_ name: String, _ function: UnaryFunction) -> RewriteRule {
    RewriteRule(name) { (c, node) throws(DLCError) in
      guard case .unary(let outer) = node.operation, outer.function == function,
        case (.unary(let inner), let x)? = c.operation(node.operands[0]), inner.function == function
      else { return nil }
      return x[0]
    }
  }

  package static let rules: [RewriteRule] = [
    // x + 0 is x but for x = -0, where 0 + -0 = 0: only integers, and subtraction, are exact.
    RewriteRule("add-zero") { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .add,
        c.isSplat(node.operands[1], 0),
        c.type(node.operands[0]).dataType.isInteger
      else { return nil }
      return node.operands[0]
    },
    binary("subtract-zero", .subtract, 0),
    binary("multiply-by-one", .multiply, 1),
    binary("divide-by-one", .divide, 1),
    binary("power-of-one", .power, 1),
    involution("double-negation", .negate),
    involution("double-not", .not),
    RewriteRule("add-negated") { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .add,
        case (.unary(let u), let x)? = c.operation(node.operands[1]), u.function == .negate
      else { return nil }
      return try c.binary(.subtract, node.operands[0], x[0])
    },
    RewriteRule("square") { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .power,
        c.isSplat(node.operands[1], 2)
      else { return nil }
      return try c.binary(.multiply, node.operands[0], node.operands[0])
    },
    RewriteRule("divide-by-power-of-two") { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .divide,
        case .float(let v)? = c.splat(node.operands[1]),
        v.isNormal, v.significand == 1, abs(v.exponent) < 100
      else { return nil }
      let type = c.type(node.operands[0])
      guard type.dataType == .float32 || type.dataType == .float64 else { return nil }
      let scalar = try c.constant(1 / v, type.dataType)
      let factor =
        type.rank == 0 ? scalar : try c.add(.broadcast(Broadcast(type.shape, axes: [])), [scalar])
      return try c.binary(.multiply, node.operands[0], factor)
    },
    RewriteRule("select-constant") { (c, node) throws(DLCError) in
      guard case .select = node.operation, case .integer(let p)? = c.splat(node.operands[0]) else {
        return nil
      }
      return node.operands[p == 0 ? 2 : 1]
    },
    RewriteRule("select-same") { (c, node) throws(DLCError) in
      guard case .select = node.operation, node.operands[1] == node.operands[2] else { return nil }
      return node.operands[1]
    },
    RewriteRule("extreme-of-same") { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .maximum || b.function == .minimum,
        node.operands[0] == node.operands[1]
      else { return nil }
      return node.operands[0]
    },
    // What is done to every element alike can be done before elements are repeated.
    RewriteRule("unary-before-broadcast") { (c, node) throws(DLCError) in
      guard case .unary = node.operation,
        case (.broadcast(let b), let x)? = c.operation(node.operands[0])
      else { return nil }
      let inner = try c.add(node.operation, x)
      return try c.add(.broadcast(b), [inner])
    },
  ]
}
