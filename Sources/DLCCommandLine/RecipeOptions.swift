import ArgumentParser
import DLCGraph
import DLCTensor
import DLCTraining

/// Flags that say how a module is trained, where they say otherwise than its recipe.
struct RecipeOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A phase of the step, in the place of the recipe's; may be repeated.",
      discussion: """
        FUNCTION, or FUNCTION:KEY=VALUE,... with the keys output, maximize, prefix (may be repeated), optimizer, lr, \
        schedule, clip-norm, clip-value, weight-decay, average, accumulate, evaluation. What a phase does not say, the \
        flags of those names say.
        """, valueName: "function"), transform: PhaseOption.init(parsing:))
  var phase: [PhaseOption] = []
  @Option(
    name: .customLong("output"),
    help:
      "The scalar output that is minimised ('loss'); of an ONNX model the output that --loss is of."
  )
  var target: String?
  @Flag(inversion: .prefixedNo, help: "Maximise the output.") var maximize: Bool?
  @Option(help: "Only parameters whose names begin so are trained; may be repeated.")
  var prefix: [String] = []
  @Option(
    help:
      "One of \(Optimizer.named.map(\.name).joined(separator: ", ")) (adam); the formulas are those of Graphs/equations/optimizers, with their constants: momentum is v = 0.9 v + 0.1 g, a tenth of what PyTorch steps by."
  )
  var optimizer: String?
  @Option(help: "The learning rate (0.001).") var lr: Double?
  @Option(
    help:
      "constant, cosine, warmup (a tenth of the steps, then cosine), step (a tenth every third), onecycle."
  )
  var schedule: String?
  @Option(help: "Passes over the data (5).") var epochs: Int?
  @Option(help: "Examples in a step (64).") var batch: Int?
  @Option(help: "Scale all gradients together down to this norm.") var clipNorm: Double?
  @Option(help: "Move every gradient element into plus or minus this.") var clipValue: Double?
  @Option(help: "Decoupled weight decay.") var weightDecay: Double?
  @Option(help: "Parts of a batch that are computed one after the other.") var accumulate: Int?
  @Option(
    help: "Keep a moving average of the weights with this decay, at least 0 and less than 1.")
  var average: Double?

  func validate() throws {
    for (name, value) in [("epochs", epochs), ("batch", batch), ("accumulate", accumulate)] {
      if let value, value < 1 {
        throw ValidationError("--\(name) is \(value): it must be positive")
      }
    }
    if let batch, let accumulate, batch % accumulate != 0 {
      throw ValidationError("--accumulate must divide --batch")
    }
    try validate(settings)
    for phase in phase { try validate(phase.settings) }
    if phase.count > 1, target != nil || maximize != nil || !prefix.isEmpty {
      throw ValidationError(
        "--output, --maximize and --prefix belong to one phase: say them in --phase, as F:prefix=g.,output=loss"
      )
    }
  }

  private func validate(_ settings: PhaseOption.Settings) throws {
    for (name, value) in [
      ("lr", settings.lr), ("clip-norm", settings.clipNorm), ("clip-value", settings.clipValue),
    ] {
      if let value, !(value > 0 && value.isFinite) {
        throw ValidationError("--\(name) is \(value): it must be a positive number")
      }
    }
    if let decay = settings.weightDecay, !(decay >= 0 && decay.isFinite) {
      throw ValidationError("--weight-decay is \(decay): it must be a number from 0 on")
    }
    if let average = settings.average, !(average >= 0 && average < 1) {
      throw ValidationError("--average is \(average): it must be at least 0 and less than 1")
    }
    if let name = settings.optimizer, !Optimizer.named.contains(where: { $0.name == name }) {
      let near = Spelling.remedy(for: name, among: Optimizer.named.map(\.name))
      throw ValidationError("there is no optimizer '\(name)'; \(near)")
    }
    if let name = settings.schedule, !Schedule.named.contains(where: { $0.name == name }) {
      let near = Spelling.remedy(for: name, among: Schedule.named.map(\.name))
      throw ValidationError("there is no schedule '\(name)'; \(near)")
    }
  }

  private var settings: PhaseOption.Settings {
    var settings = PhaseOption.Settings()
    settings.optimizer = optimizer
    settings.lr = lr
    settings.schedule = schedule
    settings.clipNorm = clipNorm
    settings.clipValue = clipValue
    settings.weightDecay = weightDecay
    settings.average = average
    settings.accumulate = accumulate
    return settings
  }

  /// What the module is trained by: its recipe, or its function `loss`, with what the flags change.
  /// - Parameter function: a function that is trained in the place of the recipe's phases.
  func recipe(of module: Module, function: String?) throws(DLCError) -> Recipe {
    if function != nil && !phase.isEmpty {
      throw DLCError(.usage, "--function and --phase exclude each other")
    }
    var recipe = module.recipe ?? Recipe(phases: [])
    if !phase.isEmpty {
      recipe.phases = []
      for option in phase { recipe.phases.append(try option.phase(in: module)) }
    } else if function != nil || recipe.phases.isEmpty {
      recipe.phases = [
        try PhaseOption(function: function ?? "loss").phase(
          in: module, output: target, remedy: " (--phase chooses one)")
      ]
    }
    for index in recipe.phases.indices {
      var phase = recipe.phases[index]
      if let target, phase.kind.differentiates { phase.output = target }
      if let maximize, phase.kind.differentiates { phase.kind = maximize ? .maximize : .minimize }
      if !prefix.isEmpty { phase.prefixes = prefix }
      settings.apply(to: &phase.rule)
      // What --phase says decides over the flags.
      if self.phase.indices.contains(index) { self.phase[index].settings.apply(to: &phase.rule) }
      if phase.kind == .replace, settings.isGiven || self.phase.contains(where: \.settings.isGiven)
      {
        throw DLCError(
          .usage,
          "phase '\(phase.function)' gives next values itself: no optimizer, rate or decay is applied",
          remedy: "leave those flags out")
      }
      if !phase.kind.differentiates, maximize != nil || target != nil {
        throw DLCError(
          .usage,
          "phase '\(phase.function)' differentiates nothing: --output and --maximize are not for it",
          remedy: "leave them out, or give the phase by --phase \(phase.function):output=...")
      }
      recipe.phases[index] = phase
    }
    if let batch { recipe.batch = batch }
    if let epochs { recipe.epochs = epochs }
    if let bad = recipe.phases.first(where: { recipe.batch % $0.rule.accumulation != 0 }) {
      throw DLCError(
        .usage, "a batch of \(recipe.batch) does not divide into \(bad.rule.accumulation) parts")
    }
    return recipe
  }
}

