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

  /// - Parameter isPrivate: whether the file must be this user's, and nobody else may write it.
  /// - Throws: `.file` when the file cannot be opened, is no regular file, or cannot be mapped.
  package init(_ path: String, isPrivate: Bool = false) throws(DLCError) {
    self.path = path
    // A pipe without a writer is not waited for.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { throw Self.failure("cannot open", path) }
    defer { close(descriptor) }
    var information = stat()
    guard fstat(descriptor, &information) == 0 else { throw Self.failure("cannot read", path) }
    guard information.st_mode & S_IFMT == S_IFREG else {
      throw DLCError(.file, "'\(path)' is not a regular file")
    }
    guard !isPrivate || Self.isPrivate(information) else {
      throw DLCError(.file, "'\(path)' belongs to somebody else, or others may write it")
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
    guard let base = bytes.baseAddress else { return }
    let (address, count) = (Int(bitPattern: base), bytes.count)
    FileMappings.exclusively { _ = munmap(UnsafeMutableRawPointer(bitPattern: address), count) }
  }

  private static func isPrivate(_ information: stat) -> Bool {
    information.st_mode & S_IFMT == S_IFREG && information.st_uid == geteuid()
      && information.st_mode & (S_IWGRP | S_IWOTH) == 0
  }

  /// Whether there is a regular file of this user's that nobody else may write.
  package static func isPrivate(_ path: String) -> Bool {
    var information = stat()
    return lstat(path, &information) == 0 && isPrivate(information)
  }

  package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func failure(_ what: String, _ path: String) -> DLCError {
    DLCError(.file, "\(what) '\(path)': \(String(cString: strerror(errno)))")
  }
}
