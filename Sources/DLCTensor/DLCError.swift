/// The one error that leaves dlc: what went wrong in the user's terms, where, and what to do.
///
/// ```swift
/// do {
///   try module.function("sum") { g in
///     g.output("y", g.input("a", .float32, [3]) + g.input("b", .float32, [4]))
///   }
/// } catch {
///   message = "\(error.code): \(error.message), \(error.location)"
/// }
/// ```
public struct DLCError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What kind of thing is wrong; each kind is reported by one stage.
  public enum Code: String, Hashable, Sendable {
    /// A command line, an option or a setting that cannot be.
    case usage
    /// A file that cannot be read or written.
    case file
    /// A file that is damaged, or of another format.
    case format
    /// A mistake in what a model is made of.
    case graph
    /// Element types or shapes that do not fit.
    case type
    /// A named dimension that is not declared or not bound, or a size that cannot be.
    case dimension
    /// An array, a state or a size that is missing, unknown, or not of the type that is wanted.
    case binding
    /// What dlc does not do.
    case unsupported
    /// Machine code that cannot be made or used here.
    case code
    /// A run that failed.
    case execution
    /// Memory that is not there.
    case memory
    /// A result that is not finite where it must be.
    case check
  }

  /// What kind of thing is wrong.
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

  /// An error of which the line of the call is not known.
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
