public import DLCGraph
import DLCTensor

/// Losses: scalars that training makes small. Those of half floats are float32, and neither they nor their
/// derivatives are rounded to half floats on the way.
extension FunctionBuilder {
  private func all(_ x: Value) -> [Int] { Array(x.shape.indices) }

  /// In the type that a loss has.
  private func loss(_ x: Value) -> Value { convert(x, x.dataType.computeType) }

  /// Throws unless the target has the prediction's type, or can be broadcast to it.
  private func match(_ target: Value, _ prediction: Value) throws(DLCError) {
    try prediction.needFloat("a prediction")
    let lead = prediction.rank - target.rank
    guard target.dataType == prediction.dataType, lead >= 0,
      zip(target.shape, prediction.shape.dropFirst(lead)).allSatisfy({ $0 == $1 || $0 == 1 })
    else {
      throw DLCError(
        .type, "the prediction is \(prediction.type), the target \(target.type)",
        remedy: "give both one type and one shape")
    }
  }

  /// The mean of (prediction - target)^2 over all elements; the target is broadcast to the prediction.
  public func meanSquaredError(
    _ prediction: Value, _ target: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [prediction, target]) { _ throws(DLCError) in
      try match(target, prediction)
      let error = prediction - target
      return loss(mean(error * error, axes: all(error)))
    }
  }

  /// The mean of -ln softmax(logits)[label]: logits [..., k], labels [...] integers in 0..<k.
  ///
  /// ```swift
  /// let logits = g.input("logits", .float32, ["n", 2])
  /// let labels = g.input("labels", .int32, ["n"])
  /// g.output("loss", g.softmaxCrossEntropy(logits, labels))
  /// ```
  public func softmaxCrossEntropy(
    _ logits: Value, _ labels: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [logits, labels]) { _ throws(DLCError) in
      try match(labels: labels, logits)
      return scope("cross_entropy") {
        let logs = logSoftmax(logits)
        let index = reshape(labels, labels.shape + [1])
        let chosen = gatherAlong(-1, logs, index)
        return loss(-mean(chosen, axes: all(chosen)))
      }
    }
  }

  private func match(labels: Value, _ logits: Value) throws(DLCError) {
    try logits.need(rank: 1, "logits")
    try logits.needFloat("logits")
    guard labels.dataType.isInteger else {
      throw DLCError(
        .type, "labels are integers, these are \(labels.type)",
        remedy: "declare them as int32, or give probabilities")
    }
    guard labels.shape == Array(logits.shape.dropLast()) else {
      throw DLCError(
        .type,
        "logits \(logits.type) need labels \(Array(logits.shape.dropLast())), these are \(labels.type)"
      )
    }
  }

  /// The mean of -sum of target ln softmax(logits): logits and target probabilities [..., k].
  public func softmaxCrossEntropy(
    _ logits: Value, probabilities target: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [logits, target]) { _ throws(DLCError) in
      try logits.need(rank: 1, "logits")
      try match(target, logits)
      let per = sum(target * logSoftmax(logits), axes: [-1])
      return loss(-mean(per, axes: all(per)))
    }
  }

  /// The mean binary cross-entropy of probabilities, moved into [epsilon, 1 - epsilon] first.
  public func binaryCrossEntropy(
    _ probability: Value, _ target: Value, epsilon: Double = 1e-7, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value {
    enter(file, line, [probability, target]) { _ throws(DLCError) in
      try match(target, probability)
      let p = clamp(probability, epsilon, 1 - epsilon)
      let per = target * log(p) + (1 - target) * log(1 - p)
      return loss(-mean(per, axes: all(per)))
    }
  }

  /// softplus(l) - target l for every element: the binary cross-entropy of a logit, finite for every
  /// finite logit.
  public func binaryCrossEntropy(
    logits: Value, _ target: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [logits, target]) { _ throws(DLCError) in
      try match(target, logits)
      return loss(softplus(logits) - target * logits)
    }
  }

  /// The share of rows whose largest logit is at the label.
  public func accuracy(
    _ logits: Value, _ labels: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [logits, labels]) { _ throws(DLCError) in
      try match(labels: labels, logits)
      let type: DataType = labels.dataType == .int32 ? .int32 : .int64
      let guess = argmax(logits, axis: -1, type)
      let hits = convert(compare(.equal, guess, convert(labels, type)), .float32)
      return mean(hits, axes: all(hits))
    }
  }
}
