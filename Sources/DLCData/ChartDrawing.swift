import DLCTensor

extension Chart {
  /// Colours that people with any colour vision tell apart (M. Okabe, K. Ito).
  private static let colours: [(red: Int, green: Int, blue: Int)] = [
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (100, 100, 100), (190, 175, 30),
  ]

  /// The chart as an SVG file.
  package var svg: String {
    let (width, height) = (640.0, 300.0)
    let (left, right, top, bottom) = (64.0, 16.0, 28.0, 34.0)
    let legendLine = 16.0
    let steps = steps(marks: 8)
    var body = ""
    var offset = 0.0
    for panel in panels {
      let values = values(panel, marks: 6)
      let legend = panel.curves.count > 1 ? legendLine * Double(panel.curves.count) + 4 : 0
      let (plotWidth, plotHeight) = (width - left - right, height - top - bottom)
      func x(_ place: Double) -> String { Self.short(left + place * plotWidth) }
      func y(_ place: Double) -> String { Self.short(offset + top + (1 - place) * plotHeight) }
      body += text(x(0), Self.short(offset + 18), panel.title, "start", isBold: true)
      for (value, label) in values.marks {
        let at = values.place(value)
        body +=
          "<path class=\"grid\" d=\"M\(x(0)) \(y(at))H\(x(1))\"/>\n"
          + text(
            Self.short(left - 6), Self.short(offset + top + (1 - at) * plotHeight + 4), label, "end"
          )
      }
      for (value, label) in steps.marks {
        let at = steps.place(value)
        body +=
          "<path class=\"grid\" d=\"M\(x(at)) \(y(0))V\(y(1))\"/>\n"
          + text(x(at), Self.short(offset + height - bottom + 16), label, "middle")
      }
      body += text(
        x(1), Self.short(offset + height - 4), "step", "end")
      body += "<path class=\"frame\" d=\"M\(x(0)) \(y(1))V\(y(0))H\(x(1))\"/>\n"
      for (index, curve) in panel.curves.enumerated() {
        let colour = Self.colours[index % Self.colours.count]
        let stroke = "rgb(\(colour.red),\(colour.green),\(colour.blue))"
        let dashes = index >= Self.colours.count ? " stroke-dasharray=\"5 3\"" : ""
        for line in Self.lines(curve, steps, values, columns: Int(plotWidth)) {
          if line.count == 1 {
            body +=
              "<circle cx=\"\(x(line[0].x))\" cy=\"\(y(line[0].y))\" r=\"2\" fill=\"\(stroke)\"/>\n"
            continue
          }
          let path = line.map { "\(x($0.x)) \(y($0.y))" }.joined(separator: "L")
          body += "<path class=\"curve\" stroke=\"\(stroke)\"\(dashes) d=\"M\(path)\"/>\n"
        }
        guard panel.curves.count > 1 else { continue }
        let at = offset + height + legendLine * (Double(index) + 0.5)
        body +=
          "<path class=\"curve\" stroke=\"\(stroke)\"\(dashes) d=\"M\(x(0)) \(Self.short(at))h24\"/>\n"
          + text(Self.short(left + 32), Self.short(at + 4), curve.label, "start")
      }
      offset += height + legend
    }
    let size = "width=\"\(Self.short(width))\" height=\"\(Self.short(offset))\""
    return """
      <svg xmlns="http://www.w3.org/2000/svg" \(size) viewBox="0 0 \(Self.short(width)) \(Self.short(offset))">
      <style>text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.frame{stroke:#333;fill:none}\
      .curve{fill:none;stroke-width:1.5;stroke-linejoin:round}</style>
      <rect width="100%" height="100%" fill="#fff"/>
      \(body)</svg>

      """
  }

