import Foundation

/// Temporary files of the training tests.
enum FormatPaths {
  static func temporary(_ name: String) -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent(
      "dlc-\(name)-\(UUID().uuidString)"
    ).path
  }

  static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }

  /// Flips one bit near the end.
  static func damage(_ path: String) {
    guard var data = FileManager.default.contents(atPath: path) else { return }
    data[data.count - 3] ^= 4
    _ = FileManager.default.createFile(atPath: path, contents: data)
  }
}
