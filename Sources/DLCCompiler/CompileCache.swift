package import DLCCodegen
import DLCFormats
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Compiled objects and programs on disk, keyed by the content that they were made from.
///
/// Entries are written atomically and never changed, so that concurrent processes only ever see whole
/// ones; each carries a digest of its bytes. The oldest entries go when the cache outgrows its bound.
public struct CompileCache: Sendable {
  public let directory: String
  /// The size above which old entries are removed, in bytes.
  public var limit = 512 << 20

  /// `$XDG_CACHE_HOME/dlc`, or `~/.cache/dlc`; nil when neither is known.
  public static var standard: CompileCache? {
    func variable(_ name: String) -> String? {
      getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }
    if let base = variable("XDG_CACHE_HOME"), base.hasPrefix("/") {
      return CompileCache(directory: base + "/dlc")
    }
    return variable("HOME").map { CompileCache(directory: $0 + "/.cache/dlc") }
  }

  public init(directory: String) { self.directory = directory }

  /// Tells builds of dlc apart, so that none runs what another one compiled.
  static let buildIdentity: String = {
    var information = stat()
    guard stat("/proc/self/exe", &information) == 0 else { return "unknown" }
    return "\(information.st_size) \(information.st_mtim.tv_sec).\(information.st_mtim.tv_nsec)"
  }()

  private func makeDirectory() -> Bool {
    var path = ""
    for part in directory.split(separator: "/") {
      path += "/" + part
      if mkdir(path, 0o755) != 0 && errno != EEXIST { return false }
    }
    return true
  }

  package func path(_ key: String, _ kind: String) -> String {
    "\(directory)/\(SHA256.hex(key.utf8)).\(kind)"
  }

  package var objectStore: ObjectStore {
    ObjectStore(
      load: { key in
        guard let file = try? MappedFile(path(key, "o")), file.bytes.count > 32 else { return nil }
        let content = Array(file.bytes[32...])
        return SHA256.hash(content).elementsEqual(file.bytes[0..<32]) ? content : nil
      },
      save: { key, bytes in
        guard makeDirectory() else { return }
        try? MappedFile.write(SHA256.hash(bytes) + bytes, to: path(key, "o"))
      })
  }

  /// Makes room for, and writes, an entry; a cache that cannot be written is no error.
  func save(_ path: String, _ write: (String) throws -> Void) {
    guard makeDirectory() else { return }
    try? write(path)
    trim()
  }

  /// Size in bytes and modification time of every entry.
  private var entries: [(path: String, size: Int, time: Int)] {
    guard let stream = opendir(directory) else { return [] }
    defer { closedir(stream) }
    var result: [(String, Int, Int)] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard name.hasSuffix(".o") || name.hasSuffix(".dlc") || name.hasSuffix(".tmp") else {
        continue
      }
      var information = stat()
      if stat("\(directory)/\(name)", &information) == 0 {
        result.append(
          ("\(directory)/\(name)", Int(information.st_size), Int(information.st_mtim.tv_sec)))
      }
    }
    return result
  }

  /// How many entries there are, and their bytes together.
  public var usage: (count: Int, bytes: Int) {
    let list = entries
    return (list.count, list.reduce(0) { $0 + $1.size })
  }

  private func trim() {
    var list = entries
    var total = list.reduce(0) { $0 + $1.size }
    guard total > limit else { return }
    list.sort { $0.time < $1.time }
    for entry in list where total > limit * 3 / 4 {
      unlink(entry.path)
      total -= entry.size
    }
  }

  /// Removes every entry; returns how many there were.
  public func clear() -> Int {
    let list = entries
    for entry in list { unlink(entry.path) }
    return list.count
  }
}
