import DLCGraph
package import DLCKernel
import Foundation

/// Why kernels are what they are: which nodes each computes, where its region begins and ends, which schedule it
/// runs by, and what else it could have run by.
package struct KernelExplanation {
  private let target: Target
  /// By the name of a kernel, the places in the plan that it comes from.
  private var places: [String: [Place]] = [:]
  /// So many of the other candidates are shown, and of those that are not legal.
  private static let shown = 3

  private struct Place {
    /// As `4`, or `2/body/0` inside of a control node.
    var number: String
    var graph: Graph
    var part: GraphPlan.RegionPlan
    /// Which of the kernels of its region it is.
    var call: Int
    /// Of each value that regions of the same graph store, the region.
    var producers: [ValueID: (number: String, reason: String)]
  }

  package init(_ plan: GraphPlan, _ target: Target) {
    self.target = target
    add(plan, "")
  }

  private mutating func add(_ plan: GraphPlan, _ prefix: String) {
    var producers: [ValueID: (number: String, reason: String)] = [:]
    for (number, part) in plan.regions.enumerated() {
      for output in part.region.outputs
      where part.region.members.contains(
        plan.graph.definitions[output.value.index] ?? NodeID(-1))
      {
        producers[output.value] = ("\(prefix)\(number)", part.region.reason)
      }
    }
    for (number, part) in plan.regions.enumerated() {
      for (index, call) in part.lowered.calls.enumerated() {
        places[call.kernel.name, default: []].append(
          Place(
            number: "\(prefix)\(number)", graph: plan.graph, part: part, call: index,
            producers: producers))
      }
      for arm in part.arms { add(arm.plan, "\(prefix)\(number)/\(arm.name)/") }
    }
  }

  /// What is to say of a kernel, in lines.
  /// - Parameter sections: the kernels that it was merged from; none when it was not.
  package func lines(of kernel: Kernel, sections: [String]) -> [String] {
    if sections.isEmpty { return lines(kernel.name) }
    var (names, counts) = ([String](), [String: Int]())
    for name in sections {
      if counts[name] == nil { names.append(name) }
      counts[name, default: 0] += 1
    }
    return [
      "merged from \(sections.count) kernels whose results no other step reads: they share one grid"
    ]
      + names.flatMap { name in
        ["section \(name)\(counts[name] == 1 ? "" : ", \(counts[name]!) times")"]
          + lines(name).map { "  " + $0 }
      }
  }

  private func lines(_ name: String) -> [String] {
    guard let all = places[name], let place = all.first else { return ["of no region"] }
    var lines: [String] = []
    let region = place.part.region
    let origin = region.origin(place.graph)
    let calls = place.part.lowered.calls.count
    let which = calls > 1 ? "kernel \(place.call + 1) of \(calls) of " : ""
    lines.append(
      "\(which)region \(place.number), \(region.kind.name)\(origin.isEmpty ? "" : ", of \(origin)")"
    )
    let others = Set(all.dropFirst().map(\.number)).subtracting([place.number])
    if !others.isEmpty {
      let list = all.map(\.number).filter { others.contains($0) }
      let most = list.prefix(8).joined(separator: ", ")
      lines.append("the same for regions \(most)\(list.count > 8 ? ", ..." : "")")
    }
    if let last = place.part.lowered.calls.last, place.call < calls - 1, last.kernel.name != name {
      return lines + ["prepares what the last of them works on: \(last.kernel.name) says the rest"]
    }
    return lines + fused(place) + borders(place) + schedule(place)
  }

  // MARK: The region

  private func fused(_ place: Place) -> [String] {
    let (graph, region) = (place.graph, place.part.region)
    let members = region.members.sorted { $0.index < $1.index }.map { graph[$0] }
    if members.isEmpty { return ["fuses nothing: it copies a value"] }
    return [members.count == 1 ? "fuses nothing: one node" : "fuses \(members.count) nodes"]
      + members.map { node in
        let operands = node.operands.map { "%\($0.index)" }.joined(separator: ", ")
        return
          "  %\(node.results[0].index) = \(node.operation.mnemonic) \(operands) : \(graph.type(node.results[0]))"
      }
  }

  /// What it reads and why that is not computed inside; what it stores and why that goes no further.
  private func borders(_ place: Place) -> [String] {
    let (graph, region) = (place.graph, place.part.region)
    let loads = RequestTracer(graph, region).loads
    var lines: [String] = []
    for value in loads.prefix(16) {
      let what: String
      if let argument = graph.argument(value) {
        what = "\(argument.kind.rawValue) '\(argument.name)'"
      } else if let producer = place.producers[value] {
        let why = producer.reason.isEmpty ? "" : ", which ends there: \(producer.reason)"
        what = "of region \(producer.number)\(why)"
      } else {
        what = "a constant"
      }
      lines.append("reads %\(value.index), \(what)")
    }
    if loads.count > 16 { lines.append("reads \(loads.count - 16) more") }
    let stored = region.outputs.map { output -> String in
      switch output.port {
      case nil: "%\(output.value.index)"
      case .result(let i): "%\(output.value.index) as output '\(graph.results[i].name)'"
      case .update(let i): "%\(output.value.index) as state '\(graph.updates[i].name)'"
      }
    }
    lines.append("stores \(stored.joined(separator: ", "))")
    if !region.reason.isEmpty { lines.append("ends: \(region.reason)") }
    return lines
  }

  // MARK: The schedule

  private func schedule(_ place: Place) -> [String] {
    let (problem, taken) = (place.part.problem, place.part.schedule)
    let all = problem.candidates(target)
    let legal = all.filter { $0.obstacle == nil }
    var lines = ["problem \(problem.text)"]
    guard all.count > 1, let mine = all.first(where: { $0.schedule == taken }) else {
      return lines + ["takes \(taken.text)", "why: its shape leaves no choice"]
    }
    let why =
      legal[0].schedule != taken
      ? "a given schedule says so"
      : legal.count == 1
        ? "the only legal one of \(all.count)"
        : "the cheapest of \(legal.count) legal ones by the cost model"
    lines.append("takes \(taken.text)")
    lines.append("why: \(why), \(Int(mine.cycles)) cycles")
    func ratio(_ other: Candidate<RegionSchedule>) -> String {
      mine.cycles > 0 ? "\((1000 * other.cycles / mine.cycles).rounded() / 1000) times" : "as dear"
    }
    let next = legal.filter { $0.schedule != taken }
    for other in next.prefix(Self.shown) {
      lines.append("  \(ratio(other)) with \(other.schedule.difference(from: taken))")
    }
    if next.count > Self.shown { lines.append("  and \(next.count - Self.shown) dearer ones") }
    let barred = all.filter { $0.obstacle != nil }
    let better = barred.filter { $0.cycles < mine.cycles }
    for other in better.isEmpty ? barred.prefix(1) : better.prefix(Self.shown) {
      lines.append(
        "  not \(ratio(other)) with \(other.schedule.difference(from: taken)): \(other.obstacle!)")
    }
    return lines
  }
}

