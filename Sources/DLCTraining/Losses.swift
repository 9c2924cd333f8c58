public import DLCGraph
import DLCTensor

/// Losses: scalars that training makes small.
extension FunctionBuilder {
  private func all(_ x: Value) -> [Int] { Array(x.shape.indices) }

  /// The mean of (prediction - target)^2 over all elements.
  public func meanSquaredError(_ prediction: Value, _ target: Value) -> Value {
    let error = prediction - target
    return mean(error * error, axes: all(error))
  }

  /// The mean of -ln softmax(logits)[label]: logits [..., k], labels [...] integers in 0..<k.
  public func softmaxCrossEntropy(_ logits: Value, _ labels: Value) -> Value {
    named("cross_entropy") {
      let axis = logits.rank - 1
      let logs = logSoftmax(logits)
      let index = reshape(labels, labels.shape + [1])
      let chosen = gatherAlong(axis, logs, index)
      return -mean(chosen, axes: Array(chosen.shape.indices))
    }
  }

  /// The mean of -sum of target ln softmax(logits): logits and target probabilities [..., k].
  public func softmaxCrossEntropy(_ logits: Value, probabilities target: Value) -> Value {
    let per = sum(target * logSoftmax(logits), axes: [logits.rank - 1])
    return -mean(per, axes: Array(per.shape.indices))
  }

  /// The mean binary cross-entropy of probabilities, moved into [epsilon, 1 - epsilon] first.
  public func binaryCrossEntropy(
    _ probability: Value, _ target: Value, epsilon: Double = 1e-7
  ) -> Value {
    let p = clamp(probability, epsilon, 1 - epsilon)
    let per = target * log(p) + (1 - target) * log(1 - p)
    return -mean(per, axes: all(per))
  }

  /// softplus(l) - target l for every element: the binary cross-entropy of a logit, finite for every
  /// finite logit.
  public func binaryCrossEntropy(logits: Value, _ target: Value) -> Value {
    softplus(logits) - target * logits
  }

  /// The share of rows whose largest logit is at the label.
  public func accuracy(_ logits: Value, _ labels: Value) -> Value {
    let guess = argmax(logits, axis: logits.rank - 1, labels.dataType)
    let hits = convert(compare(.equal, guess, labels), .float32)
    return mean(hits, axes: all(hits))
  }
}
