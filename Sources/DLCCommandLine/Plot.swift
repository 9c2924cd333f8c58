import ArgumentParser
import DLCData
import DLCFormats
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

struct Plot: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Draws losses and metrics over the steps of training runs.",
    discussion: """
      The files are what dlc train --log writes; several are drawn into one. A metric's panel also has what \
      validation measured of it. Where a metric was not finite there is a gap.
      """)

  @ArgumentParser.Argument(help: "Logs of runs.") var logs: [String]
  @Option(
    name: .shortAndLong,
    help: "Where the drawing goes (.svg, - for standard output); without it, to the terminal.")
  var output: String?
  @Option(
    help: "Metrics, as loss,accuracy (default: those that end with loss).")
  var metric: String?
  @Flag(help: "A logarithmic axis of values.") var logScale = false

  func validate() throws {
    if logs.isEmpty { throw ValidationError("the file of a log is missing") }
    if let output, output != "-", !output.hasSuffix(".svg") {
      throw ValidationError("the drawing is an .svg file, not '\(output)'")
    }
  }

  func run() throws {
    var runs: [MetricsLog] = []
    for path in logs {
      let log = try MetricsLog(path)
      log.notes.forEach(Console.note)
      runs.append(log)
    }
    let metrics = metric.map {
      $0.split(separator: ",").map { String($0.drop { $0 == " " }) }
    }
    if let metrics, metrics.isEmpty { throw ValidationError("--metric names no metric") }
    let chart = try Chart(runs, metrics: metrics, isLogarithmic: logScale)
    chart.notes.forEach(Console.note)
    guard let output else {
      let text = chart.text(width: Terminal.width, isColoured: Terminal.hasColours)
      return try Console.result(text, terminator: "")
    }
    try OutputFile.write(Array(chart.svg.utf8), to: output)
  }
}

/// What standard output is, when it is a terminal.
enum Terminal {
  static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

  /// Characters in a line; 80 when that is not known.
  static var width: Int {
    var size = winsize()
    if ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 {
      return Int(size.ws_col)
    }
    return getenv("COLUMNS").flatMap { Int(String(cString: $0)) }.map { min(max($0, 1), 1000) }
      ?? 80
  }

  /// Whether colours can be shown, and nobody asked for none (no-color.org).
  static var hasColours: Bool {
    guard isTerminal, getenv("NO_COLOR").map({ $0.pointee == 0 }) ?? true else { return false }
    return getenv("TERM").map { String(cString: $0) != "dumb" } ?? true
  }
}
