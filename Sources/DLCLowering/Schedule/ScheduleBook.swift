package import DLCKernel
package import DLCTensor

/// Schedules by the problem that they solve, as `--emit schedule` prints and `--schedule` reads them: they
/// stand in the place of what the cost model would choose.
package struct ScheduleBook: Hashable, Sendable {
  package private(set) var schedules: [String: RegionSchedule] = [:]

  package init() {}

  /// Reads `problem TEXT` lines, each followed by a line `take SCHEDULE`; other lines are comments.
  /// - Throws: `.format`, with the line's number, for what is no schedule.
  package init(text: String, at place: String) throws(DLCError) {
    var problem: String?
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    {
      let words = line.drop { $0 == " " }
      if words.hasPrefix("problem ") { problem = String(words.dropFirst(8)) }
      guard words.split(separator: " ", maxSplits: 1).first == "take" else { continue }
      let json = words.dropFirst(5).prefix { $0 != "#" }
      guard let problem, let schedule = RegionSchedule(text: String(json)) else {
        throw DLCError(
          .format, problem == nil ? "a schedule has no problem before it" : "this is no schedule",
          at: "\(place), line \(number + 1)",
          remedy: "the file is one that dlc compile --emit schedule prints")
      }
      schedules[problem] = schedule
    }
  }

  package var isEmpty: Bool { schedules.isEmpty }

  package mutating func add(_ schedule: RegionSchedule, for problem: Problem) {
    schedules[problem.text] = schedule
  }

  package subscript(_ problem: Problem) -> RegionSchedule? {
    schedules.isEmpty ? nil : schedules[problem.text]
  }

  /// The schedule for a problem, where there is one and it can be taken.
  func legal(for problem: Problem, _ target: Target) -> RegionSchedule? {
    guard let schedule = self[problem], problem.obstacle(to: schedule, target) == nil else {
      return nil
    }
    return schedule
  }

  /// What is in the book and was not followed.
  package func ignored(by plan: GraphPlan, _ target: Target) -> [String] {
    var reasons = schedules.mapValues { _ in "there is no such problem" }
    plan.forEach { part in
      guard let schedule = self[part.problem] else { return }
      reasons[part.problem.text] = part.problem.obstacle(to: schedule, target)
    }
    return reasons.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
  }
}

extension GraphPlan {
  /// Calls a function for every region, those of the graphs inside included.
  package func forEach(_ body: (RegionPlan) -> Void) {
    for part in regions {
      body(part)
      for arm in part.arms { arm.plan.forEach(body) }
    }
  }

  /// Every problem once with the schedule that was taken: what `ScheduleBook` reads.
  /// - Parameter alternatives: adds prices, the others that could have been taken, and why some could not.
  package func schedules(_ target: Target, alternatives: Bool) -> String {
    var seen: Set<Problem> = []
    var lines: [String] = []
    forEach { part in
      guard part.problem != .control, seen.insert(part.problem).inserted else { return }
      lines.append("problem \(part.problem.text)")
      guard alternatives else { return lines.append("  take \(part.schedule.text)") }
      let all = part.problem.candidates(target)
      let mine = all.first { $0.schedule == part.schedule }?.cycles ?? 0
      lines.append("  take \(part.schedule.text) # \(Int(mine)) cycles")
      for other in all where other.schedule != part.schedule {
        if let obstacle = other.obstacle {
          lines.append("  not \(other.schedule.text): \(obstacle)")
        } else {
          let ratio = mine > 0 ? (100 * other.cycles / mine).rounded() / 100 : 1
          lines.append("  \(ratio) times \(other.schedule.text)")
        }
      }
    }
    return lines.map { $0 + "\n" }.joined()
  }
}
