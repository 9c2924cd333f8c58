package import DLCTensor

/// What is known of all elements of a value. Every claim holds whatever the arguments are, NaN and infinities
/// included; a value without a claim may still be so.
package struct ValueFacts: Hashable, Sendable {
  /// What the elements are; `any`: whatever their type holds.
  package enum Numbers: Hashable, Sendable {
    case any
    case real(RealRange)
    case integer(IntegerRange)
  }
  package var numbers = Numbers.any
  /// Axes along which nothing changes.
  package var uniformAxes: Set<Int> = []
  /// An axis along which no two elements are equal.
  package var distinctAxis: Int?
  /// An axis along which at most one element is not zero, and that one is 1.
  package var oneHotAxis: Int?

  package init(_ numbers: Numbers = .any) { self.numbers = numbers }

  package var real: RealRange? { if case .real(let range) = numbers { range } else { nil } }
  package var integer: IntegerRange? {
    if case .integer(let range) = numbers { range } else { nil }
  }

  /// One number everywhere.
  package func isUniform(_ type: TensorType) -> Bool { uniformAxes.count == type.rank }

  /// No NaN and no infinity.
  package var isFinite: Bool {
    switch numbers {
    case .any: false
    case .real(let range): range.isFinite
    case .integer: true
    }
  }

  /// Neither NaN nor below zero; minus zero is none of these.
  package var isPositive: Bool {
    switch numbers {
    case .any: false
    case .real(let range): range.low > 0 && !range.mayBeNaN
    case .integer(let range): range.lowerBound > 0
    }
  }

  /// Nowhere below zero nor minus zero; it may be NaN.
  package var isNonNegative: Bool {
    switch numbers {
    case .any: false
    case .real(let range): range.isSignClear
    case .integer(let range): range.lowerBound >= 0
    }
  }

  /// Zero everywhere, of either sign.
  package var isZero: Bool {
    switch numbers {
    case .any: false
    case .real(let range): range.low == 0 && range.high == 0 && !range.mayBeNaN
    case .integer(let range): range == 0...0
    }
  }

  /// What holds for a value of which each element is of one or the other.
  func union(_ other: ValueFacts) -> ValueFacts {
    switch (numbers, other.numbers) {
    case (.real(let a), .real(let b)): ValueFacts(.real(a.union(b)))
    case (.integer(let a), .integer(let b)):
      ValueFacts(
        .integer(min(a.lowerBound, b.lowerBound)...max(a.upperBound, b.upperBound)))
    default: ValueFacts()
    }
  }

  /// Only what holds for each element by itself.
  var ofElements: ValueFacts { ValueFacts(numbers) }

  /// With what every value of the type is.
  package func completed(_ type: TensorType) -> ValueFacts {
    var facts = self
    for axis in type.shape.indices where type.shape[axis] == 1 { facts.uniformAxes.insert(axis) }
    switch numbers {
    case .real(let range): facts.numbers = .real(range.widened(type.dataType))
    case .integer: break
    case .any:
      if type.dataType.isFloat {
        facts.numbers = .real(.all)
      } else if let range = type.dataType.anyInteger {
        facts.numbers = .integer(range)
      }
    }
    return facts
  }

  /// With the axes where they are after a move; nil for one that is gone.
  func moved(_ place: (Int) -> Int?) -> ValueFacts {
    var facts = ofElements
    facts.uniformAxes = Set(uniformAxes.compactMap(place))
    facts.distinctAxis = distinctAxis.flatMap(place)
    facts.oneHotAxis = oneHotAxis.flatMap(place)
    return facts
  }
}

