import DLCFormats
import DLCGraph
import DLCTensor

/// What a run was started with: what must be the same for it to go on, and what may change.
struct RunDescription: Codable, Hashable {
  // The same for the whole run.
  /// A digest of what the phases compute: graphs without names and source lines, and state.
  var computation: String
  /// The rule of each phase, but for its rate.
  var rules: [String]
  var batch: Int
  var seed: UInt64
  var shuffles: Bool
  var shuffleBlock: Int?
  var lastBatch: String
  // May change when it is resumed.
  var learningRates: [Double]
  var schedules: [String]
  var epochs: Int
  var examples: Int
  var stepsPerEpoch: Int
  /// A digest of the arrays.
  var data: String
  /// What the best epoch is looked for by, and a digest of the arrays that it is measured on.
  var watch: String?
  var validation: String?

  /// Why a run of this description cannot go on from another one's checkpoint; nil when it can.
  func obstacle(from other: RunDescription) -> String? {
    if rules != other.rules {
      return
        "other rules: \(other.rules.joined(separator: "; ")), here \(rules.joined(separator: "; "))"
    }
    if batch != other.batch { return "a batch of \(other.batch), here \(batch)" }
    if seed != other.seed { return "the seed \(other.seed), here \(seed)" }
    if shuffles != other.shuffles {
      return "examples \(other.shuffles ? "in random order" : "in their order")"
    }
    if shuffleBlock != other.shuffleBlock {
      func text(_ block: Int?) -> String { block.map { "blocks of \($0)" } ?? "no blocks" }
      return "examples shuffled in \(text(other.shuffleBlock)), here in \(text(shuffleBlock))"
    }
    if lastBatch != other.lastBatch {
      return "the last smaller batch of an epoch \(other.lastBatch), here \(lastBatch)"
    }
    if computation != other.computation { return "another model, or other sizes" }
    return nil
  }

  /// Whether the best epoch was looked for as it is now.
  func watches(as other: RunDescription) -> Bool {
    watch == other.watch && validation == other.validation
  }

  /// What is not as it was, in words.
  func changes(from other: RunDescription) -> [String] {
    func list(_ values: [Double]) -> String { values.map { "\($0)" }.joined(separator: ", ") }
    var changes: [String] = []
    if learningRates != other.learningRates {
      changes.append(
        "the learning rate is \(list(learningRates)), it was \(list(other.learningRates))")
    }
    if schedules != other.schedules {
      changes.append(
        "the schedule is \(schedules.joined(separator: ", ")), it was \(other.schedules.joined(separator: ", "))"
      )
    }
    if epochs != other.epochs {
      changes.append("the epochs are \(epochs), they were \(other.epochs)")
    }
    if examples != other.examples {
      changes.append("there are \(examples) examples, there were \(other.examples)")
    } else if data != other.data {
      changes.append("the data are others")
    }
    if stepsPerEpoch != other.stepsPerEpoch, schedules.contains(where: { $0 != "constant" }) {
      changes.append(
        "an epoch has \(counted(stepsPerEpoch, "step")), it had \(other.stepsPerEpoch): schedules are counted in the new ones, whatever steps are done"
      )
    }
    return changes
  }
}

extension RunDescription {
  /// - Parameter sizes: those of the named dimensions.
  init(
    _ step: TrainingStep, _ sizes: [String: Int], _ data: DataSet, _ options: Trainer.Options,
    stepsPerEpoch: Int, validation: Evaluator?
  ) throws(DLCError) {
    // Digests are for checkpoints alone.
    let isKept = options.checkpoints != nil
    self.init(
      computation: isKept ? try step.computationDigest(sizes) : "",
      rules: step.ruleTexts, batch: options.batch, seed: options.seed, shuffles: options.shuffles,
      shuffleBlock: options.shuffleBlock, lastBatch: options.lastBatch.rawValue,
      learningRates: step.phases.map(\.rule.learningRate),
      schedules: step.phases.map { "\($0.rule.schedule)" }, epochs: options.epochs,
      examples: data.count, stepsPerEpoch: stepsPerEpoch, data: isKept ? data.digest : "",
      watch: options.watch.map { "\($0.goal) \($0.metric)" },
      validation: isKept && options.watch != nil ? validation?.digest : nil)
  }
}

extension TrainingStep {
  /// A digest of what the phases compute, for sizes of the named dimensions: their graphs without names
  /// and source lines, and the state that they read, without values.
  func computationDigest(_ sizes: [String: Int]) throws(DLCError) -> String {
    var bare = Module("computation")
    for dimension in module.dimensions {
      bare.dimension(dimension.name, default: sizes[dimension.name] ?? dimension.size)
    }
    for var state in states {
      state.value = nil
      bare.add(state)
    }
    for (index, phase) in phases.enumerated() {
      bare.add(
        Function("phase \(index)", try module.function(phase.function)!.graph.withoutPlaces()))
    }
    if let initialization {
      bare.add(
        Function("initialization", try module.function(initialization)!.graph.withoutPlaces()))
    }
    return Digest.hex(ModuleFile.encode(bare))
  }

  /// The rules but for their rates, as text.
  var ruleTexts: [String] {
    phases.map { phase in
      var rule = phase.rule
      rule.learningRate = 0
      rule.schedule = .constant
      let moved = phase.prefixes.isEmpty ? "all" : phase.prefixes.joined(separator: " ")
      return "\(phase.kind) \(phase.output) by \(moved), \(rule.text)"
    }
  }
}

extension UpdateRule {
  /// What differs from the plain rule, in words.
  fileprivate var text: String {
    var parts = ["\(optimizer)"]
    if coupledDecay != 0 { parts.append("coupled decay \(coupledDecay)") }
    if decoupledDecay != 0 { parts.append("decay \(decoupledDecay)") }
    if let clipValue { parts.append("values clipped to \(clipValue)") }
    if let clipNorm { parts.append("norm clipped to \(clipNorm)") }
    if accumulation != 1 { parts.append("\(accumulation) parts") }
    if let averaging { parts.append("averages \(averaging)") }
    if let halfStateType { parts.append("state of half floats in \(halfStateType)") }
    for group in groups {
      parts.append("'\(group.prefix)' rate \(group.rateFactor) decay \(group.decayFactor)")
    }
    return parts.joined(separator: ", ")
  }
}

extension Graph {
  /// The same computation without the names and the source lines of its nodes.
  fileprivate func withoutPlaces() throws(DLCError) -> Graph {
    try mappingRegions { (region) throws(DLCError) in try region.withoutPlaces() }
      .rebuilt { (out, _, node) throws(DLCError) in
        try out.append(node.operation, node.operands)
      }
  }
}

extension DataSet {
  /// A digest of the arrays, their names and types.
  var digest: String {
    let hash = Digest()
    for (name, array) in arrays.sorted(by: { $0.key < $1.key }) {
      hash.update(Array("\(name) \(array.type)\n".utf8))
      array.withUnsafeBytes { hash.update($0) }
    }
    return hash.hex
  }
}
