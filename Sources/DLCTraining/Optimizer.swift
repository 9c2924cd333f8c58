public import DLCGraph
public import DLCTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What the rules keep, and their steps as graphs.
extension Optimizer {
  /// A state tensor that the rule keeps for each parameter.
  public struct Slot: Hashable, Sendable {
    /// What the rule calls it, as `m`; the state of a step is named after it and the parameter.
    public var name: String
    /// Its shape, mostly that of the parameter.
    public var shape: [Size]
    /// Whether it starts as a copy of the parameter; else as zeros.
    public var startsAsParameter = false
  }

  /// What the rule keeps for a parameter of a shape.
  public func slots(_ shape: [Size]) -> [Slot] {
    func like(_ names: String...) -> [Slot] { names.map { Slot(name: $0, shape: shape) } }
    switch self {
    case .gradientDescent: return []
    case .momentum, .nesterov: return like("v")
    case .adagrad: return like("G")
    case .rmsprop: return like("s")
    case .adam, .adamW, .nadam, .lamb: return like("m", "v")
    case .adadelta: return like("s", "u")
    case .amsgrad: return like("m", "v", "v_max")
    case .lion: return like("m")
    case .adafactor:
      guard shape.count >= 2 else { return like("v") }
      let columns = shape.dropFirst().reduce(Size(1)) { $0 * $1 }
      return [Slot(name: "r", shape: [shape[0]]), Slot(name: "c", shape: [columns])]
    case .lookahead(let inner, _, _):
      return inner.slots(shape) + [Slot(name: "slow", shape: shape, startsAsParameter: true)]
    }
  }

  /// Where the gradient is taken, when that is not the parameter itself; in the parameter's type.
  public func probe(
    _ theta: Value, _ slots: [String: Value], lr: Value, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value? {
    switch self {
    case .nesterov(let beta):
      theta.builder.enter(file, line, [theta, lr]) { g throws(DLCError) in
        let slots = try complete(slots, theta)
        func wide(_ x: Value) -> Value { g.convert(x, theta.dataType.computeType) }
        return g.carry(wide(theta) - wide(lr) * beta * wide(slots["v"]!), theta.dataType)
      }
    case .lookahead(let inner, _, _):
      theta.builder.enter(file, line, [theta, lr], failing: { $0 }) { _ -> Value? in
        inner.probe(theta, slots, lr: lr)
      }
    default: nil
    }
  }

  /// The slots, when they are all there in the shapes that the parameter asks for.
  private func complete(_ given: [String: Value], _ theta: Value) throws(DLCError) -> [String:
    Value]
  {
    for slot in slots(theta.shape) {
      guard let value = given[slot.name] else {
        throw DLCError(.graph, "the rule keeps '\(slot.name)', which is not given")
      }
      guard value.isPoisoned || value.shape == slot.shape else {
        throw DLCError(
          .graph,
          "'\(slot.name)' of a parameter \(theta.type) has shape \(slot.shape), this is \(value.type)"
        )
      }
    }
    return given
  }

  /// One step. A parameter of half floats, its gradient and its slots, which may be float32, are computed
  /// with in float32; what is given back is rounded once, each to its own type.
  ///
  /// ```swift
  /// let (theta, d) = (g.input("theta", .float32, [2]), g.input("d", .float32, [2]))
  /// let v = g.input("v", .float32, [2])
  /// let rule = Optimizer.momentum(beta: 0.5, dampening: 0)
  /// let next = rule.step(
  ///   theta, gradient: d, ["v": v], lr: g.constant(2), t: g.constant(1, .int32))
  /// g.output("theta_next", next.theta)
  /// g.output("v_next", next.slots["v"]!)
  /// ```
  ///
  /// - Parameters:
  ///   - slots: what the rule keeps, by the names of `slots`.
  ///   - lr: a floating-point scalar.
  ///   - t: the step from 1, an int32 scalar.
  /// - Returns: the next parameter, and the next values of the slots.
  public func step(
    _ theta: Value, gradient d: Value, _ slots: [String: Value], lr: Value, t: Value,
    file: StaticString = #fileID, line: UInt = #line
  ) -> (theta: Value, slots: [String: Value]) {
    let names = self.slots(theta.shape).map(\.name)
    return theta.builder.enter(
      file, line, [theta, d, lr, t] + names.map { slots[$0] },
      failing: { p in (p, Dictionary(uniqueKeysWithValues: names.map { ($0, p) })) }
    ) { g throws(DLCError) in
      guard d.type == theta.type else {
        throw DLCError(.graph, "the gradient of a parameter \(theta.type) is \(d.type)")
      }
      let kept = try complete(slots, theta)
      func wide(_ x: Value) -> Value { g.convert(x, theta.dataType.computeType) }
      let step = OptimizerStep(
        g: g, theta: wide(theta), d: wide(d), slots: kept.mapValues(wide), lr: wide(lr), t: t)
      let (next, after) = try step.taken(by: self)
      var stored: [String: Value] = [:]
      for (name, value) in after { stored[name] = g.convert(value, kept[name]!.dataType) }
      return (g.convert(next, theta.dataType), stored)
    }
  }
}

/// One step of an array, all of whose values are of one type.
private struct OptimizerStep {
  let g: FunctionBuilder
  let theta: Value
  let d: Value
  let slots: [String: Value]
  let lr: Value
  let t: Value

  typealias Result = (theta: Value, slots: [String: Value])

  private func mix(_ old: String, _ beta: Double, _ new: Value) -> Value {
    slots[old]! * beta + new * (1 - beta)
  }

