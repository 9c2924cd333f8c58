import DLCGraph
import DLCTensor

/// Losses of classes by their numbers.
enum LossOperators {
  static let all: [OperatorMapping] = [
    OperatorMapping("NegativeLogLikelihoodLoss", since: 12, inputs: 3) { c throws(ImportStop) in
      [try likelihood(c, of: try c.operand(0))]
    },
    OperatorMapping("SoftmaxCrossEntropyLoss", since: 12, inputs: 3) { c throws(ImportStop) in
      let scores = try c.operand(0)
      guard scores.rank >= 2 else { throw c.fail("the scores are \(scores.type), not [n, c, ...]") }
      let log = c.g.logSoftmax(scores, axis: 1)
      return [try likelihood(c, of: log), log]
    },
  ]

  /// What the logarithms of probabilities [n, c, ...] are at labels [n, ...], with the opposite sign, weighted by class.
  private static func likelihood(_ c: NodeContext, of log: Value) throws(ImportStop) -> Value {
    let g = c.g
    let labels = try c.operand(1)
    guard log.rank >= 2, labels.rank == log.rank - 1, labels.dataType.isInteger,
      labels.shape == [log.shape[0]] + log.shape[2...]
    else { throw c.fail("labels \(labels.type) do not belong to \(log.type)") }
    var places = g.convert(labels, .int64)
    var isCounted: Value?
    if let ignored = try c.wideInteger("ignore_index") {
      let mask = places .!= c.constant([], [ignored])
      places = g.select(mask, places, c.constant([], [0]))
      isCounted = mask
    }
    let chosen = g.gatherAlong(1, log, c.unsqueezed(places, [1]))
    var loss = -g.reshape(chosen, labels.shape)
    var weight: Value?
    if let weights = c.optional(2) {
      guard weights.shape == [log.shape[1]] else {
        throw c.fail("the weights are \(weights.type), not one for each of \(log.shape[1]) classes")
      }
      weight = g.embedding(weights, places)
    }
    if let mask = isCounted {
      let zero = c.scalar(0, log.dataType)
      let whole = weight ?? g.constant(1, like: loss)
      weight = g.select(mask, whole, zero)
      // What is ignored may be infinite.
      loss = g.select(mask, loss, zero)
    }
    if let weight { loss = loss * weight }
    let axes = Array(0..<loss.rank)
    switch try c.text("reduction", "mean") {
    case "none": return loss
    case "sum": return g.sum(loss, axes: axes)
    case "mean":
      guard let weight else { return g.mean(loss, axes: axes) }
      return g.sum(loss, axes: axes) / g.sum(weight, axes: axes)
    case let other: throw c.fail("reduction '\(other)' is not none, sum or mean")
    }
  }
}
