import DLCFormats
import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Standard output for results, standard error for everything else. A result that cannot be written is
/// an error; notes and complaints that cannot be written are lost, and nothing else.
enum Console {
  /// Whatever is closed of standard input, output and error is opened, so that no other file gets the
  /// number: standard output so that writing to it fails.
  static func claimDescriptors() {
    for (descriptor, mode) in [
      (STDIN_FILENO, O_RDONLY), (STDOUT_FILENO, O_RDONLY), (STDERR_FILENO, O_WRONLY),
    ]
    where fcntl(descriptor, F_GETFD) < 0 {
      // The lowest free number is this one.
      _ = open("/dev/null", mode)
    }
  }

  /// Writes a result and a line end.
  /// - Throws: `.file` when standard output is closed or full.
  static func result(_ text: String, terminator: String = "\n") throws(DLCError) {
    let bytes = Array((text + terminator).utf8)
    let ok = bytes.withUnsafeBytes { writeAll($0, to: STDOUT_FILENO) }
    guard ok else {
      throw DLCError(
        .file, "cannot write to standard output: \(String(cString: strerror(errno)))")
    }
  }

  /// Says something that is no result, in a line on standard error.
  static func note(_ text: String) { complain("dlc: \(text)") }

  /// Writes to standard error as it is.
  static func say(_ text: String) {
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { writeAll($0, to: STDERR_FILENO) }
  }
}

/// Writes a line to standard error.
func complain(_ text: String) { Console.say(text + "\n") }
