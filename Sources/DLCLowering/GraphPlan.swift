package import DLCGraph
package import DLCKernel

/// A graph in regions with their loop nests, and the same of the graphs that its control nodes hold: the
/// tree that assembly puts in order.
package struct GraphPlan: Sendable {
  package var graph: Graph
  package var regions: [RegionPlan]

  /// Splits a bound graph and lowers each region, the bodies of control flow included.
  /// - Parameter book: schedules that stand in the place of what the cost model chooses.
  package init(_ graph: Graph, _ target: Target, _ book: ScheduleBook = ScheduleBook()) {
    self.graph = graph
    var properties = ValueProperties(of: graph)
    regions = Partition.run(graph, target).map { region in
      var arms: [Arm] = []
      if case .control(let id) = region.kind, let flow = graph[id].operation.flow {
        arms = flow.arms.map { Arm(name: $0.name, plan: GraphPlan($0.graph, target, book)) }
      }
      let problem = Problem(region, graph, &properties, target)
      let schedule = book.legal(for: problem, target) ?? problem.candidates(target)[0].schedule
      return RegionPlan(
        region: region, problem: problem, schedule: schedule,
        lowered: Lowering.lower(region, schedule, graph, target), arms: arms)
    }
  }

  package struct RegionPlan: Sendable {
    package var region: Region
    package var problem: Problem
    package var schedule: RegionSchedule
    package var lowered: LoweredRegion
    /// What a control node holds, in the order of its flow.
    package var arms: [Arm]
  }

  package struct Arm: Sendable {
    package var name: String
    package var plan: GraphPlan
  }

  /// Nodes that are computed inside of a kernel and not stored, at every depth.
  package var fusedNodes: Int {
    regions.reduce(0) { sum, part in
      part.arms.reduce(sum + max(part.region.members.count - 1, 0)) { $0 + $1.plan.fusedNodes }
    }
  }

  /// The canonical text: regions, and inside of a control region those of its graphs.
  package func text(indent: String = "") -> String {
    regions.enumerated().map { number, part in
      var lines = part.region.text(graph, number: number)
        .split(separator: "\n").map { indent + $0 }
      if !part.arms.isEmpty {
        let end = lines.removeLast()
        for arm in part.arms {
          lines.append("\(indent)  \(arm.name) {")
          lines += arm.plan.text(indent: indent + "    ").split(separator: "\n").map(String.init)
          lines.append("\(indent)  }")
        }
        lines.append(end)
      }
      return lines.joined(separator: "\n") + "\n"
    }.joined()
  }
}
