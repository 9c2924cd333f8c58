/// What a mistyped name may have meant.
package enum Spelling {
  /// The nearest of `names` within a third of their length (one edit for short ones), upper and lower
  /// case alike; nil when none is near.
  package static func nearest(to name: String, in names: some Sequence<String>) -> String? {
    let typed = Array(name.lowercased().prefix(64))
    var best: (name: String, distance: Int)?
    for candidate in names where candidate != name {
      let letters = Array(candidate.lowercased().prefix(64))
      let limit = max(1, max(typed.count, letters.count) / 3)
      let found = distance(typed, letters)
      // A name of one letter is near to every other one.
      guard found <= limit, found < max(typed.count, letters.count) else { continue }
      if found < best?.distance ?? .max { best = (candidate, found) }
    }
    return best?.name
  }

  /// What to do about a name that is none of `names`: the nearest of them, else the first few.
  package static func remedy(for name: String, among names: some Collection<String>) -> String {
    if let near = nearest(to: name, in: names) { return "did you mean '\(near)'?" }
    if names.isEmpty { return "there is none" }
    let more = names.count > 12 ? " and \(names.count - 12) more" : ""
    return "there is \(names.prefix(12).joined(separator: ", "))\(more)"
  }

  /// The first few of many names: 'a', 'b' and 3 more.
  package static func list(_ names: [String]) -> String {
    names.prefix(8).map { "'\($0.prefix(64))'" }.joined(separator: ", ")
      + (names.count > 8 ? " and \(names.count - 8) more" : "")
  }

  /// How many insertions, deletions, replacements and swaps of neighbours lead from one to the other.
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...b.count)
    for i in a.indices {
      var row = [i + 1]
      for j in b.indices {
        var cost = min(last[j] + (a[i] == b[j] ? 0 : 1), last[j + 1] + 1, row[j] + 1)
        if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { cost = min(cost, beforeLast[j - 1] + 1) }
        row.append(cost)
      }
      (beforeLast, last) = (last, row)
    }
    return last[b.count]
  }
}
