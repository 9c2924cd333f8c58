import DLCGraph
import DLCPasses
import DLCReference
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// Every rewrite rule has a graph in Tests/Golden/passes that fires it: the graph, then, after a line
/// of dashes, what the pass makes of it. DLC_UPDATE_GOLDEN=1 writes the second part anew.
@Suite struct GoldenTests {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../Golden/passes")
  static let rules = StandardPasses.ruleTables.flatMap { table in
    table.rules.map { (pass: table.pass, rule: $0.name) }
  }

  @Test(arguments: rules.indices) func ruleFires(_ index: Int) throws {
    let (passName, rule) = Self.rules[index]
    let file = Self.folder.appendingPathComponent("\(rule).txt")
    let text = try String(contentsOf: file, encoding: .utf8)
    let parts = text.components(separatedBy: "----\n")
    let graph = try Graph(parsing: parts[0])
    #expect(parts[0].contains("// pass: \(passName)\n"))
    let pass = try #require(StandardPasses.named(passName))
    var budget = RewriteBudget()
    let (result, counts) = try pass.run(graph, &budget)
    #expect(counts[rule, default: 0] > 0, "\(rule) did not fire: \(counts)")
    var cleaner = RewriteBudget()
    let clean = try EliminateDeadCode().run(result, &cleaner).graph
    #expect(clean.violations(in: rule).isEmpty)
    if ProcessInfo.processInfo.environment["DLC_UPDATE_GOLDEN"] == "1" {
      try (parts[0] + "----\n" + clean.text()).write(to: file, atomically: true, encoding: .utf8)
    } else {
      #expect(parts.count == 2 && clean.text() == parts[1], "\(rule) gives\n\(clean.text())")
    }
    try Self.expectEqual(graph, clean)
    // What lowering relies on is no optional rewrite; all else stops at the limit.
    var none = RewriteBudget(0)
    let isRequired = passName == "make-padding-explicit"
    #expect(try pass.run(graph, &none).counts.isEmpty != isRequired)
  }

  /// Both graphs give the same results by the reference in double arithmetic.
  static func expectEqual(_ before: Graph, _ after: Graph) throws {
    let arrays = Differential.arrays(before.arguments.map(\.type), range: 0.2...2, seed: 3).map {
      ReferenceArray($0)
    }
    let byName = Dictionary(uniqueKeysWithValues: zip(before.arguments.map(\.name), arrays))
    let interpreter = Interpreter(.float64)
    let a = interpreter.run(before, arrays)
    let b = interpreter.run(after, after.arguments.map { byName[$0.name]! })
    for (x, y) in zip(before.results, after.results) {
      let (u, v) = (a[x.value]!, b[y.value]!)
      #expect(u.integers == v.integers)
      #expect(zip(u.reals, v.reals).allSatisfy { abs($0 - $1) <= 1e-12 * max(1, abs($0)) })
    }
  }

  @Test func standardPassesKeepTheMeaningOfRandomGraphs() throws {
    for seed in 0..<60 {
      var generator = GraphGenerator(seed: UInt64(seed) + 500)
      let module = try generator.module(nodes: 12)
      let graph = try module.functions[0].graph.bound(to: [:])
      var manager = PassManager(StandardPasses.all)
      let after = try manager.run(graph)
      try Self.expectEqual(graph, after)
    }
  }

  @Test func constantsFold() throws {
    let graph = try Graph(
      parsing: """
        %0 = constant {value = dense(float32[2], [1.0, 2.0])} : float32[2]
        %1 = exponential %0 : float32[2]
        %2 = add %1, %0 : float32[2]
        output "y" = %2
        """)
    var budget = RewriteBudget()
    let (result, counts) = try FoldConstants().run(graph, &budget)
    #expect(counts["fold-constant"] == 2)
    guard case .constant = result.definition(result.results[0].value)!.operation else {
      Issue.record("the result is not a constant")
      return
    }
  }

  @Test func commonSubexpressionsMerge() throws {
    let graph = try Graph(
      parsing: """
        %0 = input "x" : float32[2]
        %1 = tanh %0 : float32[2]
        %2 = tanh %0 : float32[2]
        %3 = add %1, %2 : float32[2]
        output "y" = %3
        """)
    var budget = RewriteBudget()
    #expect(try EliminateCommonSubexpressions().run(graph, &budget).graph.nodes.count == 2)
  }
}
