import CMachine
package import DLCTensor

/// Machine code, mapped executable.
package final class CodeMemory: @unchecked Sendable {
  // Never written after initialisation.
  let base: UnsafeMutableRawPointer?
  package let size: Int

  /// - Throws: `.memory` when the system refuses executable memory.
  package init(_ code: UnsafeRawBufferPointer) throws(DLCError) {
    size = code.count
    if code.isEmpty {
      base = nil
      return
    }
    guard let mapped = dlc_map_code(code.baseAddress, code.count) else {
      throw DLCError(
        .memory, "the system refuses executable memory for \(code.count) bytes of code")
    }
    base = mapped
  }

  deinit { if let base { dlc_unmap_code(base, size) } }
}

/// Page-aligned zeroed memory, on huge pages where it is large enough to gain from them.
final class Area: @unchecked Sendable {
  // Written only by kernels of the run that holds its context.
  let base: UnsafeMutableRawPointer
  let size: Int

  /// - Throws: `.memory` when there is not enough.
  init(_ size: Int) throws(DLCError) {
    self.size = max(size, 64)
    guard let mapped = dlc_map_anonymous(self.size) else {
      throw AvailableMemory.shortage(size, AvailableMemory.bytes, "the values of a run")
    }
    base = mapped
  }

  deinit { dlc_unmap(base, size) }
}

/// The processors that this process may use: its affinity mask, bounded by its quota.
package var availableProcessors: Int { Int(dlc_processor_count()) }
