import DLCTensor

/// Activation functions of floating-point values. Where a derivative jumps, it is stated which side it
/// takes.
extension FunctionBuilder {
  /// The value with derivative zero: nothing is differentiated through it.
  public func stopGradient(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.stop_gradient, x) }
  }

  private func isNegative(_ x: Value) -> Value { compare(.less, x, constant(0, like: x)) }

  /// The entry of a function that is only defined on floating-point values.
  private func activate(
    _ x: Value, _ file: StaticString, _ line: UInt, with: Value? = nil,
    _ body: () throws(DLCError) -> Value
  ) -> Value {
    enter(file, line, [x, with]) { _ throws(DLCError) in
      try x.needFloat("the input of an activation")
      return try body()
    }
  }

  /// x for x >= 0, else slope x.
  public func leakyRelu(
    _ x: Value, slope: Double = 0.01, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { activate(x, file, line) { select(isNegative(x), x * slope, x) } }

  /// x for x >= 0, else a x, with a learned slope; x = 0 adds nothing to the derivative by a.
  public func prelu(
    _ x: Value, _ a: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value { activate(x, file, line, with: a) { select(isNegative(x), x * a, x) } }

  /// x for x >= 0, else alpha (e^x - 1) (Clevert et al. 2016).
  public func elu(
    _ x: Value, alpha: Double = 1, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    activate(x, file, line) {
      // The exponential only sees what it is chosen for, so that it stays finite.
      let low = unary(.exponential_minus_one, minimum(x, constant(0, like: x)))
      return select(isNegative(x), low * alpha, x)
    }
  }

  /// lambda elu(x, alpha) with the fixed point of Klambauer et al. 2017.
  public func selu(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) { elu(x, alpha: 1.6732632423543772) * 1.0507009873554805 }
  }

  /// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel 2016).
  public func geluTanh(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) {
      let inner = (x + x * x * x * 0.044715) * (2 / Double.pi).squareRoot()
      return x * 0.5 * (tanh(inner) + 1)
    }
  }

  /// ln(1 + e^x), finite for every finite x.
  public func softplus(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) {
      let negative = isNegative(x)
      let tail = logPlusOne(exponential(-select(negative, -x, x)))
      return select(negative, tail, x + tail)
    }
  }

  /// ln(1 / (1 + e^-x)), finite for every finite x.
  public func logSigmoid(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) { -softplus(-x) }
  }

  /// x tanh(softplus(x)) (Misra 2019).
  public func mish(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) { x * tanh(softplus(x)) }
  }

  /// x / (1 + e^-x), also called SiLU.
  public func swish(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) { x * logistic(x) }
  }

  /// max(0, min(1, 0.2 x + 0.5)); derivative 0 at both ends.
  public func hardSigmoid(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) {
      maximum(constant(0, like: x), minimum(constant(1, like: x), x * 0.2 + 0.5))
    }
  }

  /// max(-1, min(1, x)); derivative 0 at both ends.
  public func hardTanh(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) { maximum(constant(-1, like: x), minimum(constant(1, like: x), x)) }
  }

  /// x / (1 + |x|).
  public func softsign(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    activate(x, file, line) {
      // Away from 0 in a form whose derivative 1 / (1 + |x|)^2 does not cancel.
      let size = abs(x)
      let rest = constant(1, like: x) / (size + 1)
      let isSmall = compare(.less, size, constant(1, like: x))
      return select(isSmall, x * rest, sign(x) * (1 - rest))
    }
  }

  /// ln softmax(x) along an axis.
  public func logSoftmax(
    _ x: Value, axis: Int = -1, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    activate(x, file, line) { () throws(DLCError) in
      let axis = try x.axis(axis)
      func spread(_ v: Value) -> Value { restore(v, axes: [axis], to: x.shape) }
      let centred = x - spread(stopGradient(max(x, axes: [axis])))
      return centred - spread(log(sum(exponential(centred), axes: [axis])))
    }
  }

  /// ln sum e^x along an axis, with the maximum taken out.
  public func logSumExp(
    _ x: Value, axis: Int = -1, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    activate(x, file, line) { () throws(DLCError) in
      let axis = try x.axis(axis)
      let peak = stopGradient(max(x, axes: [axis]))
      // All terms -inf: nothing is subtracted, and the result is -inf.
      let finite = select(unary(.is_finite, peak), peak, constant(0, like: peak))
      let centred = x - restore(finite, axes: [axis], to: x.shape)
      return log(sum(exponential(centred), axes: [axis])) + finite
    }
  }

  /// The largest of k affine maps: x [n, d], W [k, m, d], b [k, m] gives [n, m] (Goodfellow et al.
  /// 2013); of equal ones the first has the derivative.
  public func maxout(
    _ x: Value, _ weight: Value, _ bias: Value, file: StaticString = #fileID, line: UInt = #line
  ) -> Value {
    enter(file, line, [x, weight, bias]) { _ throws(DLCError) in
      try x.need(rank: 1, "the input of maxout")
      guard weight.rank == 3 else {
        throw DLCError(.type, "the weight of maxout is [k, m, d], this is \(weight.type)")
      }
      let all = dotGeneral(x, weight, lhsContracting: [-1], rhsContracting: [2])
      return max(all + bias, axes: [x.rank - 1])
    }
  }
}
