/// One part of a training step.
public struct Phase: Hashable, Sendable {
  /// What a phase does with its function.
  public enum Kind: String, Hashable, Sendable, CaseIterable {
    /// The output is differentiated by the parameters, which follow the way down.
    case minimize
    /// The same, and they follow the way up.
    case maximize
    /// The function gives `d_<parameter>` itself, for the way down.
    case gradients
    /// The function gives the next value of each parameter under its name.
    case replace

    /// Whether the step differentiates an output of the function.
    package var differentiates: Bool { self == .minimize || self == .maximize }
  }

  /// The name of the function, which `Module.phase` makes.
  public var function: String
  /// What is done with it.
  public var kind: Kind
  /// The scalar that is minimised or maximised. A phase of another kind may have it too, to watch.
  public var output: String
  /// The function that measures the phase on data that it is not trained on; nil: the one that
  /// `Module.phase` made with the other, or that other itself.
  public var evaluation: String?
  /// The parameters that move are those whose names begin with one of these; all when there is none.
  public var prefixes: [String]
  /// How the parameters move.
  public var rule: UpdateRule

  /// A phase that moves the parameters whose names begin with one of `prefixes`, or all.
  public init(
    _ function: String, _ kind: Kind = .minimize, output: String = "loss",
    evaluation: String? = nil, prefixes: [String] = [], rule: UpdateRule = UpdateRule()
  ) {
    self.function = function
    self.kind = kind
    self.output = output
    self.evaluation = evaluation
    self.prefixes = prefixes
    self.rule = rule
  }

  /// A phase that moves the parameters whose names begin with `prefix`.
  public init(
    _ function: String, _ kind: Kind = .minimize, output: String = "loss",
    evaluation: String? = nil, prefix: String, rule: UpdateRule = UpdateRule()
  ) {
    self.init(
      function, kind, output: output, evaluation: evaluation,
      prefixes: prefix.isEmpty ? [] : [prefix], rule: rule)
  }

  /// Whether a parameter of that name moves.
  package func moves(_ name: String) -> Bool {
    prefixes.isEmpty || prefixes.contains { name.hasPrefix($0) }
  }
}
