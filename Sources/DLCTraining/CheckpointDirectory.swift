import DLCFormats
import DLCTensor
import Foundation

/// A directory that one run keeps its checkpoints in: `step-N` for each, and `.lock` while the run goes on.
/// Other names in it are left alone.
final class CheckpointDirectory {
  let path: String
  private let descriptor: Int32
  private var lockPath: String { "\(path)/.lock" }

  /// Creates the directory where it is missing, keeps other runs out of it for as long as the object
  /// lives, and removes what an interrupted write left.
  /// - Throws: `.file` when another run is using it, or it cannot be written.
  init(_ path: String) throws(DLCError) {
    self.path = path
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw DLCError(.file, "cannot create the directory of checkpoints", at: path)
    }
    descriptor = try Self.lock("\(path)/.lock", path)
    for name in Self.entries(path) where Self.isTemporary(name) {
      try? FileManager.default.removeItem(atPath: "\(path)/\(name)")
    }
  }

  deinit {
    // Removed while it is held: whoever waits for it finds that it is no longer the file of that name.
    unlink(lockPath)
    close(descriptor)
  }

  /// Takes the lock: a file that is locked for as long as its owner lives.
  private static func lock(_ file: String, _ directory: String) throws(DLCError) -> Int32 {
    while true {
      let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
      guard descriptor >= 0 else {
        throw DLCError(
          .file, "cannot lock the directory of checkpoints: \(String(cString: strerror(errno)))",
          at: directory)
      }
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        let isHeld = errno == EWOULDBLOCK
        let reason = String(cString: strerror(errno))
        close(descriptor)
        throw DLCError(
          .file,
          isHeld
            ? "the directory of checkpoints is in use by another run"
            : "cannot lock the directory of checkpoints: \(reason)", at: directory,
          remedy: isHeld ? "wait until that has ended, or choose another directory" : "")
      }
      // The owner before may have removed the file between the opening and the locking.
      var (held, named) = (stat(), stat())
      if fstat(descriptor, &held) == 0, lstat(file, &named) == 0, held.st_ino == named.st_ino,
        held.st_dev == named.st_dev
      {
        return descriptor
      }
      close(descriptor)
    }
  }

  // MARK: Names

  private static func entries(_ path: String) -> [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
  }

  private static func isNumber(_ text: Substring) -> Bool {
    !text.isEmpty && text.utf8.count <= 18 && text.utf8.allSatisfy { $0 >= 48 && $0 <= 57 }
  }

  /// `.step-N.P`: a checkpoint that process P was writing.
  private static func isTemporary(_ name: String) -> Bool {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 3 && parts[0].isEmpty && parts[1].hasPrefix("step-")
      && isNumber(parts[1].dropFirst(5)) && isNumber(parts[2])
  }

  private static func name(_ step: Int) -> String {
    let digits = String(step)
    return "step-" + String(repeating: "0", count: max(0, 9 - digits.count)) + digits
  }

  /// The checkpoints of a directory, the oldest first.
  static func checkpoints(in path: String) -> [(step: Int, path: String)] {
    var found: [(step: Int, path: String)] = []
    for entry in entries(path) where entry.hasPrefix("step-") && isNumber(entry.dropFirst(5)) {
      guard let step = Int(entry.dropFirst(5)), name(step) == entry,
        FileManager.default.fileExists(atPath: "\(path)/\(entry)/checkpoint.json")
      else { continue }
      found.append((step, "\(path)/\(entry)"))
    }
    return found.sorted { $0.step < $1.step }
  }

  var checkpoints: [(step: Int, path: String)] { Self.checkpoints(in: path) }

  // MARK: Writing

  /// Writes a checkpoint under a temporary name, synced, then renamed, and drops all but the last `keep`
  /// of the same run.
  /// - Throws: `.file` when that cannot be done; what was there before is then whole.
  func write(_ checkpoint: Checkpoint, keep: Int) throws(DLCError) {
    let files = FileManager.default
    let name = Self.name(checkpoint.step)
    let temporary = "\(path)/.\(name).\(ProcessInfo.processInfo.processIdentifier)"
    let final = "\(path)/\(name)"
    do {
      try files.createDirectory(atPath: temporary, withIntermediateDirectories: false)
    } catch {
      throw DLCError(.file, "cannot create a checkpoint", at: path)
    }
    defer { try? files.removeItem(atPath: temporary) }
    try checkpoint.write(to: temporary)
    do {
      // Only a damaged one can be there: a run does not save a step twice.
      if files.fileExists(atPath: final) { try files.removeItem(atPath: final) }
      try files.moveItem(atPath: temporary, toPath: final)
    } catch {
      throw DLCError(.file, "cannot put a checkpoint in its place", at: final)
    }
    let folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
    let own = checkpoints.filter {
      (try? Checkpoint.Header(contentsOf: $0.path))?.run == checkpoint.run
    }
    for old in own.dropLast(max(1, keep)) { try? files.removeItem(atPath: old.path) }
  }

  /// Drops the checkpoints after a step.
  /// - Throws: `.file` when one cannot be removed.
  func remove(after step: Int) throws(DLCError) {
    for checkpoint in checkpoints where checkpoint.step > step {
      do { try FileManager.default.removeItem(atPath: checkpoint.path) } catch {
        throw DLCError(.file, "cannot remove a checkpoint", at: checkpoint.path)
      }
    }
  }
}
