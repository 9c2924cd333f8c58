import DLCCompiler
public import DLCGraph
import DLCRuntime
public import DLCTensor

/// Measures a training step's phases on arrays that they are not trained on.
///
/// Every row counts once, the last smaller part of the data too. Each phase is measured by its
/// evaluation function, where the module has one: without dropout and with running statistics (see
/// `Module.phase`).
///
/// ```swift
/// let evaluator = try Evaluator(module, function: "loss_evaluation", data: test, batch: 4)
/// let metrics = try evaluator.run()  // means over all rows
/// ```
public final class Evaluator {
  /// A phase's function, compiled for whole batches and for the last smaller one.
  private struct Measure {
    var inputs: [String]
    var usesSeed: Bool
    var names: [(output: String, metric: String)]
    var whole: Executable?
    var rest: Executable?
  }

  private let measures: [Measure]
  /// The names of what is measured.
  public var metrics: [String] { measures.flatMap { $0.names.map(\.metric) } }
  private let data: DataSet
  /// The values that the module stores.
  private let stored: [String: Tensor]
  private let batch: Int
  /// What keeps the numbers from being what they seem: phases that are measured as they are trained.
  public let notes: [String]

  /// Measures the phases of a step.
  /// - Parameters:
  ///   - data: one array [rows, ...] for each data input of the phases.
  ///   - batch: how many rows are measured in one run; the metrics are their means.
  ///   - dimensions: sizes of named dimensions other than the batch.
  /// - Throws: `.binding` when an array is missing, does not fit, or holds what is no position where
  ///   positions are wanted.
  public convenience init(
    _ step: TrainingStep, data: [String: Tensor], batch: Int, dimensions: [String: Int] = [:],
    file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      try self.init(step.module, step.evaluations, data, batch, dimensions)
    } catch {
      throw error.called(file, line)
    }
  }

  /// Measures a module by one of its functions: by its recipe's, where none is named.
  /// - Parameters:
  ///   - data: one array [rows, ...] for each data input of the function.
  ///   - batch: how many rows are measured in one run; the recipe's batch, where none is given.
  /// - Throws: `.graph` when there is no such function, or it gives no floating-point scalar; else as the
  ///   other initialiser.
  public convenience init(
    _ module: Module, function: String? = nil, data: [String: Tensor], batch: Int? = nil,
    dimensions: [String: Int] = [:], file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) {
    do throws(DLCError) {
      let function = try module.evaluating(function)
      try self.init(
        module, [(function, function.metrics.map { ($0, $0) }, true)], data,
        batch ?? module.recipe?.batch ?? 64, dimensions)
    } catch {
      throw error.called(file, line)
    }
  }

  /// Compiles what is measured.
  private init(
    _ module: Module,
    _ functions: [(
      function: Function, names: [(output: String, metric: String)], isSeparate: Bool
    )], _ data: [String: Tensor], _ batch: Int, _ dimensions: [String: Int]
  ) throws(DLCError) {
    guard batch >= 1 else {
      throw DLCError(.usage, "a batch of \(batch) examples: it must be positive")
    }
    var inputs: [(name: String, type: TensorType)] = []
    for (function, _, _) in functions {
      for input in function.inputs
      where input.name != TrainingStep.seedName
        && !inputs.contains(where: { $0.name == input.name })
      { inputs.append(input) }
    }
    guard !inputs.isEmpty else {
      throw DLCError(
        .graph,
        "\(Spelling.list(functions.map(\.function.name))) takes no arrays: it measures nothing of the data",
        remedy: "name a function with inputs")
    }
    let set = try DataSet(data, for: inputs, "the validation data")
    let size = min(batch, set.count)
    var (measures, notes) = ([Measure](), set.notes)
    for (function, names, isSeparate) in functions {
      let own = function.inputs.filter { $0.name != TrainingStep.seedName }
      func sizes(_ rows: Int) throws(DLCError) -> [String: Int] {
        try module.bind(
          explicit: dimensions,
          arrays: own.map { ($0.name, $0.type, [rows] + set.arrays[$0.name]!.shape.dropFirst()) })
      }
      try set.check(IndexUses(function.graph).uses, try sizes(size))
      func compiled(_ rows: Int) throws(DLCError) -> Executable {
        try Compiler().load(
          module, function: function.name, dimensions: try sizes(rows), cache: .standard
        ).executable
      }
      let usesSeed = function.inputs.contains { $0.name == TrainingStep.seedName }
      if !isSeparate && (usesSeed || !function.graph.updates.isEmpty) {
        notes.append(
          "'\(function.name)' has no evaluation function: it is measured as it is trained, "
            + (usesSeed ? "with random numbers" : "with statistics of the batch"))
      }
      measures.append(
        Measure(
          inputs: own.map(\.name), usesSeed: usesSeed, names: names,
          whole: set.count >= size ? try compiled(size) : nil,
          rest: set.count % size > 0 ? try compiled(set.count % size) : nil))
    }
    self.measures = measures
    stored = module.storedValues
    self.notes = notes
    self.data = set
    self.batch = size
  }

  /// A digest of the arrays.
  var digest: String { data.digest }

  /// The metrics of the phases under a state: means over the rows.
  /// - Parameter state: values of the module's state, those that it stores by default; names that no phase
  ///   reads are ignored.
  /// - Throws: `.binding` when a value is missing or does not fit.
  public func run(
    _ state: [String: Tensor]? = nil, threads: Int? = nil, file: StaticString = #fileID,
    line: UInt = #line
  ) throws(DLCError) -> [(
    name: String, value: Double
  )] {
    do throws(DLCError) {
      let state = state ?? stored
      var metrics: [(name: String, value: Double)] = []
      for measure in measures {
        var sums = measure.names.map { (name: $0.metric, value: 0.0) }
        for start in stride(from: 0, to: data.count, by: batch) {
          let rows = Array(start..<min(start + batch, data.count))
          guard let executable = rows.count == batch ? measure.whole : measure.rest else {
            continue
          }
          let known = Set(executable.states.map(\.name))
          if let absent = executable.states.first(where: { state[$0.name] == nil })?.name {
            throw DLCError(
              .binding, "state '\(absent)' has no value",
              remedy: Spelling.remedy(for: absent, among: state.keys.sorted()))
          }
          // Statistics that a run updates start from the given ones every time.
          try executable.setState(state.filter { known.contains($0.key) })
          var inputs: [String: Tensor] = [:]
          for name in measure.inputs { inputs[name] = try data.rows(name, rows) }
          if measure.usesSeed {
            inputs[TrainingStep.seedName] = Tensor([], [Int64(start / batch)])
          }
          let results = try executable.run(inputs, threads: threads)
          for (index, name) in measure.names.enumerated() {
            guard let value = results.first(where: { $0.name == name.output })?.value else {
              continue
            }
            sums[index].value += value.doubles[0] * Double(rows.count) / Double(data.count)
          }
        }
        metrics += sums
      }
      return metrics
    } catch {
      throw error.called(file, line)
    }
  }
}
