#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The memory that this process may still take, as the machine, its control groups (a container's
/// limit) and its own limits (`ulimit -v`) allow.
package struct AvailableMemory: Sendable {
  /// The file that says which control groups the process is in, and where those are.
  package var membership = "/proc/self/cgroup"
  package var groups = "/sys/fs/cgroup"

  package init() {}

  /// What is left for everything that is not counted beforehand: stacks, small objects, buffers.
  package static let reserve = 24 << 20

  /// In bytes; at least 0.
  package static var bytes: Int { max(0, AvailableMemory().total - reserve) }

  /// The smallest of what each limit leaves.
  package var total: Int { min(min(machine, process), group) }

  /// Whether so many more threads can be started, with what they allocate: Dispatch waits for ever for one
  /// that there is no memory for.
  package static func allows(threads: Int) -> Bool {
    // A stack, and the address space that malloc reserves for a thread of its own.
    threads < 1 || AvailableMemory().total / threads > 160 << 20
  }

  /// - Throws: `.memory` when less is left than `count` bytes, naming what they are for.
  package static func require(_ count: Int, for what: @autoclosure () -> String) throws(DLCError) {
    // Looking costs more than a small allocation, and small ones are what the reserve is for.
    guard count > 1 << 20 else { return }
    let left = bytes
    guard count <= left else { throw shortage(count, left, what()) }
  }

  package static func shortage(_ count: Int, _ left: Int, _ what: String) -> DLCError {
    DLCError(
      .memory, "there is not enough memory for \(what): \(count) bytes, of which \(left) are left",
      remedy: "use smaller sizes or batches, or raise the limit of this process")
  }

  private static func lines(_ path: String) -> [Substring] {
    guard let file = fopen(path, "re") else { return [] }
    defer { fclose(file) }
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while text.count < 1 << 16 {
      let count = fread(&chunk, 1, chunk.count, file)
      if count == 0 { break }
      text += chunk[..<count]
    }
    return String(decoding: text, as: UTF8.self).split(separator: "\n")
  }

  private static func number(_ path: String) -> Int? { lines(path).first.flatMap { Int($0) } }

  /// The value behind a word, as in `MemTotal:  24 kB` and `inactive_file 4096`.
  private static func number(_ name: String, in lines: [Substring]) -> Int? {
    lines.first { $0.hasPrefix(name) && $0.dropFirst(name.count).first.map { " \t".contains($0) } == true }
      .flatMap { Int($0.split { " \t".contains($0) }[1]) }
  }

  private var machine: Int {
    let lines = Self.lines("/proc/meminfo")
    guard let available = Self.number("MemAvailable:", in: lines) else {
      return sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    }
    return (available + (Self.number("SwapFree:", in: lines) ?? 0)) << 10
  }

  /// `RLIMIT_AS` and `RLIMIT_DATA`, less what is mapped.
  private var process: Int {
    let fields = (Self.lines("/proc/self/statm").first ?? "").split(separator: " ").compactMap {
      Int($0)
    }
    let page = sysconf(Int32(_SC_PAGESIZE))
    var least = Int.max
    for (resource, field) in [(RLIMIT_AS, 0), (RLIMIT_DATA, 5)] {
      var limit = rlimit()
      guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0,
        limit.rlim_cur < rlim_t(Int.max), fields.count > field
      else { continue }
      least = min(least, Int(limit.rlim_cur) - fields[field] * page)
    }
    return least
  }

  /// The limits of the control groups that the process is in, with those around them; memory that
  /// holds files is given back when it is wanted.
  private var group: Int {
    var least = Int.max
    for line in Self.lines(membership) {
      // "0::/path" for version 2, "7:memory:/path" for version 1.
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let isOld = parts[1].split(separator: ",").contains("memory")
      guard isOld || parts[1].isEmpty else { continue }
      let root = isOld ? groups + "/memory" : groups
      let (limit, usage, file) =
        isOld
        ? ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        : ("memory.max", "memory.current", "")
      var path = parts[2].split(separator: "/")
      while true {
        let folder = ([root[...]] + path).joined(separator: "/")
        if let most = Self.number("\(folder)/\(limit)"), let used = Self.number("\(folder)/\(usage)")
        {
          let statistics = Self.lines("\(folder)/memory.stat")
          let files =
            (Self.number(file + "inactive_file", in: statistics) ?? 0)
            + (Self.number(file + "active_file", in: statistics) ?? 0)
          least = min(least, most - max(0, used - files))
        }
        if path.popLast() == nil { break }
      }
    }
    return least
  }
}
