import DLCTensor

/// A loop or tile counter that runs over 0..<extent.
package struct LoopVariable: Hashable, Sendable {
  package var id: Int
  package var extent: Int
  package init(id: Int, extent: Int) {
    self.id = id
    self.extent = extent
  }
}

/// An integer expression over loop variables: a constant, and multiples of variables, floor
/// quotients and remainders. Kept simplified by the known ranges of the variables, so that views
/// of views come out affine wherever they are.
package struct IndexExpression: Hashable, Sendable {
  package indirect enum Atom: Hashable, Sendable {
    case variable(LoopVariable)
    case quotient(IndexExpression, Int)
    case remainder(IndexExpression, Int)
  }
  package struct Term: Hashable, Sendable {
    package var coefficient: Int
    package var atom: Atom
  }

  package var constant: Int
  package private(set) var terms: [Term]

  package init(_ constant: Int = 0) {
    self.constant = constant
    terms = []
  }

  /// A variable; one that only takes the value 0 vanishes.
  package init(_ variable: LoopVariable) {
    self.init(0)
    if variable.extent != 1 { terms = [Term(coefficient: 1, atom: .variable(variable))] }
  }

  package var isConstant: Bool { terms.isEmpty }

  /// The smallest and the largest value.
  package var range: ClosedRange<Int> {
    var (low, high) = (constant, constant)
    for term in terms {
      let r = term.atom.range
      let ends = [r.lowerBound * term.coefficient, r.upperBound * term.coefficient]
      low += ends.min()!
      high += ends.max()!
    }
    return low...high
  }

  package static func + (a: IndexExpression, b: IndexExpression) -> IndexExpression {
    var sum = a
    sum.constant += b.constant
    for term in b.terms { sum.add(term) }
    sum.recombine()
    return sum
  }

  package static func + (a: IndexExpression, b: Int) -> IndexExpression {
    var sum = a
    sum.constant += b
    return sum
  }

  package static func * (a: IndexExpression, b: Int) -> IndexExpression {
    if b == 0 { return IndexExpression(0) }
    var product = a
    product.constant *= b
    for index in product.terms.indices { product.terms[index].coefficient *= b }
    return product
  }

  package static func - (a: IndexExpression, b: IndexExpression) -> IndexExpression { a + b * -1 }

  private mutating func add(_ term: Term) {
    if let index = terms.firstIndex(where: { $0.atom == term.atom }) {
      terms[index].coefficient += term.coefficient
      if terms[index].coefficient == 0 { terms.remove(at: index) }
    } else {
      terms.append(term)
    }
  }

  /// c k (e / c) + k (e mod c) = k e. A quotient of a quotient is one, so that e / c is looked for in the
  /// form that it has.
  private mutating func recombine() {
    for (position, term) in terms.enumerated() {
      guard case .remainder(let inner, let divisor) = term.atom else { continue }
      let whole = inner.quotient(divisor)
      guard whole.constant == 0, whole.terms.count == 1, whole.terms[0].coefficient == 1,
        let match = terms.firstIndex(where: {
          $0.atom == whole.terms[0].atom && $0.coefficient == term.coefficient * divisor
        })
      else { continue }
      let expanded = inner * term.coefficient
      for index in [position, match].sorted(by: >) { terms.remove(at: index) }
      self = self + expanded
      return
    }
  }

  /// Splits into a part divisible by `divisor`, already divided, and a rest.
  private func split(_ divisor: Int) -> (whole: IndexExpression, rest: IndexExpression) {
    let whole0 = Size.floorDivide(constant, divisor)
    var (whole, rest) = (IndexExpression(whole0), IndexExpression(constant - whole0 * divisor))
    for term in terms {
      if term.coefficient % divisor == 0 {
        whole.add(Term(coefficient: term.coefficient / divisor, atom: term.atom))
      } else {
        rest.add(term)
      }
    }
    return (whole, rest)
  }

  private func commonFactor(_ divisor: Int) -> Int {
    terms.reduce(divisor) { Self.gcd($0, $1.coefficient) }
  }

  private static func gcd(_ a: Int, _ b: Int) -> Int { b == 0 ? abs(a) : gcd(b, a % b) }

  /// The sum of multiples of a factor of the divisor, and of what is too small to add another one.
  private func uncarried(_ divisor: Int) -> (high: IndexExpression, low: IndexExpression)? {
    let factors = Set(terms.map { Self.gcd($0.coefficient, divisor) }).filter { $0 > 1 }
    for factor in factors.sorted(by: >) {
      var (high, low) = (IndexExpression(0), IndexExpression(0))
      for term in terms {
        if term.coefficient % factor == 0 { high.add(term) } else { low.add(term) }
      }
      let least = low.range.lowerBound
      high.constant = Size.floorDivide(constant + least, factor) * factor
      low.constant = constant - high.constant
      if !low.terms.isEmpty && low.range.upperBound < factor { return (high, low) }
    }
    return nil
  }

  /// Floor division by a positive number.
  package func quotient(_ divisor: Int) -> IndexExpression {
    if divisor == 1 { return self }
    let (whole, rest) = split(divisor)
    let range = rest.range
    if range.lowerBound >= 0 && range.upperBound < divisor { return whole }
    if let (high, _) = rest.uncarried(divisor) { return whole + high.quotient(divisor) }
    let (inner, reduced, _) = rest.reduced(divisor)
    if inner.constant == 0, inner.terms.count == 1, inner.terms[0].coefficient == 1,
      case .quotient(let deeper, let first) = inner.terms[0].atom
    {
      return whole + deeper.quotient(first * reduced)
    }
    var result = whole
    result.add(Term(coefficient: 1, atom: .quotient(inner, reduced)))
    result.recombine()
    return result
  }

  /// The remainder of floor division by a positive number.
  package func remainder(_ divisor: Int) -> IndexExpression {
    if divisor == 1 { return IndexExpression(0) }
    let (_, rest) = split(divisor)
    let range = rest.range
    if range.lowerBound >= 0 && range.upperBound < divisor { return rest }
    if let (high, low) = rest.uncarried(divisor) { return high.remainder(divisor) + low }
    let (inner, reduced, factor) = rest.reduced(divisor)
    var result = IndexExpression(rest.constant - inner.constant * factor)
    result.add(Term(coefficient: factor, atom: .remainder(inner, reduced)))
    return result
  }

  /// The expression and the divisor freed of a common factor.
  private func reduced(_ divisor: Int) -> (IndexExpression, Int, Int) {
    let factor = commonFactor(divisor)
    if factor <= 1 { return (self, divisor, 1) }
    var inner = IndexExpression(Size.floorDivide(constant, factor))
    for term in terms {
      inner.add(Term(coefficient: term.coefficient / factor, atom: term.atom))
    }
    return (inner, divisor / factor, factor)
  }

  /// The factor of a variable when the expression is affine in it; nil when the variable stands
  /// inside a quotient or remainder.
  package func stride(of variable: LoopVariable) -> Int? {
    var stride = 0
    for term in terms {
      switch term.atom {
      case .variable(let v): if v == variable { stride += term.coefficient }
      case .quotient(let e, _), .remainder(let e, _): if e.mentions(variable) { return nil }
      }
    }
    return stride
  }

  /// How many values of a variable, from 0 on, are at a regular distance, and the distance: where quotients and
  /// remainders of it, and what is made of them, change with the variable only at multiples of a number.
  package func lines(of variable: LoopVariable) -> (count: Int, stride: Int)? {
    var (count, stride) = (0, 0)
    for term in terms {
      switch term.atom {
      case .variable(let v): if v == variable { stride += term.coefficient }
      case .quotient(let inner, let divisor), .remainder(let inner, let divisor):
        guard inner.mentions(variable) else { continue }
        if inner == IndexExpression(variable) {
          count = Self.gcd(count, divisor)
          if case .remainder = term.atom { stride += term.coefficient }
        } else if let (other, inside) = inner.lines(of: variable), inside == 0 {
          count = Self.gcd(count, other)
        } else {
          return nil
        }
      }
    }
    return count == 0 ? nil : (count, stride)
  }

  /// The size of the groups of a variable's values for which the place is the same element of a group as long, and which
  /// element, if it is always the same one.
  package func group(of variable: LoopVariable) -> (size: Int, element: Int?)? {
    var size: Int?
    for term in terms {
      switch term.atom {
      case .variable(let v): if v == variable { return nil }
      case .quotient(let inner, let divisor):
        if !inner.mentions(variable) { continue }
        guard inner == IndexExpression(variable), term.coefficient == divisor, size == nil else {
          return nil
        }
        size = divisor
      case .remainder(let inner, _): if inner.mentions(variable) { return nil }
      }
    }
    guard let size else { return nil }
    let isFixed = terms.allSatisfy { $0.coefficient % size == 0 }
    return (size, isFixed ? constant - Size.floorDivide(constant, size) * size : nil)
  }

  package func mentions(_ variable: LoopVariable) -> Bool {
    terms.contains {
      switch $0.atom {
      case .variable(let v): v == variable
      case .quotient(let e, _), .remainder(let e, _): e.mentions(variable)
      }
    }
  }

  package var variables: Set<LoopVariable> {
    terms.reduce(into: []) { set, term in
      switch term.atom {
      case .variable(let v): set.insert(v)
      case .quotient(let e, _), .remainder(let e, _): set.formUnion(e.variables)
      }
    }
  }

  /// The expression with every variable replaced.
  package func substitute(_ replace: (LoopVariable) -> IndexExpression) -> IndexExpression {
    var result = IndexExpression(constant)
    for term in terms {
      let value: IndexExpression =
        switch term.atom {
        case .variable(let v): replace(v)
        case .quotient(let e, let d): e.substitute(replace).quotient(d)
        case .remainder(let e, let d): e.substitute(replace).remainder(d)
        }
      result = result + value * term.coefficient
    }
    return result
  }
}

