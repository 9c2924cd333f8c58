public import DLCTensor

/// How parameters follow their gradients.
///
/// ```swift
/// var rule = UpdateRule(.adamW(decay: 0.1), learningRate: 0.01)
/// rule.schedule = .warmup(steps: 4, then: .cosine(total: .run(0.5)))
/// rule.clipNorm = 1
/// rule.averaging = 0.9
/// ```
public struct UpdateRule: Hashable, Sendable {
  /// The rule by which a parameter follows its gradient.
  public var optimizer: Optimizer
  /// The base rate, which the schedule multiplies.
  public var learningRate: Double
  /// The factor of the rate at each step.
  public var schedule = Schedule.constant
  /// Added to the gradient as this times the parameter (L2 regularisation).
  public var coupledDecay = 0.0
  /// Taken from the parameter as lr times this times the parameter.
  public var decoupledDecay = 0.0
  /// Every gradient element is moved into plus or minus this.
  public var clipValue: Double?
  /// All gradients together are scaled down to this Euclidean norm.
  public var clipNorm: Double?
  /// The mean of the gradients of so many parts of a batch; the batch dimension of the loss is then the
  /// size of a part.
  public var accumulation = 1
  /// Keeps `average/<name>`, an exponential moving average of each parameter with this decay.
  public var averaging: Double?
  /// The type of what is kept for parameters of half floats: moments and averages. nil: float32.
  public var halfStateType: DataType?
  /// Parameters whose names begin alike, with factors for their rate and decay.
  public var groups: [Group] = []

  /// Parameters that have a rate and decay of their own.
  public struct Group: Hashable, Sendable {
    /// What the names of the parameters begin with.
    public var prefix: String
    /// Multiplies the learning rate.
    public var rateFactor: Double
    /// Multiplies the decay of weights.
    public var decayFactor: Double
    /// A group of the parameters whose names begin with `prefix`.
    public init(prefix: String, rateFactor: Double = 1, decayFactor: Double = 1) {
      self.prefix = prefix
      self.rateFactor = rateFactor
      self.decayFactor = decayFactor
    }
  }

  /// Adam with a rate of 0.001, unless told otherwise.
  public init(_ optimizer: Optimizer = .adam(), learningRate: Double = 1e-3) {
    self.optimizer = optimizer
    self.learningRate = learningRate
  }

  /// The type of what is kept for a parameter.
  package func stateType(_ parameter: DataType) -> DataType {
    parameter == parameter.computeType ? parameter : halfStateType ?? parameter.computeType
  }
}
