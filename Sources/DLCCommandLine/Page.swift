import DLCGraph
import DLCProgram
import DLCTensor

/// One page for a browser: a function's graph, its kernels, and the memory plan. It loads nothing, and
/// what comes from files is in it as data alone: scripts make text of it, never markup.
struct Page {
  /// What was measured of the program.
  struct Measurement {
    /// Seconds of each step, and of a whole run.
    var times: [Double]
    var run: Double
    var peak: MachinePeak
  }

  private let title: String
  private let facts: [(name: String, value: String)]
  private let data: JSON

  /// - Parameter part: what of the model it is; nil for all.
  init(
    _ function: Function?, _ program: Program, _ measurement: Measurement? = nil,
    of part: String? = nil
  ) {
    title = "\(program.name) · \(program.function)"
    let profile = StepProfile(
      program, measurement?.times ?? program.steps.map { _ in 0 }, keepsAll: true
    ) { $0.label }
    var facts = [
      ("Compiled for", program.cpu),
      ("Graph", counted(function?.graph.nodes.count ?? 0, "operation")),
      (
        "Program",
        "\(counted(program.kernels.count, "kernel")), \(counted(program.steps.count, "step"))"
      ),
      (
        "Work", "\(fixed(Double(program.flops) / 1e6, 2)) MFLOP, \(size(program.bytesMoved)) moved"
      ),
      ("Arena", program.arenaText),
    ]
    if let measurement {
      facts.append(
        (
          "A run",
          "\(fixed(measurement.run * 1e3, 3)) ms with \(counted(measurement.peak.threads, "thread"))"
        ))
    }
    if let part { facts.append(("Shown", part)) }
    self.facts = facts
    data = .object([
      ("graph", PageGraph(function?.graph ?? Graph()).json),
      ("kernels", profile.pageJSON(program, measurement)),
      ("heat", Self.heat(program, measurement)), ("memory", MemoryPlan(program).json),
    ])
  }

  /// The share of each scope in the time of the steps; a step's time is that of all scopes it names, in equal parts.
  private static func heat(_ program: Program, _ measurement: Measurement?) -> JSON {
    guard let measurement else { return .object([]) }
    let total = measurement.times.reduce(0, +)
    var shares: [String: Double] = [:]
    for (step, seconds) in zip(program.steps, measurement.times) where total > 0 {
      let scopes = Origin(step.origin).scopes
      for scope in scopes {
        var path = ""
        for part in scope.split(separator: "/") {
          path += path.isEmpty ? String(part) : "/\(part)"
          shares[path, default: 0] += seconds / total / Double(scopes.count)
        }
      }
    }
    return .object(
      shares.sorted { $0.key < $1.key }.map { ($0.key, .rounded($0.value, digits: 5)) })
  }

  /// The whole file.
  var html: String {
    func script(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
    let list = facts.map {
      "<div><dt>\(markup($0.name))</dt><dd>\(markup($0.value))</dd></div>"
    }.joined(separator: "\n")
    // Inside of a script element only `<` could end it.
    let values = data.description.replacing("<", with: "\\u003c")
    return """
      <!doctype html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <meta name="viewport" content="width=device-width, initial-scale=1">
      <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
      <title>\(markup(title))</title>
      <style>
      \(script(PackageResources.page_css))</style>
      </head>
      <body>
      <header>
      <h1>\(markup(title))</h1>
      <dl class="facts">
      \(list)
      </dl>
      </header>
      <nav aria-label="Parts of the page"></nav>
      <main></main>
      <noscript><p>The graph, the kernels and the memory plan are drawn by the page's own script, which is switched off.</p></noscript>
      <script type="application/json" id="data">\(values)</script>
      <script>
      \(script(PackageResources.page_js))\(script(PackageResources.graph_js))\(script(PackageResources.report_js))</script>
      </body>
      </html>

      """
  }
}

/// The text of `Step.origin`, taken apart.
struct Origin {
  var scopes: [String] = []

  init(_ text: String) {
    // The steps that were merged into one, each with its scopes and a line.
    for part in text.components(of: "; ") {
      let names = part.components(of: " at ").first ?? ""
      for scope in names.components(of: ", ")
      where scope != "..." && !scope.isEmpty && !scopes.contains(scope) {
        scopes.append(scope)
      }
    }
    // A line alone is no scope.
    scopes.removeAll { $0.contains(".swift:") }
  }
}

extension String {
  fileprivate func components(of separator: String) -> [String] {
    split(separator: separator, omittingEmptySubsequences: true).map(String.init)
  }
}

extension StepProfile {
  /// Kernels, and what of the model they compute.
  fileprivate func pageJSON(_ program: Program, _ measurement: Page.Measurement?) -> JSON {
    var origins: [String: [String]] = [:]
    for step in program.steps
    where !step.origin.isEmpty && origins[step.label]?.contains(step.origin) != true {
      origins[step.label, default: []].append(step.origin)
    }
    func row(_ group: Group) -> JSON {
      .object([
        ("name", .text(group.name)), ("steps", .integer(group.count)),
        ("seconds", .rounded(group.seconds, digits: 9)), ("flops", .integer(group.flops)),
        ("bytes", .integer(group.bytes)),
        ("peak", .rounded(measurement?.peak.share(of: group) ?? 0, digits: 4)),
        ("of", .list((origins[group.name] ?? []).map { .text($0) })),
      ])
    }
    var parts: [(name: String, value: JSON)] = [
      ("timed", .flag(measurement != nil)), ("rows", .list(groups.map(row))),
      ("total", row(total(hidden: 0))),
    ]
    if let measurement {
      parts += [
        ("run", .rounded(measurement.run, digits: 9)),
        (
          "peak",
          .object([
            ("threads", .integer(measurement.peak.threads)),
            ("flops", .rounded(measurement.peak.flops, digits: 0)),
            ("bytes", .rounded(measurement.peak.bytes, digits: 0)),
          ])
        ),
      ]
    }
    return .object(parts)
  }
}

extension Program {
  /// The size of the arena beside what no placement can do without.
  var arenaText: String {
    let bound = "\(size(arenaBytes)), lower bound \(size(arenaLowerBound))"
    return bound + (arenaRatio.map { " (\($0))" } ?? "")
  }

  /// How much larger the arena is than what is live together, in words; nil when there is no arena.
  var arenaRatio: String? {
    arenaLowerBound == 0
      ? nil : "ratio \(fixed(Double(arenaBytes) / Double(arenaLowerBound), 3))"
  }
}

/// Text as it stands in HTML and SVG.
func markup(_ text: String) -> String {
  text.reduce(into: "") {
    switch $1 {
    case "&": $0 += "&amp;"
    case "<": $0 += "&lt;"
    case ">": $0 += "&gt;"
    case "\"": $0 += "&quot;"
    default: $0.append($1)
    }
  }
}