/// What is known of the values of a graph, from what its operations are: a walk forward that goes as far as
/// it is asked, also along a graph that still grows at its end.
package struct ValueProperties: Sendable {
  private let updated: Set<String>
  private let given: [ValueFacts]
  private var steady: [Bool] = []
  private var facts: [ValueFacts] = []

  /// - Parameter arguments: what is known of the graph's arguments, in order; nothing of those left out.
  package init(of graph: Graph, arguments: [ValueFacts] = []) {
    updated = Set(graph.updates.map(\.name))
    given = arguments
  }

  /// Whether a value is the same each time the function runs (of a body: each time that its loop does): it
  /// depends on constants, captures and state that the graph leaves alone, and on nothing drawn.
  package mutating func isSteady(_ value: ValueID, in graph: Graph) -> Bool {
    while steady.count <= value.index {
      let next = ValueID(steady.count)
      if let node = graph.definition(next) {
        steady.append(node.operands.allSatisfy { steady[$0.index] } && !node.operation.draws)
      } else {
        let argument = graph.arguments[next.index]
        steady.append(argument.kind != .input && !updated.contains(argument.name))
      }
    }
    return steady[value.index]
  }

  package mutating func facts(_ value: ValueID, in graph: Graph) -> ValueFacts {
    while facts.count <= value.index {
      let next = ValueID(facts.count)
      if let node = graph.definition(next) {
        let known = node.operands.map { facts[$0.index] }
        facts += zip(graph.facts(node, known), node.results).map { $0.completed(graph.type($1)) }
      } else {
        let known = next.index < given.count ? given[next.index] : ValueFacts()
        facts.append(known.completed(graph.type(next)))
      }
    }
    return facts[value.index]
  }
}

extension Operation {
  fileprivate var draws: Bool {
    if case .randomBits = self { return true }
    return regions.contains { $0.nodes.contains { $0.operation.draws } }
  }
}

extension FlowFacts<ValueFacts> {
  fileprivate static var ofValues: Self {
    Self(
      unknown: ValueFacts(), join: { $0.union($1) },
      slice: { stack in stack.moved { $0 > 0 ? $0 - 1 : nil } },
      stack: { slice in slice.moved { $0 + 1 } })
  }
}

extension Graph {
  /// What is known of the results of a node, before what their types say.
  fileprivate func facts(_ node: Node, _ x: [ValueFacts]) -> [ValueFacts] {
    let nothing = node.results.map { _ in ValueFacts() }
    let (from, to) = (node.operands.map { type($0) }, node.results.map { type($0) })
    if let flow = node.operation.flow {
      return flow.results(x, .ofValues) { body, arguments in
        var inner = ValueProperties(of: body, arguments: arguments)
        return body.results.map { inner.facts($0.value, in: body) }
      }
    }
    guard from.allSatisfy(\.isStatic), to.allSatisfy(\.isStatic) else { return nothing }
    switch node.operation.definition.structure(from, to) {
    case .map(let operation): return [Self.map(operation, node, x, from)]
    case .constant(let tensor):
      // The size of a dimension is rounded to a half float only where it is stored.
      if case .dimension = node.operation, to[0].dataType.computeType != to[0].dataType {
        return nothing
      }
      return [Self.constant(tensor)]
    case .iota(let axis): return [Self.iota(to[0], axis)]
    case .view(let view): return [x[0].through(view, from[0], to[0])]
    case .reduction(let combiner, let axes):
      return [Self.reduction(combiner, x[0], from[0], axes)]
    case .argReduction(_, let axis):
      return [ValueFacts(.integer(0...Int64(max(from[0].sizes[axis], 1) - 1)))]
    case .contraction(let geometry): return [Self.product(geometry, x, from, to[0])]
    case .window(let g):
      let all = ValueFacts(x[0].numbers).completed(TensorType(from[0].dataType))
      let count = g.window.reduce(1, *)
      let isPadded = (g.paddingLow + g.paddingHigh).contains { $0 > 0 }
      let combined = all.combined(g.combiner, count, from[0].dataType)
      return [isPadded ? combined.union(.identity(g.combiner, from[0].dataType)) : combined]
    case .prefix(let g):
      let combined = x[0].ofElements.combined(
        g.combiner, from[0].sizes[g.axis], from[0].dataType)
      return [g.exclusive ? combined.union(.identity(g.combiner, from[0].dataType)) : combined]
    case .assembly(let pieces, let fill):
      let parts = (pieces.map(\.operand) + (fill.map { [$0] } ?? [])).map { x[$0].ofElements }
      guard let first = parts.first else { return nothing }
      return [parts.dropFirst().reduce(first) { $0.union($1) }]
    case .gather, .dynamicSlice: return [x[0].ofElements]
    case .dynamicUpdate: return [x[0].union(x[1])]
    case .scatter(_, nil): return [x[0].union(x[2])]
    case .routine(.sort): return zip(x, to).map { facts, _ in facts.ofElements }
    case .randomBits, .convolution, .scatter, .argWindow, .routine, .control: return nothing
    }
  }

