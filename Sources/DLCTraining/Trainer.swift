import DLCCompiler
import DLCFormats
import DLCGraph
import DLCReference
import DLCRuntime
public import DLCTensor

/// Trains a module on arrays: data in, batches in random order, state out.
///
/// ```swift
/// let step = try TrainingStep(module, phases: [Phase("loss", rule: UpdateRule(.adam(), learningRate: 1e-3))])
/// var trainer = try Trainer(step, data: arrays, options: Trainer.Options(batch: 64, epochs: 5))
/// try trainer.run { print($0.metrics) }
/// let weights = trainer.state
/// ```
public struct Trainer {
  public struct Options: Sendable {
    public var batch = 64
    public var epochs = 1
    public var seed: UInt64 = 0
    public var threads: Int?
    /// Sizes of named dimensions other than the batch.
    public var dimensions: [String: Int] = [:]
    /// A directory for checkpoints, how often they are written (in steps; at every epoch's end besides),
    /// and how many are kept.
    public var checkpoints: String?
    public var checkpointSteps = 1000
    public var keep = 3
    /// Whether the order of the examples changes from epoch to epoch.
    public var shuffles = true
    /// The most steps in one call of the compiled loop.
    public var stepsPerCall = 50

    public init() {}
    public init(batch: Int, epochs: Int, seed: UInt64 = 0) {
      self.batch = batch
      self.epochs = epochs
      self.seed = seed
    }
  }

  /// What a call of the loop reports: means over its steps.
  public struct Progress: Sendable {
    public var epoch: Int
    public var step: Int
    public var totalSteps: Int
    public var metrics: [(name: String, value: Double)]
    public var examplesPerSecond: Double
    public var isEpochEnd: Bool
  }

  public let options: Options
  private let step: TrainingStep
  private let batchName: String
  private let data: [String: Tensor]
  private let examples: Int
  private let loop: Executable
  private let shuffle: Executable
  private let module: Module
  private let stepsPerCall: Int
  private let fingerprint: String
  public private(set) var position: (step: Int, epoch: Int, cursor: Int) = (0, 0, 0)

  public var stepsPerEpoch: Int { examples / options.batch }

  /// Compiles the training loop and initialises the state: stored values, else initialisers with the seed.
  /// - Parameter data: one array [examples, ...] for each data input of the step.
  /// - Throws: `.binding` when an array is missing or does not fit.
  public init(_ step: TrainingStep, data: [String: Tensor], options: Options) throws(DLCError) {
    self.step = step
    self.options = options
    guard let first = step.inputs.first, let batch = first.type.shape.first?.name else {
      throw DLCError(
        .graph, "the loss has no data input with a named first axis",
        remedy: "its inputs are \(step.inputs.map { "\($0.name) \($0.type)" })")
    }
    batchName = batch
    if let absent = step.inputs.first(where: { data[$0.name] == nil }) {
      throw DLCError(
        .binding, "the data has no array '\(absent.name)'",
        remedy: data.isEmpty
          ? "the loss takes \(step.inputs.map(\.name).joined(separator: ", "))"
          : "it has \(data.keys.sorted().joined(separator: ", "))")
    }
    let count = data[first.name]?.shape.first ?? 0
    guard options.batch >= 1, count >= options.batch else {
      throw DLCError(
        .binding, "there are \(count) examples in '\(first.name)' for batches of \(options.batch)")
    }
    examples = count
    var converted: [String: Tensor] = [:]
    var arrays: [(name: String, declared: TensorType, shape: [Int])] = []
    for (name, type) in step.inputs {
      let array = data[name]!
      guard array.shape.count == type.rank, array.shape.first == count else {
        throw DLCError(
          .binding, "array '\(name)' is \(array.type): '\(type)' is wanted, with \(count) examples")
      }
      converted[name] = array.converted(to: type.dataType)
      arrays.append((name, type, [options.batch / step.accumulation] + array.shape.dropFirst()))
    }
    guard options.batch % step.accumulation == 0 else {
      throw DLCError(
        .binding, "a batch of \(options.batch) has no \(step.accumulation) equal parts")
    }
    self.data = converted
    var explicit = options.dimensions
    explicit[batch] = options.batch / step.accumulation
    let made = try step.loopFunction(batchName: batch)
    var sizes = try made.bind(explicit: explicit, arrays: arrays)
    sizes["examples"] = count
    // So many steps per call that the epoch divides evenly.
    let epoch = count / options.batch
    stepsPerCall = (1...max(1, min(options.stepsPerCall, epoch))).last { epoch % $0 == 0 }!
    sizes["steps"] = stepsPerCall
    module = made
    loop = try Compiler().load(made, function: "train", dimensions: sizes, cache: .standard)
      .executable
    var orders = Module("order")
    orders.dimension("examples", default: count)
    let shuffles = options.shuffles
    try orders.function("order") { g in
      let seed = g.input("seed", .int64)
      let epoch = g.input("epoch", .int32)
      let random = RandomStream(g, key: seed, step: epoch)
      let order =
        shuffles ? random.permutation("examples") : g.iota(.int32, ["examples"], axis: 0)
      g.output("order", order)
    }
    shuffle = try Compiler().load(
      orders, function: "order", dimensions: ["examples": count], cache: .standard
    ).executable
    fingerprint = SHA256.hex(
      ModuleFile.encode(made) + Array("\(options.batch) \(options.seed) \(count) \(shuffles)".utf8))
    try loop.initializeState(seed: options.seed)
  }

