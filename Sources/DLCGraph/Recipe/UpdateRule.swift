public import DLCTensor

/// How parameters follow their gradients.
public struct UpdateRule: Hashable, Sendable {
  public var optimizer: Optimizer
  public var learningRate: Double
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

  public struct Group: Hashable, Sendable {
    public var prefix: String
    public var rateFactor: Double
    public var decayFactor: Double
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
