package import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A file, mapped read-only.
package final class MappedFile: @unchecked Sendable {
  // The mapping is read-only and lives as long as the object.
  package let bytes: UnsafeRawBufferPointer
  package let path: String

  /// - Throws: `.file` when the file cannot be opened, is no regular file, or cannot be mapped.
  package init(_ path: String) throws(DLCError) {
    self.path = path
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Self.failure("cannot open", path) }
    defer { close(descriptor) }
    var information = stat()
    guard fstat(descriptor, &information) == 0 else { throw Self.failure("cannot read", path) }
    guard information.st_mode & S_IFMT == S_IFREG else {
      throw DLCError(.file, "'\(path)' is not a regular file")
    }
    let size = Int(information.st_size)
    if size == 0 {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED
    else {
      throw Self.failure("cannot map", path)
    }
    bytes = UnsafeRawBufferPointer(start: base, count: size)
  }

  deinit {
    if let base = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: base), bytes.count) }
  }

  static func failure(_ what: String, _ path: String) -> DLCError {
    DLCError(.file, "\(what) '\(path)': \(String(cString: strerror(errno)))")
  }

  /// Writes a file atomically: a temporary file beside it, synced, then renamed over it.
  package static func write(_ parts: [UnsafeRawBufferPointer], to path: String) throws(DLCError) {
    let temporary = "\(path).\(getpid()).\(UInt32.random(in: 0...UInt32.max)).tmp"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw failure("cannot create", path) }
    var ok = true
    for part in parts where ok {
      var done = 0
      while done < part.count {
        let count = Glibc.write(descriptor, part.baseAddress! + done, part.count - done)
        if count <= 0 {
          if count < 0 && errno == EINTR { continue }
          ok = false
          break
        }
        done += count
      }
    }
    ok = ok && fsync(descriptor) == 0
    ok = close(descriptor) == 0 && ok
    if !ok || rename(temporary, path) != 0 {
      let error = failure("cannot write", path)
      unlink(temporary)
      throw error
    }
  }

  package static func write(_ bytes: [UInt8], to path: String) throws(DLCError) {
    let result: Result<Void, DLCError> = bytes.withUnsafeBytes { buffer in
      do throws(DLCError) { return .success(try write([buffer], to: path)) } catch {
        return .failure(error)
      }
    }
    try result.get()
  }
}
