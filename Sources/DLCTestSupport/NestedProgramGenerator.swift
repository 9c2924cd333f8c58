import DLCAutodiff
package import DLCGraph
package import DLCTensor

/// Well-typed random programs with loops and branches inside each other, and their gradients.
///
/// Values are scalars, vectors, matrices and stacks of matrices of one float type, and bools. Loops
/// start from whatever there is: slices of outer stacks, carried values, captured ones; predicates are
/// computed, carried or sliced from stacks of bools. Every value stays small, so that two correct
/// programs agree.
package struct NestedProgramGenerator {
  private var choices: Choices
  private let type: DataType
  private var width = 3
  private var rows = 2
  private var depthSize = 2
  private var parameter: Value?

  package init(_ choices: Choices, _ type: DataType) {
    self.choices = choices
    self.type = type
  }

  /// The numbers that were drawn.
  package var numbers: [Int] { choices.numbers }

  private struct Scope {
    var floats: [Value]
    var bools: [Value]
    /// Stacks of bools, to be sliced by a loop.
    var boolStacks: [Value]
  }

  /// A module with one function `forward`.
  package mutating func module() throws(DLCError) -> Module {
    var module = Module("random")
    var generator = self
    try module.function("forward") { g in generator.fill(g) }
    self = generator
    return module
  }

  private mutating func fill(_ g: FunctionBuilder) {
    width = 3 + choices.next(4)
    rows = 2 + choices.next(3)
    depthSize = 2 + choices.next(2)
    let (k, r, d) = (Size(width), Size(rows), Size(depthSize))
    let inputs = [
      g.input("a", type, [k]), g.input("b", type, [r, k]), g.input("c", type, [d, r, k]),
    ]
    let w = g.parameter("w", [k, k], .normal(mean: 0, deviation: 0.4), type)
    parameter = w
    var scope = Scope(
      floats: inputs, bools: [], boolStacks: [g.input("p", .bool, [r]), g.input("q", .bool, [d, r])])
    statements(g, &scope, 2 + choices.next(5), 0)
    let count = 1 + choices.next(3)
    var results: [Value] = []
    for index in 0..<count {
      let value = index == 0 ? scope.floats.last! : pick(scope.floats)
      results.append(value)
      g.output("y\(index)", value)
    }
    guard choices.next(3) > 0 else { return }
    let loss = results.map { total(g, g.tanh($0)) }.reduce(g.constant(0, type)) { $0 + $1 }
    let targets = [inputs[0], inputs[1], inputs[2], w]
    let gradients = g.gradient(of: loss, by: targets)
    for (name, value) in zip(["da", "db", "dc", "dw"], gradients) { g.output(name, value) }
    guard choices.next(4) == 1 else { return }
    let size = gradients.map { total(g, g.tanh($0 * $0)) }.reduce(g.constant(0, type)) { $0 + $1 }
    for (name, value) in zip(["ha", "hb"], g.gradient(of: size, by: Array(targets[..<2]))) {
      g.output(name, value)
    }
  }

  private mutating func pick(_ values: [Value]) -> Value {
    // 0 is the latest value.
    values[values.count - 1 - choices.next(values.count)]
  }

  private mutating func pick(_ values: [Value], shape: [Size]) -> Value? {
    let fitting = values.filter { $0.shape == shape }
    return fitting.isEmpty ? nil : pick(fitting)
  }

  private func total(_ g: FunctionBuilder, _ x: Value) -> Value {
    x.rank == 0 ? x : g.sum(x, axes: Array(0..<x.rank))
  }

  private mutating func statements(
    _ g: FunctionBuilder, _ scope: inout Scope, _ count: Int, _ depth: Int
  ) {
    for _ in 0..<count { statement(g, &scope, depth) }
  }

  private mutating func statement(_ g: FunctionBuilder, _ scope: inout Scope, _ depth: Int) {
    let kind = choices.next(depth < 3 ? 22 : 15)
    let x = pick(scope.floats)
    switch kind {
    case 15, 16, 17: scan(g, &scope, depth)
    case 18, 19: loop(g, &scope, depth)
    case 20, 21: branch(g, &scope, depth)
    case 14: scope.bools.append(predicate(g, scope))
    default: scope.floats.append(operation(g, kind, x, scope))
    }
  }

  private mutating func operation(_ g: FunctionBuilder, _ kind: Int, _ x: Value, _ scope: Scope)
    -> Value
  {
    let other = pick(scope.floats, shape: x.shape)!
    switch kind {
    case 0: return g.tanh(x)
    case 1: return x * 0.5 + other * 0.25
    case 2: return g.tanh(x * other)
    case 3: return x.rank > 0 ? g.sum(x, axes: [choices.next(x.rank)]) * 0.25 : x - 0.5
    case 4:
      guard x.rank == 1 || x.rank == 2, x.shape.last == Size(width) else { return -x }
      let lead = x.rank == 1 ? Size(rows) : Size(depthSize)
      return g.broadcast(x, to: [lead] + x.shape) * 0.5
    case 5:
      guard let w = parameter, x.rank > 0, x.shape.last == Size(width) else { return x * 0.75 }
      return g.tanh(g.dotGeneral(x, w, lhsContracting: [x.rank - 1], rhsContracting: [0]))
    case 6:
      guard x.rank >= 2 else { return g.logistic(x) }
      let place = choices.next(2) % x.shape[0].constant!
      return g.reshape(
        g.slice(x, axis: 0, from: Size(place), to: Size(place + 1)),
        Array(x.shape.dropFirst()))
    case 7: return x.rank > 0 ? g.softmax(x, axis: choices.next(x.rank)) : g.sine(x)
    case 8: return x.rank > 0 ? g.reverse(x, axes: [choices.next(x.rank)]) : x + 0.125
    case 9:
      return x.rank > 0 ? g.cumulativeSum(x, axis: choices.next(x.rank)) * 0.25 : g.cosine(x)
    case 10:
      guard x.rank >= 2, let row = pick(scope.floats, shape: Array(x.shape.dropFirst())) else {
        return x * x * 0.5
      }
      let index = g.constant(Double(choices.next(2)), .int32)
      return g.dynamicUpdate(
        x, g.reshape(row, [1] + row.shape),
        at: [index] + row.shape.map { _ in g.constant(0, .int32) })
    case 11:
      guard let p = scope.bools.last else { return g.maximum(x, other * 0.5) }
      return g.select(g.broadcast(p, to: x.shape), x, other * 0.5)
    case 12:
      guard x.rank > 0 else { return x * 0.5 }
      return g.slice(g.concatenate([x, other], axis: 0), axis: 0, from: 1, to: x.shape[0] + 1)
    default: return x.rank > 0 ? g.mean(x, axes: [x.rank - 1], keepAxes: true) + x : g.erf(x)
    }
  }

  private mutating func predicate(_ g: FunctionBuilder, _ scope: Scope) -> Value {
    if let known = scope.bools.last, choices.next(2) == 0 { return known }
    let x = total(g, pick(scope.floats))
    return g.compare(.less, x, g.constant(Double(choices.next(5)) * 0.37 - 0.71, type))
  }

  /// A value of the body that can be carried on: of the shape, and small.
  private mutating func carriedOn(_ g: FunctionBuilder, _ present: Value, _ scope: Scope) -> Value {
    let next = pick(scope.floats, shape: present.shape)!
    switch choices.next(3) {
    case 0: return g.tanh(next * 0.75 + present * 0.5)
    case 1: return next
    default: return next * 0.5
    }
  }

  // MARK: Control flow

  private mutating func scan(_ g: FunctionBuilder, _ scope: inout Scope, _ depth: Int) {
    let starts = (0..<1 + choices.next(2)).map { _ in pick(scope.floats) }
    let length = Size(choices.next(2) == 0 ? rows : depthSize)
    let stacks = scope.floats.filter { $0.rank >= 1 && $0.shape[0] == length }
    let inputs = stacks.isEmpty ? [] : (0..<choices.next(3)).map { _ in pick(stacks) }
    let bools = scope.boolStacks.filter { $0.shape[0] == length }
    let flags = bools.isEmpty || choices.next(2) == 0 ? [] : [pick(bools)]
    let reverse = choices.next(2) == 1
    let outer = scope
    var generator = self
    let (carried, outputs) = g.scan(
      carried: starts, inputs: inputs + flags, length: length, reverse: reverse
    ) { g, c, s in
      var inside = outer
      inside.floats += Array(s[..<inputs.count]) + c
      for flag in s[inputs.count...] {
        if flag.rank == 0 { inside.bools.append(flag) } else { inside.boolStacks.append(flag) }
      }
      generator.statements(g, &inside, 1 + generator.choices.next(3), depth + 1)
      let next = c.map { generator.carriedOn(g, $0, inside) }
      let count = generator.choices.next(3)
      return (next, (0..<count).map { _ in generator.pick(inside.floats) })
    }
    self = generator
    scope.floats += carried + outputs.filter { $0.rank <= 3 }
  }

  private mutating func loop(_ g: FunctionBuilder, _ scope: inout Scope, _ depth: Int) {
    let start = pick(scope.floats)
    let (most, bound) = (choices.next(4), choices.next(3))
    let outer = scope
    let first = predicate(g, scope)
    let kind = choices.next(3)
    var generator = self
    let carried = g.whileLoop(
      [start, g.constant(0, .int32), first], bound: Size(max(1, most + bound))
    ) { g, c in
      let below = g.compare(.less, c[1], g.constant(Double(most), .int32))
      switch kind {
      case 0: return below
      case 1: return g.binary(.and, below, c[2])
      default: return c[2]
      }
    } body: { g, c in
      var inside = outer
      inside.floats.append(c[0])
      inside.bools.append(c[2])
      generator.statements(g, &inside, 1 + generator.choices.next(2), depth + 1)
      let next = generator.carriedOn(g, c[0], inside)
      let count = c[1] + g.constant(1, .int32)
      let going = g.binary(.and, 
        g.compare(.less, count, g.constant(Double(most), .int32)),
        g.compare(.less, generator.total(g, next), g.constant(1.37, next.dataType)))
      return [next, count, going]
    }
    self = generator
    scope.floats.append(carried[0])
    scope.bools.append(carried[2])
  }

  private mutating func branch(_ g: FunctionBuilder, _ scope: inout Scope, _ depth: Int) {
    let p = predicate(g, scope)
    let likes = (0..<1 + choices.next(2)).map { _ in pick(scope.floats) }
    let outer = scope
    var generator = self
    func arm(_ g: FunctionBuilder) -> [Value] {
      var inside = outer
      generator.statements(g, &inside, generator.choices.next(3), depth + 1)
      return likes.map { generator.pick(inside.floats, shape: $0.shape)! }
    }
    let results = g.cond(p, then: arm, otherwise: arm)
    self = generator
    scope.floats += results
  }
}
