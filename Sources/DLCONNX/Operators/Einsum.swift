import DLCGraph
import DLCTensor

/// Einstein's sums: letters name axes, and those that the result lacks are summed over.
struct Einsum {
  /// Letters by their code; axes of an ellipsis by -1, -2, ... from the last one.
  private typealias Label = Int

  private struct Factor {
    var value: Value
    var labels: [Label]
  }

  private let c: NodeContext
  private var factors: [Factor] = []
  private var output: [Label] = []
  /// The size of each axis; 1 only when no operand has more.
  private var sizes: [Label: Size] = [:]

  /// Reads an equation such as `bij,bjk->bik`.
  init(_ equation: String, _ c: NodeContext) throws(ImportStop) {
    self.c = c
    let text = Array(equation.utf8.filter { $0 != UInt8(ascii: " ") })
    let arrow = Array("->".utf8)
    let place = text.indices.first { text[$0...].starts(with: arrow) }
    let inputs = text[..<(place ?? text.count)].split(
      separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    let operands = c.all
    guard inputs.count == operands.count else {
      throw c.fail("equation '\(equation)' is of \(inputs.count) operands, not \(operands.count)")
    }
    var widest = 0
    for (term, value) in zip(inputs, operands) {
      let labels = try Self.labels(Array(term), rank: value.rank, equation, c)
      widest = max(widest, -(labels.min() ?? 0))
      factors.append(Factor(value: value, labels: labels))
    }
    try measure()
    let ellipsis = (0..<widest).map { $0 - widest }
    if let place {
      let term = Array(text[(place + 2)...])
      output = try Self.labels(term, ellipsis: widest, equation, c)
      guard Set(output).count == output.count, output.allSatisfy({ sizes[$0] != nil }) else {
        throw c.fail("the result of equation '\(equation)' has an axis twice or from nowhere")
      }
    } else {
      let all = factors.flatMap(\.labels).filter { $0 > 0 }
      output = ellipsis + Set(all).sorted().filter { label in all.count { $0 == label } == 1 }
    }
  }

  private static func labels(_ term: [UInt8], rank: Int, _ equation: String, _ c: NodeContext)
    throws(ImportStop) -> [Label]
  {
    let letters = term.count { $0 != UInt8(ascii: ".") }
    let hasEllipsis = letters < term.count
    guard letters == rank || hasEllipsis && letters < rank else {
      throw c.fail("a term of equation '\(equation)' does not fit an operand of rank \(rank)")
    }
    return try labels(term, ellipsis: rank - letters, equation, c)
  }

  private static func labels(
    _ term: [UInt8], ellipsis: Int, _ equation: String, _ c: NodeContext
  ) throws(ImportStop) -> [Label] {
    var result: [Label] = []
    var position = 0
    var hasEllipsis = false
    while position < term.count {
      let character = term[position]
      let isLetter = UInt8(ascii: "a")...UInt8(ascii: "z") ~= character | 0x20
      if isLetter {
        result.append(Int(character))
        position += 1
      } else if !hasEllipsis, term[position...].starts(with: Array("...".utf8)) {
        hasEllipsis = true
        result += (0..<ellipsis).map { $0 - ellipsis }
        position += 3
      } else {
        throw c.fail("equation '\(equation)' is malformed")
      }
    }
    return result
  }

  private mutating func measure() throws(ImportStop) {
    for factor in factors {
      for (label, size) in zip(factor.labels, factor.value.shape) {
        let known = sizes[label] ?? 1
        if known == 1 || size == 1 {
          sizes[label] = known == 1 ? size : known
          continue
        }
        guard let common = c.same(known, size) else {
          throw c.fail("one axis of the equation is of sizes \(known) and \(size)")
        }
        sizes[label] = common
      }
    }
    for index in factors.indices {
      factors[index].value = c.said(
        factors[index].value, factors[index].labels.map { sizes[$0]! })
    }
  }

  // MARK: Building

  var result: Value {
    var rest = factors.map(single)
    var whole = rest.removeFirst()
    while !rest.isEmpty {
      let next = rest.removeFirst()
      let needed = Set(output + rest.flatMap(\.labels))
      whole = combined(whole, next, needed)
    }
    whole = summed(whole) { output.contains($0) }
    return c.g.transpose(whole.value, output.map { whole.labels.firstIndex(of: $0)! })
  }

  /// The factor with each label once, and without axes that only stand for others of more elements.
  private func single(_ factor: Factor) -> Factor {
    let g = c.g
    var (value, labels) = (factor.value, factor.labels)
    var axis = 0
    while axis < labels.count {
      if value.shape[axis] == 1, sizes[labels[axis]] != 1 {
        var shape = value.shape
        shape.remove(at: axis)
        value = g.reshape(value, shape)
        labels.remove(at: axis)
        continue
      }
      if let first = labels[..<axis].firstIndex(of: labels[axis]) {
        // Off the diagonal nothing is added.
        let isDiagonal =
          g.iota(.int32, value.shape, axis: first) .== g.iota(.int32, value.shape, axis: axis)
        value = g.sum(g.select(isDiagonal, value, c.scalar(0, value.dataType)), axes: [axis])
        labels.remove(at: axis)
        continue
      }
      axis += 1
    }
    return Factor(value: value, labels: labels)
  }

  private func summed(_ factor: Factor, keeping: (Label) -> Bool) -> Factor {
    let gone = factor.labels.indices.filter { !keeping(factor.labels[$0]) }
    if gone.isEmpty { return factor }
    return Factor(
      value: c.g.sum(factor.value, axes: gone), labels: factor.labels.filter(keeping))
  }

  private func combined(_ left: Factor, _ right: Factor, _ needed: Set<Label>) -> Factor {
    let a = summed(left) { needed.contains($0) || right.labels.contains($0) }
    let b = summed(right) { needed.contains($0) || left.labels.contains($0) }
    let shared = a.labels.filter(b.labels.contains)
    let inner = shared.filter { !needed.contains($0) }
    if inner.isEmpty { return multiplied(a, b) }
    let batch = shared.filter(needed.contains)
    func places(_ labels: [Label], _ factor: Factor) -> [Int] {
      labels.map { factor.labels.firstIndex(of: $0)! }
    }
    let value = c.g.dotGeneral(
      a.value, b.value, lhsBatch: places(batch, a), rhsBatch: places(batch, b),
      lhsContracting: places(inner, a), rhsContracting: places(inner, b))
    let free = (a.labels + b.labels).filter { !shared.contains($0) }
    return Factor(value: value, labels: batch + free)
  }

  /// Element by element, over the axes of both.
  private func multiplied(_ a: Factor, _ b: Factor) -> Factor {
    let labels = a.labels + b.labels.filter { !a.labels.contains($0) }
    let shape = labels.map { sizes[$0]! }
    func spread(_ factor: Factor) -> Value {
      let own = labels.filter(factor.labels.contains)
      let ordered = c.g.transpose(factor.value, own.map { factor.labels.firstIndex(of: $0)! })
      return c.g.broadcast(ordered, to: shape, axes: own.map { labels.firstIndex(of: $0)! })
    }
    return Factor(value: spread(a) * spread(b), labels: labels)
  }
}
