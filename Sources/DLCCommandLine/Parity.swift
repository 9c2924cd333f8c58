import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import DLCRuntime
import DLCTensor
import DLCTraining
import DLCZoo

extension ZooCommand {
  /// Repeats the recorded steps of the peer benchmark's training files.
  struct Parity: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Repeats the recorded training steps of the peer benchmark and compares the losses."
    )

    @ArgumentParser.Argument(
      help: "Directory with NAME.npz: b/ batch, n/ noise, p/ weights, s/ statistics, loss.")
    var directory: String
    @Option(help: "One workload; all by default.") var only: String?
    @Option(help: "Worker threads.") var threads: Int?
    @Option(help: "Also time so many steps.") var runs = 0
    @Flag(help: "Show where the time goes.") var profile = false
    @Option(help: "A directory that the steps are written to, as graphs.") var save: String?

    func run() throws {
      var rows = [
        ["workload", "largest relative error", "losses", "compile ms"]
          + (runs > 0 ? ["step ms"] : [])
      ]
      var failed: [String] = []
      for workload in Workload.all where only == nil || only == workload.name {
        let clock = ContinuousClock.now
        let step = try workload.step()
        let module = try step.stepFunction()
        if let save {
          try ModuleFile.write(module, to: "\(save)/\(workload.name).pb")
        }
        let compiler = Compiler()
        let executable = try compiler.compile(module, function: "train_step")
        let compiled = milliseconds(ContinuousClock.now - clock)
        let (groups, losses) = try recorded(workload.name)
        let known = Set(executable.states.map(\.name))
        let values = (groups["p"] ?? [:]).merging(groups["s"] ?? [:]) { a, _ in a }
        try executable.setState(values.filter { known.contains($0.key) })
        let fresh = executable.missingState.filter { name in values[name] == nil }
        try executable.initializeState(seed: 0)
        guard fresh.allSatisfy({ $0.hasPrefix("optimizer/") }) else {
          throw DLCError(.binding, "\(workload.name) has no values for \(fresh)")
        }
        let inputs = (groups["b"] ?? [:]).merging(groups["n"] ?? [:]) { a, _ in a }
        var got: [Double] = []
        for _ in losses.indices {
          got.append(
            // The last phase's.
            try executable.run(inputs, threads: threads).last {
              $0.name == "loss" || $0.name.hasSuffix(".loss")
            }!.value.doubles[0])
        }
        if profile {
          let times = try executable.profile(inputs, threads: threads)
          let list = StepProfile(executable.program, times) { $0.label }.table("kernel")
          try Console.result(
            "\(workload.name): \(fixed(times.reduce(0, +) * 1e3, 2)) ms\n" + list + "\n")
        }
        let error = zip(got, losses).map { abs($0 - $1) / max(abs($1), 1e-30) }.max() ?? .nan
        if !(error <= 1e-4) { failed.append(workload.name) }
        var row = [
          workload.name, "\(Float(error))", got.map { fixed($0, 5) }.joined(separator: " "),
          fixed(compiled, 0),
        ]
        if runs > 0 { row.append(fixed(try medianTime(executable, inputs), 3)) }
        rows.append(row)
      }
      try Console.result(table(rows))
      if !failed.isEmpty {
        throw DLCError(
          .check, "the losses differ by more than 1e-4: \(failed.joined(separator: ", "))")
      }
    }

    /// The arrays of a workload's file by their groups, and its losses.
    private func recorded(_ name: String) throws(DLCError) -> (
      groups: [String: [String: Tensor]], losses: [Double]
    ) {
      var groups: [String: [String: Tensor]] = [:]
      var losses: [Double] = []
      for (key, value) in try Npz.read("\(directory)/\(name).npz") {
        let split = key.split(separator: "/", maxSplits: 1).map(String.init)
        if split.count == 2 {
          groups[split[0], default: [:]][split[1]] = value
        } else if key == "loss" {
          losses = value.doubles
        }
      }
      return (groups, losses)
    }

    /// In milliseconds, of as many runs as are asked for.
    private func medianTime(_ executable: Executable, _ inputs: [String: Tensor]) throws(DLCError)
      -> Double
    {
      var times: [Double] = []
      for _ in 0..<runs {
        let start = ContinuousClock.now
        _ = try executable.run(inputs, threads: threads)
        times.append(milliseconds(ContinuousClock.now - start))
      }
      return times.sorted()[runs / 2]
    }
  }
}