extension IndexExpression.Atom {
  fileprivate var range: ClosedRange<Int> {
    switch self {
    case .variable(let v): return 0...max(v.extent - 1, 0)
    case .quotient(let e, let d):
      return Size.floorDivide(
        e.range.lowerBound, d)...Size.floorDivide(e.range.upperBound, d)
    case .remainder(_, let d): return 0...(d - 1)
    }
  }
}

extension IndexExpression: CustomStringConvertible {
  package var description: String {
    var parts: [String] = terms.map { term in
      let atom: String =
        switch term.atom {
        case .variable(let v): "i\(v.id)"
        case .quotient(let e, let d): "((\(e)) / \(d))"
        case .remainder(let e, let d): "((\(e)) % \(d))"
        }
      return term.coefficient == 1 ? atom : "\(term.coefficient)*\(atom)"
    }
    if constant != 0 || parts.isEmpty { parts.append("\(constant)") }
    return parts.joined(separator: " + ")
  }
}

/// Row-major position of a coordinate.
package func linearize(_ coordinate: [IndexExpression], _ sizes: [Int]) -> IndexExpression {
  zip(coordinate, rowMajorStrides(sizes)).reduce(IndexExpression(0)) { $0 + $1.0 * $1.1 }
}

/// The coordinate of a row-major position.
package func delinearize(_ position: IndexExpression, _ sizes: [Int]) -> [IndexExpression] {
  var coordinate: [IndexExpression] = []
  for (axis, stride) in rowMajorStrides(sizes).enumerated() {
    let whole = position.quotient(max(stride, 1))
    coordinate.append(axis == 0 ? whole : whole.remainder(max(sizes[axis], 1)))
  }
  return coordinate
}
