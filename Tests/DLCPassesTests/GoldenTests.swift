import DLCGraph
import DLCPasses
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
    table.rules.list.map { (pass: table.pass, rule: $0.name) }
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
    // These rules change no bit, whatever comes in, but for the rounding of a power and for a sum over no
    // axes, which is that of zero and minus zero.
    let isExact =
      ["canonicalize", "simplify-algebra", "simplify-control"].contains(passName)
      && !["square", "empty-reduce"].contains(rule)
    try PassCheck.compare(graph, clean, isExact: isExact)
    // What lowering relies on is no optional rewrite; all else stops at the limit.
    var none = RewriteBudget(0)
    let isRequired = ["make-padding-explicit", "simplify-control"].contains(passName)
    #expect(try pass.run(graph, &none).counts.isEmpty != isRequired)
  }

  @Test func standardPassesKeepTheMeaningOfRandomGraphs() throws {
    for seed in 0..<60 {
      var generator = GraphGenerator(seed: UInt64(seed) + 500)
      let module = try generator.module(nodes: 12)
      let graph = try module.functions[0].graph.bound(to: [:])
      var manager = PassManager(StandardPasses.all)
      let after = try manager.run(graph)
      try PassCheck.compare(graph, after, isExact: false)
    }
  }

  /// Rules are looked up by the operator at their root, and each names one.
  @Test func rulesHaveRoots() {
    for table in StandardPasses.ruleTables {
      for rule in table.rules.list {
        #expect(!rule.roots.isEmpty)
        for root in rule.roots { #expect(table.rules[root].contains { $0.name == rule.name }) }
      }
    }
  }

  /// A manager says which rules fired how often, in the graphs inside, too.
  @Test func reportsSayWhatFired() throws {
    let graph = try PassCheck.graph { g in
      let x = g.input("x", .float32, [4, 2])
      let (carried, _) = g.scan(carried: [g.constant(0, .float32, [2])], inputs: [-(-x)]) {
        g, c, s in ([-(-(c[0] + s[0]))], [])
      }
      g.output("y", carried[0])
    }
    var manager = PassManager(StandardPasses.all)
    _ = try manager.run(graph)
    let fired = manager.reports.first { $0.pass == "simplify-algebra" }?.fired
    #expect(fired?["double-negation"] == 2)
  }

  /// A rule sees how often results are used and by what, and replaces several of them at once.
  @Test func rulesSeeUsersAndReplaceSeveralResults() throws {
    let graph = try Graph(
      parsing: """
        %0 = input "x" : float32[4]
        %1, %2 = sort %0, %0 {axis = 0, keys = 1, descending = false} : float32[4], float32[4]
        %3 = tanh %2 : float32[4]
        %4 = add %2, %3 : float32[4]
        %5 = negate %3 : float32[4]
        output "y" = %4
        """)
    let rules: RuleTable = [
      .several("one-sort", at: [.sort]) { (c, node) throws(DLCError) in
        #expect(c.uses(ofResult: 0) == 0 && c.uses(ofResult: 1) == 2)
        let users = c.users(before: c.before[c.site].results[1])
        #expect(users.map { c.before[$0].operation.mnemonic } == ["tanh", "add"])
        let sort = Sort(axis: 0, keys: 1, descending: false)
        return [nil, try c.add(.sort(sort), [node.operands[0]])]
      },
      // What nobody needs is no user: the negation is gone.
      RewriteRule("no-tanh", at: [.unary]) { (c, node) throws(DLCError) in
        #expect(c.uses(ofResult: 0) == 1 && c.uses(node.operands[0]) == 2)
        return node.operands[0]
      },
    ]
    var budget = RewriteBudget()
    let (after, counts) = try graph.rewritten(rules, &budget)
    #expect(counts == ["one-sort": 1, "no-tanh": 1])
    #expect(PassCheck.mnemonics(after) == ["sort", "add"] && after.nodes[0].results.count == 1)
  }

  /// A rule that gives nothing for a result in use, or another type, is refused.
  @Test func wrongReplacementsAreRefused() throws {
    let graph = try PassCheck.graph { g in g.output("y", g.tanh(g.input("x", .float32, [4]))) }
    let none: RuleTable = [.several("none", at: [.unary]) { (_, _) throws(DLCError) in [nil] }]
    let other: RuleTable = [
      RewriteRule("other", at: [.unary]) { (c, _) throws(DLCError) in try c.constant(0, .int32) }
    ]
    for (rules, message) in [(none, "gives nothing"), (other, "turns")] {
      var budget = RewriteBudget()
      let error = #expect(throws: DLCError.self) { try graph.rewritten(rules, &budget) }
      #expect(error?.message.contains(message) == true)
    }
  }
}
