import CMachine
package import DLCCodegen
import DLCFormats
import DLCProgram
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Compiled objects and programs on disk, keyed by the content that they were made from.
///
/// Entries are written atomically and never changed, so that concurrent processes only ever see whole
/// ones. Each holds its whole key and a digest of its bytes: one that is damaged, or that is under the
/// name of another, is not used, and what it was wanted for is compiled again. Entries are machine code,
/// so that only what belongs to this user, and nobody else may write, is used. The oldest entries go
/// when the cache outgrows its bound. A cache that cannot be used or written is no error.
public struct CompileCache: Sendable {
  /// Where the entries are.
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

  /// The cache in a directory, which is made when the first entry is written.
  public init(directory: String) { self.directory = directory }

  /// Tells builds of dlc apart, so that none runs what another one compiled: the file that this code
  /// was loaded from, which is the command, or the library or test bundle that dlc is part of.
  static let buildIdentity: String = {
    var path = [CChar](repeating: 0, count: Int(PATH_MAX))
    dlc_image_path(&path, path.count)
    var information = stat()
    guard stat(path, &information) == 0 else { return "unknown" }
    return "\(information.st_size) \(information.st_mtim.tv_sec).\(information.st_mtim.tv_nsec)"
  }()

  /// Makes the directory where it is missing.
  /// - Returns: whether it is this user's, and nobody else may write it.
  private func isUsable(making: Bool) -> Bool {
    if making {
      var path = ""
      for part in directory.split(separator: "/") {
        path += "/" + part
        if mkdir(path, 0o700) != 0 && errno != EEXIST { return false }
      }
    }
    var information = stat()
    return stat(directory, &information) == 0 && information.st_mode & S_IFMT == S_IFDIR
      && information.st_uid == geteuid() && information.st_mode & (S_IWGRP | S_IWOTH) == 0
  }

  private func path(_ key: String, _ kind: String) -> String {
    "\(directory)/\(Digest.hex(Array(key.utf8))).\(kind)"
  }

  /// Objects: a digest of what follows it, the length of the key (8 bytes, little-endian), the key, and
  /// the object.
  package var objectStore: ObjectStore {
    trim()
    return ObjectStore(
      load: { key in
        guard isUsable(making: false), let file = try? MappedFile(path(key, "o"), isPrivate: true)
        else { return nil }
        let start = Digest.byteCount + 8 + key.utf8.count
        let bytes = file.bytes
        guard bytes.count > start,
          Digest.hash(UnsafeRawBufferPointer(rebasing: bytes[Digest.byteCount...]))
            .elementsEqual(bytes[..<Digest.byteCount]),
          bytes[Digest.byteCount..<start].elementsEqual(Self.prefix(key))
        else { return nil }
        return Array(bytes[start...])
      },
      save: { key, bytes in
        save(key, "o") { (path) throws(DLCError) in
          let content = Self.prefix(key) + bytes
          try OutputFile.write(Digest.hash(content) + content, to: path, isPrivate: true)
        }
      })
  }

  private static func prefix(_ key: String) -> [UInt8] {
    let text = Array(key.utf8)
    return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text
  }

  /// The program that was made from `key`; nil when there is none that can be used.
  func program(_ key: String) -> ProgramFile.Contents? {
    guard isUsable(making: false), let file = try? MappedFile(path(key, "dlc"), isPrivate: true),
      let contents = try? ProgramFile.read(file), contents.program.key == key
    else { return nil }
    return contents
  }

  /// Writes an entry; a cache that cannot be written is no error.
  func save(_ key: String, _ kind: String, _ write: (String) throws(DLCError) -> Void) {
    let path = path(key, kind)
    // What is no file, or not ours, stays: it may be a pipe that nobody reads.
    guard isUsable(making: true), !MappedFile.exists(path) || MappedFile.isPrivate(path) else {
      return
    }
    try? write(path)
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

  /// Makes room: entries that compilation has not written yet are far below the bound.
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
