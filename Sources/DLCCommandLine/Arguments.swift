import ArgumentParser
import DLCTensor

/// What is done with the arguments before they are parsed.
enum Arguments {
  /// Options with the negative numbers that follow them, as `--lr=-1`: a value that begins with a dash
  /// would be taken for an option, and its message would not say what is wrong with the value.
  static func joined(_ arguments: [String]) -> [String] {
    var result: [String] = []
    for argument in arguments {
      if let last = result.last, last.hasPrefix("--"), last.count > 2, !last.contains("="),
        argument.hasPrefix("-"), Double(argument) != nil
      {
        result[result.count - 1] = "\(last)=\(argument)"
      } else {
        result.append(argument)
      }
    }
    return result
  }

  /// - Throws: `.usage`, with the nearest one, when a verb is none that there is.
  static func checkVerbs(_ arguments: [String], of command: any ParsableCommand.Type)
    throws(DLCError)
  {
    let verbs = command.configuration.subcommands
    guard let word = arguments.first, !word.hasPrefix("-"), !verbs.isEmpty, word != "help" else {
      return
    }
    if let verb = verbs.first(where: { $0._commandName == word }) {
      return try checkVerbs(Array(arguments.dropFirst()), of: verb)
    }
    throw DLCError(
      .usage, "there is no verb '\(word)'",
      remedy: Spelling.remedy(for: word, among: verbs.map { $0._commandName }))
  }
}
