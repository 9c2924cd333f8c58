import ArgumentParser
import DLCCompiler
import DLCFormats
import DLCGraph
import DLCKernel
import DLCProgram
import DLCRuntime
import DLCTensor
import DLCTraining
import DLCZoo

extension ZooCommand {
  /// Holds the cost model against measurements.
  struct Cost: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        "Compares what the cost model says of each kernel of the families' training steps with its time.",
      discussion: """
        One thread; of several runs the least time. The rank correlation (Spearman) says how well the model orders \
        kernels: 1 is perfect.
        """)

    @ArgumentParser.Argument(help: "Families; all by default.") var families: [String] = []
    @Option(help: "Runs of each step.") var runs = 5
    @Option(help: "How many of the worst kernels are listed.") var worst = 20
    @Flag(help: "Every kernel as a JSON line.") var json = false

    /// A kernel, in cycles as predicted and in seconds as measured, for one call.
    private struct Sample {
      var family: String
      var kernel: Kernel
      var predicted: Double
      var measured: Double
    }

    func validate() throws {
      if runs < 1 { throw ValidationError("--runs must be positive") }
      if worst < 0 { throw ValidationError("--worst cannot be negative") }
    }

    func run() throws {
      var samples: [Sample] = []
      for model in Zoo.families where families.isEmpty || families.contains(model.family) {
        samples += try measure(model)
      }
      guard samples.count > 1 else {
        throw DLCError(
          .usage, "there is no family '\(families.joined(separator: ", "))'",
          remedy: Spelling.remedy(for: families.first ?? "", among: Zoo.families.map(\.family)))
      }
      if json {
        for s in samples {
          try Console.result(
            "\(JSON.object([("family", .text(s.family)), ("kernel", .text(s.kernel.name)), ("predicted_cycles", .number(s.predicted)), ("measured_ns", .number(s.measured * 1e9))]))"
          )
        }
      }
      // Cycles in a nanosecond that make the two agree for the middle kernel.
      let rates = samples.map { $0.predicted / max($0.measured * 1e9, 1) }.sorted()
      let rate = rates[rates.count / 2]
      func error(_ s: Sample) -> Double { s.measured * 1e9 * rate / s.predicted }
      let correlation = Self.rankCorrelation(samples.map { ($0.predicted, $0.measured) })
      if json {
        return try Console.result(
          "\(JSON.object([("kernels", .integer(samples.count)), ("rank_correlation", .number(correlation))]))"
        )
      }
      var rows = [["family", "kernel", "predicted us", "measured us", "measured / predicted"]]
      // Short kernels are measured badly: those that matter are listed.
      let listed = samples.filter { $0.measured > 20e-6 }.sorted {
        max(error($0), 1 / error($0)) > max(error($1), 1 / error($1))
      }
      for s in listed.prefix(worst) {
        rows.append([
          s.family, s.kernel.name, fixed(s.predicted / rate / 1e3, 1), fixed(s.measured * 1e6, 1),
          fixed(error(s), 2),
        ])
      }
      try Console.result(table(rows))
      try Console.result(
        "\(counted(samples.count, "kernel")), rank correlation \(fixed(correlation, 3)), \(fixed(rate, 2)) predicted cycles in a nanosecond"
      )
    }

    private func measure(_ model: ZooModel) throws -> [Sample] {
      let module = try model.module()
      var phases = module.recipe?.phases ?? []
      // A step alone has no run that a schedule could be a share of.
      for index in phases.indices { phases[index].rule.schedule = .constant }
      let step = try TrainingStep(module, phases: phases).stepFunction()
      var options = CompilerOptions()
      options.threads = 2
      let build = try Compiler(options).build(step, function: "train_step", dimensions: [:])
      let executable = build.executable
      try executable.initializeState(seed: 0)
      var inputs: [String: Tensor] = [:]
      try MeasuredFunction.addRandom(executable.inputs, to: &inputs)
      var times = try executable.profile(inputs, threads: 1)
      for _ in 1..<max(runs, 2) {
        times = zip(times, try executable.profile(inputs, threads: 1)).map { min($0, $1) }
      }
      let program = executable.program
      var calls = [Int](repeating: 0, count: program.steps.count)
      Self.count(program.instructions, 1, &calls)
      let costs = CostModel(build.target)
      var prices: [Int: Double] = [:]
      return program.steps.indices.compactMap { index in
        guard let kernel = program.steps[index].kernel?.index, calls[index] > 0, times[index] > 0
        else { return nil }
        let price = prices[kernel] ?? costs.price(build.kernels[kernel]).total
        prices[kernel] = price
        return Sample(
          family: model.family, kernel: build.kernels[kernel], predicted: price,
          measured: times[index] / Double(calls[index]))
      }
    }

    /// How often each step runs; 0 where no number of iterations is known, or only one way of two is taken.
    private static func count(_ instructions: [Instruction], _ times: Int, _ calls: inout [Int]) {
      for instruction in instructions {
        switch instruction {
        case .run(let range): for index in range { calls[index] = times }
        case .branch: break
        case .loop(let loop):
          if loop.predicate == nil, let count = loop.count {
            Self.count(loop.body, times * count, &calls)
          }
        }
      }
    }

    /// Spearman's: the correlation of the ranks.
    static func rankCorrelation(_ pairs: [(Double, Double)]) -> Double {
      func ranks(_ values: [Double]) -> [Double] {
        let order = values.indices.sorted { values[$0] < values[$1] }
        var ranks = [Double](repeating: 0, count: values.count)
        var start = 0
        while start < order.count {
          var end = start
          while end < order.count, values[order[end]] == values[order[start]] { end += 1 }
          for place in start..<end { ranks[order[place]] = Double(start + end - 1) / 2 }
          start = end
        }
        return ranks
      }
      let (x, y) = (ranks(pairs.map(\.0)), ranks(pairs.map(\.1)))
      let mean = Double(pairs.count - 1) / 2
      let product = zip(x, y).reduce(0) { $0 + ($1.0 - mean) * ($1.1 - mean) }
      func spread(_ r: [Double]) -> Double { r.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } }
      return product / (spread(x) * spread(y)).squareRoot()
    }
  }
}
