import DLCCompiler
import DLCFormats
import DLCGraph
import DLCLowering
import DLCProgram
import DLCRuntime
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// Schedules that are measured.
@Suite struct TuningTests {
  private func network() throws -> Module {
    var module = Module("network")
    try module.function("forward", training: false) { g in
      let x = g.input("x", .float32, [4, 16, 36, 36])
      let c = g.relu(
        g.convolution(
          x, g.parameter("k", [64, 16, 5, 5], .uniform(-1, 1))))
      let flat = g.reshape(c, [256, 64 * 16])
      let w = g.parameter("w", [64 * 16, 96], .uniform(-1, 1))
      g.output("y", g.softmax(g.matmul(flat, w)))
    }
    return module
  }

  /// Whatever is taken, results keep their bits, and the program keeps what was taken.
  @Test func resultsKeepTheirBits() throws {
    var tuning = Tuning(Objects.compiler())
    tuning.seconds = 0.2
    let module = try network()
    var inputs: [String: Tensor] = [:]
    let (build, report) = try tuning.build(module, function: nil, dimensions: [:]) {
      (executable) throws(DLCError) in
      inputs["x"] = Differential.arrays(executable.inputs.map(\.type), range: -1...1, seed: 1)[0]
      return inputs
    }
    #expect(report.problems > 1 && report.programs > 1 && report.changed <= report.problems)
    #expect(report.changed == 0 || report.before > 0 && report.after > 0)
    let plain = try Objects.compiler().build(module, function: nil, dimensions: [:])
    // As tuning does it.
    try plain.executable.initializeState(seed: 0)
    #expect(
      try build.executable.run(inputs)[0].value == plain.executable.run(inputs)[0].value)
    let book = try ScheduleBook(text: build.program.schedules, at: "program")
    build.plan.forEach { part in
      if part.problem != .control { #expect(book[part.problem] == part.schedule) }
    }
    // Compiled from what the program keeps, it is the same program.
    var again = Objects.compiler()
    again.options.schedules = book
    let copy = try again.build(module, function: nil, dimensions: [:])
    #expect(copy.kernels.map(\.name) == build.kernels.map(\.name))
  }

  @Test func whatCannotBeMeasuredHereIsRefused() throws {
    let folder = NSTemporaryDirectory() + "tune-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let path = "\(folder)/m.pb"
    try network().save(path)
    for arguments in [["--tune", "--target", "x86-64-v3"], ["--threads", "2"]] {
      let made = try DLCCommand.launch(
        DLCCommand.url, ["compile", path] + arguments, environment: ["XDG_CACHE_HOME": folder])
      #expect(made.status == 64 && made.error.contains("--tune"), "\(made.error)")
    }
    let made = try DLCCommand.launch(
      DLCCommand.url, ["compile", path, "--tune", "--threads", "1"],
      environment: ["XDG_CACHE_HOME": folder])
    #expect(made.status == 0 && made.error.contains("tuned: "), "\(made.error)")
  }
}
