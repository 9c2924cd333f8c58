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

  public init(_ code: Code, _ message: String, at location: String = "", remedy: String = "") {
    self.code = code
    self.message = message
    self.location = location
    self.remedy = remedy
  }

  /// The same error with `place` put before its location.
  package func within(_ place: String) -> DLCError {
    var copy = self
    copy.location = location.isEmpty ? place : "\(place): \(location)"
    return copy
  }

  /// One line: the message, then `[location]`, then what to do.
  public var description: String {
    var text = message
    if !location.isEmpty { text += " [\(location)]" }
    if !remedy.isEmpty { text += "; \(remedy)" }
    return String(text.map { $0.isNewline ? " " : $0 })
  }
}