  /// All state: parameters, statistics, what the optimizer keeps.
  public var state: [String: Tensor] { loop.state }

  /// The parameters and statistics of the module that is trained.
  public var modelState: [String: Tensor] {
    state.filter { name, _ in step.module.state(name) != nil }
  }

  public func setState(_ values: [String: Tensor]) throws(DLCError) { try loop.setState(values) }

  /// Continues from the newest checkpoint, if there is one.
  /// - Returns: whether there was.
  /// - Throws: `.binding` when it belongs to another run.
  public mutating func resume() throws(DLCError) -> Bool {
    guard let directory = options.checkpoints,
      let checkpoint = try Checkpoint.latest(in: directory)
    else { return false }
    guard checkpoint.fingerprint == fingerprint else {
      throw DLCError(
        .binding, "the checkpoint belongs to a run with another model, data or options",
        at: directory, remedy: "start it with the same ones, or choose another directory")
    }
    try loop.setState(checkpoint.state)
    position = (checkpoint.step, checkpoint.epoch, checkpoint.cursor)
    return true
  }

  private func save() throws(DLCError) {
    guard let directory = options.checkpoints else { return }
    let checkpoint = Checkpoint(
      step: position.step, epoch: position.epoch, cursor: position.cursor, seed: options.seed,
      fingerprint: fingerprint, state: state)
    try checkpoint.write(to: directory, keep: options.keep)
  }