  private func text(
    _ x: String, _ y: String, _ content: String, _ anchor: String, isBold: Bool = false
  ) -> String {
    var escaped = ""
    for scalar in content.unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      default: escaped.unicodeScalars.append(scalar.value < 32 ? "\u{fffd}" : scalar)
      }
    }
    let weight = isBold ? " font-weight=\"bold\"" : ""
    return "<text x=\"\(x)\" y=\"\(y)\" text-anchor=\"\(anchor)\"\(weight)>\(escaped)</text>\n"
  }

  /// A coordinate to a tenth of a pixel.
  private static func short(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    return tenths % 10 == 0
      ? "\(tenths / 10)" : "\(tenths < 0 ? "-" : "")\(abs(tenths) / 10).\(abs(tenths) % 10)"
  }

  /// The chart as lines for a terminal, in braille characters, each of two by four dots.
  /// - Parameters:
  ///   - width: characters in a line, at least 40.
  ///   - isColoured: whether the terminal shows colours; without them each of several curves is drawn
  ///     with a letter of its own.
  package func text(width: Int, height: Int = 16, isColoured: Bool) -> String {
    let width = max(width, 40)
    var result = ""
    for panel in panels {
      let values = values(panel, marks: max(2, height / 3))
      let margin = values.marks.map(\.text.count).max() ?? 1
      let columns = width - margin - 2
      let steps = steps(marks: max(2, columns / 12))
      var canvas = Canvas(columns: columns, rows: height)
      for (index, curve) in panel.curves.enumerated() {
        for line in Self.lines(curve, steps, values, columns: 2 * columns) {
          canvas.draw(line, index)
        }
      }
      let names = panel.curves.count > 1
      func mark(_ index: Int) -> String {
        let letter = String(Unicode.Scalar(UInt8(ascii: "a") + UInt8(index % 26)))
        guard isColoured else { return letter }
        let colour = Self.colours[index % Self.colours.count]
        return "\u{1B}[38;2;\(colour.red);\(colour.green);\(colour.blue)m"
      }
      result += String(repeating: " ", count: margin + 2) + panel.title + "\n"
      var labels: [Int: String] = [:]
      for (value, text) in values.marks {
        let row = height - 1 - min(height - 1, max(0, Int(values.place(value) * Double(height))))
        if labels[row] == nil { labels[row] = text }
      }
      for row in 0..<height {
        let label = labels[row] ?? ""
        result += String(repeating: " ", count: margin - label.count) + label
        result += label.isEmpty ? " │" : " ┤"
        var line = ""
        var last: Int?
        for cell in canvas.row(row) {
          guard let cell else {
            line += " "
            continue
          }
          if isColoured, last != cell.curve { line += mark(cell.curve) }
          line += isColoured || !names ? cell.braille : mark(cell.curve)
          last = cell.curve
        }
        while line.last == " " { line.removeLast() }
        result += line + (isColoured && last != nil ? "\u{1B}[0m\n" : "\n")
      }
      var axis = [Character](repeating: "─", count: columns)
      var numbers = [Character](repeating: " ", count: columns)
      var free = 0
      for (value, text) in steps.marks {
        let at = min(columns - 1, max(0, Int(steps.place(value) * Double(columns))))
        axis[at] = "┬"
        let start = max(0, min(columns - text.count, at - text.count / 2))
        guard start >= free, text.count <= columns else { continue }
        for (offset, character) in text.enumerated() { numbers[start + offset] = character }
        free = start + text.count + 1
      }
      let indent = String(repeating: " ", count: margin + 1)
      result += indent + "└" + String(axis) + "\n" + indent + " "
      var digits = String(numbers)
      while digits.last == " " { digits.removeLast() }
      result += digits + "\n"
      guard names else { continue }
      for (index, curve) in panel.curves.enumerated() {
        result +=
          indent + " " + mark(index) + (isColoured ? "━━\u{1B}[0m " : "  ") + curve.label + "\n"
      }
    }
    return result
  }

  /// Dots in characters of two by four.
  private struct Canvas {
    let columns: Int
    let rows: Int
    /// The dots of each character, and the curve that drew there last.
    private var cells: [(dots: UInt8, curve: Int)]

    init(columns: Int, rows: Int) {
      (self.columns, self.rows) = (columns, rows)
      cells = [(UInt8, Int)](repeating: (0, 0), count: columns * rows)
    }

    func row(_ row: Int) -> [(braille: String, curve: Int)?] {
      cells[row * columns..<(row + 1) * columns].map {
        $0.dots == 0
          ? nil : (String(Unicode.Scalar(0x2800 + UInt32($0.dots)) ?? " "), $0.curve)
      }
    }

    mutating func draw(_ line: [(x: Double, y: Double)], _ curve: Int) {
      let (width, height) = (2 * columns - 1, 4 * rows - 1)
      let points = line.map {
        (
          x: Int((min(max($0.x, 0), 1) * Double(width)).rounded()),
          y: height - Int((min(max($0.y, 0), 1) * Double(height)).rounded())
        )
      }
      if let first = points.first { dot(first.x, first.y, curve) }
      for (a, b) in zip(points, points.dropFirst()) {
        let count = max(abs(b.x - a.x), abs(b.y - a.y), 1)
        for index in 0...count {
          dot(
            a.x + Int((Double((b.x - a.x) * index) / Double(count)).rounded()),
            a.y + Int((Double((b.y - a.y) * index) / Double(count)).rounded()), curve)
        }
      }
    }

    private mutating func dot(_ x: Int, _ y: Int, _ curve: Int) {
      // The bits of U+2800: the left column is 0, 1, 2, 6, the right one 3, 4, 5, 7.
      let bit = y % 4 == 3 ? 6 + x % 2 : y % 4 + 3 * (x % 2)
      let cell = y / 4 * columns + x / 2
      cells[cell] = (cells[cell].dots | 1 << UInt8(bit), curve)
    }
  }
}
