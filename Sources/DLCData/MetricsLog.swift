import DLCFormats
package import DLCTensor

/// What a training run wrote into its log: one JSON object in a line, with a number `step` and metrics,
/// which are numbers, or null where they were not finite.
package struct MetricsLog: Sendable {
  /// A metric over the steps.
  package struct Series: Sendable {
    package var name: String
    /// In ascending order of the steps; nil where the metric was not finite.
    package var points: [(step: Double, value: Double?)] = []
  }

  /// The file, and which run of several in it.
  package private(set) var path: String
  /// In the order in which the metrics first occur.
  package private(set) var series: [Series] = []
  /// What is to be said of the file.
  package private(set) var notes: [String] = []
  private var places: [String: Int] = [:]

  /// What stands in a line and is no metric.
  private static let bookkeeping: Set<String> = ["epoch", "step"]

  private init(of path: String) { self.path = path }

  /// Reads the runs of a log. A half line at the end, as a run leaves that was killed, is skipped. Steps that
  /// a resumed run computed again take the place of what was there; where the steps begin anew another run
  /// begins.
  /// - Throws: `.file` when it cannot be read; `.format`, with the line's number, for a line that is no
  ///   such object, and when there is none at all.
  package static func runs(_ path: String) throws(DLCError) -> [MetricsLog] {
    let file = try MappedFile(path)
    var (runs, log) = ([MetricsLog](), MetricsLog(of: path))
    var (first, last) = (Double?.none, -Double.infinity)
    var start = 0
    var line = 0
    while start < file.bytes.count {
      let end = file.bytes[start...].firstIndex(of: 10) ?? file.bytes.count
      line += 1
      let bytes = UnsafeRawBufferPointer(rebasing: file.bytes[start..<end])
      start = end + 1
      if bytes.allSatisfy({ $0 == 32 || $0 == 9 || $0 == 13 }) { continue }
      let members: [(name: String, value: MetricsParser.Value)]
      do throws(DLCError) {
        members = try MetricsParser.object(bytes)
      } catch {
        if end == file.bytes.count {
          log.notes.append("\(path): the last line, \(line), is not whole and is skipped")
          break
        }
        throw error.within("\(path), line \(line)")
      }
      guard case .number(let step)? = members.first(where: { $0.name == "step" })?.value else {
        throw DLCError(
          .format, "the line has no number 'step'", at: "\(path), line \(line)",
          remedy: "the file is one that dlc train --log writes")
      }
      if let begin = first, step <= begin, last > begin {
        runs.append(log)
        (log, first) = (MetricsLog(of: path), nil)
      } else if step <= last {
        log.forget(from: step)
      }
      first = first ?? step
      last = step
      for (name, value) in members where !bookkeeping.contains(name) {
        switch value {
        case .number(let number): log.append(name, step, number)
        case .null: log.append(name, step, nil)
        case .other: break
        }
      }
    }
    runs.append(log)
    guard runs.contains(where: { $0.series.contains { $0.points.contains { $0.value != nil } } })
    else { throw DLCError(.format, "there is no metric in the file", at: path) }
    if runs.count > 1 {
      for index in runs.indices { runs[index].path += " (run \(index + 1))" }
    }
    return runs
  }

  private mutating func append(_ name: String, _ step: Double, _ value: Double?) {
    let place = places[name] ?? series.count
    if place == series.count {
      places[name] = place
      series.append(Series(name: name))
    }
    series[place].points.append((step, value))
  }

  private mutating func forget(from step: Double) {
    for index in series.indices {
      while let last = series[index].points.last, last.step >= step {
        series[index].points.removeLast()
      }
    }
  }
}

/// One JSON object of names and plain values (RFC 8259). Lists and objects inside are checked and left out.
struct MetricsParser {
  enum Value: Equatable {
    case number(Double)
    case null
    case other
  }

  private let bytes: UnsafeRawBufferPointer
  private var position = 0

  private init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  static func object(_ bytes: UnsafeRawBufferPointer) throws(DLCError) -> [(
    name: String, value: Value
  )] {
    var parser = MetricsParser(bytes)
    parser.skip()
    let members = try parser.members(depth: 0)
    parser.skip()
    guard parser.position == bytes.count else {
      throw parser.bad("something follows the object")
    }
    return members
  }

  private func bad(_ what: String) -> DLCError {
    DLCError(.format, what, at: "column \(position + 1)")
  }

  private mutating func skip() {
    while position < bytes.count, [32, 9, 13, 10].contains(bytes[position]) { position += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func members(depth: Int) throws(DLCError) -> [(name: String, value: Value)] {
    guard take("{") else { throw bad("'{' is expected: each line is a JSON object") }
    var result: [(name: String, value: Value)] = []
    skip()
    if take("}") { return result }
    repeat {
      skip()
      let name = try string()
      skip()
      guard take(":") else { throw bad("':' is expected") }
      result.append((name, try value(depth: depth)))
      skip()
    } while take(",")
    guard take("}") else { throw bad("',' or '}' is expected") }
    return result
  }

  private mutating func value(depth: Int) throws(DLCError) -> Value {
    guard depth < 64 else { throw bad("there are too many brackets") }
    skip()
    guard position < bytes.count else { throw bad("a value is expected") }
    switch bytes[position] {
    case UInt8(ascii: "\""):
      _ = try string()
      return .other
    case UInt8(ascii: "{"):
      _ = try members(depth: depth + 1)
      return .other
    case UInt8(ascii: "["):
      position += 1
      skip()
      if take("]") { return .other }
      repeat {
        _ = try value(depth: depth + 1)
        skip()
      } while take(",")
      guard take("]") else { throw bad("',' or ']' is expected") }
      return .other
    default: break
    }
    let start = position
    while position < bytes.count,
      "+-.0123456789abcdefghijklmnopqrstuvwxyzE".utf8.contains(bytes[position])
    {
      position += 1
    }
    let word = String(decoding: bytes[start..<position], as: UTF8.self)
    switch word {
    case "null": return .null
    case "true", "false": return .other
    default:
      let isNumber = word.utf8.first.map { $0 == 45 || $0 >= 48 && $0 <= 57 } ?? false
      guard isNumber, word.utf8.allSatisfy({ "+-.0123456789eE".utf8.contains($0) }),
        let number = Double(word)
      else {
        position = start
        throw bad("a value is expected")
      }
      return number.isFinite ? .number(number) : .null
    }
  }

  private mutating func string() throws(DLCError) -> String {
    guard take("\"") else { throw bad("a name in quotes is expected") }
    var content: [UInt8] = []
    while position < bytes.count, bytes[position] >= 32 {
      let byte = bytes[position]
      position += 1
      if byte == UInt8(ascii: "\"") { return String(decoding: content, as: UTF8.self) }
      guard byte == UInt8(ascii: "\\") else {
        content.append(byte)
        continue
      }
      guard position < bytes.count else { break }
      let escaped = bytes[position]
      position += 1
      switch escaped {
      case UInt8(ascii: "n"): content.append(10)
      case UInt8(ascii: "t"): content.append(9)
      case UInt8(ascii: "r"): content.append(13)
      case UInt8(ascii: "b"): content.append(8)
      case UInt8(ascii: "f"): content.append(12)
      case UInt8(ascii: "u"):
        guard position + 4 <= bytes.count,
          let code = UInt32(
            String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16)
        else { throw bad("four hexadecimal digits are expected") }
        position += 4
        content += Array(String(Unicode.Scalar(code) ?? "\u{fffd}").utf8)
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(escaped)
      default:
        position -= 1
        throw bad("there is no such escape")
      }
    }
    throw bad("the quotes are not closed")
  }
}
