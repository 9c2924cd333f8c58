import DLCTensor
import Foundation
import Testing

@testable import DLCData

@Suite struct PlotTests {
  let folder = Folder()

  func log(_ text: String) throws -> MetricsLog {
    try MetricsLog.runs(try folder.put("m.jsonl", text))[0]
  }

  static let run = """
    {"epoch": 0, "step": 1, "loss": 4.0, "examples_per_second": 10.5}
    {"epoch": 0, "step": 2, "loss": null, "accuracy": 0.5}
    {"epoch": 1, "step": 3, "loss": 1e0, "validation_loss": 2, "x": [1, {"y": "\\u00e4"}], "z": true}

    """

  @Test func linesAreRead() throws {
    let log = try log(Self.run)
    #expect(
      log.series.map(\.name) == ["loss", "examples_per_second", "accuracy", "validation_loss"])
    #expect(log.series[0].points.map(\.step) == [1, 2, 3])
    #expect(log.series[0].points.map(\.value) == [4, nil, 1])
    #expect(log.notes.isEmpty)
  }

  @Test func aLogOfTwoRuns() throws {
    let path = try folder.put("two.jsonl", Self.run + Self.run)
    let runs = try MetricsLog.runs(path)
    #expect(runs.map(\.path) == ["\(path) (run 1)", "\(path) (run 2)"])
    #expect(runs.allSatisfy { $0.series[0].points.count == 3 })
    let chart = try Chart(runs, metrics: ["loss"], isLogarithmic: false)
    #expect(chart.svg.contains("two (run 1)") && chart.svg.contains("two (run 2)"))
  }

  @Test func aHalfLineIsSkippedAndABadOneIsNot() throws {
    let half = try log(Self.run + "{\"epoch\": 2, \"st")
    #expect(half.series[0].points.count == 3 && half.notes.first?.contains("line, 4,") == true)
    let whole = try log(Self.run + "{\"step\": 4, \"loss\": 7}")
    #expect(whole.series[0].points.count == 4 && whole.notes.isEmpty)
    let bad: [(String, String)] = [
      ("{\"epoch\": 2, \"st\n", "line 4: column 17"), ("[1]\n", "line 4: column 1"),
      ("{\"step\": 4, \"loss\": nan}\n", "line 4: column 21"),
      ("{\"loss\": 1}\n", "no number 'step'"),
      ("{\"step\": 4} x\n", "something follows"), ("{\"step\": \"4\"}\n", "no number 'step'"),
      ("{\"step\": 4,}\n", "line 4: column 12"),
      ("{\"a\": " + String(repeating: "[", count: 100_000) + "\n", "too many brackets"),
    ]
    for (line, message) in bad {
      let text = problem { _ = try log(Self.run + line) }
      #expect(text.contains(message) && text.contains("m.jsonl, line 4"), "\(text)")
    }
    #expect(problem { _ = try log("") }.contains("no metric"))
    #expect(problem { _ = try log("{\"step\": 1}\n") }.contains("no metric"))
  }

  @Test func nothingTraps() throws {
    let pieces = [
      "{", "}", "\"step\"", ":", ",", "1", "-1e999", "\"loss\"", "null", "[", "]", "\n", "\\u00",
      "\"", "5e-324",
    ]
    for round in 0..<400 {
      let order = Split.permutation(30, seed: UInt64(round))
      let text = Self.run + order.map { pieces[$0 % pieces.count] }.joined()
      _ = problem {
        let chart = try Chart([try log(text)], metrics: nil, isLogarithmic: round % 2 == 0)
        _ = chart.text(width: 60, isColoured: false) + chart.svg
      }
    }
    // Numbers of every size, in both scales.
    for (a, b) in [
      ("1e308", "-1e308"), ("5e-324", "1e-300"), ("0", "1e-310"), ("1e300", "1.7e308"),
    ] {
      for isLogarithmic in [false, true] {
        let log = try log("{\"step\": 1, \"loss\": \(a)}\n{\"step\": 1e308, \"loss\": \(b)}\n")
        let chart = try Chart([log], metrics: nil, isLogarithmic: isLogarithmic)
        #expect(!chart.text(width: 60, isColoured: true).isEmpty && !chart.svg.contains("nan"))
      }
    }
  }

  @Test func aResumedRunTakesThePlaceOfWhatItRepeats() throws {
    let log = try log(
      (1...5).map { "{\"step\": \($0), \"loss\": \($0)}\n" }.joined()
        + (4...6).map { "{\"step\": \($0), \"loss\": \($0 * 10)}\n" }.joined())
    #expect(log.series[0].points.map(\.value) == [1, 2, 3, 40, 50, 60])
  }

  @Test func panelsOfMetrics() throws {
    let log = try log(Self.run)
    let chart = try Chart([log], metrics: nil, isLogarithmic: false)
    #expect(chart.panels.map(\.title) == ["loss"])
    #expect(chart.panels[0].curves.map(\.label) == ["loss", "validation_loss"])
    let both = try Chart([log, log], metrics: ["loss", "accuracy"], isLogarithmic: false)
    #expect(both.panels.map(\.title) == ["loss", "accuracy"])
    #expect(both.panels[0].curves.count == 4)
    let text = problem { _ = try Chart([log], metrics: ["acuracy"], isLogarithmic: false) }
    #expect(text.contains("did you mean 'accuracy'"), "\(text)")
    let zero = try self.log("{\"step\": 1, \"loss\": 0}\n")
    #expect(
      problem { _ = try Chart([zero], metrics: nil, isLogarithmic: true) }.contains(
        "no positive value"))
  }

  @Test func drawingsHaveGapsLegendAndNumbers() throws {
    let log = try log(Self.run)
    let svg = try Chart([log], metrics: nil, isLogarithmic: false).svg
    // Two pieces of the loss around the gap, and validation's one value: three points.
    #expect(svg.components(separatedBy: "<circle").count == 4)
    #expect(svg.contains(">validation_loss</text>") && svg.contains(">2.5</text>"))
    let parser = XMLParserCheck(svg)
    #expect(parser.isWellFormed)
  }

  @Test func aTerminalsDrawing() throws {
    let log = try log((0...100).map { "{\"step\": \($0), \"loss\": \($0)}\n" }.joined())
    let chart = try Chart([log], metrics: nil, isLogarithmic: false)
    let lines = chart.text(width: 40, height: 4, isColoured: false).split(separator: "\n")
    #expect(lines.map { $0.count }.max()! <= 40)
    #expect(lines.count == 7)
    #expect(lines[1].hasPrefix("100 ┤") && lines[1].last == "⠉", "\(lines)")
    #expect(lines[4].hasPrefix("  0 ┤"))
    #expect(lines[5].hasPrefix("    └"))
    // Without colours several curves are letters.
    let two = try Chart([log, log], metrics: nil, isLogarithmic: false)
    #expect(two.text(width: 60, isColoured: false).contains("b"))
  }

  @Test func axesOfAllSizes() {
    let linear = Chart.Axis.linear(0, 100, marks: 5)
    #expect(linear.marks.map(\.text) == ["0", "20", "40", "60", "80", "100"])
    #expect(Chart.Axis.linear(2.5, 2.5, marks: 4).marks.isEmpty == false)
    #expect(Chart.Axis.linear(0.001, 0.0042, marks: 4).marks.map(\.text).first == "0.001")
    let wide = Chart.Axis.logarithmic(0.001, 1000, marks: 7)
    #expect(wide.marks.map(\.text) == ["0.001", "0.01", "0.1", "1", "10", "100", "1000"])
    for (low, high) in [
      (0, 0), (-1e308, 1e308), (1e-320, 1e-310), (5e-324, 5e-324), (0, 5e-324), (5e-324, 1.7e308),
      (1.7e308, 1.7e308), (1e300, 1e308), (-5, -5), (1e15, 1e15 + 1),
    ] as [(Double, Double)] {
      for axis in [Chart.Axis.linear(low, high, marks: 5)]
        + (low > 0 ? [Chart.Axis.logarithmic(low, high, marks: 5)] : [])
      {
        #expect(axis.place(low).isFinite && axis.place(high).isFinite, "\(low) \(high)")
        #expect(axis.marks.count < 40)
      }
    }
  }

  /// Many points become few, and none of the peaks is lost.
  @Test func longRunsAreThinned() {
    var points = (0..<20_000).map { (x: Double($0), y: Optional(0.5)) }
    points[12_345].y = 1
    points[12_346].y = 0
    let axis = Chart.Axis(low: 0, high: 20_000, marks: [])
    let lines = Chart.lines(
      .init(label: "", points: points), axis, Chart.Axis(low: 0, high: 1, marks: []), columns: 100)
    #expect(lines.count == 1 && lines[0].count <= 400)
    #expect(lines[0].contains { $0.y == 1 } && lines[0].contains { $0.y == 0 })
  }
}

/// Whether elements are closed as they were opened.
struct XMLParserCheck {
  var isWellFormed = true

  init(_ text: String) {
    var open: [Substring] = []
    for part in text.split(separator: "<").dropFirst(0) {
      guard let end = part.firstIndex(of: ">") else {
        isWellFormed = false
        return
      }
      let tag = part[..<end]
      if tag.hasPrefix("/") {
        if open.popLast() != tag.dropFirst() { isWellFormed = false }
      } else if !tag.hasSuffix("/") {
        open.append(tag.prefix { $0 != " " })
      }
    }
    if !open.isEmpty { isWellFormed = false }
  }
}
