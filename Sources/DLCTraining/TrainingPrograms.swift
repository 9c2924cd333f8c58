import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor

/// The compiled loop of a run: for whole batches, and for a smaller last one, each when there is one.
struct TrainingPrograms {
  let loop: TrainingLoop
  /// Of the named dimensions, the batch among them.
  let sizes: [String: Int]
  let whole: Executable?
  let rest: Executable?
  let stepsPerCall: Int

  /// - Parameter rest: how many examples the last batch has when it is smaller, else 0.
  /// - Throws: `.binding` when sizes do not fit, or the data are no positions where positions are wanted.
  init(
    _ step: TrainingStep, _ batch: String, _ set: DataSet, _ options: Trainer.Options,
    stepsPerEpoch: Int, rest: Int
  ) throws(DLCError) {
    let parts = step.accumulation
    for size in [options.batch, rest] where size % parts != 0 {
      throw DLCError(.binding, "a batch of \(size) has no \(parts) equal parts")
    }
    if let given = options.dimensions[batch], given != options.batch / parts {
      throw DLCError(
        .binding,
        "dimension '\(batch)' is given as \(given), but the batch makes it \(options.batch / parts)"
      )
    }
    let loop = try step.loop(batch: batch, types: set.arrays.mapValues(\.dataType))
    /// Sizes of all dimensions for a batch.
    func bind(_ size: Int) throws(DLCError) -> [String: Int] {
      var explicit = options.dimensions
      explicit[batch] = size / parts
      return try step.module.bind(
        explicit: explicit,
        arrays: step.inputs.map {
          ($0.name, $0.type, [size / parts] + set.arrays[$0.name]!.shape.dropFirst())
        })
    }
    sizes = try bind(rest > 0 && stepsPerEpoch == 1 ? rest : options.batch)
    for phase in step.phases {
      try set.check(IndexUses(step.module.function(phase.function)!.graph).uses, sizes)
    }
    func compiled(_ size: Int, _ steps: Int) throws(DLCError) -> Executable {
      var all = try bind(size)
      all[loop.examples] = set.count
      all[loop.steps] = steps
      return try Compiler().load(
        loop.module, function: loop.name, dimensions: all, cache: .standard
      ).executable
    }
    let full = stepsPerEpoch - (rest > 0 ? 1 : 0)
    stepsPerCall = max(1, min(options.stepsPerCall, full))
    whole = full > 0 ? try compiled(options.batch, stepsPerCall) : nil
    self.rest = rest > 0 ? try compiled(rest, 1) : nil
    self.loop = loop
  }

  /// The order of the examples in an epoch: all orders alike, that of the arrays, or, in blocks, a random order
  /// of the blocks, of which a few in turn are mixed.
  static func order(of count: Int, _ options: Trainer.Options) throws(DLCError) -> Executable {
    var module = Module("order")
    module.dimension("examples", default: count)
    try module.function("order") { g in
      let random = RandomStream(
        g, key: g.input("seed", .int64), step: g.input("epoch", .int32))
      let number = g.iota(.int32, ["examples"], axis: 0)
      guard options.shuffles else { return g.output("order", number) }
      guard let block = options.shuffleBlock, block < count else {
        return g.output("order", random.permutation("examples"))
      }
      let size = g.constant(Double(block), .int32)
      let place = g.iota(.int32, [Size((count + block - 1) / block)], axis: 0)
      // The place of each block in the order, and the group that it is mixed with.
      let ranks = g.sort([random.permutation(place.shape[0]), place], axis: 0, keys: 1)[1]
      let group = g.embedding(ranks, number / size) / g.constant(Double(blocksMixed), .int32)
      let keys = [group, random.bits(["examples"]), random.bits(["examples"]), number]
      g.output("order", g.sort(keys, axis: 0, keys: 3)[3])
    }
    return try Compiler().load(
      module, function: "order", dimensions: ["examples": count], cache: .standard
    ).executable
  }

  /// Blocks that are mixed with one another.
  private static let blocksMixed = 8
}