  /// Trains until the last epoch is done.
  /// - Parameter report: called after every call of the loop; false stops the run.
  /// - Throws: `.check` when a loss is not finite, naming the node where that begins; state and
  ///   checkpoints are then those before it.
  public mutating func run(_ report: (Progress) throws(DLCError) -> Bool) throws(DLCError) {
    let total = stepsPerEpoch * options.epochs
    var saved = position.step
    while position.epoch < options.epochs {
      let order = try shuffle.run(
        [
          "seed": Tensor([], [Int64(bitPattern: options.seed)]),
          "epoch": Tensor([], [Int32(position.epoch + 1)]),
        ], threads: options.threads)[0].value
      let rows = order.integers.map { Int32($0) }
      while position.cursor < stepsPerEpoch {
        let start = ContinuousClock.now
        let from = position.cursor * options.batch
        let chosen = Array(rows[from..<from + stepsPerCall * options.batch])
        var inputs = data
        inputs["order"] = Tensor([stepsPerCall, options.batch], chosen)
        inputs["seed"] = Tensor([], [Int64(bitPattern: options.seed)])
        let before = state
        let results = try loop.run(inputs, threads: options.threads)
        if let bad = results[0].value.doubles.firstIndex(where: { !$0.isFinite }) {
          try loop.setState(before)
          try explain(bad, before, chosen)
        }
        position.step += stepsPerCall
        position.cursor += stepsPerCall
        let isEnd = position.cursor == stepsPerEpoch
        let passed = ContinuousClock.now - start
        let seconds =
          Double(passed.components.seconds) + Double(passed.components.attoseconds) * 1e-18
        let progress = Progress(
          epoch: position.epoch + 1, step: position.step, totalSteps: total,
          metrics: results.map { name, value in
            (name, value.doubles.reduce(0, +) / Double(value.count))
          }, examplesPerSecond: Double(stepsPerCall * options.batch) / max(seconds, 1e-9),
          isEpochEnd: isEnd)
        if isEnd { position = (position.step, position.epoch + 1, 0) }
        if isEnd || position.step - saved >= options.checkpointSteps {
          try save()
          saved = position.step
        }
        if try !report(progress) { return }
        if isEnd { break }
      }
    }
  }

  /// Repeats the steps up to the bad one and finds the first node whose result is not finite.
  private func explain(_ bad: Int, _ before: [String: Tensor], _ chosen: [Int32]) throws(DLCError)
    -> Never
  {
    let single = try step.stepFunction("step")
    let compiler = Compiler()
    var arrays: [(name: String, declared: TensorType, shape: [Int])] = []
    for (name, type) in step.inputs {
      arrays.append(
        (name, type, [options.batch / step.accumulation] + data[name]!.shape.dropFirst()))
    }
    let sizes = try single.bind(explicit: options.dimensions, arrays: arrays)
    let executable = try compiler.compile(single, function: "step", dimensions: sizes)
    try executable.setState(before)
    func batch(_ index: Int) -> [String: Tensor] {
      let rows = chosen[index * options.batch..<(index + 1) * options.batch]
      var inputs: [String: Tensor] = [:]
      for (name, _) in step.inputs { inputs[name] = data[name]!.rows(rows.map { Int($0) }) }
      if step.usesSeed { inputs["seed"] = Tensor([], [Int64(bitPattern: options.seed)]) }
      return inputs
    }
    for index in 0..<bad { _ = try executable.run(batch(index), threads: options.threads) }
    let place =
      try Interpreter().firstNonFinite(
        single.function("step")!, inputs: batch(bad), states: executable.state, dimensions: sizes)
      ?? "no single node"
    throw DLCError(
      .check, "the loss is not finite in step \(position.step + bad + 1): it begins at \(place)",
      remedy: "a smaller learning rate or gradient clipping may help")
  }
}

extension Tensor {
  /// The rows of the first axis with these numbers.
  package func rows(_ numbers: [Int]) -> Tensor {
    let inner = shape.dropFirst().reduce(1, *) * dataType.byteCount
    var result = Tensor(zeros: dataType, [numbers.count] + shape.dropFirst())
    withUnsafeBytes { source in
      result.withUnsafeMutableBytes { target in
        for (index, number) in numbers.enumerated() where inner > 0 {
          target.baseAddress!.advanced(by: index * inner).copyMemory(
            from: source.baseAddress!.advanced(by: number * inner), byteCount: inner)
        }
      }
    }
    return result
  }

  /// The same numbers in another element type.
  package func converted(to type: DataType) -> Tensor {
    if type == dataType { return self }
    return type.isFloat
      ? Tensor(type, shape, rounding: doubles)
      : Tensor(type, shape, truncating: dataType.isFloat ? doubles.map { Int64($0) } : integers)
  }
}
