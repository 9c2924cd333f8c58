import DLCTensor

// Equality of elements has operators of its own: `==` says whether two things are the same.
infix operator .== : ComparisonPrecedence
infix operator .!= : ComparisonPrecedence

/// Comparisons of corresponding elements, which give bool. They broadcast as arithmetic does; a number
/// takes the value's type. Comparisons with NaN are false, but for `.!=`.
extension Value {
  /// Whether elements are less than the corresponding ones.
  public static func < (a: Value, b: Value) -> Value { compare(.less, a, b) }
  /// Whether elements are less than or equal to the corresponding ones.
  public static func <= (a: Value, b: Value) -> Value { compare(.less_equal, a, b) }
  /// Whether elements are greater than the corresponding ones.
  public static func > (a: Value, b: Value) -> Value { compare(.greater, a, b) }
  /// Whether elements are greater than or equal to the corresponding ones.
  public static func >= (a: Value, b: Value) -> Value { compare(.greater_equal, a, b) }
  /// Whether elements are equal to the corresponding ones.
  public static func .== (a: Value, b: Value) -> Value { compare(.equal, a, b) }
  /// Whether elements are other than the corresponding ones.
  public static func .!= (a: Value, b: Value) -> Value { compare(.not_equal, a, b) }

  /// Whether elements are less than a number.
  public static func < (a: Value, b: Double) -> Value { compare(.less, a, b) }
  /// Whether elements are less than or equal to a number.
  public static func <= (a: Value, b: Double) -> Value { compare(.less_equal, a, b) }
  /// Whether elements are greater than a number.
  public static func > (a: Value, b: Double) -> Value { compare(.greater, a, b) }
  /// Whether elements are greater than or equal to a number.
  public static func >= (a: Value, b: Double) -> Value { compare(.greater_equal, a, b) }
  /// Whether elements are equal to a number.
  public static func .== (a: Value, b: Double) -> Value { compare(.equal, a, b) }
  /// Whether elements are other than a number.
  public static func .!= (a: Value, b: Double) -> Value { compare(.not_equal, a, b) }

  /// Not, of bool or of the bits of integers.
  public static prefix func ! (a: Value) -> Value {
    FunctionBuilder.operate(a) { $0.unary(.not, a) }
  }
  /// Exclusive or, of bool or of the bits of integers.
  public static func ^ (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.xor, a, b) }
  }
  /// What is left of a division, with the sign of the dividend.
  public static func % (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.remainder, a, b) }
  }

  private static func compare(_ c: Comparison, _ a: Value, _ b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.compare(c, a, b) }
  }

  private static func compare(_ c: Comparison, _ a: Value, _ b: Double) -> Value {
    FunctionBuilder.operate(a) { $0.compare(c, a, $0.constant(b, a.dataType)) }
  }
}

extension FunctionBuilder {
  /// The largest whole number that is no larger.
  public func floor(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.floor, x) }
  }
  /// The smallest whole number that is no smaller.
  public func ceil(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.ceil, x) }
  }
  /// The nearest whole number; the even one of two.
  public func round(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.round_nearest_even, x) }
  }
  /// Whether an element is neither infinite nor NaN.
  public func isFinite(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.is_finite, x) }
  }

  /// The product along the axes, which go or, with `keepAxes`, stay with size 1; 1 of no elements.
  public func product(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { enter(file, line, [x]) { $0.reduce(.product, x, axes: axes, keepAxes: keepAxes) } }
  /// Whether all bools along the axes are true; of integers the bits that all have.
  public func all(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { enter(file, line, [x]) { $0.reduce(.and, x, axes: axes, keepAxes: keepAxes) } }
  /// Whether one of the bools along the axes is true; of integers the bits that one has.
  public func any(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { enter(file, line, [x]) { $0.reduce(.or, x, axes: axes, keepAxes: keepAxes) } }
}