  /// 1 - beta^t, without cancellation.
  private func correction(_ beta: Double) -> Value {
    let steps = g.convert(t, theta.dataType)
    return -g.unary(.exponential_minus_one, steps * log(beta))
  }

  func taken(by optimizer: Optimizer) throws(DLCError) -> Result {
    switch optimizer {
    case .gradientDescent: return (theta - lr * d, [:])
    case .momentum(let beta, let dampening):
      let v = slots["v"]! * beta + (dampening == 0 ? d : d * (1 - dampening))
      return (theta - lr * v, ["v": v])
    case .nesterov(let beta):
      let v = slots["v"]! * beta + d
      return (theta - lr * v, ["v": v])
    case .adagrad(let epsilon):
      let sum = slots["G"]! + d * d
      return (theta - lr * d / g.sqrt(sum + epsilon), ["G": sum])
    case .rmsprop(let rho, let epsilon):
      let s = mix("s", rho, d * d)
      return (theta - lr * d / g.sqrt(s + epsilon), ["s": s])
    case .adam(let beta1, let beta2, let epsilon),
      .adamW(let beta1, let beta2, let epsilon, _):
      let (m, v) = (mix("m", beta1, d), mix("v", beta2, d * d))
      let root = g.sqrt(v / correction(beta2)) + epsilon
      var next = theta - lr * (m / correction(beta1)) / root
      if case .adamW(_, _, _, let decay) = optimizer { next = next - lr * decay * theta }
      return (next, ["m": m, "v": v])
    case .adadelta(let rho, let epsilon):
      let s = mix("s", rho, d * d)
      let move = -(g.sqrt(slots["u"]! + epsilon) / g.sqrt(s + epsilon) * d)
      return (theta + lr * move, ["s": s, "u": mix("u", rho, move * move)])
    case .amsgrad(let beta1, let beta2, let epsilon):
      let (m, v) = (mix("m", beta1, d), mix("v", beta2, d * d))
      let most = g.maximum(slots["v_max"]!, v)
      return (
        theta - lr * m / (g.sqrt(most) + epsilon), ["m": m, "v": v, "v_max": most]
      )
    case .nadam(let beta1, let beta2, let epsilon):
      let (m, v) = (mix("m", beta1, d), mix("v", beta2, d * d))
      let c1 = correction(beta1)
      let ahead = m / c1 * beta1 + d * (1 - beta1) / c1
      return (
        theta - lr * ahead / (g.sqrt(v / correction(beta2)) + epsilon), ["m": m, "v": v]
      )
    case .lion(let beta1, let beta2):
      let direction = g.sign(mix("m", beta1, d))
      return (theta - lr * direction, ["m": mix("m", beta2, d)])
    case .lamb(let beta1, let beta2, let epsilon, let decay, let correctsBias):
      return lamb(beta1, beta2, epsilon, decay, correctsBias: correctsBias)
    case .adafactor(let decay, let epsilon, let divisor):
      return adafactor(decay, epsilon, divisor)
    case .lookahead(let inner, let k, let alpha): return try lookahead(inner, k, alpha)
    }
  }

  private func lamb(
    _ beta1: Double, _ beta2: Double, _ epsilon: Double, _ decay: Double, correctsBias: Bool
  ) -> Result {
    let (m, v) = (mix("m", beta1, d), mix("v", beta2, d * d))
    var update =
      correctsBias
      ? m / correction(beta1) / (g.sqrt(v / correction(beta2)) + epsilon)
      : m / (g.sqrt(v) + epsilon)
    if decay != 0 { update = update + theta * decay }
    func norm(_ x: Value) -> Value { g.sqrt(g.sum(x * x, axes: Array(x.shape.indices))) }
    let (a, b) = (norm(theta), norm(update))
    let (zero, one) = (g.constant(0, like: a), g.constant(1, like: a))
    let isEmpty = g.compare(.equal, a, zero) | g.compare(.equal, b, zero)
    let ratio = g.select(isEmpty, one, a / g.select(isEmpty, one, b))
    return (theta - lr * ratio * update, ["m": m, "v": v])
  }

  private func adafactor(_ decay: Double, _ epsilon: Double, _ divisor: Double) -> Result {
    let square = d * d + epsilon
    if theta.rank < 2 {
      let v = mix("v", decay, square)
      return (theta - lr * d / (g.sqrt(v) + divisor), ["v": v])
    }
    let columns = theta.shape.dropFirst().reduce(Size(1)) { $0 * $1 }
    let flat = g.reshape(square, [theta.shape[0], columns])
    let r = mix("r", decay, g.mean(flat, axes: [1]))
    let c = mix("c", decay, g.mean(flat, axes: [0]))
    let average = g.mean(r, axes: [0])
    let v =
      g.restore(r, axes: [1], to: flat.shape)
      * (g.restore(c, axes: [0], to: flat.shape) / average)
    let root = g.reshape(g.sqrt(v) + divisor, theta.shape)
    return (theta - lr * d / root, ["r": r, "c": c])
  }

  private func lookahead(_ inner: Optimizer, _ k: Int, _ alpha: Double) throws(DLCError) -> Result {
    guard k >= 1 else { throw DLCError(.graph, "lookahead follows every \(k)-th step") }
    var (fast, next) = try taken(by: inner)
    let slow = slots["slow"]!
    let turn = g.binary(.remainder, t, g.constant(Double(k), like: t))
    let isTurn = g.compare(.equal, turn, g.constant(0, like: t))
    let moved = slow + (fast - slow) * alpha
    let choose = g.broadcast(isTurn, to: theta.shape)
    next["slow"] = g.select(choose, moved, slow)
    fast = g.select(choose, moved, fast)
    return (fast, next)
  }
}
