/// A size: an integer, or an expression over named dimensions (sums, products, floor division).
///
/// Expressions are kept in a canonical polynomial form, so that `n + n` equals `2*n`. Arithmetic
/// wraps; sizes are range-checked where a dimension is evaluated, never by a trap.
public struct Dimension: Hashable, Sendable, CustomStringConvertible, ExpressibleByIntegerLiteral,
  ExpressibleByStringLiteral
{
  /// An indivisible factor: a name, or a floor division that does not simplify.
  package indirect enum Factor: Hashable, Sendable {
    case name(String)
    case quotient(Dimension, Dimension)
  }

  package struct Term: Hashable, Sendable {
    var coefficient: Int
    var factors: [Factor]  // sorted by text
    var key: String { factors.map(\.description).joined(separator: "*") }
  }

  package var terms: [Term]  // sorted by key; no zero coefficient

  package init(terms: [Term]) { self.terms = terms }

  public init(_ size: Int) { terms = size == 0 ? [] : [Term(coefficient: size, factors: [])] }
  public init(integerLiteral value: Int) { self.init(value) }

  /// A named dimension.
  public init(name: String) { terms = [Term(coefficient: 1, factors: [.name(name)])] }

  /// An expression such as `"n"`, `"H-k+1"` or `"(d+1)//2"`; a malformed literal is a programming
  /// error. Use `init(parsing:)` for text that comes from elsewhere.
  public init(stringLiteral value: String) {
    do { self = try Dimension(parsing: value) } catch { preconditionFailure("\(error)") }
  }

  /// The size, if it names no dimension.
  public var constant: Int? {
    if terms.isEmpty { return 0 }
    return terms.count == 1 && terms[0].factors.isEmpty ? terms[0].coefficient : nil
  }

  /// The name, if the dimension is exactly one name.
  public var name: String? {
    guard terms.count == 1, terms[0].coefficient == 1, terms[0].factors.count == 1,
      case .name(let name) = terms[0].factors[0]
    else { return nil }
    return name
  }

  /// Every name that occurs in the expression.
  public var names: Set<String> {
    var result: Set<String> = []
    for term in terms {
      for factor in term.factors {
        switch factor {
        case .name(let name): result.insert(name)
        case .quotient(let a, let b): result.formUnion(a.names.union(b.names))
        }
      }
    }
    return result
  }

  private static func collect(_ terms: [Term]) -> Dimension {
    var byKey: [String: Term] = [:]
    for term in terms {
      let key = term.key
      if let known = byKey[key] {
        byKey[key]!.coefficient = known.coefficient &+ term.coefficient
      } else {
        byKey[key] = term
      }
    }
    return Dimension(
      terms: byKey.filter { $0.value.coefficient != 0 }.sorted { $0.key < $1.key }.map(\.value))
  }

  public static func + (a: Dimension, b: Dimension) -> Dimension { collect(a.terms + b.terms) }

  public static func - (a: Dimension, b: Dimension) -> Dimension { a + b * Dimension(-1) }

  public static func * (a: Dimension, b: Dimension) -> Dimension {
    var terms: [Term] = []
    for x in a.terms {
      for y in b.terms {
        let factors = (x.factors + y.factors).sorted { $0.description < $1.description }
        terms.append(Term(coefficient: x.coefficient &* y.coefficient, factors: factors))
      }
    }
    return collect(terms)
  }

  /// Floor division. Division by a constant takes out the terms that divide evenly.
  public static func / (a: Dimension, b: Dimension) -> Dimension {
    if b.constant == 1 { return a }
    if a == b, b.constant != 0 { return 1 }
    if let x = a.constant, let y = b.constant, y != 0, !(x == .min && y == -1) {
      return Dimension(floorDivide(x, y))
    }
    if let y = b.constant, y > 1 {
      let even = a.terms.filter { $0.coefficient % y == 0 }
      if !even.isEmpty {
        let rest = Dimension(terms: a.terms.filter { $0.coefficient % y != 0 })
        let whole = Dimension(
          terms: even.map { Term(coefficient: $0.coefficient / y, factors: $0.factors) })
        return rest.terms.isEmpty ? whole : whole + rest / b
      }
    }
    return Dimension(terms: [Term(coefficient: 1, factors: [.quotient(a, b)])])
  }

  public static func floorDivide(_ a: Int, _ b: Int) -> Int {
    let quotient = a / b
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient
  }

  /// The size under the given bindings.
  /// - Throws: `.dimension` when a name is unbound, or the arithmetic overflows or divides by zero.
  public func evaluate(_ bindings: [String: Int]) throws(DLCError) -> Int {
    var sum = 0
    for term in terms {
      var product = term.coefficient
      for factor in term.factors {
        let value: Int
        switch factor {
        case .name(let name):
          guard let bound = bindings[name] else {
            throw DLCError(
              .dimension, "dimension '\(name)' has no size", remedy: "bind it with --dim \(name)=N")
          }
          value = bound
        case .quotient(let a, let b):
          let divisor = try b.evaluate(bindings)
          let dividend = try a.evaluate(bindings)
          guard divisor > 0 else {
            throw DLCError(.dimension, "dimension '\(self)' divides by \(divisor)")
          }
          value = Dimension.floorDivide(dividend, divisor)
        }
        let (p, overflow) = product.multipliedReportingOverflow(by: value)
        if overflow { throw DLCError(.dimension, "dimension '\(self)' is too large") }
        product = p
      }
      let (s, overflow) = sum.addingReportingOverflow(product)
      if overflow { throw DLCError(.dimension, "dimension '\(self)' is too large") }
      sum = s
    }
    return sum
  }

  /// The expression with the bound names replaced by their sizes.
  package func substitute(_ bindings: [String: Int]) throws(DLCError) -> Dimension {
    if names.isSubset(of: bindings.keys) { return Dimension(try evaluate(bindings)) }
    return self
  }

  public var description: String {
    if terms.isEmpty { return "0" }
    // Positive terms first, so that an expression rarely starts with a sign.
    let ordered = terms.filter { $0.coefficient > 0 } + terms.filter { $0.coefficient < 0 }
    var text = ""
    for term in ordered {
      let magnitude = term.coefficient.magnitude
      if term.coefficient < 0 { text += "-" } else if !text.isEmpty { text += "+" }
      if term.factors.isEmpty {
        text += "\(magnitude)"
      } else {
        text += magnitude == 1 ? term.key : "\(magnitude)*\(term.key)"
      }
    }
    return text
  }
}

extension Dimension.Factor: CustomStringConvertible {
  package var description: String {
    switch self {
    case .name(let name): name
    case .quotient(let a, let b): "(\(Self.grouped(a))//\(Self.grouped(b)))"
    }
  }

  private static func grouped(_ dimension: Dimension) -> String {
    let text = "\(dimension)"
    let plain = dimension.constant.map { $0 >= 0 } ?? (dimension.name != nil)
    return plain ? text : "(\(text))"
  }
}