/// `FUNCTION` or `FUNCTION:KEY=VALUE,...`.
struct PhaseOption {
  struct Settings {
    var optimizer: String?
    var lr: Double?
    var schedule: String?
    var clipNorm: Double?
    var clipValue: Double?
    var weightDecay: Double?
    var average: Double?
    var accumulate: Int?

    var isGiven: Bool {
      optimizer != nil || schedule != nil || accumulate != nil
        || [lr, clipNorm, clipValue, weightDecay, average].contains { $0 != nil }
    }

    func apply(to rule: inout UpdateRule) {
      if let optimizer {
        rule.optimizer = Optimizer.named.first { $0.name == optimizer }!.optimizer
      }
      if let lr { rule.learningRate = lr }
      if let schedule { rule.schedule = Schedule.named.first { $0.name == schedule }!.schedule }
      if let clipNorm { rule.clipNorm = clipNorm }
      if let clipValue { rule.clipValue = clipValue }
      if let weightDecay {
        // In the place of a decay that the optimizer has of its own.
        rule.optimizer = rule.optimizer.withoutDecay
        rule.decoupledDecay = weightDecay
      }
      if let average { rule.averaging = average }
      if let accumulate { rule.accumulation = accumulate }
    }
  }

  var function: String
  var output: String?
  var maximizes = false
  var prefixes: [String] = []
  var evaluation: String?
  var settings = Settings()

  init(function: String) { self.function = function }

