/// A training rule: how a parameter moves, given its gradient. The equations are those of the papers
/// named; g is the gradient, t the step from 1.
public indirect enum Optimizer: Hashable, Sendable {
  /// theta - lr g.
  case gradientDescent
  /// v = beta v + (1 - dampening) g; theta - lr v (Polyak 1964).
  case momentum(beta: Double = 0.9, dampening: Double = 0.9)
  /// v = beta v + g, g taken at theta - lr beta v; theta - lr v (Nesterov 1983).
  case nesterov(beta: Double = 0.9)
  /// G += g^2; theta - lr g / sqrt(G + eps) (Duchi et al. 2011).
  case adagrad(epsilon: Double = 1e-8)
  /// s = rho s + (1 - rho) g^2; theta - lr g / sqrt(s + eps) (Tieleman and Hinton 2012).
  case rmsprop(rho: Double = 0.9, epsilon: Double = 1e-8)
  /// Bias-corrected moments (Kingma and Ba 2015).
  case adam(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8)
  /// Adam, and theta shrinks by lr decay theta (Loshchilov and Hutter 2019).
  case adamW(
    beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, decay: Double = 0.01)
  /// Steps in units of past steps (Zeiler 2012).
  case adadelta(rho: Double = 0.95, epsilon: Double = 1e-6)
  /// The largest second moment so far, no bias correction (Reddi et al. 2018).
  case amsgrad(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8)
  /// Adam with Nesterov's look ahead (Dozat 2016).
  case nadam(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8)
  /// The sign of an interpolated moment (Chen et al. 2023, who use 0.9 and 0.99).
  case lion(beta1: Double = 0.9, beta2: Double = 0.9)
  /// Layer-wise scaled steps (You et al. 2020).
  case lamb(
    beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, decay: Double = 0,
    correctsBias: Bool = false)
  /// Second moments of rows and columns alone (Shazeer and Stern 2018).
  case adafactor(decay: Double = 0.999, epsilon: Double = 1e-30, divisor: Double = 1e-8)
  /// Every k-th step the slow weights follow the fast ones (Zhang et al. 2019).
  case lookahead(Optimizer, k: Int = 5, alpha: Double = 0.5)

  /// The rule without a decay of weights of its own.
  package var withoutDecay: Optimizer {
    switch self {
    case .adamW(let beta1, let beta2, let epsilon, _):
      .adam(beta1: beta1, beta2: beta2, epsilon: epsilon)
    case .lamb(let beta1, let beta2, let epsilon, _, let correctsBias):
      .lamb(beta1: beta1, beta2: beta2, epsilon: epsilon, decay: 0, correctsBias: correctsBias)
    case .lookahead(let inner, let k, let alpha):
      .lookahead(inner.withoutDecay, k: k, alpha: alpha)
    default: self
    }
  }

  /// The command line's names.
  package static let named: [(name: String, optimizer: Optimizer)] = [
    ("gd", .gradientDescent), ("sgd", .gradientDescent), ("momentum", .momentum()),
    ("nag", .nesterov()), ("adagrad", .adagrad()), ("rmsprop", .rmsprop()), ("adam", .adam()),
    ("adamw", .adamW()), ("adadelta", .adadelta()), ("amsgrad", .amsgrad()), ("nadam", .nadam()),
    ("lion", .lion()), ("lamb", .lamb()), ("adafactor", .adafactor()),
    ("lookahead", .lookahead(.gradientDescent)),
  ]
}
