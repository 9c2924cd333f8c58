import DLCProgram

/// Where the time of a run goes: its steps in groups, the longest first.
struct StepProfile {
  struct Group {
    var name: String
    var count = 0
    var seconds = 0.0
    var flops = 0
    var bytes = 0
  }

  let groups: [Group]
  let seconds: Double

  /// - Parameters:
  ///   - times: seconds of each step.
  ///   - name: the group of a step.
  ///   - keepsAll: whether steps that did not run are counted too.
  init(
    _ program: Program, _ times: [Double], keepsAll: Bool = false, by name: (Step) -> String
  ) {
    var groups: [String: Group] = [:]
    for (step, seconds) in zip(program.steps, times) where seconds > 0 || keepsAll {
      let key = name(step)
      var group = groups[key] ?? Group(name: key)
      group.count += 1
      group.seconds += seconds
      group.flops += step.flops
      group.bytes += step.bytesMoved
      groups[key] = group
    }
    self.groups = groups.values.sorted { ($1.seconds, $0.name) < ($0.seconds, $1.name) }
    seconds = times.reduce(0, +)
  }

  /// - Parameters:
  ///   - title: what the groups are.
  ///   - peak: what shares are of; without it they are left out.
  ///   - top: so many rows; 0 for all.
  func table(_ title: String, _ peak: MachinePeak? = nil, top: Int = 30) -> String {
    var rows = [
      [title, "steps", "ms", "share, %", "GFLOP/s", "GB/s"] + (peak == nil ? [] : ["peak, %"])
    ]
    let shown = top == 0 ? groups : Array(groups.prefix(top))
    for group in shown + [total(hidden: groups.count - shown.count)] {
      // Of nothing there are no rates.
      let time = max(group.seconds, .leastNormalMagnitude)
      rows.append(
        [
          group.name, "\(group.count)", fixed(group.seconds * 1e3, 3),
          fixed(100 * group.seconds / max(seconds, .leastNormalMagnitude), 1),
          fixed(Double(group.flops) / time / 1e9, 1), fixed(Double(group.bytes) / time / 1e9, 1),
        ] + (peak.map { [fixed(100 * $0.share(of: group), 0)] } ?? []))
    }
    return DLCCommandLine.table(rows)
  }

  /// All groups together, those that are not shown too.
  func total(hidden: Int) -> Group {
    groups.reduce(
      into: Group(name: "total" + (hidden > 0 ? ", with \(hidden) more not shown" : ""))
    ) {
      $0.count += $1.count
      $0.seconds += $1.seconds
      $0.flops += $1.flops
      $0.bytes += $1.bytes
    }
  }

  /// - Parameter run: seconds of a whole run, whose steps are not timed.
  func json(_ peak: MachinePeak, run: Double) -> JSON {
    .object([
      ("ms", .rounded(seconds * 1e3, digits: 6)), ("run_ms", .rounded(run * 1e3, digits: 6)),
      ("threads", .integer(peak.threads)),
      ("peak_flops", .rounded(peak.flops, digits: 0)),
      ("peak_bytes_per_second", .rounded(peak.bytes, digits: 0)),
      (
        "groups",
        .list(
          groups.map { group in
            .object([
              ("name", .text(group.name)), ("steps", .integer(group.count)),
              ("ms", .rounded(group.seconds * 1e3, digits: 6)), ("flops", .integer(group.flops)),
              ("bytes", .integer(group.bytes)),
              ("share_of_peak", .rounded(peak.share(of: group), digits: 4)),
            ])
          })
      ),
    ])
  }
}

extension MachinePeak {
  /// How much of what the machine can do a group does, by arithmetic or by memory.
  func share(of group: StepProfile.Group) -> Double {
    guard group.seconds > 0 else { return 0 }
    return max(
      Double(group.flops) / group.seconds / flops, Double(group.bytes) / group.seconds / bytes)
  }
}

extension Step {
  /// What it computes in the model's words; the kernel's name where the model has none.
  var title: String { origin.isEmpty ? label : origin }
}
