import DLCGraph
import DLCTensor

/// The passes that every graph goes through, in order.
package enum StandardPasses {
  package static let all: [any Pass] = [
    SimplifyControl(),
    WidenHalfFloats(),
    Canonicalize(),
    FoldConstants(),
    SimplifyAlgebra(),
    EliminateCommonSubexpressions(),
    FoldScales(),
    Canonicalize(),
    FoldConstants(),
    SimplifyAlgebra(),
    MakePaddingExplicit(),
    SplitDilatedConvolutions(),
    Canonicalize(),
    FoldConstants(),
    EliminateCommonSubexpressions(),
    LayChannelsLast(),
    FoldConstants(),
    SimplifyControl(),
    EliminateDeadCode(),
  ]

  /// The forms that lowering relies on, whichever of the others were left out.
  package static let legalizing: [any Pass] = [
    SimplifyControl(), FoldEmpty(), WidenHalfFloats(), MakePaddingExplicit(),
    MaterializeOperands(),
  ]

  /// The tables of rewrite rules, for the test that each of them has a golden test.
  package static let ruleTables: [(pass: String, rules: RuleTable)] = [
    ("canonicalize", Canonicalize.rules), ("simplify-algebra", SimplifyAlgebra.rules),
    ("fold-scales", FoldScales.rules), ("make-padding-explicit", MakePaddingExplicit.rules),
    ("split-dilated-convolutions", SplitDilatedConvolutions.rules),
    ("simplify-control", SimplifyControl.inlining), ("simplify-control", SimplifyControl.trimming),
  ]

  package static func named(_ name: String) -> (any Pass)? { all.first { $0.name == name } }
}

/// Repeats a table of rules until none fires, a bounded number of times.
func fixpoint(
  _ graph: Graph, _ rules: RuleTable, _ budget: inout RewriteBudget
) throws(DLCError) -> (graph: Graph, counts: [String: Int]) {
  var (graph, total) = (graph, [String: Int]())
  for _ in 0..<8 {
    let (next, counts) = try graph.rewritten(rules, &budget)
    graph = next
    total.merge(counts, uniquingKeysWith: +)
    if counts.isEmpty { break }
  }
  return (graph, total)
}
