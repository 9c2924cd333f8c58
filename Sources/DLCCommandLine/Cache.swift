import ArgumentParser
import DLCCompiler
import DLCFormats
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
      try Console.result(
        json
          ? "\(JSON.object([("directory", .text(cache.directory)), ("entries", .integer(count)), ("bytes", .integer(bytes)), ("limit_bytes", .integer(cache.limit))]))"
          : "\(cache.directory): \(counted(count, "entry", "entries")), \(size(bytes)) of at most \(size(cache.limit))"
      )
    }
  }

  struct Clear: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Removes every entry.")
    @Flag(help: "As JSON.") var json = false

    func run() throws {
      let cache = try Cache.standard()
      let count = cache.clear()
      try Console.result(
        json
          ? "\(JSON.object([("directory", .text(cache.directory)), ("removed", .integer(count))]))"
          : "\(counted(count, "entry", "entries")) removed from \(cache.directory)")
    }
  }
}