  /// The elements of more than a few are not looked at.
  private static func constant(_ tensor: Tensor) -> ValueFacts {
    guard tensor.count > 0, tensor.count <= 1024 else { return ValueFacts() }
    if tensor.dataType.isFloat {
      let numbers = tensor.doubles
      var facts = ValueFacts(.real(RealRange(numbers)))
      if Set(numbers.map(\.bitPattern)).count == 1 {
        facts.uniformAxes = Set(tensor.shape.indices)
      }
      return facts
    }
    let (low, high) = (tensor.integers.min()!, tensor.integers.max()!)
    // Patterns of uint64 beyond 2^63 are below zero here.
    var facts = ValueFacts(
      tensor.dataType == .uint64 && low < 0 ? .any : .integer(low...high))
    if low == high { facts.uniformAxes = Set(tensor.shape.indices) }
    return facts
  }

  private static func iota(_ type: TensorType, _ axis: Int) -> ValueFacts {
    let last = max(type.sizes[axis], 1) - 1
    var facts = ValueFacts()
    facts.uniformAxes = Set(type.shape.indices).subtracting([axis])
    if type.dataType.isFloat {
      facts.numbers = .real(RealRange(0, Double(last), mayBeNaN: false, isSignClear: true))
      // Up to here the type holds every whole number.
      let exact = [DataType.bfloat16: 1 << 8, .float16: 1 << 11, .float32: 1 << 24]
      if last <= exact[type.dataType] ?? 1 << 53 { facts.distinctAxis = axis }
    } else if Int64(last) <= type.dataType.integerRange.upperBound {
      facts.numbers = .integer(0...Int64(last))
      facts.distinctAxis = axis
    }
    return facts
  }

  private static func map(
    _ operation: ScalarOperation, _ node: Node, _ x: [ValueFacts], _ from: [TensorType]
  ) -> ValueFacts {
    let type = from[from.count - 1].dataType
    var facts = x.dropFirst().reduce(x[0]) {
      var both = $0
      both.uniformAxes.formIntersection($1.uniformAxes)
      return both
    }
    (facts.distinctAxis, facts.oneHotAxis) = (nil, nil)
    switch operation {
    case .unary(let f):
      facts.numbers = x[0].applying(f, type)
      if f == .stop_gradient { facts.oneHotAxis = x[0].oneHotAxis }
    case .binary(let f):
      if f == .multiply, node.operands[0] == node.operands[1], let range = x[0].real {
        facts.numbers = .real(range.squared)
      } else {
        facts.numbers = ValueFacts.applying(f, x[0], x[1], type)
      }
    case .compare(let comparison):
      let known = ValueFacts.compare(comparison, x[0], x[1])
      facts.numbers = .integer(known.map { $0 ? 1...1 : 0...0 } ?? 0...1)
      if comparison == .equal {
        for (a, b) in [(0, 1), (1, 0)] {
          if let axis = x[a].distinctAxis, x[b].uniformAxes.contains(axis) {
            facts.oneHotAxis = axis
          }
        }
      }
    case .select:
      let isKnown = x[0].integer.flatMap { $0.count == 1 ? $0.lowerBound : nil }
      facts.numbers = isKnown.map { x[$0 == 0 ? 2 : 1].numbers } ?? x[1].union(x[2]).numbers
      let one = ValueFacts.identity(.product, type).numbers
      if x[1].numbers == one, x[2].isZero { facts.oneHotAxis = x[0].oneHotAxis }
    case .clamp:
      let low = ValueFacts(ValueFacts.applying(.maximum, x[1], x[0], type))
      facts.numbers = ValueFacts.applying(.minimum, low, x[2], type)
    case .convert(let target):
      facts.numbers = x[0].converted(type, target)
      facts.oneHotAxis = x[0].oneHotAxis
    case .reinterpret: facts.numbers = .any
    }
    return facts
  }

