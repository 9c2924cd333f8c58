import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import DLCRuntime
import DLCTensor

/// What a machine reaches with a number of threads: multiply-adds of float32 in registers and near caches, and bytes
/// from and to memory, each in a second.
struct MachinePeak {
  var threads: Int
  /// FLOP/s; a multiply-add is two.
  var flops: Double
  /// Bytes per second that are read and written.
  var bytes: Double

  /// The measured peak, from the file that keeps it for this machine; measured and kept when it is not there.
  static func known(threads: Int?) throws(DLCError) -> MachinePeak {
    let count = threads ?? availableProcessors
    let path = CompileCache.standard.map { "\($0.directory)/peak-\(count).txt" }
    let machine = Executable.machineFeatures + " of \(availableProcessors)"
    if let path, MappedFile.exists(path), let file = try? MappedFile(path, isPrivate: true) {
      let lines = withExtendedLifetime(file) {
        String(decoding: file.bytes, as: UTF8.self).split(separator: "\n").map(String.init)
      }
      if lines.count == 3, lines[0] == machine, let flops = Double(lines[1]),
        let bytes = Double(lines[2]), flops > 0, bytes > 0
      {
        return MachinePeak(threads: count, flops: flops, bytes: bytes)
      }
    }
    let peak = MachinePeak(
      threads: count, flops: try measuredFlops(count), bytes: try measuredBytes(count))
    if let path {
      // A peak that cannot be kept is measured again.
      try? OutputFile.write(
        Array("\(machine)\n\(peak.flops)\n\(peak.bytes)\n".utf8), to: path, isPrivate: true)
    }
    return peak
  }

  /// By a product whose operands stay in the near caches.
  private static func measuredFlops(_ threads: Int) throws(DLCError) -> Double {
    let (rows, depth, columns) = (threads * 384, 256, 512)
    // Alone, without what puts an operand into panels.
    let seconds = try best(threads, count: 100, of: { $0.max() ?? .infinity }) { g in
      let a = g.input("a", .float32, [Size(rows), Size(depth)])
      g.output("y", g.matmul(a, g.input("b", .float32, [Size(depth), Size(columns)])))
    }
    return 2 * Double(rows * depth * columns) / seconds
  }

  /// By a sum of two arrays that are far larger than caches.
  private static func measuredBytes(_ threads: Int) throws(DLCError) -> Double {
    let count = 1 << 24
    let seconds = try best(threads, count: 5) { g in
      g.output("y", g.input("a", .float32, [Size(count)]) + g.input("b", .float32, [Size(count)]))
    }
    return 12 * Double(count) / seconds
  }

  /// The least seconds of so many runs.
  /// - Parameter steps: what counts of the seconds of each step.
  private static func best(
    _ threads: Int, count: Int, of steps: ([Double]) -> Double = { $0.reduce(0, +) },
    _ body: (FunctionBuilder) -> Void
  ) throws(DLCError) -> Double {
    var module = Module("peak")
    try module.function("forward", body)
    let executable = try Compiler().compile(module, function: "forward")
    var inputs: [String: Tensor] = [:]
    try MeasuredFunction.addRandom(executable.inputs, to: &inputs)
    var least = Double.infinity
    for _ in 0..<count {
      least = min(least, steps(try executable.profile(inputs, threads: threads)))
    }
    return least
  }
}
