import ArgumentParser
import DLCCompiler
import DLCTensor

struct Cache: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The cache of compiled code.", subcommands: [Info.self, Clear.self])

  static func standard() throws -> CompileCache {
    guard let cache = CompileCache.standard else {
      throw DLCError(.file, "there is no cache directory", remedy: "set HOME or XDG_CACHE_HOME")
    }
    return cache
  }

  struct Info: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Where it is and how large.")
    @Flag(help: "As JSON.") var json = false

    func run() throws {
      let cache = try Cache.standard()
      let (count, bytes) = cache.usage
      print(
        json
          ? "{\"directory\":\"\(cache.directory)\",\"entries\":\(count),\"bytes\":\(bytes),\"limit_bytes\":\(cache.limit)}"
          : "\(cache.directory): \(count) entries, \(size(bytes)) of at most \(size(cache.limit))")
    }
  }

  struct Clear: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Removes every entry.")
    func run() throws {
      let cache = try Cache.standard()
      print("\(cache.clear()) entries removed from \(cache.directory)")
    }
  }
}