  private static func reduction(
    _ combiner: Combiner, _ x: ValueFacts, _ type: TensorType, _ axes: [Int]
  ) -> ValueFacts {
    let kept = type.shape.indices.filter { !axes.contains($0) }
    var facts = x.ofElements.combined(
      combiner, axes.reduce(1) { $0 * type.sizes[$1] }, type.dataType)
    facts.uniformAxes = Set(kept.indices.filter { x.uniformAxes.contains(kept[$0]) })
    return facts
  }

  private static func product(
    _ g: ContractionGeometry, _ x: [ValueFacts], _ from: [TensorType], _ to: TensorType
  ) -> ValueFacts {
    let type = to.dataType
    let factors = zip(x, from).map { facts, from in
      ValueFacts(facts.converted(from.dataType, type)).completed(TensorType(type))
    }
    let product = ValueFacts(ValueFacts.applying(.multiply, factors[0], factors[1], type))
    let depth = g.lhsContracting.reduce(1) { $0 * from[0].sizes[$1] }
    return product.completed(TensorType(type)).combined(.sum, depth, type)
  }
}

extension ValueFacts {
  fileprivate func applying(_ f: UnaryFunction, _ type: DataType) -> Numbers {
    if f == .is_finite { return .integer(isFinite ? 1...1 : 0...1) }
    if type.isFloat { return .real(RealRange.unary(f, real ?? .all)) }
    return IntegerBounds.unary(f, integer, type).map { .integer($0) } ?? .any
  }

  fileprivate static func applying(
    _ f: BinaryFunction, _ a: ValueFacts, _ b: ValueFacts, _ type: DataType
  ) -> Numbers {
    if type.isFloat { return .real(RealRange.binary(f, a.real ?? .all, b.real ?? .all)) }
    return IntegerBounds.binary(f, a.integer, b.integer, type).map { .integer($0) } ?? .any
  }

  /// What a comparison gives for every pair of elements; nil when that is not known.
  package static func compare(_ comparison: Comparison, _ a: ValueFacts, _ b: ValueFacts) -> Bool? {
    let (isLess, isGreater, isLessOrEqual, isGreaterOrEqual, mayBeNaN):
      (Bool, Bool, Bool, Bool, Bool)
    switch (a.numbers, b.numbers) {
    case (.real(let a), .real(let b)):
      (isLess, isGreater) = (a.high < b.low, a.low > b.high)
      (isLessOrEqual, isGreaterOrEqual) = (a.high <= b.low, a.low >= b.high)
      mayBeNaN = a.mayBeNaN || b.mayBeNaN
    case (.integer(let a), .integer(let b)):
      (isLess, isGreater) = (a.upperBound < b.lowerBound, a.lowerBound > b.upperBound)
      isLessOrEqual = a.upperBound <= b.lowerBound
      isGreaterOrEqual = a.lowerBound >= b.upperBound
      mayBeNaN = false
    default: return nil
    }
    // With NaN every comparison but "not equal" is false.
    func decided(_ yes: Bool, _ no: Bool) -> Bool? { no ? false : yes && !mayBeNaN ? true : nil }
    switch comparison {
    case .equal: return decided(isLessOrEqual && isGreaterOrEqual, isLess || isGreater)
    case .not_equal:
      if isLess || isGreater { return true }
      return isLessOrEqual && isGreaterOrEqual && !mayBeNaN ? false : nil
    case .less: return decided(isLess, isGreaterOrEqual)
    case .less_equal: return decided(isLessOrEqual, isGreater)
    case .greater: return decided(isGreater, isLessOrEqual)
    case .greater_equal: return decided(isGreaterOrEqual, isLess)
    }
  }

