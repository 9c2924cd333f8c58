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
      Run.self, Compile.self, Import.self, Export.self, Show.self, Check.self, Bench.self,
      Profile.self, Grad.self, Train.self,
      Evaluate.self, Sample.self, ZooCommand.self, DataCommand.self, Plot.self, Cache.self,
    ])
}

@main enum Main {
  static func main() {
    Console.claimDescriptors()
    let arguments = Arguments.joined(Array(CommandLine.arguments.dropFirst()))
    let asJSON = arguments.contains("--json")
    var running: any ParsableCommand.Type = Root.self
    do {
      try Arguments.checkVerbs(arguments, of: Root.self)
      var command = try Root.parseAsRoot(arguments)
      running = type(of: command)
      try command.run()
    } catch let error as DLCError {
      fail(error.uncalled, error.code == .usage ? 64 : error.code == .check ? 2 : 1, asJSON: asJSON)
    } catch let code as ExitCode {
      // The command has said why.
      exit(code.rawValue)
    } catch {
      let code = running.exitCode(for: error)
      let text = running.fullMessage(for: error)
      if code == .success || code.rawValue < 64 && text.isEmpty {
        do { if !text.isEmpty { try Console.result(text) } } catch {
          complain("dlc: error: \(error)")
          exit(1)
        }
        exit(code.rawValue)
      }
      // Wrong usage, in the form that every error of dlc has.
      let what = text.hasPrefix("Error: ") ? String(text.dropFirst(7)) : text
      fail(DLCError(.usage, what), code.rawValue, asJSON: asJSON, lines: what)
    }
  }

  /// Says what is wrong, on standard output too where JSON is wanted, and ends.
  private static func fail(
    _ error: DLCError, _ status: Int32, asJSON: Bool, lines: String? = nil
  ) -> Never {
    complain("dlc: error: " + (lines ?? "\(error)"))
    if asJSON {
      let report = JSON.object([
        (
          "error",
          .object([
            ("kind", .text(error.code.rawValue)), ("message", .text(error.message)),
            ("place", .text(error.location)), ("remedy", .text(error.remedy)),
          ])
        ), ("status", .integer(Int(status))),
      ])
      try? Console.result("\(report)")
    }
    exit(status)
  }
}
