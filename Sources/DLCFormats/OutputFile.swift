package import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A place that results are written to. A regular file is replaced as a whole: the bytes go to a
/// temporary file beside it, which is synced and takes its name at the end, so that a failure or a
/// crash leaves the old file as it was. A symbolic link stays, and what it leads to is replaced. What
/// cannot be replaced (a device, a pipe, `-` for standard output) is written to as it comes.
package final class OutputFile {
  /// As the caller named it, for messages.
  private let name: String
  private var descriptor: Int32
  /// Where the bytes go in the end, and where they are until then; nil for what is written directly.
  private var replacement: (target: String, temporary: String)?

  /// - Parameter isPrivate: whether nobody else may read the file.
  /// - Throws: `.file` with the name when the place cannot be opened.
  package init(_ path: String, isPrivate: Bool = false) throws(DLCError) {
    name = path
    if path == "-" {
      (descriptor, replacement) = (STDOUT_FILENO, nil)
      return
    }
    let target = try Self.followLinks(path)
    var information = stat()
    let exists = stat(target, &information) == 0
    let kind = information.st_mode & S_IFMT
    if exists && kind == S_IFDIR {
      throw DLCError(.file, "cannot write '\(path)': it is a directory")
    }
    if exists && kind != S_IFREG {
      descriptor = open(target, O_WRONLY | O_CLOEXEC | O_NOCTTY)
      replacement = nil
      guard descriptor >= 0 else { throw MappedFile.failure("cannot write", path) }
      return
    }
    if exists && access(target, W_OK) != 0 { throw MappedFile.failure("cannot write", path) }
    let temporary = "\(target).\(getpid()).\(UInt32.random(in: 0...UInt32.max)).tmp"
    descriptor = open(
      temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, isPrivate ? 0o600 : 0o666)
    guard descriptor >= 0 else { throw MappedFile.failure("cannot create", path) }
    // Who could read the old file can read the new one, nobody else.
    if exists { _ = fchmod(descriptor, information.st_mode & 0o7777) }
    replacement = (target, temporary)
  }

  deinit {
    // What was not committed leaves nothing behind.
    if descriptor > STDOUT_FILENO { close(descriptor) }
    if let replacement { unlink(replacement.temporary) }
  }

  /// Checks that a file can be put at a path, before the work whose result goes there. Nothing is left.
  /// - Throws: `.file` with the name when it cannot.
  package static func requirePlace(_ path: String) throws(DLCError) {
    // What is written to as it comes is not opened twice.
    if try replaceable(path) != nil { _ = try OutputFile(path) }
  }

  /// Checks that no two outputs are one file, and that none is a file that is read: whatever is written last
  /// would be all that is left.
  /// - Parameters:
  ///   - outputs: paths and what they are called, as `-o`; nil for those that are not given.
  ///   - inputs: the same of files that are read.
  /// - Throws: `.usage`, naming both.
  package static func requireDistinct(
    _ outputs: [(what: String, path: String?)], inputs: [(what: String, path: String?)]
  ) throws(DLCError) {
    var seen: [(what: String, identity: String)] = []
    for (what, path) in inputs {
      if let path, let identity = try identity(path) { seen.append((what, identity)) }
    }
    for (what, path) in outputs {
      guard let path, let identity = try identity(path) else { continue }
      if let other = seen.first(where: { $0.identity == identity }) {
        throw DLCError(
          .usage, "\(what) is the same file as \(other.what)", at: path,
          remedy: "write to another file")
      }
      seen.append((what, identity))
    }
  }

  /// Tells a regular file, or one that is not there yet, from every other; nil for anything else.
  private static func identity(_ path: String) throws(DLCError) -> String? {
    guard let target = try replaceable(path) else { return nil }
    var information = stat()
    if stat(target, &information) == 0 { return "\(information.st_dev) \(information.st_ino)" }
    guard stat(directory(target), &information) == 0 else { return target }
    let name = target.split(separator: "/").last ?? ""
    return "\(information.st_dev) \(information.st_ino) \(name)"
  }

  /// The regular file that a path leads to, or that can be made there; nil when something is there that
  /// is written to as it is.
  static func replaceable(_ path: String) throws(DLCError) -> String? {
    if path == "-" { return nil }
    let target = try followLinks(path)
    var information = stat()
    return stat(target, &information) != 0 || information.st_mode & S_IFMT == S_IFREG
      || information.st_mode & S_IFMT == S_IFDIR ? target : nil
  }

  /// Removes a file; one that is not there is no error.
  static func remove(_ path: String) throws(DLCError) {
    if unlink(path) != 0 && errno != ENOENT { throw MappedFile.failure("cannot remove", path) }
  }

  /// The path behind symbolic links, whether or not there is anything.
  static func followLinks(_ path: String) throws(DLCError) -> String {
    var path = path
    for _ in 0..<40 {
      let target = withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX) + 1) {
        buffer -> String? in
        let count = readlink(path, buffer.baseAddress!, Int(PATH_MAX))
        guard count > 0 else { return nil }
        return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      }
      guard let target else { return path }
      path = target.hasPrefix("/") ? target : directory(path) + target
    }
    errno = ELOOP
    throw MappedFile.failure("cannot write", path)
  }

  /// The directory of a path, with the slash; empty for the present one.
  private static func directory(_ path: String) -> String {
    path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
  }

  /// - Throws: `.file` with the name when not all bytes can be written.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(DLCError) {
    guard writeAll(bytes, to: descriptor) else { throw MappedFile.failure("cannot write", name) }
  }

  package func write(_ bytes: [UInt8]) throws(DLCError) {
    let ok = bytes.withUnsafeBytes { writeAll($0, to: descriptor) }
    guard ok else { throw MappedFile.failure("cannot write", name) }
  }

  /// Whether bytes that were written can be changed: not those of a device, a pipe or standard output.
  var canOverwrite: Bool { replacement != nil }

  /// Puts bytes in place of some that were written.
  /// - Throws: `.file` with the name when not all bytes can be written.
  func overwrite(_ bytes: [UInt8], at offset: Int) throws(DLCError) {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        pwrite(descriptor, $0.baseAddress! + done, bytes.count - done, off_t(offset + done))
      }
      guard count > 0 || count < 0 && errno == EINTR else {
        throw MappedFile.failure("cannot write", name)
      }
      done += max(count, 0)
    }
  }

  /// Puts what was written in its place, for good.
  /// - Throws: `.file` with the name when that fails; the old file is then as it was.
  package func commit() throws(DLCError) {
    func require(_ holds: Bool) throws(DLCError) {
      if !holds { throw MappedFile.failure("cannot write", name) }
    }
    if descriptor == STDOUT_FILENO { return }
    if replacement != nil { try require(fsync(descriptor) == 0) }
    let closed = close(descriptor) == 0
    descriptor = -1
    try require(closed)
    guard let replacement else { return }
    try require(rename(replacement.temporary, replacement.target) == 0)
    self.replacement = nil
    // The name is on disk when the directory is.
    let directory = Self.directory(replacement.target)
    let folder = open(directory.isEmpty ? "." : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  /// Adds bytes to the end of a file that grows, such as a log, or makes it.
  /// - Throws: `.file` with the name when not all bytes can be written.
  package static func append(_ bytes: [UInt8], to path: String) throws(DLCError) {
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0o666)
    guard descriptor >= 0 else { throw MappedFile.failure("cannot write", path) }
    let isWritten = bytes.withUnsafeBytes { writeAll($0, to: descriptor) }
    let reason = errno
    let isClosed = close(descriptor) == 0
    if !isWritten { errno = reason }
    guard isWritten && isClosed else { throw MappedFile.failure("cannot write", path) }
  }

  /// Writes a whole file from parts.
  package static func write(
    _ parts: [UnsafeRawBufferPointer], to path: String, isPrivate: Bool = false
  ) throws(DLCError) {
    let file = try OutputFile(path, isPrivate: isPrivate)
    for part in parts { try file.write(part) }
    try file.commit()
  }

  package static func write(_ bytes: [UInt8], to path: String, isPrivate: Bool = false)
    throws(DLCError)
  {
    let file = try OutputFile(path, isPrivate: isPrivate)
    try file.write(bytes)
    try file.commit()
  }
}

