import DLCCodegen
package import DLCCompiler
import Synchronization

/// Objects of kernels that were compiled before, so that tests that compile much share them.
package enum Objects {
  private static let known = Mutex([String: [UInt8]]())

  package static func compiler(_ target: String = "native") -> Compiler {
    var options = CompilerOptions()
    options.target = target
    options.objectStore = ObjectStore(
      load: { key in known.withLock { $0[key] } },
      save: { key, object in known.withLock { $0[key] = object } })
    return Compiler(options)
  }
}
