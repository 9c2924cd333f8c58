import DLCAutodiff
import DLCGraph
import DLCTensor

/// One step of an optimizer, for several tensors at once: the rate, the count of steps, then a group of operands per role.
enum TrainingOperators {
  static let all: [OperatorMapping] = [
    step("Adam", roles: 4, adam), step("Adagrad", roles: 3, adagrad),
    step("Momentum", roles: 3, momentum),
    OperatorMapping("Gradient", domain: "ai.onnx.preview.training", inputs: nil, gradient),
  ]

  /// The derivative of a value of the graph by others; of an array, that of the sum of its elements.
  private static func gradient(_ c: NodeContext) throws(ImportStop) -> [Value?] {
    guard let name = try c.text("y"), let sources = try c.texts("xs") else {
      throw c.fail("attributes 'xs' and 'y' are wanted")
    }
    let y = try c.importer.value(name, c.scope)
    let targets = try sources.map { x throws(ImportStop) in try c.importer.value(x, c.scope) }
    return c.g.vjp(of: [y], along: [c.g.constant(1, like: y)], by: targets)
  }

  private typealias Step =
    @Sendable (NodeContext, _ rate: Value, _ count: Value, [Value]) throws(ImportStop) -> [Value]

  /// - Parameter roles: how many tensors each parameter comes with, itself included.
  private static func step(_ name: String, roles: Int, _ body: @escaping Step) -> OperatorMapping {
    OperatorMapping(name, domain: "ai.onnx.preview.training", inputs: nil) { c throws(ImportStop) in
      let operands = c.all
      guard operands.count > 2, (operands.count - 2) % roles == 0 else {
        throw c.fail("\(operands.count) inputs are no groups of \(roles)")
      }
      let tensors = (operands.count - 2) / roles
      var results: [[Value]] = []
      for number in 0..<tensors {
        let group = (0..<roles).map { operands[2 + $0 * tensors + number] }
        let type = group[0].dataType
        results.append(
          try body(
            c, c.g.convert(c.g.reshape(operands[0], []), type), c.g.reshape(operands[1], []), group)
        )
      }
      return results[0].indices.flatMap { role in results.map { $0[role] } }
    }
  }

  /// The gradient with that of the penalty 0.5 norm |x|^2.
  private static func regularized(_ c: NodeContext, _ x: Value, _ gradient: Value)
    throws(ImportStop) -> Value
  {
    gradient + x * c.scalar(try c.real("norm_coefficient", 0), x.dataType)
  }

  private static func adam(
    _ c: NodeContext, _ rate: Value, _ count: Value, _ v: [Value]
  ) throws(ImportStop) -> [Value] {
    let g = c.g
    let type = v[0].dataType
    let (alpha, beta) = (try c.real("alpha", 0.9), try c.real("beta", 0.999))
    func number(_ n: Double) -> Value { c.scalar(n, type) }
    let gradient = try regularized(c, v[0], v[1])
    let mean = v[2] * number(alpha) + gradient * number(1 - alpha)
    let square = v[3] * number(beta) + gradient * gradient * number(1 - beta)
    let root = g.sqrt(square) + number(try c.real("epsilon", 1e-6))
    let steps = g.convert(count, type)
    let corrected =
      rate * g.sqrt(number(1) - g.power(number(beta), steps))
      / (number(1) - g.power(number(alpha), steps))
    let adjusted = g.select(count > 0.0, corrected, rate)
    let next = v[0] - adjusted * mean / root
    return [next * number(1 - (try c.real("norm_coefficient_post", 0))), mean, square]
  }

  private static func adagrad(
    _ c: NodeContext, _ rate: Value, _ count: Value, _ v: [Value]
  ) throws(ImportStop) -> [Value] {
    let type = v[0].dataType
    let decay = c.scalar(try c.real("decay_factor", 0), type)
    let adjusted = rate / (c.scalar(1, type) + c.g.convert(count, type) * decay)
    let gradient = try regularized(c, v[0], v[1])
    let square = v[2] + gradient * gradient
    let root = c.g.sqrt(square) + c.scalar(try c.real("epsilon", 1e-6), type)
    return [v[0] - adjusted * gradient / root, square]
  }

  private static func momentum(
    _ c: NodeContext, _ rate: Value, _ count: Value, _ v: [Value]
  ) throws(ImportStop) -> [Value] {
    let type = v[0].dataType
    guard let alpha = try c.real("alpha"), let beta = try c.real("beta") else {
      throw c.fail("attributes 'alpha' and 'beta' are wanted")
    }
    let gradient = try regularized(c, v[0], v[1])
    let factor = c.g.select(count > 0.0, c.scalar(beta, type), c.scalar(1, type))
    let velocity = v[2] * c.scalar(alpha, type) + factor * gradient
    switch try c.text("mode", "standard") {
    case "standard": return [v[0] - rate * velocity, velocity]
    case "nesterov": return [v[0] - rate * (gradient + velocity * c.scalar(alpha, type)), velocity]
    case let other: throw c.fail("mode '\(other)' is not known")
    }
  }
}