/// Writes all bytes, and says by `false` and `errno` when that cannot be done: a pipe that nobody reads
/// or a file that grows beyond a limit sends the process no signal.
package func writeAll(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Bool {
  var (blocked, before, pending) = (sigset_t(), sigset_t(), sigset_t())
  sigemptyset(&blocked)
  sigaddset(&blocked, SIGPIPE)
  sigaddset(&blocked, SIGXFSZ)
  sigpending(&pending)
  let wasPending = [SIGPIPE, SIGXFSZ].map { sigismember(&pending, $0) == 1 }
  pthread_sigmask(SIG_BLOCK, &blocked, &before)
  var done = 0
  var reason: Int32 = 0
  while done < bytes.count {
    let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
    if count > 0 {
      done += count
    } else if count == 0 || errno != EINTR && errno != EAGAIN {
      reason = count == 0 ? ENOSPC : errno
      break
    } else if errno == EAGAIN {
      var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      poll(&wait, 1, -1)
    }
  }
  if reason != 0 {
    // Both signals go to the thread that wrote: they are taken off before they can be delivered.
    var taken = sigset_t()
    sigemptyset(&taken)
    if !wasPending[0] { sigaddset(&taken, SIGPIPE) }
    if !wasPending[1] { sigaddset(&taken, SIGXFSZ) }
    var none = timespec(tv_sec: 0, tv_nsec: 0)
    while sigtimedwait(&taken, nil, &none) < 0 && errno == EINTR {}
  }
  pthread_sigmask(SIG_SETMASK, &before, nil)
  errno = reason
  return reason == 0
}
