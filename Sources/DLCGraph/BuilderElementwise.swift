import DLCTensor

/// Functions of elements, and the usual reductions.
extension FunctionBuilder {
  /// -x of every element; x of any type but bool.
  public func negate(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.negate, x) }
  }
  /// |x| of every element; x of any type but bool.
  public func abs(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.abs, x) }
  }
  /// -1, 0 or 1 for every element; x of any type but bool. Its derivative is zero.
  public func sign(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.sign, x) }
  }
  /// e^x of every floating-point element.
  public func exponential(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.exponential, x) }
  }
  /// ln x of every floating-point element: -inf of 0, NaN of negative numbers.
  public func log(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.log, x) }
  }
  /// ln(1 + x) of every floating-point element, accurate near 0.
  public func logPlusOne(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.log_plus_one, x) }
  }
  /// The square root of every floating-point element; NaN of negative numbers.
  public func sqrt(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.sqrt, x) }
  }
  /// 1 / sqrt(x) of every floating-point element.
  public func rsqrt(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.rsqrt, x) }
  }
  /// The hyperbolic tangent of every floating-point element.
  public func tanh(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.tanh, x) }
  }
  /// 1 / (1 + e^-x)
  public func logistic(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.logistic, x) }
  }
  /// The sine of every floating-point element, in radians.
  public func sine(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.sine, x) }
  }
  /// The cosine of every floating-point element, in radians.
  public func cosine(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.cosine, x) }
  }
  /// The error function of every floating-point element.
  public func erf(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.erf, x) }
  }
  /// 1 - erf(x) of every floating-point element, accurate where that is small.
  public func erfc(_ x: Value, file: StaticString = #fileID, line: UInt = #line) -> Value {
    enter(file, line, [x]) { $0.unary(.erfc, x) }
  }
  /// The larger of corresponding elements of two values of one type, which broadcast as in arithmetic. Of equal
  /// ones `a` has the derivative.
  public func maximum(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { enter(file, line, [a, b]) { $0.binary(.maximum, a, b) } }
  /// The smaller of corresponding elements of two values of one type, which broadcast as in arithmetic. Of equal
  /// ones `a` has the derivative.
  public func minimum(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { enter(file, line, [a, b]) { $0.binary(.minimum, a, b) } }
  /// a^b of corresponding elements of two values of one type, which broadcast as in arithmetic.
  public func power(_ a: Value, _ b: Value, file: StaticString = #fileID, line: UInt = #line)
    -> Value
  { enter(file, line, [a, b]) { $0.binary(.power, a, b) } }
  /// The sum along the axes, which go or, with `keepAxes`, stay with size 1; 0 of no elements.
  public func sum(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { enter(file, line, [x]) { $0.reduce(.sum, x, axes: axes, keepAxes: keepAxes) } }
  /// The largest element along the axes, which go or, with `keepAxes`, stay with size 1.
  public func max(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { enter(file, line, [x]) { $0.reduce(.maximum, x, axes: axes, keepAxes: keepAxes) } }
  /// The smallest element along the axes, which go or, with `keepAxes`, stay with size 1.
  public func min(
    _ x: Value, axes: [Int], keepAxes: Bool = false, file: StaticString = #fileID,
    line: UInt = #line
  ) -> Value { enter(file, line, [x]) { $0.reduce(.minimum, x, axes: axes, keepAxes: keepAxes) } }
}

/// Operators between values, and between values and numbers, which take the value's type.
extension Value {
  /// Sums of corresponding elements of two values of one type, which broadcast by NumPy's rule.
  public static func + (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.add, a, b) }
  }
  /// Differences of corresponding elements; types and shapes as for `+`.
  public static func - (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.subtract, a, b) }
  }
  /// Products of corresponding elements; types and shapes as for `+`. For matrices see `matmul`.
  public static func * (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.multiply, a, b) }
  }
  /// Quotients of corresponding elements; types and shapes as for `+`. Those of integers are truncated.
  public static func / (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.divide, a, b) }
  }
  /// And of corresponding bools, or of the bits of integers.
  public static func & (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.and, a, b) }
  }
  /// Or of corresponding bools, or of the bits of integers.
  public static func | (a: Value, b: Value) -> Value {
    FunctionBuilder.operate(a, b) { $0.binary(.or, a, b) }
  }
  /// Every element negated; any type but bool.
  public static prefix func - (a: Value) -> Value {
    FunctionBuilder.operate(a) { $0.unary(.negate, a) }
  }
  /// A number added to every element; an integer type must hold it exactly.
  public static func + (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a + $0.constant(b, a.dataType) }
  }
  /// A number taken from every element; an integer type must hold it exactly.
  public static func - (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a - $0.constant(b, a.dataType) }
  }
  /// Every element times a number, which an integer type must hold exactly.
  public static func * (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a * $0.constant(b, a.dataType) }
  }
  /// Every element divided by a number, which an integer type must hold exactly.
  public static func / (a: Value, b: Double) -> Value {
    FunctionBuilder.operate(a) { a / $0.constant(b, a.dataType) }
  }
  /// A number added to every element; an integer type must hold it exactly.
  public static func + (a: Double, b: Value) -> Value { b + a }
  /// Every element times a number, which an integer type must hold exactly.
  public static func * (a: Double, b: Value) -> Value { b * a }
  /// A number divided by every element; an integer type must hold it exactly.
  public static func / (a: Double, b: Value) -> Value {
    FunctionBuilder.operate(b) { $0.constant(a, b.dataType) / b }
  }
  /// A number less every element; an integer type must hold it exactly.
  public static func - (a: Double, b: Value) -> Value {
    FunctionBuilder.operate(b) { $0.constant(a, b.dataType) - b }
  }
}
