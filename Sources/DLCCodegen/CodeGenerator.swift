package import DLCKernel
package import DLCTensor
import Dispatch
import Synchronization

/// Where compiled objects are kept between processes; both closures may be called from any thread.
package struct ObjectStore: Sendable {
  /// Keys are texts that determine the object; the store hashes them.
  package var load: @Sendable (String) -> [UInt8]?
  package var save: @Sendable (String, [UInt8]) -> Void

  package init(
    load: @escaping @Sendable (String) -> [UInt8]?,
    save: @escaping @Sendable (String, [UInt8]) -> Void
  ) {
    self.load = load
    self.save = save
  }

  package static let none = ObjectStore(load: { _ in nil }, save: { _, _ in })
}

/// Kernels to machine code: one module per kernel and per microkernel, compiled in parallel.
package struct CodeGenerator: Sendable {
  package let target: Target
  package let store: ObjectStore

  package init(_ target: Target, store: ObjectStore = .none) {
    self.target = target
    self.store = store
  }

  /// The modules of the kernels, in a fixed order: the microkernels, then the kernels.
  package func modules(_ kernels: [Kernel]) -> [(name: String, text: String)] {
    var microkernels: Set<Microkernel> = []
    var texts: [(String, String)] = []
    for kernel in kernels {
      let (text, needed) = KernelEmitter.emit(kernel, target)
      microkernels.formUnion(needed)
      texts.append((kernel.name, text))
    }
    let shared = microkernels.map { ($0.name(target), $0.emit(target)) }
    return shared.sorted { $0.0 < $1.0 } + texts
  }

  /// Compiles kernels of distinct names.
  /// - Throws: `.code` when libLLVM is missing or refuses a module.
  package func generate(_ kernels: [Kernel], threads: Int = 2) throws(DLCError) -> CodeImage {
    let objects = try compile(modules(kernels), .object, threads: threads)
    return try ObjectLinker.link(objects)
  }

  package func compile(
    _ modules: [(name: String, text: String)], _ kind: EmissionKind, threads: Int
  )
    throws(DLCError) -> [[UInt8]]
  {
    let results = Mutex([Result<[UInt8], DLCError>?](repeating: nil, count: modules.count))
    let next = Atomic<Int>(0)
    // LLVM ends the process when it finds no memory.
    try AvailableMemory.require(16 << 20, for: "compiling kernels")
    let wanted = max(1, min(threads, modules.count))
    let workers = AvailableMemory.allows(threads: wanted) ? wanted : 1
    DispatchQueue.concurrentPerform(iterations: workers) { _ in
      while true {
        let index = next.add(1, ordering: .relaxed).oldValue
        if index >= modules.count { return }
        let result: Result<[UInt8], DLCError>
        do throws(DLCError) {
          result = .success(try one(modules[index].text, kind))
        } catch { result = .failure(error) }
        results.withLock { $0[index] = result }
      }
    }
    var objects: [[UInt8]] = []
    for result in results.withLock({ $0 }) { objects.append(try result!.get()) }
    return objects
  }

  private func one(_ text: String, _ kind: EmissionKind) throws(DLCError) -> [UInt8] {
    let key =
      "object 2, LLVM 19, \(LLVMLibrary.passes)\n\(target.cpu)\n\(target.featureText)\n\(text)"
    if kind == .object, let known = store.load(key) { return known }
    let bytes = try LLVMLibrary().compile(text, target, kind)
    if kind == .object { store.save(key, bytes) }
    return bytes
  }
}
