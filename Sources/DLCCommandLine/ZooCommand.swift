import ArgumentParser
import DLCFormats
import DLCGraph
import DLCTensor
import DLCZoo

struct ZooCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "zoo", abstract: "The models that dlc ships.",
    subcommands: [List.self, Build.self])

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Lists the models and their functions.")

    func run() throws {
      var rows = [["model", "functions", "what"]]
      for model in Zoo.models {
        rows.append([
          model.name, try model.module().functions.map(\.name).joined(separator: ", "),
          model.summary,
        ])
      }
      print(table(rows))
    }
  }

  struct Build: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Writes model files.")

    @ArgumentParser.Argument(help: "One model; all of them by default.") var name: String?
    @Option(name: .shortAndLong, help: "The directory to write to.") var output = "."

    func run() throws {
      let models = name.map { wanted in Zoo.models.filter { $0.name == wanted } } ?? Zoo.models
      guard !models.isEmpty else {
        throw DLCError(
          .usage, "there is no model '\(name ?? "")'", remedy: "dlc zoo list names them")
      }
      for model in models {
        let path = "\(output)/\(model.name).pb"
        try model.module().save(path)
        print(path)
      }
    }
  }
}
