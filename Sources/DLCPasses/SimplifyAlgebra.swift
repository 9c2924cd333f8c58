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
    RewriteRule(name, at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == function,
        c.isSplat(node.operands[1], right)
      else { return nil }
      return node.operands[0]
    }
  }

  private static func involution(_ name: String, _ function: UnaryFunction) -> RewriteRule {
    RewriteRule(name, at: [.unary]) { (c, node) throws(DLCError) in
      guard case .unary(let outer) = node.operation, outer.function == function,
        case (.unary(let inner), let x)? = c.operation(node.operands[0]), inner.function == function
      else { return nil }
      return x[0]
    }
  }

  package static let rules: RuleTable = [
    // x + 0 is x but for x = -0, where 0 + -0 = 0; subtraction is exact for all.
    RewriteRule("add-zero", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .add,
        c.isSplat(node.operands[1], 0),
        c.type(node.operands[0]).dataType.isInteger || c.facts(node.operands[0]).isNonNegative
      else { return nil }
      return node.operands[0]
    },
    // 0 x is 0 but where x is infinite, NaN, or below zero or minus zero, where it is -0.
    RewriteRule("multiply-by-zero", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .multiply,
        c.isSplat(node.operands[1], 0)
      else { return nil }
      let x = c.facts(node.operands[0])
      let isExact = c.type(node.operands[0]).dataType.isInteger || x.isFinite && x.isNonNegative
      return isExact ? node.operands[1] : nil
    },
    binary("subtract-zero", .subtract, 0),
    binary("multiply-by-one", .multiply, 1),
    binary("divide-by-one", .divide, 1),
    binary("power-of-one", .power, 1),
    involution("double-negation", .negate),
    involution("double-not", .not),
    RewriteRule("add-negated", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .add,
        case (.unary(let u), let x)? = c.operation(node.operands[1]), u.function == .negate
      else { return nil }
      return try c.binary(.subtract, node.operands[0], x[0])
    },
    RewriteRule("square", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .power,
        c.isSplat(node.operands[1], 2)
      else { return nil }
      return try c.binary(.multiply, node.operands[0], node.operands[0])
    },
    RewriteRule("divide-by-power-of-two", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .divide,
        case .float(let v)? = c.splat(node.operands[1]),
        v.isNormal, v.significand == 1, abs(v.exponent) < 100
      else { return nil }
      let type = c.type(node.operands[0])
      guard type.dataType == .float32 || type.dataType == .float64 else { return nil }
      return try c.binary(.multiply, node.operands[0], try c.constant(1 / v, type))
    },
    RewriteRule("select-constant", at: [.select]) { (c, node) throws(DLCError) in
      guard case .select = node.operation, case .integer(let p)? = c.splat(node.operands[0]) else {
        return nil
      }
      return node.operands[p == 0 ? 2 : 1]
    },
    RewriteRule("select-same", at: [.select]) { (c, node) throws(DLCError) in
      guard case .select = node.operation, node.operands[1] == node.operands[2] else { return nil }
      return node.operands[1]
    },
    RewriteRule("extreme-of-same", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .maximum || b.function == .minimum,
        node.operands[0] == node.operands[1]
      else { return nil }
      return node.operands[0]
    },
    // Of two of which one is never the smaller (or larger) one, as of max(x, 0) where x is no less.
    RewriteRule("extreme-of-ordered", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .maximum || b.function == .minimum
      else { return nil }
      let (x, y) = (c.facts(node.operands[0]), c.facts(node.operands[1]))
      if x.dominates(y, b.function) { return node.operands[0] }
      return y.dominates(x, b.function) ? node.operands[1] : nil
    },
    RewriteRule("clamp-inside", at: [.clamp]) { (c, node) throws(DLCError) in
      let (low, x, high) = (
        c.facts(node.operands[0]), c.facts(node.operands[1]), c.facts(node.operands[2])
      )
      guard x.dominates(low, .maximum), x.dominates(high, .minimum) else { return nil }
      return node.operands[1]
    },
    RewriteRule("abs-of-non-negative", at: [.unary]) { (c, node) throws(DLCError) in
      guard case .unary(let u) = node.operation, u.function == .abs,
        c.facts(node.operands[0]).isNonNegative
      else { return nil }
      return node.operands[0]
    },
    RewriteRule("compare-known", at: [.compare]) { (c, node) throws(DLCError) in
      guard case .compare(let compare) = node.operation,
        let known = ValueFacts.compare(
          compare.comparison, c.facts(node.operands[0]), c.facts(node.operands[1]))
      else { return nil }
      return try c.constant(known ? 1 : 0, TensorType(.bool, c.type(node.operands[0]).shape))
    },
    RewriteRule("remainder-inside", at: [.binary]) { (c, node) throws(DLCError) in
      guard case .binary(let b) = node.operation, b.function == .remainder,
        let x = c.facts(node.operands[0]).integer, let y = c.facts(node.operands[1]).integer,
        x.lowerBound >= 0, x.upperBound < y.lowerBound
      else { return nil }
      return node.operands[0]
    },
    // What is done to every element alike can be done before elements are repeated.
    RewriteRule("unary-before-broadcast", at: [.unary]) { (c, node) throws(DLCError) in
      guard case .unary = node.operation,
        case (.broadcast(let b), let x)? = c.operation(node.operands[0])
      else { return nil }
      let inner = try c.add(node.operation, x)
      return try c.add(.broadcast(b), [inner])
    },
  ]
}

extension ValueFacts {
  /// Whether the maximum (or minimum) with `other`, in either order, is this one everywhere: it may be NaN, the
  /// other may not, and no two zeros of different signs meet.
  fileprivate func dominates(_ other: ValueFacts, _ f: BinaryFunction) -> Bool {
    switch (numbers, other.numbers) {
    case (.integer(let a), .integer(let b)):
      return f == .maximum ? a.lowerBound >= b.upperBound : a.upperBound <= b.lowerBound
    case (.real(let a), .real(let b)):
      guard !b.mayBeNaN else { return false }
      let (near, far) = f == .maximum ? (a.low, b.high) : (b.low, a.high)
      return near > far || near == far && (near != 0 || a.isSignClear && b.isSignClear)
    default: return false
    }
  }
}
