import DLCCompiler
import DLCFormats
import DLCONNX
import DLCProgram
import DLCRuntime
import DLCTensor

/// An ONNX model that runs in parts, with the programs that one run goes through.
struct MeasuredParts {
  let session: ONNXSession
  let arrays: [String: Tensor]
  let sizes: [String: Int]
  let threads: Int?
  let parts: [ONNXSession.Part]
  /// In milliseconds, of all parts, with the imports of what they are compiled from.
  let compileTime: Double
  let loadTime: Double

  /// Compiles the parts that the arrays lead to.
  init(
    _ model: ONNXModel, _ arrays: [String: Tensor], sizes: [String: Int], threads: Int?,
    ahead: ProgramFile.Contents?
  ) throws(DLCError) {
    let clock = ContinuousClock()
    func opened(_ cache: CompileCache?) throws(DLCError) -> (ONNXSession, milliseconds: Double) {
      let session = try ONNXSession(model, cache: cache, ahead: ahead)
      let start = clock.now
      _ = try session.run(arrays, sizes: sizes, threads: threads, seed: 0)
      let first = clock.now
      _ = try session.run(arrays, sizes: sizes, threads: threads, seed: 0)
      // What the first run did besides running.
      let again = clock.now - first
      return (session, max(0, milliseconds(first - start - again)))
    }
    (session, compileTime) = try opened(nil)
    var loadTime = 0.0
    if let cache = CompileCache.standard {
      _ = try opened(cache)
      loadTime = try opened(cache).milliseconds
    }
    self.loadTime = loadTime
    (self.arrays, self.sizes, self.threads) = (arrays, sizes, threads)
    parts = try session.parts(arrays, sizes: sizes, threads: threads, seed: 0)
  }

  func run() throws(DLCError) {
    _ = try session.run(arrays, sizes: sizes, threads: threads, seed: 0)
  }

  /// Operations and bytes of a whole run.
  var flops: Int { parts.reduce(0) { $0 + $1.count * $1.executable.program.flops } }
  var bytesMoved: Int { parts.reduce(0) { $0 + $1.count * $1.executable.program.bytesMoved } }
  /// The largest arena among the parts, which run one after the other.
  var arenaBytes: Int { parts.map(\.executable.program.arenaBytes).max() ?? 0 }
}