extension Region.Kind {
  fileprivate var name: String {
    switch self {
    case .rows(let domain, let axes):
      axes.isEmpty ? "a map over \(domain)" : "rows of \(domain) reduced over \(axes)"
    case .contraction: "a product on register tiles"
    case .convolution: "a convolution on register tiles"
    case .attention: "two products on register tiles, and rows in between"
    case .assembly: "boxes that are copied into one result"
    case .routine: "an algorithm of its own"
    case .control: "a node that runs graphs"
    }
  }
}

extension RegionSchedule {
  /// The decisions that are not those of another schedule, as `rowBlock 128, packing "tile"`.
  package func difference(from other: RegionSchedule) -> String {
    func decisions(_ schedule: RegionSchedule) -> (kind: Substring, values: [String: String]) {
      let parts = schedule.text.split(separator: " ", maxSplits: 1)
      guard parts.count == 2,
        let object = try? JSONSerialization.jsonObject(with: Data(parts[1].utf8)) as? [String: Any]
      else { return (parts[0], [:]) }
      return (
        parts[0],
        object.mapValues { value in
          let data = try? JSONSerialization.data(
            withJSONObject: value, options: [.sortedKeys, .fragmentsAllowed])
          return String(decoding: data ?? Data(), as: UTF8.self)
        }
      )
    }
    let (mine, theirs) = (decisions(self), decisions(other))
    guard mine.kind == theirs.kind else { return text }
    let keys = Set(mine.values.keys).union(theirs.values.keys).sorted()
    let changed = keys.filter { mine.values[$0] != theirs.values[$0] }
    return changed.isEmpty
      ? "the same" : changed.map { "\($0) \(mine.values[$0] ?? "none")" }.joined(separator: ", ")
  }
}
