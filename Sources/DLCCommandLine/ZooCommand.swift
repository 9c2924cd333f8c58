import ArgumentParser
import DLCFormats
import DLCGraph
import DLCTensor
import DLCZoo
import Foundation

struct ZooCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zoo", abstract: "The models that dlc ships.",
    subcommands: [List.self, Build.self, Train.self, Parity.self, Cost.self])

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Lists the models; with --json their functions too, which 'dlc show' shows of one.")

    @Flag(help: "As JSON.") var json = false

    func run() throws {
      if json {
        var list: [JSON] = []
        for model in Zoo.models {
          list.append(
            .object([
              ("model", .text(model.name)), ("summary", .text(model.summary)),
              ("functions", .list(try model.module().functions.map { .text($0.name) })),
            ]))
        }
        return try Console.result("\(JSON.object([("models", .list(list))]))")
      }
      try Console.result(
        table([["model", "what"]] + Zoo.models.map { [$0.name, $0.summary] }))
    }
  }

  struct Build: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Writes model files.")

    @ArgumentParser.Argument(help: "One model; all that the package ships by default.") var name:
      String?
    @Option(name: .shortAndLong, help: "The directory to write to.") var output = "."

    func run() throws {
      let models =
        name.map { wanted in (Zoo.models + Zoo.updates).filter { $0.name == wanted } }
        ?? Zoo.shipped
      guard !models.isEmpty else {
        throw DLCError(
          .usage, "there is no model '\(name ?? "")'",
          remedy: Spelling.nearest(to: name ?? "", in: Zoo.models.map(\.name))
            .map { "did you mean '\($0)'?" } ?? "dlc zoo list names them")
      }
      for model in models {
        let path = "\(output)/\(model.name).pb"
        let directory = String(path[..<path.lastIndex(of: "/")!])
        do {
          try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true)
        } catch {
          throw DLCError(.file, "cannot create the directory", at: directory)
        }
        try model.module().save(path)
        try Console.result(path)
      }
    }
  }
}
