/// The one error that leaves dlc: what went wrong in the user's terms, where, and what to do.
public struct DLCError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What kind of thing is wrong; each kind is reported by one stage.
  public enum Code: String, Hashable, Sendable {
    case usage, file, format, graph, type, dimension, binding, unsupported, code, execution
    case memory, check
  }

  public var code: Code
  /// One sentence, without a full stop.
  public var message: String
  /// The file, function, node or source line concerned; empty when there is none.
  public var location: String
  /// What the user can do about it; empty when the message says it all.
  public var remedy: String
  /// The line of the call that failed, as `main.swift:12`; empty for mistakes that were found elsewhere,
  /// as in a file or on the command line.
  public var call = ""
  /// Mistakes that were found with this one and do not follow from it.
  public var others: [DLCError] = []

  public init(_ code: Code, _ message: String, at location: String = "", remedy: String = "") {
    self.code = code
    self.message = message
    self.location = location
    self.remedy = remedy
  }

  /// The same error, said of the call on that line: public functions that call others of dlc put their
  /// own caller's line in place of theirs.
  package func called(_ file: StaticString, _ line: UInt) -> DLCError {
    var copy = self
    copy.call = "\(file):\(line)"
    return copy
  }

  /// The same error without lines of calls: the command line's own are nothing to its user.
  package var uncalled: DLCError {
    var copy = self
    copy.call = ""
    copy.others = others.map(\.uncalled)
    return copy
  }

  /// The same error, and those found with it, with `place` put before their locations.
  package func within(_ place: String) -> DLCError {
    var copy = self
    copy.location = location.isEmpty ? place : "\(place): \(location)"
    copy.others = others.map { $0.within(place) }
    return copy
  }

  /// One line: the message, then `[location, called at line]`, then what to do. One more line for each of the others.
  public var description: String {
    var text = message
    let places = [location, call].filter { !$0.isEmpty }
    if !places.isEmpty { text += " [\(places.joined(separator: ", called at "))]" }
    if !remedy.isEmpty { text += "; \(remedy)" }
    let line = String(text.map { $0.isNewline ? " " : $0 })
    return ([line] + others.map(\.description)).joined(separator: "\n")
  }
}
