import DLCProgram

/// Where the time of a run goes: its steps in groups, the longest first.
enum StepProfile {
  /// - Parameters:
  ///   - times: seconds of each step.
  ///   - title: what the groups are.
  ///   - group: the group of a step.
  static func table(
    _ program: Program, _ times: [Double], title: String, by group: (Step) -> String
  ) -> String {
    var groups: [String: (count: Int, seconds: Double, flops: Int, bytes: Int)] = [:]
    for (step, seconds) in zip(program.steps, times) where seconds > 0 {
      var entry = groups[group(step)] ?? (0, 0, 0, 0)
      entry.count += 1
      entry.seconds += seconds
      entry.flops += step.flops
      entry.bytes += step.bytesMoved
      groups[group(step)] = entry
    }
    let total = times.reduce(0, +)
    var rows = [[title, "steps", "ms", "share, %", "GFLOP/s", "GB/s"]]
    let sorted = groups.sorted { ($1.value.seconds, $0.key) < ($0.value.seconds, $1.key) }
    for (name, entry) in sorted.prefix(30) {
      rows.append([
        name, "\(entry.count)", fixed(entry.seconds * 1e3, 3),
        fixed(100 * entry.seconds / total, 1),
        fixed(Double(entry.flops) / entry.seconds / 1e9, 1),
        fixed(Double(entry.bytes) / entry.seconds / 1e9, 1),
      ])
    }
    return DLCCommandLine.table(rows)
  }
}

extension Step {
  /// What it computes in the model's words; the kernel's name where the model has none.
  var title: String { origin.isEmpty ? label : origin }
}
