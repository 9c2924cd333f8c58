package import DLCGraph
package import DLCTensor

/// A transformation of a graph into one that computes the same.
package protocol Pass: Sendable {
  var name: String { get }
  func run(_ graph: Graph, _ budget: inout RewriteBudget) throws(DLCError) -> (
    graph: Graph, counts: [String: Int]
  )
}

/// A pass that changes the graphs inside together with what surrounds them: it is not run on them alone.
package protocol FunctionPass: Pass {}

/// Runs passes: prints, verifies, times and counts, so that no pass does.
package struct PassManager: Sendable {
  package struct Report: Sendable {
    package var pass: String
    /// How often each of its rules fired, here and in the graphs inside.
    package var fired: [String: Int]
    package var nodes: Int
    package var milliseconds: Double
  }

  package var passes: [any Pass]
  package var disabled: Set<String> = []
  /// A pass name, or "all".
  package var printAfter: String?
  package var stopAfter: String?
  package var rewriteLimit = Int.max
  package var verifies = true
  package var print: @Sendable (String) -> Void = { _ in }
  package private(set) var reports: [Report] = []

  package init(_ passes: [any Pass]) { self.passes = passes }

  /// Runs a pass on the graphs inside first, unless it sees to them itself.
  private func apply(_ pass: any Pass, _ graph: Graph, _ budget: inout RewriteBudget)
    throws(DLCError) -> (graph: Graph, counts: [String: Int])
  {
    if pass is any FunctionPass { return try pass.run(graph, &budget) }
    var total: [String: Int] = [:]
    let outer = try graph.mappingRegions { (region) throws(DLCError) in
      let (result, counts) = try apply(pass, region, &budget)
      total.merge(counts, uniquingKeysWith: +)
      return result
    }
    let (result, counts) = try pass.run(outer, &budget)
    return (result, counts.merging(total, uniquingKeysWith: +))
  }

  /// - Throws: `.graph` naming the pass after which the graph is not sound.
  package mutating func run(_ graph: Graph) throws(DLCError) -> Graph {
    var graph = graph
    var budget = RewriteBudget(rewriteLimit)
    reports = []
    for pass in passes where !disabled.contains(pass.name) {
      let start = ContinuousClock.now
      let (result, counts) = try apply(pass, graph, &budget)
      let elapsed = ContinuousClock.now - start
      graph = result
      reports.append(
        Report(
          pass: pass.name, fired: counts, nodes: graph.nodes.count,
          milliseconds: Double(elapsed.components.attoseconds) * 1e-15 + Double(
            elapsed.components.seconds) * 1e3))
      if verifies, let violation = graph.violations(in: "after \(pass.name)").first {
        throw DLCError(.graph, "\(violation.message) (\(violation.label))", at: violation.place)
      }
      if printAfter == "all" || printAfter == pass.name {
        print("// after \(pass.name)\n\(graph.text())")
      }
      if stopAfter == pass.name { break }
    }
    return graph
  }
}
