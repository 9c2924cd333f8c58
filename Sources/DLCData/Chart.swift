package import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Curves over steps, in one panel for each metric with a common axis of steps.
package struct Chart: Sendable {
  package struct Curve: Sendable {
    package var label: String
    /// In ascending order; nil is a gap.
    package var points: [(x: Double, y: Double?)]
  }

  package struct Panel: Sendable {
    package var title: String
    package var curves: [Curve]
  }

  package private(set) var panels: [Panel] = []
  package let isLogarithmic: Bool
  /// What is to be said of the curves.
  package private(set) var notes: [String] = []

  /// The metrics of runs. A metric's panel has also what validation measured of it.
  /// - Parameter metrics: by their names; without them those whose names end with `loss`, or else the first.
  /// - Throws: `.usage` when no run has a metric.
  package init(_ runs: [MetricsLog], metrics: [String]?, isLogarithmic: Bool) throws(DLCError) {
    self.isLogarithmic = isLogarithmic
    var known: [String] = []
    for name in runs.flatMap({ $0.series.map(\.name) }) where !known.contains(name) {
      known.append(name)
    }
    let plain = known.filter { !$0.hasPrefix("validation_") && $0 != "examples_per_second" }
    let losses = plain.filter { $0.hasSuffix("loss") }
    let wanted =
      metrics ?? (losses.isEmpty ? Array((plain.isEmpty ? known : plain).prefix(1)) : losses)
    let labels = Self.labels(runs.map(\.path))
    for metric in wanted {
      var curves: [Curve] = []
      for (run, label) in zip(runs, labels) {
        for name in [metric, "validation_" + metric] {
          guard let series = run.series.first(where: { $0.name == name }) else { continue }
          curves.append(
            Curve(
              label: runs.count == 1 ? name : name == metric ? label : "\(label) (validation)",
              points: series.points.map { ($0.step, admitted($0.value)) }))
        }
      }
      guard !curves.isEmpty else {
        throw DLCError(
          .usage, "there is no metric '\(metric)'", at: runs.map(\.path).joined(separator: ", "),
          remedy: Spelling.remedy(for: metric, among: known))
      }
      guard curves.contains(where: { $0.points.contains { $0.y != nil } }) else {
        throw DLCError(
          .usage,
          "the metric '\(metric)' has no \(isLogarithmic ? "positive" : "finite") value to draw",
          at: runs.map(\.path).joined(separator: ", "),
          remedy: isLogarithmic ? "leave --log-scale out" : "")
      }
      panels.append(Panel(title: metric, curves: curves))
      if isLogarithmic,
        runs.contains(where: { run in
          run.series.contains { series in
            (series.name == metric || series.name == "validation_" + metric)
              && series.points.contains { $0.value.map { $0 <= 0 } ?? false }
          }
        })
      {
        notes.append("'\(metric)' has values that are not positive: --log-scale leaves gaps there")
      }
    }
  }

  private func admitted(_ value: Double?) -> Double? {
    guard let value, !isLogarithmic || value > 0 else { return nil }
    return value
  }

  /// Names of runs: of their files, without folders and suffix where that tells them apart.
  private static func labels(_ paths: [String]) -> [String] {
    let short = paths.map { path in
      let name = path.split(separator: "/").last.map(String.init) ?? path
      guard let dot = name.lastIndex(of: "."), dot > name.startIndex else { return name }
      // The number of a run stays.
      return String(name[..<dot] + name[dot...].drop { $0 != " " })
    }
    return Set(short).count == short.count ? short : paths
  }

  // MARK: Axes

  /// A range of numbers and where its marks stand.
  struct Axis {
    var low: Double
    var high: Double
    var marks: [(value: Double, text: String)]
    var isLogarithmic = false

    /// Where a number lies, from 0 to 1.
    func place(_ value: Double) -> Double {
      isLogarithmic
        ? (log10(value) - log10(low)) / (log10(high) - log10(low)) : (value - low) / (high - low)
    }

    /// Around numbers, with about so many marks at 1, 2 or 5 times a power of ten.
    static func linear(_ least: Double, _ most: Double, marks count: Int) -> Axis {
      var (low, high) = (least, most)
      if !(high - low > max(1e-12 * max(abs(low), abs(high)), 1e-290)) {
        let margin = max(abs(low) * 0.05, 1e-12)
        (low, high) = (low - margin, high + margin)
      }
      // Halves, so that the difference of numbers near the largest is finite.
      guard (high / 2 - low / 2).isFinite, high - low < 1e300 else {
        return Axis(low: -1e300, high: 1e300, marks: [(0, "0")])
      }
      let rough = (high - low) / Double(max(count, 1))
      let exponent = Int(log10(rough).rounded(.down))
      let power = tenTo(exponent)
      let step = ([1, 2, 5, 10].first { $0 * power >= rough } ?? 10) * power
      let first = (low / step).rounded(.up)
      var marks: [(value: Double, text: String)] = []
      for index in 0..<(count + 2) {
        let value = (first + Double(index)) * step
        guard value <= high + step * 1e-9 else { break }
        marks.append((value, text(value, step)))
      }
      return Axis(low: low, high: high, marks: marks)
    }

    /// Around positive numbers, with marks at powers of ten, and between them where they are few.
    static func logarithmic(_ least: Double, _ most: Double, marks count: Int) -> Axis {
      // What lies beyond is drawn beyond.
      var (low, high) = (min(max(least, 1e-300), 1e299), min(max(most, 1e-300), 1e300))
      if !(high / low >= 1.2) { (low, high) = (low / 1.2, high * 1.2) }
      let (first, last) = (Int(log10(low).rounded(.down)), Int(log10(high).rounded(.up)))
      let factors: [Double] =
        last - first <= 1 ? [1, 2, 3, 4, 5, 6, 8] : last - first <= 3 ? [1, 2, 5] : [1]
      let stride = max(1, (last - first + count - 1) / max(count, 1))
      var marks: [(value: Double, text: String)] = []
      for exponent in Swift.stride(from: first, through: last, by: stride) {
        for factor in factors {
          let value = factor * tenTo(exponent)
          if value >= low * 0.999_999, value <= high * 1.000_001 {
            marks.append((value, text(value, tenTo(exponent))))
          }
        }
      }
      return Axis(low: low, high: high, marks: marks, isLogarithmic: true)
    }

    static func tenTo(_ exponent: Int) -> Double { Double("1e\(exponent)") ?? 0 }

    /// A multiple of a step with as many digits as it needs.
    static func text(_ value: Double, _ step: Double) -> String {
      let size = max(abs(value), step)
      guard size < 1e6, step >= 1e-4 else {
        guard value != 0 else { return "0" }
        let exponent = Int(log10(abs(value) * 1.000_000_1).rounded(.down))
        let digits = max(0, exponent - Int(log10(step * 1.000_000_1).rounded(.down)))
        return decimal(value / tenTo(exponent), min(digits, 6)) + "e\(exponent)"
      }
      return decimal(value, max(0, -Int(log10(step * 1.000_000_1).rounded(.down))))
    }

    private static func decimal(_ value: Double, _ digits: Int) -> String {
      let scale = tenTo(digits)
      let scaled = Int((abs(value) * scale).rounded())
      let whole = "\(value < 0 && scaled != 0 ? "-" : "")\(scaled / Int(scale))"
      guard digits > 0 else { return whole }
      let rest = String(scaled % Int(scale))
      return whole + "." + String(repeating: "0", count: digits - rest.count) + rest
    }
  }

  /// The steps of all panels.
  func steps(marks: Int) -> Axis {
    var (least, most) = (Double.infinity, -Double.infinity)
    for point in panels.flatMap(\.curves).flatMap(\.points) {
      (least, most) = (min(least, point.x), max(most, point.x))
    }
    return .linear(least, most, marks: marks)
  }

  func values(_ panel: Panel, marks: Int) -> Axis {
    var (least, most) = (Double.infinity, -Double.infinity)
    for point in panel.curves.flatMap(\.points) {
      if let y = point.y { (least, most) = (min(least, y), max(most, y)) }
    }
    return isLogarithmic
      ? .logarithmic(least, most, marks: marks) : .linear(least, most, marks: marks)
  }

  /// Lines of points in 0...1, with at most four of each in one of so many columns: the first, the least, the
  /// greatest and the last, so that nothing that could be seen is lost.
  static func lines(_ curve: Curve, _ x: Axis, _ y: Axis, columns: Int) -> [[(
    x: Double, y: Double
  )]] {
    var lines: [[(x: Double, y: Double)]] = []
    var line: [(x: Double, y: Double)] = []
    var column: [(x: Double, y: Double)] = []
    var place = -1
    func kept(_ points: [(x: Double, y: Double)]) -> [(x: Double, y: Double)] {
      guard points.count > 4 else { return points }
      let least = points.indices.min { points[$0].y < points[$1].y }!
      let most = points.indices.max { points[$0].y < points[$1].y }!
      return Set([0, least, most, points.count - 1]).sorted().map { points[$0] }
    }
    for point in curve.points {
      guard let value = point.y else {
        line += kept(column)
        column = []
        if !line.isEmpty { lines.append(line) }
        line = []
        continue
      }
      let at = (x: x.place(point.x), y: y.place(value))
      let here = Int(at.x * Double(columns))
      if here != place {
        line += kept(column)
        column = []
        place = here
      }
      column.append(at)
    }
    line += kept(column)
    if !line.isEmpty { lines.append(line) }
    return lines
  }
}