  /// - Throws: what is wrong with the text.
  init(parsing argument: String) throws {
    let parts = argument.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    function = String(parts[0])
    guard !function.isEmpty else { throw ValidationError("a phase has no function: '\(argument)'") }
    guard parts.count == 2 else { return }
    var seen: Set<String> = []
    for item in parts[1].split(separator: ",") {
      let pair = item.split(separator: "=", maxSplits: 1).map(String.init)
      let key = pair[0]
      guard key == "prefix" || seen.insert(key).inserted else {
        throw ValidationError("phase '\(function)' says '\(key)' twice")
      }
      if key == "maximize" {
        guard pair.count == 1 else {
          throw ValidationError(
            "phase '\(function)': maximize has no value, as in \(function):maximize")
        }
        maximizes = true
        continue
      }
      guard Self.keys.contains(key) else {
        throw ValidationError(
          "phase '\(function)' has no '\(key)'; \(Spelling.remedy(for: key, among: Self.keys))")
      }
      guard pair.count == 2, !pair[1].isEmpty else {
        throw ValidationError("phase '\(function)': '\(key)' has no value, as in \(key)=...")
      }
      /// The number that is given.
      func number() throws -> Double {
        guard let value = Double(pair[1]), value.isFinite else {
          throw ValidationError("phase '\(function)': \(key) is '\(pair[1])', which is no number")
        }
        return value
      }
      switch key {
      case "output": output = pair[1]
      case "prefix": prefixes.append(pair[1])
      case "evaluation": evaluation = pair[1]
      case "optimizer": settings.optimizer = pair[1]
      case "schedule": settings.schedule = pair[1]
      case "lr": settings.lr = try number()
      case "clip-norm": settings.clipNorm = try number()
      case "clip-value": settings.clipValue = try number()
      case "weight-decay": settings.weightDecay = try number()
      case "average": settings.average = try number()
      default:
        guard let count = Int(pair[1]), count >= 1 else {
          throw ValidationError("phase '\(function)': \(key) is '\(pair[1])': it must be positive")
        }
        settings.accumulate = count
      }
    }
  }

  private static let keys = [
    "output", "maximize", "prefix", "evaluation", "optimizer", "schedule", "lr", "clip-norm",
    "clip-value", "weight-decay", "average", "accumulate",
  ]

  /// The phase: the recipe's of that function, where it has one. Else what the function gives says what kind
  /// it is: the derivatives `d_<parameter>`, or the next values of parameters, or the output that is minimised.
  func phase(in module: Module, output given: String? = nil, remedy: String = "")
    throws(DLCError) -> Phase
  {
    guard let function = module.function(function) else {
      throw DLCError(
        .graph, "module '\(module.name)' has no function '\(self.function)'",
        remedy: Spelling.remedy(for: self.function, among: module.functions.map(\.name)) + remedy)
    }
    let output = output ?? given
    var phase =
      module.recipe?.phases.first { $0.function == function.name } ?? Phase(function.name)
    if let output {
      phase.output = output
      if !phase.kind.differentiates { phase.kind = .minimize }
    } else if module.recipe?.phases.contains(where: { $0.function == function.name }) != true {
      let outputs = Set(function.outputs.map(\.name))
      let parameters = module.states.filter(\.isParameter).map(\.name)
      if parameters.contains(where: { outputs.contains("d_\($0)") }) {
        phase.kind = .gradients
      } else if parameters.contains(where: outputs.contains) {
        phase.kind = .replace
      }
    }
    if maximizes { phase.kind = .maximize }
    if let evaluation { phase.evaluation = evaluation }
    if !prefixes.isEmpty { phase.prefixes = prefixes }
    return phase
  }
}

extension Schedule {
  /// The command line's names: all of them over the whole run.
  static let named: [(name: String, schedule: Schedule)] = [
    ("constant", .constant), ("cosine", .cosine),
    ("warmup", .warmup(steps: .run(0.1), then: .cosine(total: .run(0.9)))),
    ("step", .step(every: .run(1.0 / 3), factor: 0.1)), ("onecycle", .oneCycle(total: .run(1))),
  ]
}
