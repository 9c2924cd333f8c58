import ArgumentParser
import DLCData
import DLCFormats
import DLCTensor

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
      let found = try MetricsLog.runs(path)
      found.flatMap(\.notes).forEach(Console.note)
      runs += found
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
