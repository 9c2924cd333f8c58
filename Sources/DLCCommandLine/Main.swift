import ArgumentParser
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

struct Root: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dlc", abstract: "Compiles and runs deep-learning graphs.", version: "0.1.0",
    subcommands: [
      Run.self, Compile.self, Show.self, Check.self, Bench.self, Grad.self, Train.self,
      ZooCommand.self,
      Cache.self,
    ])
}

@main enum Main {
  static func main() {
    do {
      var command = try Root.parseAsRoot()
      try command.run()
    } catch let error as DLCError {
      complain("dlc: error: \(error)")
      exit(error.code == .usage ? 64 : error.code == .check ? 2 : 1)
    } catch let code as ExitCode {
      // The command has said why.
      exit(code.rawValue)
    } catch {
      let code = Root.exitCode(for: error)
      let text = Root.fullMessage(for: error)
      if code == .success || code.rawValue < 64 && text.isEmpty {
        if !text.isEmpty { print(text) }
        exit(code.rawValue)
      }
      // Wrong usage, in the form that every error of dlc has.
      complain("dlc: error: " + (text.hasPrefix("Error: ") ? String(text.dropFirst(7)) : text))
      exit(code.rawValue)
    }
  }
}

/// Writes a line to standard error.
func complain(_ text: String) {
  let line = Array((text + "\n").utf8)
  _ = write(2, line, line.count)
}
