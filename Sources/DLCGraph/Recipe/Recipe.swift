public import DLCTensor

/// How a module is trained, measured and sampled: what `dlc train` follows and a `Trainer` takes.
///
/// ```swift
/// let rule = UpdateRule(.adam(), learningRate: 0.1)
/// module.recipe = Recipe(
///   phases: [Phase("loss", rule: rule)], batch: 16, epochs: 3, evaluation: "loss_evaluation")
/// let trainer = try Trainer(module, data: data) { $0.seed = 7 }
/// try trainer.run()
/// let measured = try trainer.evaluate(data)  // loss and accuracy
/// ```
public struct Recipe: Hashable, Sendable {
  /// The parts of a step, in their order.
  public var phases: [Phase]
  /// Examples in a step.
  public var batch: Int
  /// Passes over the data.
  public var epochs: Int
  /// A function that is run once before the first step, over all examples: what it updates is what
  /// training begins with (statistics of the data, centres of clusters). It takes a `seed` as a phase does.
  public var initialization: String?
  /// The function that measures a trained module on arrays: its scalar results are means over the rows.
  public var evaluation: String?
  /// The function that draws from a trained module.
  public var sample: String?
  /// What inputs and outputs mean, by name. A name that is not here means itself.
  public var meanings: [String: Meaning]

  /// The recipe of a step's phases; for the others see the properties of these names.
  public init(
    phases: [Phase], batch: Int = 64, epochs: Int = 5, initialization: String? = nil,
    evaluation: String? = nil, sample: String? = nil, meanings: [String: Meaning] = [:]
  ) {
    self.phases = phases
    self.batch = batch
    self.epochs = epochs
    self.initialization = initialization
    self.evaluation = evaluation
    self.sample = sample
    self.meanings = meanings
  }
}

/// What an array of a module is to people.
public enum Meaning: Hashable, Sendable {
  /// Pictures row by row, with pixels from 0 to 1; the first axis counts them. Channels come first.
  case image(height: Int, width: Int, channels: Int = 1)
  /// Numbers of classes, and the classes' names where they have some.
  case label([String] = [])
  /// Positions in an alphabet: its characters in order; empty until the training data say.
  case token(String = "")
  /// A setting of one number, with the value that it has when none is given.
  case setting(Double)
  /// What random numbers are drawn from.
  case seed
}
