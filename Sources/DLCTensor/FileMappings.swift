import Synchronization

/// What keeps files mapped while something walks over everything that is mapped.
package enum FileMappings {
  private static let lock = Mutex(())

  /// Runs a body that ends a mapping, or that reads all there are: one at a time.
  package static func exclusively<R: ~Copyable>(_ body: () -> sending R) -> sending R {
    lock.withLock { _ in body() }
  }
}