  fileprivate func converted(_ type: DataType, _ target: DataType) -> Numbers {
    switch numbers {
    case .any: return .any
    case .real(let range):
      if target.isFloat { return .real(range) }
      if target == .bool { return .any }
      guard
        case .integer(let low) = ScalarReference.convert(.float(range.low), type, target),
        case .integer(let high) = ScalarReference.convert(.float(range.high), type, target),
        low <= high
      else { return .any }
      return .integer(range.mayBeNaN ? min(low, 0)...max(high, 0) : low...high)
    case .integer(let range):
      if target.isFloat {
        guard
          case .float(let low) = ScalarReference.convert(.integer(range.lowerBound), type, target),
          case .float(let high) = ScalarReference.convert(.integer(range.upperBound), type, target)
        else { return .any }
        return .real(RealRange(low, high, mayBeNaN: false, isSignClear: range.lowerBound >= 0))
      }
      if target == .bool {
        return .integer(range == 0...0 ? 0...0 : range.contains(0) ? 0...1 : 1...1)
      }
      let all = target.integerRange
      let fits = range.lowerBound >= all.lowerBound && range.upperBound <= all.upperBound
      return fits ? numbers : .any
    }
  }

  /// Of a reduction over nothing.
  fileprivate static func identity(_ combiner: Combiner, _ type: DataType) -> ValueFacts {
    switch combiner.identity(type) {
    case .float(let v): ValueFacts(.real(RealRange([v])))
    case .integer(let v):
      type == .uint64 && v < 0 ? ValueFacts() : ValueFacts(.integer(v...v))
    }
  }

  /// So many elements combined; of none at all it is the identity.
  fileprivate func combined(_ combiner: Combiner, _ count: Int, _ type: DataType) -> ValueFacts {
    if count == 0 {
      let identity = Self.identity(combiner, type)
      // All ones are no number of an unsigned type, which wraps them.
      return combiner == .and ? ValueFacts() : identity
    }
    switch combiner {
    case .sum:
      if type.isFloat { return ValueFacts(.real((real ?? .all).sum(count, type))) }
      return ValueFacts(IntegerBounds.sum(integer, count, type).map { .integer($0) } ?? .any)
    case .maximum, .minimum: return ofElements
    case .product:
      guard let real, real.isSignClear else { return ValueFacts() }
      return ValueFacts(.real(RealRange(0, .infinity, mayBeNaN: true, isSignClear: true)))
    case .and, .or: return ValueFacts()
    }
  }

  fileprivate func through(_ view: View, _ from: TensorType, _ to: TensorType) -> ValueFacts {
    switch view {
    case .reshape:
      var facts = ofElements
      if isUniform(from) { facts.uniformAxes = Set(to.shape.indices) }
      return facts
    case .transpose(let permutation): return moved { permutation.firstIndex(of: $0) }
    case .broadcast(let axes):
      var facts = moved { from.shape[$0] == to.shape[axes[$0]] ? axes[$0] : nil }
      let copied = axes.indices.filter { from.shape[$0] != to.shape[axes[$0]] }.map { axes[$0] }
      let new = to.shape.indices.filter { !axes.contains($0) }
      facts.uniformAxes.formUnion(copied + new)
      return facts
    case .slice, .reverse: return moved { $0 }
    }
  }
}
