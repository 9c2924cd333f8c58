/// A size: an integer, or an expression over named dimensions (sums, products, floor division).
///
/// Expressions are kept in a canonical polynomial form, so that `n + n` equals `2*n`. Nothing here
/// traps: a malformed literal, an overflow or a division by zero makes an invalid dimension, all
/// arithmetic with it gives the same one, and the function that is given it reports the mistake.
///
/// ```swift
/// let width: Size = "(W-k)//2+1"
/// let number = try width.evaluate(["W": 28, "k": 3])  // 13
/// ```
public struct Size: Hashable, Sendable, CustomStringConvertible, ExpressibleByIntegerLiteral,
  ExpressibleByStringLiteral
{
  /// An indivisible factor: a name, or a floor division that does not simplify. A dimension that could
  /// not be made is one factor that says why.
  package indirect enum Factor: Hashable, Sendable {
    case name(String)
    case quotient(Size, Size)
    case invalid(String)

    /// Whether it is at least 0 for all sizes of the dimensions.
    var isNonNegative: Bool {
      switch self {
      case .name: true
      case .quotient(let a, _): a.terms.allSatisfy(\.isNonNegative)
      case .invalid: false
      }
    }
  }

  package struct Term: Hashable, Sendable {
    package var coefficient: Int
    package var factors: [Factor]  // sorted by text
    package var isNonNegative: Bool { coefficient >= 0 && factors.allSatisfy(\.isNonNegative) }
    var key: String { factors.map(\.description).joined(separator: "*") }
  }

  package var terms: [Term]  // sorted by key; no zero coefficient

  package init(terms: [Term]) { self.terms = terms }

  /// A size that is known.
  public init(_ size: Int) { terms = size == 0 ? [] : [Term(coefficient: size, factors: [])] }
  /// A size that is known.
  public init(integerLiteral value: Int) { self.init(value) }

  /// A named dimension; invalid unless the name is 1 to 64 ASCII letters, digits
  /// and `_`, of which the first is no digit.
  public init(name: String) {
    self = Self.isName(name) ? Self.named(name) : Self.invalid("'\(name)' cannot name a dimension")
  }

  /// A named dimension, whatever the name: dlc's own names are none that a user can write.
  package static func named(_ name: String) -> Size {
    Size(terms: [Term(coefficient: 1, factors: [.name(name)])])
  }

  /// An expression such as `"n"`, `"H-k+1"` or `"(d+1)//2"`; invalid when the text is malformed. Use
  /// `init(parsing:)` for text that comes from elsewhere.
  public init(stringLiteral value: String) {
    do { self = try Size(parsing: value) } catch { self = Self.invalid("\(error.uncalled)") }
  }

  package static func invalid(_ reason: String) -> Size {
    Size(terms: [Term(coefficient: 1, factors: [.invalid(reason)])])
  }

  /// A size of a value that could not be made, whose mistake is reported already.
  package static let unknown = invalid("")

  /// Why it could not be made; nil for a sound dimension.
  package var problem: String? {
    if terms.count == 1, terms[0].factors.count == 1, case .invalid(let why) = terms[0].factors[0] {
      return why
    }
    return nil
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
        case .invalid: break
        }
      }
    }
    return result
  }

  /// The sum of terms, those with equal factors united.
  private static func collect(_ terms: [Term]) -> Size {
    var byKey: [String: Term] = [:]
    for term in terms {
      guard let known = byKey.updateValue(term, forKey: term.key) else { continue }
      let (sum, overflow) = known.coefficient.addingReportingOverflow(term.coefficient)
      if overflow { return invalid("a size is beyond 64 bits") }
      byKey[term.key]!.coefficient = sum
    }
    return Size(
      terms: byKey.filter { $0.value.coefficient != 0 }.sorted { $0.key < $1.key }.map(\.value))
  }

  private static func invalid(among a: Size, _ b: Size) -> Size? {
    a.problem != nil ? a : b.problem != nil ? b : nil
  }

  /// The sum; invalid when one of them is, or beyond 64 bits.
  public static func + (a: Size, b: Size) -> Size {
    invalid(among: a, b) ?? collect(a.terms + b.terms)
  }

  /// The difference; invalid when one of them is, or beyond 64 bits.
  public static func - (a: Size, b: Size) -> Size { a + b * Size(-1) }

  /// The product; invalid when one of them is, or beyond 64 bits.
  public static func * (a: Size, b: Size) -> Size {
    if let invalid = invalid(among: a, b) { return invalid }
    guard a.terms.count <= maximumTerms / max(b.terms.count, 1) else {
      return invalid("a size is a sum of too many products")
    }
    var terms: [Term] = []
    for x in a.terms {
      for y in b.terms {
        let factors = (x.factors + y.factors).sorted { $0.description < $1.description }
        let (product, overflow) = x.coefficient.multipliedReportingOverflow(by: y.coefficient)
        if overflow { return invalid("a size is beyond 64 bits") }
        terms.append(Term(coefficient: product, factors: factors))
      }
    }
    return collect(terms)
  }

  /// So many terms a product may have.
  private static let maximumTerms = 1 << 16

  /// Floor division by a positive size. Division by a constant takes out the terms that divide
  /// evenly.
  public static func / (a: Size, b: Size) -> Size {
    if let invalid = invalid(among: a, b) { return invalid }
    if let divisor = b.constant, divisor < 1 {
      return invalid("size '\(a)' is divided by \(divisor)")
    }
    if b.constant == 1 { return a }
    if a == b { return 1 }
    if let x = a.constant, let y = b.constant { return Size(floorDivide(x, y)) }
    if let y = b.constant {
      let even = a.terms.filter { $0.coefficient % y == 0 }
      if !even.isEmpty {
        let rest = Size(terms: a.terms.filter { $0.coefficient % y != 0 })
        let whole = Size(
          terms: even.map { Term(coefficient: $0.coefficient / y, factors: $0.factors) })
        return rest.terms.isEmpty ? whole : whole + rest / b
      }
    }
    let factor = Factor.quotient(a, b)
    if factor.description.utf8.count > maximumText {
      return invalid("a size is too long an expression")
    }
    return Size(terms: [Term(coefficient: 1, factors: [factor])])
  }

  /// The longest text of a division, which bounds how deep they are nested.
  private static let maximumText = 1 << 12

  /// The quotient rounded down, for a positive divisor.
  package static func floorDivide(_ a: Int, _ b: Int) -> Int {
    let quotient = a / b
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient
  }

  /// The size under the given bindings.
  /// - Throws: `.dimension` when a name is unbound, or the arithmetic overflows or divides by zero.
  public func evaluate(
    _ bindings: [String: Int], file: StaticString = #fileID, line: UInt = #line
  ) throws(DLCError) -> Int {
    do throws(DLCError) {
      var sum = 0
      for term in terms {
        var product = term.coefficient
        for factor in term.factors {
          let value: Int
          switch factor {
          case .name(let name):
            guard let bound = bindings[name] else {
              throw DLCError(
                .dimension, "dimension '\(name)' has no size", remedy: "bind it to one")
            }
            value = bound
          case .invalid(let reason):
            throw DLCError(.dimension, reason.isEmpty ? "a size is not known" : reason)
          case .quotient(let a, let b):
            let divisor = try b.evaluate(bindings)
            let dividend = try a.evaluate(bindings)
            guard divisor > 0 else {
              throw DLCError(.dimension, "dimension '\(self)' divides by \(divisor)")
            }
            value = Size.floorDivide(dividend, divisor)
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
    } catch {
      throw error.called(file, line)
    }
  }

  /// The expression with the bound names replaced by their sizes.
  package func substitute(_ bindings: [String: Int]) throws(DLCError) -> Size {
    if names.isSubset(of: bindings.keys) { return Size(try evaluate(bindings)) }
    return self
  }

  /// The expression with expressions in place of names; names without one stay.
  package func replacing(_ names: [String: Size]) -> Size {
    terms.reduce(0) { sum, term in
      sum
        + term.factors.reduce(Size(term.coefficient)) { product, factor in
          switch factor {
          case .name(let name): product * (names[name] ?? .named(name))
          case .quotient(let a, let b): product * (a.replacing(names) / b.replacing(names))
          case .invalid: self
          }
        }
    }
  }

  /// The expression in canonical form, as `2*n+1`.
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

extension Size.Factor: CustomStringConvertible {
  package var description: String {
    switch self {
    case .name(let name): name
    case .quotient(let a, let b): "(\(Self.grouped(a))//\(Self.grouped(b)))"
    case .invalid: "?"
    }
  }

  private static func grouped(_ dimension: Size) -> String {
    let text = "\(dimension)"
    let plain = dimension.constant.map { $0 >= 0 } ?? (dimension.name != nil)
    return plain ? text : "(\(text))"
  }
}
