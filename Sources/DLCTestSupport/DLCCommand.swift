package import Foundation

/// The command as a user runs it.
package enum DLCCommand {
  package static let url: URL = {
    // The test bundle and the command are built side by side.
    let fromArguments = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    let candidates = [
      fromArguments, Bundle.main.bundleURL, Bundle.main.executableURL?.deletingLastPathComponent(),
    ].compactMap { $0 }
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
      "../.."
    ).standardized
    let all =
      candidates + [
        root.appendingPathComponent(".build/debug"), root.appendingPathComponent(".build/release"),
      ]
    return all.map { $0.appendingPathComponent("dlc") }.first {
      FileManager.default.isExecutableFile(atPath: $0.path)
    }!
  }()

  /// Runs a program to its end.
  package static func launch(
    _ program: URL, _ arguments: [String], in folder: String? = nil,
    environment: [String: String] = [:]
  ) throws -> (status: Int32, out: String, error: String) {
    let process = Process()
    process.executableURL = program
    process.arguments = arguments
    if let folder { process.currentDirectoryURL = URL(fileURLWithPath: folder) }
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let (out, error) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = error
    try process.run()
    let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaint = String(
      decoding: error.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text, complaint)
  }
}
