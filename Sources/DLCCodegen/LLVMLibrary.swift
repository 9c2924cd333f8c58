import CLLVM
import CMachine
package import DLCKernel
package import DLCTensor

/// What to make of a module.
package enum EmissionKind: Sendable { case object, assembly, optimizedIR }

/// libLLVM, opened on first use. One call works on a context and a target machine of its own, so calls may run in parallel.
package struct LLVMLibrary: @unchecked Sendable {
  // The table is written once, before it is handed out.
  private let table: UnsafePointer<dlc_llvm>

  /// Light passes: kernels are already in the shape that they should have.
  package static let passes =
    "function(instcombine<no-verify-fixpoint>,simplifycfg,early-cse,loop-mssa(licm),instsimplify)"

  package init() throws(DLCError) {
    guard let table = dlc_llvm_open() else {
      throw DLCError(
        .code, String(cString: dlc_llvm_error()),
        remedy: dlc_llvm_is_missing() != 0 ? "install libllvm19, or run a compiled .dlc" : "")
    }
    self.table = table
  }

  private func take(_ text: UnsafeMutablePointer<CChar>?) -> String {
    guard let text else { return "" }
    defer { table.pointee.DisposeMessage(text) }
    return String(cString: text)
  }

  /// Of the levels from 1 on, asked once: it takes many small files.
  private static let cacheBytes = (1...3).map { Int(dlc_cache_bytes(Int32($0))) }

  /// The machine that this process runs on.
  package var host: Target {
    let cpu = take(table.pointee.GetHostCPUName())
    let typical = Target.Caches(cpu: cpu)
    func bytes(_ level: Int, _ otherwise: Int) -> Int {
      let found = Self.cacheBytes[level - 1]
      return found > 0 ? found : otherwise
    }
    return Target(
      triple: take(table.pointee.GetDefaultTargetTriple()), cpu: cpu,
      featureText: take(table.pointee.GetHostCPUFeatures()),
      caches: Target.Caches(
        l1: bytes(1, typical.l1), l2: bytes(2, typical.l2), l3: bytes(3, typical.l3)),
      cores: Int(dlc_processor_count()))
  }

  /// Compiles a module's text.
  /// - Throws: `.code` with LLVM's message; that is a defect of the emitter.
  package func compile(_ text: String, _ target: Target, _ kind: EmissionKind = .object)
    throws(DLCError) -> [UInt8]
  {
    let llvm = table.pointee
    func failure(_ what: String, _ message: String) -> DLCError {
      DLCError(.code, "\(what): \(message)", at: "generated code")
    }
    let context = llvm.ContextCreate()
    defer { llvm.ContextDispose(context) }
    var copy = text
    let buffer = copy.withUTF8 { bytes in
      bytes.withMemoryRebound(to: CChar.self) {
        llvm.CreateMemoryBufferWithMemoryRangeCopy($0.baseAddress, $0.count, "kernel")
      }
    }
    var module: UnsafeMutableRawPointer?
    var message: UnsafeMutablePointer<CChar>?
    if llvm.ParseIRInContext(context, buffer, &module, &message) != 0 {
      throw failure("parse", take(message))
    }
    defer { llvm.DisposeModule(module) }
    var handle: UnsafeMutableRawPointer?
    if llvm.GetTargetFromTriple(target.triple, &handle, &message) != 0 {
      throw failure("target", take(message))
    }
    // Optimisation level default, position-independent, small code model.
    let machine = llvm.CreateTargetMachine(
      handle, target.triple, target.cpu, target.featureText, 2, 2, 3)
    guard let machine else { throw failure("target", "no machine for \(target.cpu)") }
    defer { llvm.DisposeTargetMachine(machine) }
    let layout = llvm.CreateTargetDataLayout(machine)
    llvm.SetModuleDataLayout(module, layout)
    llvm.DisposeTargetData(layout)
    let options = llvm.CreatePassBuilderOptions()
    defer { llvm.DisposePassBuilderOptions(options) }
    if let error = llvm.RunPasses(module, Self.passes, machine, options) {
      let text = llvm.GetErrorMessage(error)
      defer { llvm.DisposeErrorMessage(text) }
      throw failure("passes", text.map { String(cString: $0) } ?? "")
    }
    if kind == .optimizedIR { return Array(take(llvm.PrintModuleToString(module)).utf8) }
    var output: UnsafeMutableRawPointer?
    if llvm.TargetMachineEmitToMemoryBuffer(
      machine, module, kind == .assembly ? 0 : 1, &message, &output) != 0
    {
      throw failure("emission", take(message))
    }
    defer { llvm.DisposeMemoryBuffer(output) }
    let start = UnsafeRawPointer(llvm.GetBufferStart(output)!)
    return Array(UnsafeRawBufferPointer(start: start, count: llvm.GetBufferSize(output)))
  }
}
