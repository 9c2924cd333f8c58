import DLCTensor

#if canImport(Runtime)
  import Runtime
#endif

/// Where a builder call stands, as `File.swift:12`.
package struct SourceLocation: Hashable, Sendable {
  package var text: String
  package init(_ file: StaticString, _ line: UInt) { text = "\(file):\(line)" }
  package init(_ text: String) { self.text = text }

  #if canImport(Runtime)
    /// What is loaded, read once: that takes milliseconds.
    private static let images = loadedImages()

    /// Reads the beginning of every mapped file: none may be unmapped meanwhile.
    private static func loadedImages() -> ImageMap {
      FileMappings.exclusively { ImageMap.capture() }
    }
  #endif

  /// How many files of code are loaded, read anew; 0 where nobody can tell.
  package static func countLoadedImages() -> Int {
    #if canImport(Runtime)
      return loadedImages().count
    #else
      return 0
    #endif
  }

  /// The innermost line on the stack that is none of dlc's own, from the debug information.
  ///
  /// For operators: Swift gives their implementations no way to ask for the line of the call. This
  /// takes milliseconds, so that it is only asked when there is a mistake to report.
  /// - Parameter near: a call that is known to be close by.
  /// - Returns: `near` when the program was stripped of debug information.
  static func onStack(near: SourceLocation?) -> SourceLocation? {
    // A line of dlc's own says nothing.
    let near = near.flatMap { $0.text.hasPrefix("DLCGraph/") ? nil : $0 }
    #if canImport(Runtime)
      let sources = "\(#filePath)".split(separator: "/").dropLast(2).joined(separator: "/") + "/"
      guard let stack = try? Backtrace.capture(limit: 128, images: images).symbolicated() else {
        return near
      }
      for frame in stack.frames {
        guard let place = frame.symbol?.sourceLocation, place.line > 0 else { continue }
        let isForeign = [sources, "<compiler-generated>", "/swift/stdlib/"].contains {
          place.path.contains($0)
        }
        if isForeign { continue }
        let parts = place.path.split(separator: "/").suffix(2)
        // `#fileID` names the module, which is the folder unless sources lie deeper.
        let file = near?.text.prefix { $0 != ":" }.split(separator: "/")
        let folder = file?.last == parts.last ? file?.first : parts.first
        return SourceLocation("\(folder ?? "")/\(parts.last ?? ""):\(place.line)")
      }
    #endif
    return near
  }
}
