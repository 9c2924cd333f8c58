package import DLCGraph
package import DLCTensor

/// Computes what depends on constants alone, by the reference semantics, while the result stays
/// within a size budget. Broadcasts of scalars stay as they are: they cost nothing.
package struct FoldConstants: Pass {
  package var elementLimit = 1 << 16
  package init() {}
  package var name: String { "fold-constants" }

  package func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  ) {
    let limit = elementLimit
    let rule = RewriteRule("fold-constant", at: Operation.Kind.allCases) {
      (c, node) throws(DLCError) in
      switch node.operation {
      case .constant, .iota: return nil
      case .dimension(let d): if d.size.constant == nil { return nil }
      default: if node.operands.isEmpty || !node.operation.regions.isEmpty { return nil }
      }
      var operands: [ReferenceArray] = []
      var work = 1
      for operand in node.operands {
        guard case (.constant(let constant), _)? = c.operation(operand) else { return nil }
        operands.append(ReferenceArray(constant.value))
        work = max(work, constant.value.count)
      }
      let types = try node.operation.definition.infer(node.operands.map { c.type($0) })
      guard types[0].isStatic, types[0].elementCount <= limit, work <= limit else { return nil }
      if types[0].elementCount > 1 {
        switch node.operation {
        case .broadcast: return nil
        case .dotGeneral, .convolution, .reduceWindow:
          if types[0].elementCount * work > limit * 16 { return nil }
        default: break
        }
      }
      let type = types[0].dataType
      // Half floats are not rounded between operations: only a conversion gives one that is stored.
      if type != type.computeType {
        guard case .convert(let convert) = node.operation, convert.rounds else { return nil }
      }
      let value = node.operation.definition.evaluate(operands, types)[0].rounded(to: type)
      return try c.add(.constant(Constant(value.tensor)), [])
    }
    return try graph.rewritten([rule], &budget)
  }
}
